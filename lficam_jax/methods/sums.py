"""How terms for each channel become one map: their sum, or their first principal component."""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

from lficam_jax.methods.split import Maps

Project = Callable[[Float[Array, "b h w d"]], Maps]


def weigh(
    features: Float[Array, "b h w d"], weights: Float[Array, "b *hw d"],
    project: Project | None = None,
) -> Maps:  # fmt: skip
    """Returns `sum_d weights_d features_d` in float32.

    Args:
      features: of a batch.
      weights: of each channel, everywhere (`[b d]`) or cell by cell.
      project: what makes a map of the terms instead of their sum.
    """
    features = features.astype(jnp.float32)
    if weights.ndim == 2 and project is None:  # without holding the terms
        return jnp.einsum("bhwd,bd->bhw", features, weights, precision="highest")
    terms = features * (weights[:, None, None] if weights.ndim == 2 else weights)
    return jnp.sum(terms, axis=-1) if project is None else project(terms)


def principal(terms: Float[Array, "b h w d"]) -> Maps:
    """Returns the first principal component of the cells' terms, centred over the cells.

    A component has no sign: it is turned so that what is farthest from 0 is positive.

    Sources: `eigen_smooth` of pytorch-grad-cam; the sign: Chung and Ying, "Seg-Eigen-CAM", Applied
    Sciences 15(13), 2025, eq. 13.
    """
    found = first_component(terms - jnp.mean(terms, axis=(1, 2), keepdims=True))
    low, high = (jnp.abs(f(found, axis=(1, 2), keepdims=True)) for f in (jnp.min, jnp.max))
    return jnp.where(low > high, -found, found)


def first_component(features: Float[Array, "b h w d"]) -> Maps:
    """Returns `F v`, v the first right singular vector of F as a matrix `[h w, d]`, up to its sign.

    It is also the first eigenvector of F F^T times its singular value, which is what is computed.
    """
    batch, height, width, channels = features.shape
    flat = features.reshape(batch, height * width, channels)
    # Scaled, because the squares of large or small features leave float32.
    scale = jnp.max(jnp.abs(flat), axis=(1, 2), keepdims=True)
    flat = flat / jnp.where(scale == 0, 1, scale)
    gram = jnp.einsum("bid,bjd->bij", flat, flat, precision="highest")
    values, vectors = jnp.linalg.eigh(gram)
    first: Array = vectors[..., -1] * jnp.sqrt(jnp.maximum(values[..., -1:], 0))
    return (first * scale[..., 0]).reshape(batch, height, width)
