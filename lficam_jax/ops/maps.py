"""The arithmetic of attention maps: LFI-CAM's equations, each division guarded before it happens.

Source: Lee, Park, Oh, Kwak, "LFI-CAM: Learning Feature Importance for Better Visual Explanation",
ICCV 2021 (arXiv 2105.00937), section 3.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

# A map or channel that spans less is constant: the gradient of the division holds 1 / span squared,
# which float32 cannot hold below this.
LEAST_SPAN = 1e-18


class Axis(NamedTuple):
    """Where the cells of one axis are centred, in shares of the picture's side.

    Attributes:
      first: the centre of cell 0; that of the picture's pixel 0 of n is 0.5 / n.
      step: from cell to cell.
    """

    first: float
    step: float


class Place(NamedTuple):
    """Where the cells of a map are centred on a picture, whatever the picture's size."""

    rows: Axis
    columns: Axis


def resize(
    maps: Float[Array, "*b h w"], size: Sequence[int], place: Place | None = None
) -> Float[Array, "*b y x"]:
    """Resizes bilinearly, without antialias.

    Two static matrices instead of a gather: exact, differentiable, the same on every backend and
    exportable.

    Args:
      maps: on their own grid.
      size: rows and columns of the result.
      place: where the cells are centred. Default: by half-pixels, the cells tile the picture, which
        equals torch `interpolate(mode="bilinear", align_corners=False)`. Outside the outermost
        centres the map keeps its edge's value, either way.
    """
    if maps.shape[-2:] == tuple(size) and place is None:
        return maps
    down, across = place or (None, None)
    rows = _bilinear(maps.shape[-2], size[0], down)
    columns = _bilinear(maps.shape[-1], size[1], across)
    return jnp.einsum(
        "yh,...hw,xw->...yx", rows, maps.astype(jnp.float32), columns, precision="highest"
    )


def min_max(maps: Float[Array, "*b h w"]) -> Float[Array, "*b h w"]:
    """Scales each map to [0, 1]; a constant map keeps its values, so all-zero stays zero."""
    flat = maps.reshape(*maps.shape[:-2], -1)
    return _scale(flat, axis=-1, constant=flat).reshape(maps.shape)


def normalise_features(features: Float[Array, "b h w d"]) -> Float[Array, "b h w d"]:
    """Scales each channel of each image to [0, 1] over space, in float32.

    A constant channel becomes 1; then every position whose feature is exactly 0 becomes 0, so that
    a dead channel is all zeros.
    """
    features = features.astype(jnp.float32)
    flat = features.reshape(features.shape[0], -1, features.shape[-1])
    scaled = _scale(flat, axis=1, constant=jnp.ones_like(flat)).reshape(features.shape)
    return jnp.where(features == 0, 0.0, scaled)


def grey(images: Float[Array, "b y x c"], size: Sequence[int]) -> Float[Array, "b h w"]:
    """Returns the mean over the colour channels, resized to the grid of the features."""
    return resize(jnp.mean(images.astype(jnp.float32), axis=-1), size)


def weighted_map(
    features: Float[Array, "b h w d"], importance: Float[Array, "b d"]
) -> Float[Array, "b h w"]:
    """Returns `ReLU(sum_d importance_d * features_d)` in float32: the map before scaling."""
    return jax.nn.relu(weighted_sum(features, importance))


def weighted_sum(
    features: Float[Array, "b h w d"], weights: Float[Array, "b d"]
) -> Float[Array, "b h w"]:
    """Returns `sum_d weights_d * features_d` in float32.

    Float32 also for bfloat16 features: FIN's weights differ by less than bfloat16 resolves.
    """
    features = features.astype(jnp.float32)
    return jnp.einsum("bhwd,bd->bhw", features, weights, precision="highest")


def attend(
    features: Float[Array, "b h w d"], attention: Float[Array, "b h w"]
) -> Float[Array, "b h w d"]:
    """Returns `(1 + attention) * features`: the map strengthens, it never erases."""
    return features * (1 + attention[..., None]).astype(features.dtype)


def _scale(values: Array, *, axis: int, constant: Array) -> Array:
    """Returns `(values - min) / (max - min)` along an axis, and `constant` where they are equal.

    The extremes are gathered, not reduced. The gradient of a reduced maximum finds its place by
    comparing it with the values, which XLA may have computed a second time and rounded differently;
    nothing is equal then, and the gradient is 0/0 (seen on eight CPU devices).
    """
    places = (jnp.argmin(values, axis, keepdims=True), jnp.argmax(values, axis, keepdims=True))
    low, high = (jnp.take_along_axis(values, place, axis) for place in places)
    span = high - low
    flat = span < LEAST_SPAN
    return jnp.where(flat, constant, (values - low) / jnp.where(flat, 1, span))


@lru_cache(maxsize=64)
def taps(
    source: int, target: int, axis: Axis | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns what bilinear interpolation of one axis mixes, for each of `target` cells.

    Args:
      source: how many cells there are.
      target: how many pixels.
      axis: where the cells are centred; None: by half-pixels.

    Returns:
      The source's cell below, the cell above (int), and the share of the latter (float32).
    """
    centre = (np.arange(target) + 0.5) * source / target - 0.5
    if axis is not None:
        centre = ((np.arange(target) + 0.5) / target - axis.first) / axis.step
    centre = np.clip(centre, 0, source - 1)
    below = np.floor(centre).astype(int)
    return below, np.minimum(below + 1, source - 1), (centre - below).astype(np.float32)


@lru_cache(maxsize=64)
def centres(source: int, target: int, axis: Axis | None = None) -> np.ndarray:
    """Returns the pixel that the centre of each cell of one axis lies on; outside: the outermost.

    Args:
      source: how many cells there are.
      target: how many pixels.
      axis: where the cells are centred; None: by half-pixels. A centre between two pixels counts to
        the second.

    >>> centres(3, 12), centres(3, 12, Axis(0.5 / 12, 4 / 12))
    (array([ 2,  6, 10]), array([0, 4, 8]))
    """
    first, step = axis or (0.5 / source, 1 / source)
    centre = (first + step * np.arange(source)) * target
    pixels: np.ndarray = np.clip(np.floor(centre + 1e-6), 0, target - 1).astype(int)
    return pixels


def cell_centres(
    grid: Sequence[int], size: Sequence[int], place: Place | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the pixel row of each row of cells, and the pixel column of each column.

    Args:
      grid: rows and columns of the map.
      size: of the picture.
      place: where the cells are centred; None: by half-pixels.
    """
    down, across = place or (None, None)
    return centres(grid[0], size[0], down), centres(grid[1], size[1], across)


@lru_cache(maxsize=64)
def _bilinear(source: int, target: int, axis: Axis | None = None) -> np.ndarray:
    """Returns the [target, source] matrix of one axis; each row sums to 1."""
    below, above, share = taps(source, target, axis)
    matrix = np.zeros((target, source), np.float32)
    np.add.at(matrix, (np.arange(target), below), 1 - share)
    np.add.at(matrix, (np.arange(target), above), share)
    return matrix
