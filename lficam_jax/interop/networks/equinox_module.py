"""Equinox: a module that is a tree of its weights, called with one image as a rule."""

import dataclasses
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from lficam_jax.errors import UserError, brief
from lficam_jax.interop.networks.attention import WEIGHTS
from lficam_jax.interop.networks.modes import evaluation
from lficam_jax.interop.networks.program import Marker
from lficam_jax.interop.networks.visited import marked, visited, visiting


@dataclass(frozen=True)
class Equinox:
    """All of a module but its arrays. Each call builds a copy in inference mode.

    Attributes:
      tree: the structure of the module.
      rest: its leaves that are no arrays, and None where one is.
    """

    tree: Any
    rest: tuple[Any, ...]
    layouts: ClassVar[tuple[str, ...]] = ("CHW", "HWC", "NCHW", "NHWC")

    @classmethod
    def of(cls, module: eqx.Module, beside: tuple[Any, ...]) -> tuple["Equinox", Any]:
        """Returns the network and its weights; `beside` may hold the state of its BatchNorm."""
        if len(beside) > 1 or any(not isinstance(one, eqx.nn.State) for one in beside):
            raise UserError(
                "give (network, images), or (network, state, images) with an equinox.nn.State, "
                f"not {brief(beside[0])}"
            )
        leaves, tree = jax.tree.flatten(eqx.nn.inference_mode(module))
        rest = tuple(None if eqx.is_array(leaf) else leaf for leaf in leaves)
        return cls(tree, rest), ([leaf for leaf in leaves if eqx.is_array(leaf)], *beside)

    def __call__(self, weights: Any, images: Array, mark: Marker) -> Any:
        """Returns what the network answers, every layer marked."""
        arrays, *state = weights
        given = iter(arrays)
        leaves = [next(given) if leaf is None else leaf for leaf in self.rest]
        module = jax.tree.unflatten(self.tree, leaves)
        options: dict[str, Any] = dict(evaluation(module))
        if "key" in inspect.signature(type(module).__call__).parameters:
            options["key"] = jax.random.PRNGKey(0)  # asked for, not used in inference
        for path, part in list(_parts(module)):
            if path and callable(part):
                attends = type(part) is eqx.nn.MultiheadAttention
                kind = _attention(path) if attends else type(part)
                object.__setattr__(part, "__class__", visited(kind, path))
        with visiting(mark):
            answers = module(images, *state, **options)
        return answers[0] if state else answers


def name_of(network: eqx.Module, layer: Any) -> str | None:
    """Returns the name of a submodule; None if it is none of the network's."""
    return next((path for path, part in _parts(network) if part is layer), None)


def _parts(node: Any, path: str = "") -> Iterator[tuple[str, eqx.Module]]:
    """Yields the modules within, with their names: fields and places, as in `layers/3/conv`."""
    inner: Any = ()
    if isinstance(node, eqx.Module):
        yield path, node
        fields = [f.name for f in dataclasses.fields(node) if not f.metadata.get("static")]
        inner = [(name, getattr(node, name)) for name in fields if hasattr(node, name)]
    elif isinstance(node, list | tuple):
        inner = enumerate(node)
    elif isinstance(node, dict):
        inner = node.items()
    for name, part in inner:
        yield from _parts(part, f"{path}/{name}" if path else str(name))


@lru_cache(maxsize=1024)
def _attention(path: str) -> type:
    """Returns Equinox's attention as one equation, its weights marked as `path/weights`."""

    class MultiheadAttention(eqx.nn.MultiheadAttention):  # type: ignore[misc]
        def __call__(
            self, query: Float[Array, "n q"], key_: Float[Array, "m k"],
            value: Float[Array, "m v"], mask: Bool[Array, "..."] | None = None, *,
            process_heads: Callable[..., Any] | None = None, **dropout: Any,
        ) -> Float[Array, "n o"]:  # fmt: skip
            projected = (
                (self.query_proj, query), (self.key_proj, key_), (self.value_proj, value)
            )  # fmt: skip
            q, k, v = (jax.vmap(one)(x).reshape(len(x), self.num_heads, -1) for one, x in projected)
            if process_heads is not None:
                q, k, v = process_heads(q, k, v)
            logits = jnp.einsum("shd,Shd->hsS", q / jnp.sqrt(q.shape[-1]), k)
            if mask is not None:
                logits = jnp.where(mask, logits, np.finfo(logits.dtype).min)
            weights = marked(f"{path}/weights", WEIGHTS, jax.nn.softmax(logits, axis=-1))
            together = jnp.einsum("hsS,Shd->shd", weights, v).reshape(len(query), -1)
            put_out: Array = jax.vmap(self.output_proj)(together)
            return put_out

    return MultiheadAttention
