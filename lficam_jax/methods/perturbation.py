"""Maps from scores of changed inputs: one forward pass for every channel of every image.

Both walk over all b * d pairs of image and channel, `chunk_size` of them at a time (`lax.map`), so
that neither the number of channels nor the batch decides how much memory a pass takes.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from lficam_jax.errors import UserError
from lficam_jax.methods.split import Maps, Split
from lficam_jax.methods.targets import Target, count_classes, pick, rows
from lficam_jax.models.answers import told
from lficam_jax.ops import maps

SCORES = ("logit", "probability")
CHUNK_SIZE = 64


def score_cam(
    split: Split, target: Target, *,
    chunk_size: int = CHUNK_SIZE, score: str = "logit",
) -> Maps:  # fmt: skip
    """Returns `ReLU(sum_d softmax_d(s_d) F_d)`, s_d the score of the image masked by channel d.

    The mask is the channel brought to the image's size, then min-maxed. A constant channel masks
    nothing; its weight is 0. The paper subtracts the score of a black image from every s_d, which
    the softmax takes away. The released code leaves the softmax over channels out.

    Memory: `chunk_size` masked images and one pass of the network over them, whatever b and d.

    Args:
      split: with `images` and `network`.
      target: what is asked, of each image.
      chunk_size: masked images in one forward pass.
      score: `logit` (the paper's algorithm 1) or `probability`.

    Raises:
      UserError: if the split lacks images and network.

    Source: Wang et al., "Score-CAM", CVPR workshops 2020, eqs. 6 to 9.
    """
    if split.images is None or split.network is None:
        raise UserError("score_cam masks images; give Split(images=..., network=...) as well")
    images, network, features = split.images, split.network, split.features
    size = images.shape[1:3]

    def scores(sample: Int[Array, " n"], channel: Int[Array, " n"]) -> Float[Array, " n"]:
        masks = maps.min_max(maps.resize(features[sample, :, :, channel], size))
        logits = network(images[sample] * masks[..., None].astype(images.dtype))
        if score == "probability":
            count_classes(logits)
            logits = told(split.kind, logits)
        return pick(logits, rows(target, sample))

    span = jnp.max(features, axis=(1, 2)) - jnp.min(features, axis=(1, 2))
    weights = _softmax(_for_each_channel(scores, features, chunk_size), span >= maps.LEAST_SPAN)
    return maps.weighted_map(features, weights)


def ablation_cam(split: Split, target: Target, *, chunk_size: int = CHUNK_SIZE) -> Maps:
    """Returns `ReLU(sum_d (y - y_d) F_d)`, y_d the score with channel d set to zero.

    The paper divides the weights by y. That is one number per image, which min-max takes away;
    where y is negative it would turn the map over, so it is left out.

    Memory: `chunk_size` copies of one image's features and one pass of `classify` over them.

    Source: Desai and Ramaswamy, "Ablation-CAM", WACV 2020, eqs. 5 to 7.
    """
    features = split.features

    def scores(sample: Int[Array, " n"], channel: Int[Array, " n"]) -> Float[Array, " n"]:
        kept = 1 - jax.nn.one_hot(channel, features.shape[-1], dtype=features.dtype)
        changed = features[sample] * kept[:, None, None, :]
        return pick(split.answers_of(changed, sample), rows(target, sample))

    whole = pick(split.classify(features), target)
    fall = whole[:, None] - _for_each_channel(scores, features, chunk_size)
    return maps.weighted_map(features, fall)


def _for_each_channel(
    scores: Callable[[Array, Array], Array], features: Float[Array, "b h w d"], chunk_size: int
) -> Float[Array, "b d"]:
    """Returns `scores(sample, channel)` of all pairs, computed in chunks, one after the other."""
    batch, _, _, channels = features.shape
    pairs = batch * channels
    size = min(chunk_size, pairs)
    count = -(-pairs // size)
    # The last chunk is filled up with repetitions of the last pair.
    index = jnp.minimum(jnp.arange(count * size), pairs - 1).reshape(count, size)
    found: Array = jax.lax.map(lambda i: scores(i // channels, i % channels), index)
    return found.reshape(-1)[:pairs].reshape(batch, channels)


def _softmax(scores: Float[Array, "b d"], live: Array) -> Float[Array, "b d"]:
    """Softmax over the live channels; 0 for the others, also where none is live."""
    top = jnp.max(jnp.where(live, scores, -jnp.inf), axis=1, keepdims=True)
    powers = jnp.where(live, jnp.exp(scores - jnp.where(jnp.isneginf(top), 0, top)), 0)
    total = jnp.sum(powers, axis=1, keepdims=True)
    return powers / jnp.where(total == 0, 1, total)
