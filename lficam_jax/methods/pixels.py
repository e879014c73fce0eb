"""Attributions to pixels: maps as large as the image that the network is fed.

x is the image, y the score that the target asks for. Where a paper's attribution has a sign, its
sum over the colours is cut at 0, as Grad-CAM is: the map shows what speaks for the target. An image
of zeros, which stands for *nothing there*, is the mean colour of the training images.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from lficam_jax.methods.guided import guided
from lficam_jax.methods.loops import CHUNK_SIZE, keys_of, masked_scores, noise, seen
from lficam_jax.methods.split import Split, slope
from lficam_jax.methods.targets import Target, pick
from lficam_jax.ops.maps import resize
from lficam_jax.structs import Key
from lficam_jax.workdir.watch import tell

Maps = Float[Array, "b y x"]
Pixels = Float[Array, "b y x c"]


def gradient(split: Split, target: Target) -> Maps:
    """Returns `max_c |dy/dx_c|`.

    Source: Simonyan et al., "Deep Inside Convolutional Networks", ICLR workshops 2014, section 3.
    """
    return _largest(_gradient("gradient", split, target))


def input_x_gradient(split: Split, target: Target) -> Maps:
    """Returns `ReLU(sum_c x_c dy/dx_c)`.

    Source: Shrikumar et al., "Not Just a Black Box", arXiv 1605.01713.
    """
    images, _ = seen("input_x_gradient", split)
    return _for(images * _gradient("input_x_gradient", split, target))


def smooth_grad(
    split: Split, target: Target, *, key: Key | None = None, samples: int = 50,
    deviation: float = 0.15,
) -> Maps:  # fmt: skip
    """Returns `max_c |mean dy/dx_c|`, the mean over noisy images.

    Args:
      split: with `images` and `network`.
      target: what is asked, of each image.
      key: of the noise; one, or one for each image.
      samples: noisy images.
      deviation: of the noise, as a share of the image's range.

    Source: Smilkov et al., "SmoothGrad", arXiv 1706.03825, section 3; 50 samples, 10 to 20 %.
    """
    images, _ = seen("smooth_grad", split)
    keys = keys_of(key, images.shape[0])
    span = jnp.ptp(images, axis=(1, 2, 3), keepdims=True)

    def look(total: Array, number: Array) -> tuple[Array, None]:
        tell("smooth_grad", number, samples)
        noisy = images + deviation * span * noise(keys, number, images.shape[1:])
        return total + _gradient("smooth_grad", split, target, noisy.astype(images.dtype)), None

    total, _ = jax.lax.scan(look, jnp.zeros_like(images), jnp.arange(samples))
    return _largest(total / samples)


def integrated_gradients(split: Split, target: Target, *, samples: int = 50) -> Maps:
    """Returns `ReLU(sum_c x_c * integral_0^1 dy/dx_c(a x) da)`: from an image of zeros to x.

    Without the ReLU the map sums to y(x) - y(0). The integral is that of Gauss and Legendre, which
    needs fewer samples than equal steps.

    Args:
      split: with `images` and `network`.
      target: what is asked, of each image.
      samples: places where the gradient is taken.

    Source: Sundararajan et al., "Axiomatic Attribution for Deep Networks", ICML 2017, eq. 1.
    """
    return _for(integrated(split, target, samples))


def integrated(split: Split, target: Target, samples: int) -> Pixels:
    """Returns integrated gradients of each colour, with their sign."""
    images, _ = seen("integrated_gradients", split)
    places, weights = np.polynomial.legendre.leggauss(samples)

    def look(total: Array, step: tuple[Array, ...]) -> tuple[Array, None]:
        number, place, weight = step
        tell("integrated_gradients", number, samples)
        found = _gradient("integrated_gradients", split, target, images * place)
        return total + weight * found, None

    steps = (jnp.asarray(of, images.dtype) for of in ((places + 1) / 2, weights / 2))
    total, _ = jax.lax.scan(look, jnp.zeros_like(images), (jnp.arange(samples), *steps))
    return images * total


def guided_backprop(split: Split, target: Target) -> Maps:
    """Returns `max_c |dy/dx_c|`, each ReLU passing back only what is positive.

    Raises:
      UserError: if no ReLU can be found in the network; see `guided.guided`.

    Source: Springenberg et al., "Striving for Simplicity", ICLR workshops 2015, section 3.4.
    """
    images, network = seen("guided_backprop", split)
    network = guided(network, images)
    found: Array = slope(lambda x: pick(network(x), target).sum(), images)
    return _largest(found)


def occlusion(
    split: Split, target: Target, *, chunk_size: int = CHUNK_SIZE, window: float = 0.25
) -> Maps:
    """Returns `ReLU(mean over windows of (y - y_w))`, y_w the score with window w set to zero.

    Each pixel's mean is over the windows that cover it. They begin half a window apart; the last
    are cut by the image's edge.

    Args:
      split: with `images` and `network`.
      target: what is asked, of each image.
      chunk_size: occluded images in one forward pass.
      window: sides of the window, as a share of the image's.

    Source: Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014,
    section 4.2.
    """
    images, network = seen("occlusion", split)
    down, across = (_covered(n, window) for n in images.shape[1:3])  # [windows pixels]

    def mask(_: Int[Array, " m"], look: Int[Array, " m"]) -> Float[Array, "m y x"]:
        row, column = look // len(across), look % len(across)
        return 1 - down[row][:, :, None] * across[column][:, None, :]

    hidden = masked_scores(
        "occlusion", split, target, len(down) * len(across), mask, chunk_size
    ).reshape(-1, len(down), len(across))
    fall = pick(network(images), target)[:, None, None] - hidden
    total = jnp.einsum("bpq,py,qx->byx", fall, down, across, precision="highest")
    windows = jnp.outer(down.sum(axis=0), across.sum(axis=0))  # that cover each pixel
    return jax.nn.relu(total / windows[None])


def rise(
    split: Split, target: Target, *, key: Key | None = None, chunk_size: int = CHUNK_SIZE,
    score: str = "probability", samples: int = 1000, cells: int = 7, share: float = 0.5,
) -> Maps:  # fmt: skip
    """Returns `sum_i s_i M_i / (N p)`, s_i the score of the image times the random mask M_i.

    A mask is a grid of cells that are 1 with probability p, enlarged bilinearly to one cell more
    than the image and shifted by a random part of a cell.

    Args:
      split: with `images` and `network`.
      target: what is asked, of each image.
      key: of the masks; one, or one for each image.
      chunk_size: masked images in one forward pass.
      score: `probability`, as in the paper, or `logit`.
      samples: N; the paper takes 4,000 and 8,000.
      cells: of a side of the grid.
      share: p.

    Source: Petsiuk et al., "RISE", BMVC 2018, eq. 6 and section 3.2.
    """
    images, _ = seen("rise", split)
    size, keys = images.shape[1:3], keys_of(key, images.shape[0])

    def mask(sample: Int[Array, " m"], look: Int[Array, " m"]) -> Float[Array, "m y x"]:
        each = jax.vmap(jax.random.fold_in)(keys[sample], look)
        return jax.vmap(lambda one: random_mask(one, size, cells, share))(each)

    scores = masked_scores("rise", split, target, samples, mask, chunk_size, score)
    every = jnp.arange(images.shape[0])

    def add(total: Array, number: Array) -> tuple[Array, None]:
        masks = mask(every, jnp.full(images.shape[0], number))
        return total + scores[:, number, None, None] * masks, None

    total, _ = jax.lax.scan(add, jnp.zeros(images.shape[:3]), jnp.arange(samples))
    return total / (samples * share)


def random_mask(key: Key, size: tuple[int, ...], cells: int, share: float) -> Float[Array, "y x"]:
    """Draws one mask of RISE."""
    grid, shift = jax.random.split(key)
    on = jax.random.bernoulli(grid, share, (cells, cells)).astype(jnp.float32)
    steps = [-(-n // cells) for n in size]
    large = resize(on, [(cells + 1) * step for step in steps])
    start = jax.random.randint(shift, (2,), 0, jnp.array(steps))
    return jax.lax.dynamic_slice(large, start, size)


def _gradient(name: str, split: Split, target: Target, images: Pixels | None = None) -> Pixels:
    """Returns dy/dx, at other images than the split's if they are given."""
    own, network = seen(name, split)
    at = own if images is None else images
    found: Array = slope(lambda x: pick(network(x), target).sum(), at)
    return found


def _covered(pixels: int, window: float) -> Float[Array, "n pixels"]:
    """Returns which pixels of one side each window covers."""
    side = max(1, round(window * pixels))
    stride = max(1, side // 2)
    start = stride * np.arange(-(-max(pixels - side, 0) // stride) + 1)[:, None]
    place = np.arange(pixels)
    return jnp.asarray((place >= start) & (place < start + side), jnp.float32)


def _largest(found: Pixels) -> Maps:
    return jnp.max(jnp.abs(found.astype(jnp.float32)), axis=-1)


def _for(found: Pixels) -> Maps:
    return jax.nn.relu(jnp.sum(found.astype(jnp.float32), axis=-1))
