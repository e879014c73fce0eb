"""What FIN adds: does it choose channels, or does it draw the plain mean of the activations?"""

import jax.numpy as jnp
from jaxtyping import Array, Float


def effective_channels(importance: Float[Array, "b d"]) -> Float[Array, " b"]:
    """Returns `exp(entropy)` of each channel's share: d if all weigh the same, 1 if one has it all.

    A share is `|importance_d| / sum |importance|`: weights may be negative where they are the
    classifier's, and a channel that speaks against a class shapes its map as well. 0 if all are 0.

    Example:
      >>> effective_channels(jnp.array([[0.5, 0.5, 0.0], [3.0, -3.0, 0.0]])).round(3)
      Array([2., 2.], dtype=float32)
    """
    sizes = jnp.abs(importance)
    total = jnp.sum(sizes, axis=-1, keepdims=True)
    share = sizes / jnp.where(total == 0, 1, total)
    logs = jnp.log(jnp.where(share > 0, share, 1))
    return jnp.where(total[..., 0] == 0, 0, jnp.exp(-jnp.sum(share * logs, axis=-1)))


def correlation_with_mean(
    maps: Float[Array, "b h w"], features: Float[Array, "b h w d"]
) -> Float[Array, " b"]:
    """Returns Pearson's correlation of each map with the mean over the channels of its features.

    Near 1, the map is what gating with the mean activation would give without FIN. 0 where either
    is constant.
    """
    mean_map = jnp.mean(features.astype(jnp.float32), axis=-1)
    a = maps - jnp.mean(maps, axis=(1, 2), keepdims=True)
    b = mean_map - jnp.mean(mean_map, axis=(1, 2), keepdims=True)
    norm = jnp.sqrt(jnp.sum(a * a, axis=(1, 2)) * jnp.sum(b * b, axis=(1, 2)))
    return jnp.sum(a * b, axis=(1, 2)) / jnp.where(norm == 0, 1, norm)
