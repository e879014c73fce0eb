"""Maps from scores of changed inputs: many forward passes for every image.

All walk over the pairs of image and change, `chunk_size` of them at a time (`loops.over_pairs`), so
that neither the number of changes nor the batch decides how much memory a pass takes.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from lficam_jax.methods.loops import CHUNK_SIZE, keys_of, masked_scores, over_pairs, seen
from lficam_jax.methods.split import Maps, Split
from lficam_jax.methods.sums import Project, weigh
from lficam_jax.methods.targets import Target, pick, rows
from lficam_jax.ops import maps
from lficam_jax.structs import Key


def score_cam(
    split: Split, target: Target, *, chunk_size: int = CHUNK_SIZE, score: str = "logit",
    project: Project | None = None,
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
      project: what makes a map of the terms instead of their sum.

    Raises:
      UserError: if the split lacks images and network.

    Source: Wang et al., "Score-CAM", CVPR workshops 2020, eqs. 6 to 9.
    """
    images, _ = seen("score_cam", split)
    mask, channels = _channels(split, images.shape[1:3]), split.features.shape[-1]
    scores = masked_scores("score_cam", split, target, channels, mask, chunk_size, score)
    return _of_scores(split, scores, project)


def ss_cam(
    split: Split, target: Target, *, key: Key | None = None, chunk_size: int = CHUNK_SIZE,
    score: str = "logit", samples: int = 35, deviation: float = 2.0,
    project: Project | None = None,
) -> Maps:  # fmt: skip
    """Returns Score-CAM of noisy masks: s_d is the mean score over `samples` of them.

    The arguments and errors are those of `score_cam`, and:

    Args:
      split: likewise.
      target: likewise.
      key: of the noise; one, or one for each image.
      chunk_size: likewise.
      score: likewise.
      samples: noisy masks of each channel.
      deviation: of the noise on masks, which lie in [0, 1] before.
      project: likewise.

    Source: Wang et al., "SS-CAM", arXiv 2006.14255; noise on the masks, samples and deviation as in
    torchcam.
    """
    images, _ = seen("ss_cam", split)
    size, channels = images.shape[1:3], split.features.shape[-1]
    keys, plain = keys_of(key, images.shape[0]), _channels(split, size)

    def mask(sample: Int[Array, " m"], look: Int[Array, " m"]) -> Float[Array, "m y x"]:
        each = jax.vmap(jax.random.fold_in)(keys[sample], look)
        drawn = jax.vmap(lambda one: jax.random.normal(one, size))(each)
        return plain(sample, look // samples) + deviation * drawn

    scores = masked_scores("ss_cam", split, target, channels * samples, mask, chunk_size, score)
    return _of_scores(split, scores.reshape(-1, channels, samples).mean(axis=-1), project)


def is_cam(
    split: Split, target: Target, *, chunk_size: int = CHUNK_SIZE, score: str = "logit",
    samples: int = 10, project: Project | None = None,
) -> Maps:  # fmt: skip
    """Returns Score-CAM of masks of growing strength: s_d is the mean score over them.

    Mask i of N is the channel's times `(1 + ... + i) / N`, as in torchcam. The arguments and errors
    are those of `score_cam`, and:

    Args:
      split: likewise.
      target: likewise.
      chunk_size: likewise.
      score: likewise.
      samples: N.
      project: likewise.

    Source: Naidu et al., "IS-CAM", arXiv 2010.03023.
    """
    images, _ = seen("is_cam", split)
    channels, plain = split.features.shape[-1], _channels(split, images.shape[1:3])
    strength = jnp.cumsum(jnp.arange(1, samples + 1) / samples)

    def mask(sample: Int[Array, " m"], look: Int[Array, " m"]) -> Float[Array, "m y x"]:
        return strength[look % samples, None, None] * plain(sample, look // samples)

    scores = masked_scores("is_cam", split, target, channels * samples, mask, chunk_size, score)
    return _of_scores(split, scores.reshape(-1, channels, samples).mean(axis=-1), project)


def ablation_cam(
    split: Split, target: Target, *, chunk_size: int = CHUNK_SIZE, project: Project | None = None
) -> Maps:
    """Returns `ReLU(sum_d (y - y_d) F_d)`, y_d the score with channel d set to zero.

    The paper divides the weights by y. That is one number per image, which min-max takes away;
    where y is negative it would turn the map over, so it is left out.

    Memory: `chunk_size` copies of one image's features and one pass of `classify` over them.

    Source: Desai and Ramaswamy, "Ablation-CAM", WACV 2020, eqs. 5 to 7.
    """
    features = split.features
    batch, _, _, channels = features.shape

    def scores(sample: Int[Array, " n"], channel: Int[Array, " n"]) -> Float[Array, " n"]:
        kept = 1 - jax.nn.one_hot(channel, channels, dtype=features.dtype)
        changed = features[sample] * kept[:, None, None, :]
        return pick(split.answers_of(changed, sample), rows(target, sample))

    whole = pick(split.classify(features), target)
    fall = whole[:, None] - over_pairs("ablation_cam", scores, batch, channels, chunk_size)
    return jax.nn.relu(weigh(features, fall, project))


def _channels(split: Split, size: tuple[int, ...]) -> Callable[[Array, Array], Array]:
    """Returns the masks of Score-CAM and its kin: each channel at the image's size, min-maxed."""

    def mask(sample: Int[Array, " m"], channel: Int[Array, " m"]) -> Float[Array, "m y x"]:
        return maps.min_max(maps.resize(split.features[sample, :, :, channel], size))

    return mask


def _of_scores(split: Split, scores: Float[Array, "b d"], project: Project | None) -> Maps:
    features = split.features
    span = jnp.max(features, axis=(1, 2)) - jnp.min(features, axis=(1, 2))
    weights = _softmax(scores, span >= maps.LEAST_SPAN)
    return jax.nn.relu(weigh(features, weights, project))


def _softmax(scores: Float[Array, "b d"], live: Array) -> Float[Array, "b d"]:
    """Softmax over the live channels; 0 for the others, also where none is live."""
    top = jnp.max(jnp.where(live, scores, -jnp.inf), axis=1, keepdims=True)
    powers = jnp.where(live, jnp.exp(scores - jnp.where(jnp.isneginf(top), 0, top)), 0)
    total = jnp.sum(powers, axis=1, keepdims=True)
    return powers / jnp.where(total == 0, 1, total)
