"""The ReLU of guided backpropagation, put in a network by reading the program that jax traces."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Literal
from jaxtyping import Array

from lficam_jax.errors import UserError

RELUS = ("relu", "relu6")  # jax.nn's, which are flax's and Equinox's


def guided(network: Callable[[Array], Any], images: Array) -> Callable[[Array], Any]:
    """Returns the same network, whose ReLUs pass back only positive gradients.

    `jax.nn.relu` and `relu6` are known wherever they are called, in a function within a function as
    in a rematerialised block; a `jnp.maximum(x, 0)` is a maximum and stays one.

    Args:
      network: images to answers.
      images: tell the shape.

    Raises:
      UserError: if there is no such ReLU, or one in a loop (`scan`, `while`, `cond`).
    """
    closed, shape = jax.make_jaxpr(network, return_shape=True)(images)
    if not _has_relu(closed.jaxpr):
        raise UserError(
            "guided_backprop changes how gradients pass jax.nn.relu, and this network calls none; "
            "use gradient or smooth_grad, which any network has"
        )
    tree = jax.tree.structure(shape)
    return lambda x: jax.tree.unflatten(tree, _run(closed.jaxpr, closed.consts, [x]))


def _run(jaxpr: Any, constants: Any, given: list[Any]) -> list[Any]:
    """Computes a program with other ReLUs."""
    known = dict(zip(jaxpr.constvars, constants, strict=True))
    known |= zip(jaxpr.invars, given, strict=True)

    def of(value: Any) -> Any:
        return value.val if isinstance(value, Literal) else known[value]

    for equation in jaxpr.eqns:
        found = _step(equation, [of(value) for value in equation.invars])
        known |= zip(equation.outvars, found, strict=True)
    return [of(value) for value in jaxpr.outvars]


def _step(equation: Any, inputs: list[Any]) -> list[Any]:
    kind, inner = equation.primitive, next(_within(equation), None)
    if _is_relu(equation):
        rectified = _guided_relu(*inputs)
        return [jnp.minimum(rectified, 6) if equation.params["name"] == "relu6" else rectified]
    if inner is not None and _has_relu(inner):
        if kind.name in ("scan", "while", "cond"):
            raise UserError(
                f"guided_backprop cannot change a ReLU inside jax.lax.{kind.name}; use gradient or "
                "smooth_grad, or a network without the loop"
            )
        whole = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
        return _run(inner, getattr(whole, "consts", ()), inputs)
    params = kind.get_bind_params(equation.params)
    found = kind.bind(*inputs, **params)
    return list(found) if kind.multiple_results else [found]


@jax.custom_vjp
def _guided_relu(x: Array) -> Array:
    return jnp.maximum(x, 0)


def _forward(x: Array) -> tuple[Array, Array]:
    return jnp.maximum(x, 0), x > 0


def _backward(positive: Array, gradient: Array) -> tuple[Array]:
    return (jnp.where(positive, jnp.maximum(gradient, 0), 0),)


_guided_relu.defvjp(_forward, _backward)


def _is_relu(equation: Any) -> bool:
    """Tells a call of a function with that name: jax.nn's are functions of their own under jit."""
    return equation.params.get("name") in RELUS and len(equation.invars) == 1


def _has_relu(jaxpr: Any) -> bool:
    return any(
        _is_relu(equation) or any(map(_has_relu, _within(equation))) for equation in jaxpr.eqns
    )


def _within(equation: Any) -> Iterator[Any]:
    """Yields the programs that an equation calls."""
    for value in equation.params.values():
        for one in value if isinstance(value, tuple | list) else [value]:
            inner = getattr(one, "jaxpr", one)
            if hasattr(inner, "eqns"):
                yield inner
