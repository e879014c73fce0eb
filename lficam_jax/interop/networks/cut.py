"""A network of any framework cut at its layers: what every map is drawn from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from lficam_jax.errors import UserError, brief, nearest
from lficam_jax.interop.networks.grids import Grid, attentions, grids, reshaped, token_grid, told
from lficam_jax.interop.networks.network import Network
from lficam_jax.interop.networks.program import Program
from lficam_jax.methods.split import Split
from lficam_jax.models.geometry import Places

Attentions = tuple[Float[Array, "b m n n"], ...]
SHOWN = 5  # layers in a message


@dataclass(frozen=True)
class Cut:
    """Where a network is cut. It can be hashed, as a rule, so that a program is compiled once.

    Attributes:
      network: of any framework.
      layers: names; several have a split each.
      reshape: what a layer puts out to `[b h w d]`; None: as `grids` finds it.
      attentions: images to the attention weights of each block, `[b heads n n]`, of a network whose
        layers do not show them.
    """

    network: Network
    layers: tuple[str, ...] = ()
    reshape: Callable[[Array], Array] | None = None
    attentions: Callable[[Array], Sequence[Array]] | None = None

    def splits(self, weights: Any, images: Float[Array, "b y x c"]) -> list[Split]:
        """Cuts the network at each layer, after one forward pass.

        Raises:
          UserError: for a layer that does not exist or has no map.
        """
        program = self.network.program(weights, images)
        found = self.grids(program)
        weighed = {name: self._weighed(program, grid) for name, grid in found.items()}
        taps = [*found, *(one for names in weighed.values() for one in names)]
        answers, outputs = program.run(weights, images, taps)
        return [
            self._split(program, weights, images, name, grid, weighed[name], outputs, answers)
            for name, grid in found.items()
        ]

    def grids(self, program: Program) -> dict[str, Grid]:
        """Returns the grid of each layer; of the default one if none is named."""
        known = grids(program, channels_first=self.network.channels_first)
        if self.reshape is not None:
            for name in self.layers or tuple(known)[-1:]:
                _check_exists(program, name)
                known = {**known, name: reshaped(program.layers[name], name, self.reshape)}
        return {
            name: _of(program, known, name) for name in self.layers or [default(program, known)]
        }

    def check(self, weights: Any, image_shape: tuple[int, ...]) -> None:
        """Raises a UserError for a layer that does not exist or has no map."""
        self.grids(self._program(weights, image_shape))

    def lie(self, weights: Any, image_shape: tuple[int, ...], align: str) -> list[Places]:
        """Returns where the maps of each layer lie on the image, by their grid."""
        if align == "half_pixel":
            return [{} for _ in self.layers or (None,)]
        found = self.grids(self._program(weights, image_shape)).values()
        return [{} if grid.place is None else {grid.shape[:2]: grid.place} for grid in found]

    def _program(self, weights: Any, image_shape: tuple[int, ...]) -> Program:
        images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
        return self.network.program(weights, images)

    def _weighed(self, program: Program, grid: Grid) -> tuple[str, ...]:
        if grid.before is None or self.attentions is not None:
            return ()
        return attentions(program, grid.cells + grid.before)

    def _split(
        self, program: Program, weights: Any, images: Array, name: str, grid: Grid,
        weighed: tuple[str, ...], outputs: dict[str, Array], answers: Any,
    ) -> Split:  # fmt: skip
        native = outputs[name]

        def some(features: Array, index: Int[Array, " n"]) -> Any:
            swaps = {name: grid.put(native[index], features)}
            return program_of(len(features)).run(weights, images[index], swaps=swaps)[0]

        def program_of(count: int) -> Program:
            shape = jax.ShapeDtypeStruct((count, *images.shape[1:]), images.dtype)
            return self.network.program(weights, shape)

        def weighing(other: Attentions) -> Any:
            return program.run(weights, images, swaps=dict(zip(weighed, other, strict=True)))[0]

        def whole(x: Array) -> Any:
            return program_of(len(x)).run(weights, x)[0]

        told = None if self.attentions is None else _given(self.attentions(images))
        alone = Cut(self.network, (name,), self.reshape, self.attentions)
        return Split(
            features=grid.move(native).astype(jnp.float32),
            classify=lambda features: some(features, jnp.arange(len(features))),
            classify_some=some, images=images, network=whole, logits=answers,
            again=lambda x: alone.splits(weights, x)[0],
            attentions=tuple(outputs[one] for one in weighed) or told,
            weighing=weighing if weighed else None,
        )  # fmt: skip


def default(program: Program, known: Mapping[str, Grid]) -> str:
    """Returns the layer where a network is cut unless told: the last map of more than one cell.

    Of a transformer it is the first norm of the last block: behind that block the class token looks
    at no other any more, and nothing flows back to the image's tokens.

    Raises:
      UserError: if no layer has a map.
    """
    usable = [name for name, grid in known.items() if grid.cells > 1]
    if not usable:
        raise UserError(
            "no layer of this network has a map of more than one cell; its last layers: "
            + (", ".join(f"{name} {told(one.shape)}" for name, one in _last(program)) or "none")
        )
    last = usable[-1]
    if known[last].before is None:
        return last
    norms: dict[str, list[str]] = {}
    for name in usable:
        if "norm" in program.layers[name].kind.lower() and known[name].before is not None:
            path, turn = name.partition("[")[::2]  # a block of a scan is a turn of it
            norms.setdefault(f"{path.rpartition('/')[0]}[{turn}", []).append(name)
    blocks = [names for names in norms.values() if len(names) > 1]
    return blocks[-1][0] if blocks else last


def _of(program: Program, known: Mapping[str, Grid], name: str) -> Grid:
    _check_exists(program, name)
    if name in known and known[name].cells > 1:
        return known[name]
    layer = program.layers[name]
    found = f"layer {name!r} puts out {told(layer.shape)}"
    others = [one for one, grid in known.items() if grid.cells > 1]
    if len(layer.shape) == 3 and token_grid(layer.shape[1], program.images.shape[1:3]) is None:
        raise UserError(
            f"{found}: {layer.shape[1]} tokens are no grid in the image's proportions, with or "
            "without class and register tokens before them; give reshape=…, a function of the "
            "output to [b h w d]"
        )
    raise UserError(
        f"{found}, which is no map; layers with one are "
        + ", ".join(f"{one} {told((0, *known[one].shape))}" for one in others[-SHOWN:])
    )


def _given(attentions: Any) -> Attentions:
    """Returns what a function of somebody's says are attention weights."""
    try:
        found = tuple(attentions)
    except TypeError:
        found = (None,)
    if not all(hasattr(one, "ndim") for one in found):
        raise UserError(
            f"attentions must return an array [b heads n n] for each block, not {brief(attentions)}"
        )
    return found


def _check_exists(program: Program, name: str) -> None:
    if name in program.layers:
        kind = program.layers[name].dtype
        if not jnp.issubdtype(kind, jnp.floating):
            raise UserError(f"layer {name!r} puts out {kind}, and a map is made of floats")
        return
    inside = [one for one in program.layers if one.startswith((f"{name}/", f"{name}["))]
    more = f" — did you mean {inside[-1]!r}?" if inside else nearest(name, tuple(program.layers))
    raise UserError(f"layer {name!r} does not exist{more}")


def _last(program: Program) -> list[tuple[str, Any]]:
    return list(program.layers.items())[-SHOWN:]
