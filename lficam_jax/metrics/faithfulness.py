"""Does the classifier need what the map shows? Confidence on masked images.

Throughout, `confidence(images, classes) -> [n]` is the softmax probability of a class that was
chosen on the clean image and then frozen. Maps are in [0, 1] and of the image's size
(`localisation.on_image`). Values are per image; the caller averages.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from lficam_jax.errors import UserError
from lficam_jax.ops.blur import gaussian_blur
from lficam_jax.ops.similarity import order, pearson

Confidence = Callable[[Float[Array, "n y x c"], Int[Array, " n"]], Float[Array, " n"]]
BASELINES = ("mean", "black", "blur")


def baseline(
    images: Float[Array, "b y x c"], kind: str = "mean", black: Float[Array, " c"] | None = None
) -> Float[Array, "b y x c"]:
    """Returns what stands where the map is 0.

    Args:
      images: normalised.
      kind: 'mean', of the data set, which is 0 in a normalised image; 'black', which is
        `-mean / std` there; or 'blur', a Gaussian of 11 pixels and sigma 5.
      black: the normalised value of a black pixel; for 'black' only.

    Raises:
      UserError: if `kind` is 'black' and `black` is not given.
    """
    if kind == "blur":
        return gaussian_blur(images)
    if kind == "black":
        if black is None:
            raise UserError("baseline 'black' needs the value of a black pixel; give black=")
        return jnp.broadcast_to(jnp.reshape(black, (1, 1, 1, -1)), images.shape)
    return jnp.zeros_like(images)


def masked(
    images: Float[Array, "b y x c"], maps: Float[Array, "b y x"], ground: Float[Array, "b y x c"]
) -> Float[Array, "b y x c"]:
    """Blends the image where the map is 1 with the baseline where it is 0; mean: `map * image`."""
    share = maps[..., None]
    return share * images + (1 - share) * ground  # exact at both ends


def keep_top(maps: Float[Array, "b y x"], fraction: float) -> Float[Array, "b y x"]:
    """Zeroes each map below its (1 - fraction) quantile.

    Source: Gkartzonika et al., "Learning visual explanations" (L-CAM), ECCV workshops 2022.
    """
    flat = maps.reshape(maps.shape[0], -1)
    least = jnp.quantile(flat, 1 - fraction, axis=1)[:, None, None]
    return jnp.where(maps >= least, maps, 0)


def average_drop(before: Float[Array, " b"], after: Float[Array, " b"]) -> Float[Array, " b"]:
    """Returns `100 max(0, p - p_masked) / p`, percent; lower is better.

    Source: Chattopadhay et al., "Grad-CAM++", WACV 2018. pytorch-grad-cam subtracts logits and
    does not divide. FakeCAM (all ones but one pixel) reaches 0: never the headline alone.
    """
    return 100 * jnp.maximum(before - after, 0) / jnp.where(before == 0, 1, before)


def increase_in_confidence(
    before: Float[Array, " b"], after: Float[Array, " b"]
) -> Float[Array, " b"]:
    """Returns 100 where the masked image scores higher, else 0, percent. Source: as above."""
    return 100.0 * (before < after)


def average_gain(before: Float[Array, " b"], after: Float[Array, " b"]) -> Float[Array, " b"]:
    """Returns `100 max(0, p_masked - p) / (1 - p)`, percent; higher is better.

    Source: Zhang et al., "Opti-CAM", CVIU 2024. 0 where p is 1: nothing can be gained.
    """
    return 100 * jnp.maximum(after - before, 0) / jnp.where(before == 1, 1, 1 - before)


def win(after_a: Float[Array, " b"], after_b: Float[Array, " b"]) -> Float[Array, " b"]:
    """Returns 100 where a's confidence falls less than b's, 50 for a tie, else 0; percent.

    Source: Chattopadhay et al., WACV 2018. The fall is not cut at 0, so rises compete too.
    """
    return 50.0 * (1 + jnp.sign(after_a - after_b))


def deletion(
    confidence: Confidence, images: Float[Array, "b y x c"], classes: Int[Array, " b"],
    maps: Float[Array, "b y x"], ground: Float[Array, "b y x c"], *, steps: int = 16,
    chunk: int = 1,
) -> tuple[Float[Array, " b"], Float[Array, "b s"]]:  # fmt: skip
    """Replaces the pixels by the baseline, largest map values first; a steep fall is good.

    Args:
      confidence: of the frozen class.
      images: normalised.
      classes: frozen.
      maps: ranked by a stable sort; all channels of a pixel go together.
      ground: the baseline.
      steps: number of equal shares of the pixels.
      chunk: steps computed at once; memory holds `chunk * b` images.

    Returns:
      The area under the curve (trapezoid over the fraction, both ends in), lower is better, and
      the curve of `steps + 1` confidences. Source: Petsiuk et al., "RISE", BMVC 2018, whose code
      replaces 224 pixels per step and sums with half weight at the ends: the same rule.
    """
    return _replace(confidence, images, ground, classes, maps, steps=steps, chunk=chunk)


def insertion(
    confidence: Confidence, images: Float[Array, "b y x c"], classes: Int[Array, " b"],
    maps: Float[Array, "b y x"], *, steps: int = 16, chunk: int = 1,
) -> tuple[Float[Array, " b"], Float[Array, "b s"]]:  # fmt: skip
    """Brings the pixels back into the blurred image, largest map values first; higher is better.

    Arguments, returns and source as `deletion`; the blur is a Gaussian of 11 pixels, sigma 5.
    """
    blurred = gaussian_blur(images)
    return _replace(confidence, blurred, images, classes, maps, steps=steps, chunk=chunk)


def area(curve: Float[Array, "b s"], fractions: Float[np.ndarray, " s"]) -> Float[Array, " b"]:
    """Returns the trapezoid area under each curve over the fractions."""
    return jnp.sum((curve[:, 1:] + curve[:, :-1]) / 2 * np.diff(fractions)[None], axis=1)


def coherency(
    maps: Float[Array, "b h w"], maps_of_masked: Float[Array, "b h w"]
) -> Float[Array, " b"]:
    """Returns `(1 + Pearson) / 2` of a map and the map of the image that it masked.

    0.5 where either is constant, as an uncorrelated pair.
    """
    flat = maps.reshape(maps.shape[0], -1), maps_of_masked.reshape(maps.shape[0], -1)
    return (1 + jnp.nan_to_num(pearson(*flat))) / 2


def adcc(
    coherency: Float[Array, " b"], complexity: Float[Array, " b"], drop: Float[Array, " b"]
) -> Float[Array, " b"]:
    """Returns the harmonic mean of coherency, 1 - complexity and 1 - drop, per image, in percent.

    Args:
      coherency: in [0, 1].
      complexity: the mean of the map, in [0, 1].
      drop: `average_drop`, in percent.

    Source: Poppi et al., "Revisiting the evaluation of CAM explainability", CVPR workshops 2021.
    Their tables take the harmonic mean of the averages; this is the mean of the per-image values.
    0 where one of the three is 0.
    """
    parts = jnp.stack([coherency, 1 - complexity, 1 - drop / 100])
    zero = jnp.any(parts <= 0, axis=0)
    return jnp.where(zero, 0, 300 / jnp.sum(1 / jnp.where(parts <= 0, 1, parts), axis=0))


def _replace(
    confidence: Confidence, start: Array, end: Array, classes: Array, maps: Array, *, steps: int,
    chunk: int,
) -> tuple[Array, Array]:  # fmt: skip
    places, pixels = order(maps), maps.shape[1] * maps.shape[2]
    counts = np.round(np.linspace(0, pixels, steps + 1)).astype(np.int32)

    def at(count: Array) -> Array:
        return confidence(jnp.where((places < count)[..., None], end, start), classes)

    curve = jax.lax.map(at, jnp.asarray(counts), batch_size=chunk).T
    return area(curve, counts / pixels), curve
