"""How what a layer puts out becomes a map: by its rows and columns, or by its tokens."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from lficam_jax.errors import UserError
from lficam_jax.interop.networks.attention import WEIGHTS
from lficam_jax.interop.networks.program import Layer, Program
from lficam_jax.models.geometry import Followed
from lficam_jax.ops.maps import Place

MOST_BEFORE = 8  # class and register tokens before those of the image


@dataclass(frozen=True)
class Grid:
    """Moves a layer's numbers to `[b h w d]`, and leaves some out; it computes none.

    Attributes:
      move: does so.
      shape: h, w and d.
      place: where the cells lie on the image; None: by half-pixels.
      before: tokens that stand before those of the image; None of a layer without tokens.
    """

    move: Callable[[Array], Array]
    shape: tuple[int, ...]
    place: Place | None = None
    before: int | None = None

    @property
    def cells(self) -> int:
        """How many cells a map has."""
        return self.shape[0] * self.shape[1]

    def put(self, native: Array, features: Float[Array, "b h w d"]) -> Array:
        """Returns a layer's output with other numbers where its map is."""
        (moved,) = jax.linear_transpose(self.move, native)(features.astype(native.dtype))
        (inside,) = jax.linear_transpose(self.move, native)(jnp.ones(features.shape, native.dtype))
        return jnp.where(inside == 0, native, moved)


def token_grid(tokens: int, size: tuple[int, int]) -> tuple[int, int, int] | None:
    """Returns rows, columns, and tokens before them, of tokens in the image's proportions.

    >>> token_grid(197, (224, 224)), token_grid(201, (224, 224)), token_grid(9, (32, 64))
    ((14, 14, 1), (14, 14, 5), (2, 4, 1))
    >>> token_grid(45, (224, 224))  # 36 and 9 more
    """
    for before in range(min(MOST_BEFORE + 1, tokens)):
        rows = math.isqrt((tokens - before) * size[0] // size[1])
        columns = (tokens - before) // max(rows, 1)
        if rows * columns == tokens - before and rows * size[1] == columns * size[0]:
            return rows, columns, before
    return None


def grids(program: Program, *, channels_first: bool) -> Mapping[str, Grid]:
    """Returns the layers that have a map, in the order of the program.

    Args:
      program: of the network.
      channels_first: how arrays lie whose axes cannot be followed.
    """
    size = program.images.shape[1:3]
    lines = program.follow()
    tokens = {layer.shape[1] for layer in program.layers.values() if len(layer.shape) == 3}
    found: dict[str, Grid] = {}
    for name, layer in program.layers.items():
        axes = _axes(layer, lines[name], size, tokens, channels_first)
        if axes is not None:
            found[name] = _spatial(layer, axes, lines[name].place(size[0], size[1], axes))
        elif len(layer.shape) == 3 and (cells := token_grid(layer.shape[1], size)) is not None:
            found[name] = _tokens(layer, *cells)
    return found


def attentions(program: Program, tokens: int) -> tuple[str, ...]:
    """Returns the layers that are attention weights `[b heads n n]` among so many tokens."""
    return tuple(
        name for name, layer in program.layers.items()
        if len(layer.shape) == 4 and layer.shape[2:] == (tokens, tokens)
    )  # fmt: skip


def reshaped(layer: Layer, name: str, reshape: Callable[[Array], Array]) -> Grid:
    """Returns the grid that a function of the user's makes.

    Raises:
      UserError: if it makes no `[b h w d]`, or computes.
    """
    native = jax.ShapeDtypeStruct(layer.shape, layer.dtype)
    told = f"reshape of layer {name!r}, {list(layer.shape)},"
    try:
        shape = jax.eval_shape(reshape, native).shape
        if len(shape) != 4 or shape[0] != layer.shape[0]:
            raise UserError(f"{told} must give a map [b h w d] and gives {list(shape)}")
        ones = jnp.ones(shape, layer.dtype)
        (inside,) = jax.linear_transpose(reshape, native)(ones)
        plain = bool(((inside == 0) | (inside == 1)).all() and (reshape(inside) == 1).all())
    except UserError:
        raise
    except Exception as error:
        why = " ".join(str(error).split())[:200]
        raise UserError(f"{told} fails: {type(error).__name__}: {why}") from error
    if not plain:
        raise UserError(f"{told} must only move numbers or leave some out, and it computes others")
    return Grid(reshape, tuple(shape[1:]))


def _axes(
    layer: Layer, followed: Followed, size: tuple[int, int], tokens: set[int], channels_first: bool
) -> tuple[int, int] | None:
    """Returns the axes of rows and columns of an array `[b …]` of four axes."""
    shape = layer.shape
    if len(shape) != 4 or layer.kind == WEIGHTS:
        return None
    along = {line.side: axis for axis, line in enumerate(followed.lines) if line is not None}
    if 0 in along and 1 in along:
        return along[0], along[1]
    if tokens & {*shape[1:3]}:  # heads of an attention
        return None
    ways = [(2, 3), (1, 2)] if channels_first else [(1, 2), (2, 3)]
    fit = [(y, x) for y, x in ways if shape[y] * size[1] == shape[x] * size[0]]
    return fit[0] if fit else None


def _spatial(layer: Layer, axes: tuple[int, int], place: Place | None) -> Grid:
    order = (0, *axes, *(axis for axis in (1, 2, 3) if axis not in axes))
    shape = tuple(layer.shape[axis] for axis in order[1:])
    return Grid(lambda native: jnp.transpose(native, order), shape, place)


def _tokens(layer: Layer, rows: int, columns: int, before: int) -> Grid:
    shape = (rows, columns, layer.shape[2])
    return Grid(lambda native: native[:, before:].reshape(-1, *shape), shape, before=before)


def told(shape: Any) -> str:
    """Writes a shape without its batch.

    >>> told((2, 14, 14, 64))
    '[b 14 14 64]'
    """
    return f"[b {' '.join(map(str, np.asarray(shape[1:], int)))}]"
