"""Attention weights of flax, marked like a layer's output: so they can be read and replaced."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array

from lficam_jax.interop.networks.program import Marker

WEIGHTS = "attention weights"  # the kind of layer


def marking(attention: Any, path: str, mark: Marker) -> Callable[..., Array]:
    """Returns what flax's attention modules call, with the weights marked as `path/weights`.

    Another function than flax's own, or one for fewer heads of keys than of queries, is left as it
    is: nothing is known of its weights.

    Args:
      attention: the module's `attention_fn`.
      path: name of the module.
      mark: of the trace.
    """

    def attend(
        query: Array, key: Array, value: Array, bias: Array | None = None,
        mask: Array | None = None, dtype: Any = None, precision: Any = None,
        is_causal: bool = False, **dropout: Any,
    ) -> Array:  # fmt: skip
        if is_causal:
            mask = nn.combine_masks(mask, jnp.tril(jnp.ones((query.shape[-3], key.shape[-3]))))
        options = {"bias": bias, "mask": mask, "dtype": dtype, "precision": precision}
        weights = nn.dot_product_attention_weights(query, key, deterministic=True, **options)
        weights = mark_weights(weights)
        return jnp.einsum("...hqk,...khd->...qhd", weights, value, precision=precision)

    def mark_weights(weights: Array) -> Array:
        found: Array = mark(f"{path}/weights", WEIGHTS, weights)
        return found

    known = getattr(attention, "__name__", "") == "dot_product_attention"
    return attend if known else attention
