"""Max-pooling whose gradient suits the device: a sum over the window's places, or XLA's own."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import reduce

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from lficam_jax.errors import UserError

Pair = tuple[int, int]
_platform: ContextVar[str | None] = ContextVar("platform", default=None)


@contextmanager
def made_for(platform: str) -> Iterator[None]:
    """Within, programs are traced for a platform that may not be the one that traces them."""
    before = _platform.set(platform)
    try:
        yield
    finally:
        _platform.reset(before)


def max_pool(
    x: Float[Array, "b h w c"], window: Pair, stride: Pair, padding: int = 0
) -> Float[Array, "b hh ww c"]:
    """Returns the largest value of each window; `padding` adds nothing that could be it.

    The same as `flax.linen.max_pool`, gradient included: of equal values, the first in reading
    order takes it. XLA finds that one again by an index for each axis, and on a GPU scatters the
    gradient by atomic additions; instead, one byte says which place of the window it was, which is
    faster on GPU and CPU (docs/benchmarks.md). A TPU has an operation of its own for it: there the
    sum would take a ResNet-18's step twice the traffic, so XLA's gradient stays.

    Raises:
      UserError: if not one window fits.
    """
    sides = [n + 2 * padding for n in x.shape[1:3]]
    if any(side < size for side, size in zip(sides, window, strict=True)):
        raise UserError(
            f"the image is too small for this network: {x.shape[1]} x {x.shape[2]} cells are left "
            f"to pool {window[0]} x {window[1]} of; give larger images, or another network"
        )
    on_tpu = (_platform.get() or jax.default_backend()) == "tpu"
    pooled: Array = (_by_xla if on_tpu else _by_places)(x, window, stride, padding)
    return pooled


def _by_xla(x: Array, window: Pair, stride: Pair, padding: int) -> Array:
    pooled: Array = nn.max_pool(x, window, stride, ((padding, padding),) * 2)
    return pooled


_by_places = jax.custom_jvp(_by_xla, nondiff_argnums=(1, 2, 3))


@_by_places.defjvp
def _differentiate(
    window: Pair, stride: Pair, padding: int, primals: tuple[Array], tangents: tuple[Array]
) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    best, *others = _views(x, window, stride, padding, -jnp.inf)
    place = jnp.zeros(best.shape, jnp.uint8)
    for k, view in enumerate(others, 1):
        better = (view > best) | (view != view)  # a NaN stays
        best, place = jnp.where(better, view, best), jnp.where(better, jnp.uint8(k), place)
    parts = (
        jnp.where(place == k, view, 0)
        for k, view in enumerate(_views(dx, window, stride, padding, 0.0))
    )
    return best, reduce(jnp.add, parts)


def _views(x: Array, window: Pair, stride: Pair, padding: int, fill: float) -> Iterator[Array]:
    """Yields, for each place of the window in reading order, what stands there in all windows."""
    value = jnp.asarray(fill, x.dtype)
    x = lax.pad(x, value, ((0, 0, 0), (padding, padding, 0), (padding, padding, 0), (0, 0, 0)))
    b, h, w, c = x.shape
    rows, columns = (
        (n - size) // step + 1 for n, size, step in zip((h, w), window, stride, strict=True)
    )
    for i in range(window[0]):
        for j in range(window[1]):
            ends = i + (rows - 1) * stride[0] + 1, j + (columns - 1) * stride[1] + 1
            yield lax.slice(x, (0, i, j, 0), (b, *ends, c), (1, *stride, 1))
