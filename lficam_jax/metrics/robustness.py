"""Does a small attack change the class, or the map?"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def fgsm(
    loss: Callable[[Float[Array, "b y x c"], Int[Array, " b"]], Float[Array, " b"]],
    images: Float[Array, "b y x c"], labels: Int[Array, " b"], *, mean: Sequence[float],
    std: Sequence[float], epsilon: float | Float[Array, " b"] = 2 / 255, grey: bool = False,
) -> Float[Array, "b y x c"]:  # fmt: skip
    """Moves each pixel by `epsilon` in the direction that raises the loss.

    Args:
      loss: of normalised images, one value per image.
      images: normalised.
      labels: the true classes.
      mean: of each channel, for pixels in [0, 1].
      std: likewise.
      epsilon: in *pixel* units, of [0, 1]; one for all, or one for each image.
      grey: the channels are copies of one, and stay so.

    Returns:
      Normalised images, whose pixels were clamped to [0, 1] before they were normalised again.
      The code released with LFI-CAM clamps normalised pixels, which destroys the image.

    Source: Goodfellow et al., "Explaining and harnessing adversarial examples", ICLR 2015.
    """
    shift, scale = (jnp.asarray(v, jnp.float32).reshape(1, 1, 1, -1) for v in (mean, std))
    # the sum's gradient holds each image's own, for the images do not meet
    gradient = jax.grad(lambda x: jnp.sum(loss(x, labels)))(images) / scale  # of the pixels
    if grey:
        gradient = jnp.broadcast_to(gradient.sum(axis=3, keepdims=True), images.shape)
    direction = jnp.sign(gradient)
    step = jnp.reshape(jnp.asarray(epsilon, jnp.float32), (-1, 1, 1, 1))
    pixels = jnp.clip(images * scale + shift + step * direction, 0, 1)
    return (pixels - shift) / scale
