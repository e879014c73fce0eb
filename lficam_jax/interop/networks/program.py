"""A network as the program that jax traces, with every layer's output marked by its name.

Cutting a network needs no hook: while it is traced, each layer passes its output through a mark, a
function that changes nothing. The traced program is then run with some marks read and others
replaced. What only fed a replaced output is not computed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
from jax.ad_checkpoint import checkpoint_name
from jax.custom_batching import custom_vmap
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal
from jaxtyping import Array

from lficam_jax.interop.networks.equations import PREFIX, bound, inner_of, name_of
from lficam_jax.interop.networks.loops import call, written_out
from lficam_jax.models.geometry import Followed, follow

Layers = Mapping[str, Array]


def mark(name: str, value: Array) -> Array:
    """Returns the value, marked in the program; under `vmap` the batch becomes the first axis."""

    @custom_vmap
    def marked(x: Array) -> Array:
        named: Array = checkpoint_name(x, PREFIX + name)
        return named

    @marked.def_vmap
    def rule(size: int, batched: Sequence[bool], x: Array) -> tuple[Array, bool]:
        return mark(name, x), True

    found: Array = marked(value)
    return found


class Marker:
    """Marks the output of each layer as it is called, and knows what kind of layer it was.

    The second call of one layer is named `layer#2`. Of a tuple the first array is marked.
    """

    def __init__(self) -> None:
        self.kinds: dict[str, str] = {}

    def __call__(self, path: str, kind: str, output: Any) -> Any:
        """Marks what the layer at `path` puts out."""
        if isinstance(output, tuple) and output and isinstance(output[0], jax.Array):
            return type(output)((self(path, kind, output[0]), *output[1:]))
        if not isinstance(output, jax.Array) or output.ndim == 0:
            return output
        count = next(i for i in range(1, len(self.kinds) + 2) if call(path, i) not in self.kinds)
        self.kinds[name := call(path, count)] = kind
        return mark(name, output)


@dataclass(frozen=True)
class Layer:
    """What a layer puts out: its kind, shape and type of number."""

    kind: str
    shape: tuple[int, ...]
    dtype: Any


@dataclass(frozen=True, eq=False)
class Program:
    """A traced network.

    Attributes:
      jaxpr: from the leaves of weights and images to the leaves of the answers.
      out: the tree of the answers.
      layers: by name, in the order in which they finish.
      weights: shapes of what it was traced with.
      images: likewise, `[b y x c]`.
    """

    jaxpr: ClosedJaxpr
    out: Any
    layers: Mapping[str, Layer]
    weights: Any
    images: Any

    @classmethod
    def of(cls, call: Callable[[Any, Array, Marker], Any], weights: Any, images: Any) -> "Program":
        """Traces `call(weights, images, mark)`; of the arguments only shapes count."""
        marker = Marker()
        traced, out = jax.make_jaxpr(lambda w, x: call(w, x, marker), return_shape=True)(
            weights, images
        )
        traced, before = written_out(traced)
        layers = {
            name: Layer(marker.kinds[before.get(name, name)], value.shape, value.dtype)
            for name, value in _marks(traced.jaxpr)
        }
        return cls(traced, jax.tree.structure(out), layers, weights, images)

    def follow(self) -> dict[str, Followed]:
        """Returns how the axes of each layer's output run along the image."""

        def outputs(images: Array, weights: Any) -> dict[str, Array]:
            return self.run(weights, images, tuple(self.layers))[1]

        return follow(outputs, self.images, self.weights)

    def run(
        self, weights: Any, images: Array, taps: Sequence[str] = (), swaps: Layers | None = None
    ) -> tuple[Any, dict[str, Array]]:
        """Runs the network.

        Args:
          weights: as it was traced with.
          images: likewise.
          taps: layers whose outputs are wanted.
          swaps: outputs to go on with instead of the layers' own.

        Returns:
          The answers, and the outputs of the layers in `taps`.
        """
        found: dict[str, Array] = {}
        args = jax.tree.leaves((weights, images))
        outs = _run(
            self.jaxpr.jaxpr, self.jaxpr.consts, args, set(taps), swaps or {}, found
        )  # fmt: skip
        return jax.tree.unflatten(self.out, outs), found


def _marks(jaxpr: Jaxpr) -> list[tuple[str, Any]]:
    """Returns the marks of a program and the shapes of their values, in order."""
    found: list[tuple[str, Any]] = []
    for equation in jaxpr.eqns:
        if (name := name_of(equation)) is not None:
            found.append((name, equation.outvars[0].aval))
        elif (inner := inner_of(equation)) is not None:
            found += _marks(inner[0])
    return found


def _run(
    jaxpr: Jaxpr, consts: Sequence[Any], args: Sequence[Any], taps: set[str], swaps: Layers,
    found: dict[str, Array],
) -> list[Any]:  # fmt: skip
    """Runs the equations of a program, those of programs within it that hold marks, too."""
    known: dict[Any, Any] = dict(zip(jaxpr.constvars, consts, strict=True))
    known |= zip(jaxpr.invars, args, strict=True)

    def of(value: Any) -> Any:
        return value.val if isinstance(value, Literal) else known[value]

    for equation in _live(jaxpr, taps, swaps):
        name, inner = name_of(equation), inner_of(equation)
        if name is not None:
            (out,) = equation.outvars
            value = swaps[name].astype(out.aval.dtype) if name in swaps else of(equation.invars[0])
            if name in taps:
                found[name] = value
            outs: Sequence[Any] = [value]
        elif inner is not None and _marks(inner[0]):
            outs = _run(*inner, [of(v) for v in equation.invars], taps, swaps, found)
        else:
            outs = bound(equation, [of(v) for v in equation.invars])
        known |= zip(equation.outvars, outs, strict=True)
    return [of(v) for v in jaxpr.outvars]


def _live(jaxpr: Jaxpr, taps: set[str], swaps: Layers) -> list[Any]:
    """Returns the equations that the answers and the taps need."""
    needed, kept = {v for v in jaxpr.outvars if not isinstance(v, Literal)}, []
    for equation in reversed(jaxpr.eqns):
        name, inner = name_of(equation), inner_of(equation)
        within = {n for n, _ in _marks(inner[0])} if inner is not None else {name}
        if equation.primitive.name == "check":  # checkify's, which no compiled program can hold
            continue
        if not (needed & {*equation.outvars} or taps & within or equation.effects):
            continue
        kept.append(equation)
        if name is None or name not in swaps:
            needed |= {v for v in equation.invars if not isinstance(v, Literal)}
    return kept[::-1]
