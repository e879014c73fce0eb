"""How alike are two maps? Arithmetic only; a value that does not exist is NaN, never a guess."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from lficam_jax.ops.blur import gaussian_blur


def iou(a: Bool[Array, "b h w"], b: Bool[Array, "b h w"]) -> Float[Array, " b"]:
    """Returns intersection over union; NaN where both are empty."""
    union = jnp.sum(a | b, axis=(1, 2))
    return jnp.where(union == 0, jnp.nan, jnp.sum(a & b, axis=(1, 2)) / jnp.maximum(union, 1))


def dice(a: Bool[Array, "b h w"], b: Bool[Array, "b h w"]) -> Float[Array, " b"]:
    """Returns `2 |a ∧ b| / (|a| + |b|)`; NaN where both are empty."""
    total = jnp.sum(a, axis=(1, 2)) + jnp.sum(b, axis=(1, 2))
    shared = 2 * jnp.sum(a & b, axis=(1, 2))
    return jnp.where(total == 0, jnp.nan, shared / jnp.maximum(total, 1))


def order(maps: Float[Array, "b h w"]) -> Array:
    """Returns each pixel's place when sorted from the largest value down, int `[b h w]`.

    The sort is stable: equal values stand in reading order, so that any share of the pixels can be
    taken, also of a map with many zeros.
    """
    places = jnp.argsort(-maps.reshape(maps.shape[0], -1), axis=1, stable=True)
    return jnp.argsort(places, axis=1).reshape(maps.shape)


def top(maps: Float[Array, "b h w"], fraction: float) -> Bool[Array, "b h w"]:
    """Marks the `fraction` of the pixels with the largest values: exactly as many in every map."""
    return order(maps) < round(fraction * maps.shape[1] * maps.shape[2])


def pearson(a: Float[Array, "b n"], b: Float[Array, "b n"]) -> Float[Array, " b"]:
    """Returns the correlation of the rows; NaN where either is constant."""
    constant = (jnp.ptp(a, axis=1) == 0) | (jnp.ptp(b, axis=1) == 0)
    a = a - jnp.mean(a, axis=1, keepdims=True)
    b = b - jnp.mean(b, axis=1, keepdims=True)
    norm = jnp.sqrt(jnp.sum(a * a, axis=1) * jnp.sum(b * b, axis=1))
    undefined = constant | (norm == 0)
    value = jnp.sum(a * b, axis=1) / jnp.where(undefined, 1, norm)
    return jnp.where(undefined, jnp.nan, jnp.clip(value, -1, 1))


def spearman(a: Float[Array, "b h w"], b: Float[Array, "b h w"]) -> Float[Array, " b"]:
    """Returns the rank correlation, ties at their mean rank; NaN where either map is constant."""
    return pearson(ranks(a), ranks(b))


def ssim(a: Float[Array, "b h w"], b: Float[Array, "b h w"]) -> Float[Array, " b"]:
    """Returns the mean structural similarity of maps in [0, 1].

    Gaussian window of 11 pixels, sigma 1.5, mirrored border, constants 0.01² and 0.03².
    Source: Wang et al., "Image quality assessment", IEEE TIP 2004. scikit-image with
    `gaussian_weights` uses the same window and leaves the border out of the mean.
    """

    def local_mean(maps: Array) -> Array:
        return gaussian_blur(maps[..., None], 11, 1.5)[..., 0]

    mean_a, mean_b = local_mean(a), local_mean(b)
    variances = local_mean(a * a) - mean_a**2 + local_mean(b * b) - mean_b**2
    covariance = local_mean(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    numerator = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    return jnp.mean(numerator / ((mean_a**2 + mean_b**2 + c1) * (variances + c2)), axis=(1, 2))


def ranks(maps: Float[Array, "b h w"]) -> Float[Array, "b n"]:
    """Returns each pixel's place when sorted from the smallest value up, ties at their mean."""
    flat = maps.reshape(maps.shape[0], -1)
    ordered = jnp.sort(flat, axis=1)
    below = jax.vmap(partial(jnp.searchsorted, side="left"))
    upto = jax.vmap(partial(jnp.searchsorted, side="right"))
    return (below(ordered, flat) + upto(ordered, flat) - 1) / 2
