"""How a picture of any size becomes what the network is fed, as arithmetic that can be exported.

The same as `data.transforms.fit_image`, which has Pillow scale: two passes with Pillow's filters
(src/libImaging/Resample.c), rows first, each rounded to whole grey values. A filter is a matrix
here, computed from the picture's size, so the size may stay open. Its weights are whole numbers, as
Pillow's, and sums of two halves of them are exact in float32, so that every platform gives the same
pixels, and Pillow's: a weight that rounds the other way changes one value in thousands, by 1 of
255. Pillow 13 begins with the columns of some tall pictures; there more of them differ, see
docs/export.md.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8

from lficam_jax.data import Dataset, Preprocess
from lficam_jax.errors import UserError, nearest

_HALF = 2.0**11  # a weight counts in steps of 1 / _HALF ** 2


def _bilinear(x: Array) -> Array:
    return jnp.maximum(1 - x, 0)


def _bicubic(x: Array) -> Array:
    near, far = (1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2
    return jnp.where(x < 1, near, jnp.where(x < 2, far, 0))


# The filter, of the distance in steps of the result, and how far it reaches.
FILTERS: dict[str, Callable[[Array], Array]] = {"bilinear": _bilinear, "bicubic": _bicubic}


def fit(images: UInt8[Array, "b y x 3"], dataset: Dataset | Preprocess) -> Float[Array, "b h w 3"]:
    """Brings pictures to the form that the network is fed, before normalisation.

    Args:
      images: of one size, which may be symbolic.
      dataset: says the size, what part is looked at, the filter, and whether colour is dropped.

    Returns:
      Whole values in 0..255.

    Raises:
      UserError: for a filter that is not in `FILTERS`.
    """
    if dataset.interpolation not in FILTERS:
        raise UserError(
            f"data.interpolation={dataset.interpolation} is not exported"
            f"{nearest(dataset.interpolation, [*FILTERS])}"
        )
    height, width = images.shape[1:3]
    values = images.astype(jnp.float32)
    if dataset.channels == 1:
        shares = jnp.asarray([19595, 38470, 7471], jnp.float32)  # Pillow's "L", exact in float32
        grey = jnp.einsum("byxc,c->byx", values, shares, precision="highest")
        values = jnp.floor((grey + 32768) / 65536)[..., None]
    rows, columns = _sides(height, width, dataset)
    kernel = FILTERS[dataset.interpolation]
    down, across = (
        _matrix(pixels, size, kernel, *side)
        for pixels, size, side in zip((height, width), dataset.size, (rows, columns), strict=True)
    )
    values = _scaled("qx,byxc->byqc", across, values)
    values = _scaled("py,byqc->bpqc", down, values)
    if dataset.fit == "pad":
        covered = (down.sum(1) > 0)[:, None] & (across.sum(1) > 0)[None]
        mean = jnp.round(jnp.asarray(dataset.mean[: values.shape[-1]], jnp.float32) * 255)
        values = jnp.where(covered[None, :, :, None], values, mean[None, None, None])
    return jnp.broadcast_to(values, (*values.shape[:3], 3))


Side = tuple[Any, Any, Any, Any]  # start and length in the picture, start and length in the result


def _sides(height: Any, width: Any, dataset: Dataset | Preprocess) -> tuple[Side, Side]:
    """Returns what part of the picture's sides becomes what part of the network's."""
    (rows, columns), least = dataset.size, min(dataset.size)
    y, x = (jnp.asarray(n, jnp.float32) for n in (height, width))
    if dataset.fit == "stretch":
        return (0, y, 0, rows), (0, x, 0, columns)
    tall, wide = rows / least, columns / least
    if dataset.fit == "pad":
        unit = jnp.maximum(y / tall, x / wide)
        down = jnp.maximum(1, jnp.round(rows * y / jnp.maximum(unit * tall, y)))
        across = jnp.maximum(1, jnp.round(columns * x / jnp.maximum(unit * wide, x)))
        top, left = jnp.floor((rows - down) / 2), jnp.floor((columns - across) / 2)
        return (0, y, top, down), (0, x, left, across)
    unit = jnp.minimum(y / tall, x / wide)
    high = jnp.minimum(unit * tall, y) * dataset.crop_share
    broad = jnp.minimum(unit * wide, x) * dataset.crop_share
    return ((y - high) / 2, high, 0, rows), ((x - broad) / 2, broad, 0, columns)


def _matrix(
    pixels: Any, size: int, kernel: Callable[[Array], Array],
    start: Any, length: Any, first: Any, count: Any,
) -> Float[Array, "s n"]:  # fmt: skip
    """Returns the weight of each of the picture's pixels in each of the network's, whole steps."""
    place = (jnp.arange(size) - first)[:, None].astype(jnp.float32)
    scale = length / count
    coarse = jnp.floor(scale * 256) / 256  # exact in float32 where it is multiplied and subtracted
    fine = (length - coarse * count) / count
    across = jnp.arange(pixels)[None].astype(jnp.float32) + 0.5 - start
    distance = jnp.abs(across - (place + 0.5) * coarse - (place + 0.5) * fine)
    weight = kernel(distance / jnp.maximum(scale, 1))
    weight = weight / weight.sum(1, keepdims=True)
    inside = (place >= 0) & (place < count)
    return jnp.where(inside, jnp.floor(weight * _HALF**2 + 0.5), 0)


def _scaled(sum_: str, weights: Array, values: Array) -> Array:
    """Sums weighed whole values and rounds; exact, for either half of a weight has 11 bits."""
    high = jnp.floor(weights / _HALF)
    sums = (jnp.einsum(sum_, half, values, precision="highest") for half in (
        high, weights - high * _HALF
    ))  # fmt: skip
    upper, lower = sums
    rounded = jnp.floor((upper + jnp.floor(lower / _HALF) + _HALF / 2) / _HALF)
    return jnp.clip(rounded, 0, 255)
