"""Common corruptions: what happens to pictures when nobody attacks, at five severities.

Nine of the fifteen of Hendrycks and Dietterich, "Benchmarking neural network robustness to common
corruptions and perturbations", ICLR 2019, with the parameters of their released CIFAR-10-C and
ImageNet-C, composed from numpy, scipy.ndimage and Pillow. No package serves: `imagecorruptions`
(2020) and tensorflow-datasets' own need OpenCV and a global random state, know the parameters for
224 pixels only (which destroy small pictures), and the former no longer imports beside a recent
setuptools.

Left out: elastic_transform moves the object, so that a map that follows it would count as
unstable; snow and motion_blur are drawn by ImageMagick, frost needs their photographs, fog their
fractal, glass_blur swaps pixels one after the other.
"""

import io
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from lficam_jax.errors import UserError, nearest

SEVERITIES = (1, 2, 3, 4, 5)
SMALL = 84  # pixels: the geometric mean of 32 and 224, for which the two tables were made

Pixels = Float[np.ndarray, "y x c"]  # in [0, 1]
Rng = np.random.Generator


def corrupt(
    image: UInt8[np.ndarray, "y x c"], name: str, severity: int, *, example: int, seed: int = 0
) -> UInt8[np.ndarray, "y x c"]:
    """Corrupts one picture; a pure function of its arguments.

    Args:
      image: with one channel or three.
      name: a key of `CORRUPTIONS`.
      severity: 1 to 5, with CIFAR-10-C's parameters if the shorter side has at most `SMALL`
        pixels, else ImageNet-C's.
      example: the picture's id, which the noise depends on.
      seed: which the noise depends on.

    Raises:
      UserError: for an unknown corruption or severity.
    """
    check(name, severity)
    small, large, apply = CORRUPTIONS[name]
    parameter = (small if min(image.shape[:2]) <= SMALL else large)[severity - 1]
    entropy = [seed, example & 0xFFFFFFFF, severity, zlib.crc32(name.encode())]
    found = apply(image / np.float32(255), parameter, np.random.default_rng(entropy))
    pixels: Pixels = np.round(255 * np.clip(found, 0, 1))
    return pixels.astype(np.uint8)


def check(name: str, severity: int) -> None:
    """Raises a UserError for a corruption or severity that does not exist."""
    if name not in CORRUPTIONS:
        raise UserError(f"corruption {name!r} is unknown{nearest(name, tuple(CORRUPTIONS))}")
    if severity not in SEVERITIES:
        raise UserError(f"severity {severity} of {name} does not exist; give 1 to 5")


def _gaussian_noise(image: Pixels, sd: float, rng: Rng) -> Pixels:
    return image + rng.normal(scale=sd, size=image.shape)


def _shot_noise(image: Pixels, photons: float, rng: Rng) -> Pixels:
    return rng.poisson(image * photons) / photons


def _impulse_noise(image: Pixels, share: float, rng: Rng) -> Pixels:
    draw = rng.random(image.shape)  # of each value: black, white, or let be
    return np.where(draw < share / 2, 0, np.where(draw < share, 1, image))


def _defocus_blur(image: Pixels, parameter: tuple[float, float], rng: Rng) -> Pixels:
    from scipy.ndimage import convolve, gaussian_filter

    radius, smoothing = parameter
    reach = max(8, radius)  # the authors' grid, and how far they smooth
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disk = (x**2 + y**2 <= radius**2).astype(np.float32)
    disk /= disk.sum()
    kernel = gaussian_filter(disk, smoothing, radius=2 if radius > 8 else 1, mode="mirror")
    blurred: Pixels = convolve(image, kernel[..., None], mode="mirror")
    return blurred


def _zoom_blur(image: Pixels, parameter: tuple[float, float], rng: Rng) -> Pixels:
    from scipy.ndimage import affine_transform

    end, step = parameter
    factors = np.arange(1, end, step)
    centre = (np.array(image.shape) - 1) / 2

    def zoomed(factor: float) -> Pixels:
        scale = np.array([1 / factor, 1 / factor, 1])
        shift = centre - scale * centre
        larger: Pixels = affine_transform(image, scale, shift, order=1, mode="nearest")
        return larger

    return (image + sum(map(zoomed, factors))) / (len(factors) + 1)


def _brightness(image: Pixels, more: float, rng: Rng) -> Pixels:
    """Raises the V of HSV: hue and saturation stay, and what is black turns grey."""
    value = image.max(axis=2, keepdims=True)
    raised: Pixels = np.minimum(value + more, 1)
    return np.where(value == 0, raised, image * raised / np.where(value == 0, 1, value))


def _contrast(image: Pixels, factor: float, rng: Rng) -> Pixels:
    mean = image.mean(axis=(0, 1), keepdims=True)
    faded: Pixels = mean + factor * (image - mean)
    return faded


def _pixelate(image: Pixels, factor: float, rng: Rng) -> Pixels:
    picture = _picture(image)
    less = int(picture.width * factor), int(picture.height * factor)
    box = Image.Resampling.BOX
    return _pixels(picture.resize(less, box).resize(picture.size, box), image)


def _jpeg_compression(image: Pixels, quality: int, rng: Rng) -> Pixels:
    stream = io.BytesIO()
    _picture(image).save(stream, "JPEG", quality=quality)
    return _pixels(Image.open(stream), image)


def _picture(image: Pixels) -> Image.Image:
    pixels = np.round(255 * image).astype(np.uint8)
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def _pixels(picture: Image.Image, like: Pixels) -> Pixels:
    return np.asarray(picture).reshape(like.shape) / np.float32(255)


# name -> parameters of severities 1 to 5 in CIFAR-10-C and in ImageNet-C, and what they do. From
# make_cifar_c.py and imagenet_c/corruptions.py of github.com/hendrycks/robustness.
CORRUPTIONS: dict[str, tuple[tuple[Any, ...], tuple[Any, ...], Callable[..., Pixels]]] = {
    # standard deviation
    "gaussian_noise": ((0.04, 0.06, 0.08, 0.09, 0.10), (0.08, 0.12, 0.18, 0.26, 0.38),
                       _gaussian_noise),
    # photons that make white
    "shot_noise": ((500, 250, 100, 75, 50), (60, 25, 12, 5, 3), _shot_noise),
    # share of the values
    "impulse_noise": ((0.01, 0.02, 0.03, 0.05, 0.07), (0.03, 0.06, 0.09, 0.17, 0.27),
                      _impulse_noise),
    # radius of the disk, standard deviation that softens it; pixels
    "defocus_blur": (((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)),
                     ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)), _defocus_blur),
    # zoom below which one goes, and the step
    "zoom_blur": (((1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)),
                  ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),
                  _zoom_blur),
    # what is added to V
    "brightness": ((0.05, 0.1, 0.15, 0.2, 0.3), (0.1, 0.2, 0.3, 0.4, 0.5), _brightness),
    # factor
    "contrast": ((0.75, 0.5, 0.4, 0.3, 0.15), (0.4, 0.3, 0.2, 0.1, 0.05), _contrast),
    # factor of the side
    "pixelate": ((0.95, 0.9, 0.85, 0.75, 0.65), (0.6, 0.5, 0.4, 0.3, 0.25), _pixelate),
    # quality
    "jpeg_compression": ((80, 65, 58, 50, 40), (25, 18, 15, 10, 7), _jpeg_compression),
}  # fmt: skip
