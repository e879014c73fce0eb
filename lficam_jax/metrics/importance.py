"""What FIN adds: does it choose channels, or does it draw the plain mean of the activations?"""

import jax.numpy as jnp
from jaxtyping import Array, Float


def effective_channels(importance: Float[Array, "b d"]) -> Float[Array, " b"]:
    """Returns `exp(entropy(importance))`: d if all channels weigh the same, 1 if one has it all."""
    positive = importance > 0
    logs = jnp.log(jnp.where(positive, importance, 1))
    return jnp.exp(-jnp.sum(importance * logs, axis=-1))


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
