"""Is the map concentrated on little? Broad maps win other measures; these say how broad."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def gini(maps: Float[Array, "b h w"]) -> Float[Array, " b"]:
    """Returns the Gini index of the values: 0 if all are equal, `1 - 1/n` if one pixel has all.

    Source: Chalasani et al., "Concise explanations of neural networks", ICML 2020 (sparseness).
    An all-zero map counts as constant, 0. Quantus adds 1e-7 to every value first.
    """
    values = jnp.sort(maps.reshape(maps.shape[0], -1), axis=1)
    n, total = values.shape[1], jnp.sum(values, axis=1)
    weights = 2 * jnp.arange(1, n + 1) - n - 1
    return jnp.sum(weights[None] * values, axis=1) / jnp.where(total == 0, 1, n * total)


def entropy(maps: Float[Array, "b h w"]) -> Float[Array, " b"]:
    """Returns the entropy of the map as a distribution, in nats: 0 for one pixel, `log n` if flat.

    Source: Bhatt et al., "Evaluating and aggregating feature-based explanations", IJCAI 2020
    (complexity). An all-zero map counts as flat.
    """
    flat = maps.reshape(maps.shape[0], -1)
    total = jnp.sum(flat, axis=1, keepdims=True)
    share = jnp.where(total == 0, 1 / flat.shape[1], flat / jnp.where(total == 0, 1, total))
    return -jnp.sum(share * jnp.log(jnp.where(share > 0, share, 1)), axis=1)
