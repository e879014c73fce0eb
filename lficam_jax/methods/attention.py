"""Maps from the attention weights of a transformer, multiplied from block to block.

`A_l` are the weights of block l, `[heads n n]`: row i says from which tokens token i is mixed. The
class token is the first; without one, the mean over the image's tokens is what is classified.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lficam_jax.errors import UserError
from lficam_jax.methods.split import Maps, Split, slope
from lficam_jax.methods.targets import Target, pick


def attention_rollout(split: Split, target: Target) -> Maps:
    """Returns the class token's row of `Π_l (mean_heads(A_l) + I) / 2`, at the image's tokens.

    Raises:
      UserError: if the attention weights are not known.

    Source: Abnar and Zuidema, "Quantifying Attention Flow in Transformers", ACL 2020, eq. 1.
    """
    means = [jnp.mean(one.astype(jnp.float32), axis=1) for one in _attentions(split)]
    rolled = _identity(means[0])
    for mean in means:
        rolled = _product((mean + _identity(mean)) / 2, rolled)
    return _at_tokens(split, rolled)


def gradient_rollout(split: Split, target: Target) -> Maps:
    """Returns the class token's row of R: `R = I`, then `R = R + mean_heads(ReLU(G_l A_l)) R`.

    `G_l` is the gradient of the target with respect to `A_l`. This is the rule of self-attention;
    the diagonal that the first identity leaves at the class token is not on the map.

    Raises:
      UserError: if the attention weights are not known, or cannot be replaced.

    Source: Chefer, Gur and Wolf, "Generic Attention-model Explainability", ICCV 2021, eqs. 5, 6.
    """
    weights, weighing = _attentions(split), split.weighing
    if weighing is None:
        raise UserError(
            "method gradient_rollout replaces the attention weights inside the network, and "
            "attentions=… only tells them; use attention_rollout, or grad_cam"
        )
    gradients = slope(lambda given: pick(weighing(given), target).sum(), weights)
    rolled = _identity(weights[0][:, 0])
    for one, change in zip(weights, gradients, strict=True):
        mean = jnp.mean(jax.nn.relu(change * one).astype(jnp.float32), axis=1)
        rolled = rolled + _product(mean, rolled)
    return _at_tokens(split, rolled)


def _attentions(split: Split) -> tuple[Array, ...]:
    if not split.attentions:
        raise UserError(
            "attention weights of this network are not known: they are read from the attention "
            "modules of Flax and Equinox, and from any layer that puts out [b heads n n]; give "
            "attentions=…, a function of the images to those of each block"
        )
    tokens, cells = split.attentions[0].shape[-1], split.features.shape[1] * split.features.shape[2]
    if any(one.ndim != 4 or one.shape[2:] != (tokens, tokens) for one in split.attentions) or (
        tokens < cells
    ):
        shapes = [list(one.shape) for one in split.attentions]
        raise UserError(f"attentions must be [b heads n n] of the layer's tokens, not {shapes}")
    return split.attentions


def _identity(like: Float[Array, "b n n"]) -> Float[Array, "b n n"]:
    return jnp.broadcast_to(jnp.eye(like.shape[-1], dtype=jnp.float32), like.shape)


def _product(left: Float[Array, "b n n"], right: Float[Array, "b n n"]) -> Float[Array, "b n n"]:
    return jnp.einsum("bij,bjk->bik", left, right, precision="highest")


def _at_tokens(split: Split, rolled: Float[Array, "b n n"]) -> Maps:
    batch, rows, columns, _ = split.features.shape
    before = rolled.shape[-1] - rows * columns
    read = rolled[:, 0] if before else jnp.mean(rolled, axis=1)
    return read[:, before:].reshape(batch, rows, columns)
