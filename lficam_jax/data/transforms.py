"""What happens to pixels between the file and the network, each step beside its inverse.

Functions on whole batches take numpy arrays on the host and jax arrays inside the step alike: the
array says by itself to which library it belongs.
"""

import os
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

from lficam_jax.config import CHOICES
from lficam_jax.config.size import MOST, Size, as_size, is_size, sides
from lficam_jax.data.datasets import IMAGENET_MEAN, IMAGENET_STD, Dataset
from lficam_jax.errors import UserError, brief, check_whole, check_word, is_number

CROP_AREA = (0.08, 1.0)  # of Inception's random crops, as a share of the picture
CROP_RATIO = (3 / 4, 4 / 3)  # width over height
NOTICEABLE = 0.1  # of a picture


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """How an image becomes what a network is fed, for a network without a data set of ours.

    Attributes:
      image_size: pixels per side that the network is fed; two numbers: rows and columns.
      mean: per channel, of pixels in 0..1; the default is ImageNet's.
      std: standard deviation, likewise.
      channels: 1: colour is dropped first, and grey repeated; else 3.
      fit: how a picture gets this shape. crop: its central part; pad: all of it, in the middle of
        the mean colour; stretch: all of it, its sides scaled apart.
      crop_share: of the short side, the central part that the network sees (crop).
      interpolation: how images are scaled, a filter of Pillow's.
      background: what transparent pixels are laid on: white, grey or black.

    Raises:
      UserError: for a value that cannot be.

    Example:
      >>> fit_image(np.zeros((300, 400, 3), np.uint8), Preprocess(image_size=224)).shape
      (224, 224, 3)
    """

    image_size: Size
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    channels: int = 3
    fit: str = "crop"
    crop_share: float = 1.0
    interpolation: str = "bilinear"
    background: str = "white"

    def __post_init__(self) -> None:
        object.__setattr__(self, "image_size", _checked_size(self.image_size))
        for name in ("mean", "std"):
            object.__setattr__(self, name, _per_channel(name, getattr(self, name)))
        if min(self.std) <= 0:
            raise UserError(
                f"Preprocess: std={self.std} must be positive; images are divided by it"
            )
        if not is_number(self.channels) or self.channels not in (1, 3):
            raise UserError(f"Preprocess: channels={brief(self.channels)} must be 1 or 3")
        if not is_number(self.crop_share) or not 0 < self.crop_share <= 1:
            raise UserError(f"Preprocess: crop_share={brief(self.crop_share)} must be in (0, 1]")
        for name in ("interpolation", "fit", "background"):
            known = [known for known in CHOICES[f"data.{name}"] if known]
            check_word(f"Preprocess: {name}", getattr(self, name), known)

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of what the network is fed."""
        return sides(self.image_size)


Box = tuple[float, float, float, float]  # top, left, height, width: pixels of the stored picture


def _checked_size(given: Any) -> Size:
    each = given if isinstance(given, tuple | list) and len(given) == 2 else (given, given)
    try:
        rows, columns = (check_whole("Preprocess: image_size", side) for side in each)
    except UserError as error:
        raise UserError(f"{error}, or two of them: rows, columns") from error
    if not is_size((rows, columns)):
        raise UserError(f"Preprocess: image_size={brief(given)} must be {MOST:,} at most")
    return as_size((rows, columns))


def _per_channel(name: str, given: Any) -> tuple[float, ...]:
    try:
        values = tuple(given)
    except TypeError:
        values = ()
    if len(values) != 3 or not all(map(is_number, values)):
        raise UserError(
            f"Preprocess: {name}={brief(given)} must be three numbers: red, green, blue"
        )
    return tuple(map(float, values))


def fit_image(image: np.ndarray, dataset: Dataset | Preprocess) -> np.ndarray:
    """Brings a picture to the form that an evaluation feeds, before normalisation.

    Args:
      image: uint8 [y x c].
      dataset: says the size, the crop, and whether colour is dropped.

    Returns:
      uint8 [h w 3]: `fit_box` of the picture, resampled.
    """
    if dataset.channels == 1 and image.shape[-1] == 3:
        from PIL import Image

        image = np.asarray(Image.fromarray(image).convert("L"))[..., None]
    height, width = image.shape[:2]
    fitted = resample_image(image, fit_box(height, width, dataset), dataset)
    return np.broadcast_to(fitted, (*fitted.shape[:2], 3)) if fitted.shape[-1] == 1 else fitted


def fit_box(height: int, width: int, dataset: Dataset | Preprocess) -> Box:
    """Returns the part that an evaluation looks at, in pixels of the picture.

    Scaling the short side to 256 and cutting the central 224 is the same as looking at a central
    square of 224/256 of the short side, which is `dataset.crop_share`. With `fit="pad"` the box
    lies around the picture, with `stretch` it is the picture itself. The box is also the way back:
    pixel (i, j) of the network's h x w lies at `top + (i + 0.5) / h * height`,
    `left + (j + 0.5) / w * width` of the box.
    """
    if dataset.fit == "stretch":
        return 0, 0, height, width
    rows, columns = (side / min(dataset.size) for side in dataset.size)  # 1 and 1 of a square
    if dataset.fit == "pad":
        unit = max(height / rows, width / columns)
        tall, wide = max(unit * rows, height), max(unit * columns, width)  # whatever is rounded
    else:
        unit = min(height / rows, width / columns)
        tall, wide = min(unit * rows, height), min(unit * columns, width)
        tall, wide = tall * dataset.crop_share, wide * dataset.crop_share
    return (height - tall) / 2, (width - wide) / 2, tall, wide


def cut_note(image: np.ndarray, dataset: Dataset | Preprocess) -> tuple[str, ...]:
    """Says how much of a picture is not seen, where its shape alone costs a tenth or more.

    >>> cut_note(np.zeros((64, 200, 3)), Preprocess(image_size=32))
    ('68 % of it lies outside what the network sees; fit="pad" shows all',)
    """
    height, width = image.shape[:2]
    _, _, tall, wide = fit_box(height, width, dataset)
    seen = tall * wide / (height * width)
    if dataset.fit != "crop" or seen / dataset.crop_share**2 > 1 - NOTICEABLE:
        return ()
    lost = f"{100 * (1 - seen):.0f} % of it lies outside what the network sees"
    pad = "data.fit=pad" if isinstance(dataset, Dataset) else 'fit="pad"'
    return (f"{lost}; {pad} shows all",)


def random_box(
    generator: np.random.Generator, height: int, width: int, shape: float = 1.0
) -> tuple[int, int, int, int]:
    """Draws a box of random area and aspect ratio (Szegedy et al., 2015), else the centre.

    Args:
      generator: of random numbers.
      height: of the picture.
      width: likewise.
      shape: width over height of what the box is scaled to.
    """
    for _ in range(10):
        area = height * width * generator.uniform(*CROP_AREA)
        ratio = shape * np.exp(generator.uniform(*np.log(CROP_RATIO)))
        box_height, box_width = round((area / ratio) ** 0.5), round((area * ratio) ** 0.5)
        if 0 < box_height <= height and 0 < box_width <= width:
            top = int(generator.integers(0, height - box_height + 1))
            left = int(generator.integers(0, width - box_width + 1))
            return top, left, box_height, box_width
    tall = max(1, min(height, round(width / shape)))
    wide = max(1, min(width, round(height * shape)))
    return (height - tall) // 2, (width - wide) // 2, tall, wide


def crop_scale(
    image: np.ndarray, box: tuple[int, int, int, int], size: tuple[int, int]
) -> np.ndarray:
    """Cuts `box` out of uint8 [y x c] and scales it to `size`, four times as fast.

    Whole factors are averaged away first; what remains, less than 2, is bilinear without the
    filter of `resample`. OpenCV's exact mode gives the same pixels on every machine.
    """
    top, left, height, width = box
    cut, cv2 = image[top : top + height, left : left + width], opencv()
    shrink = min(height // size[0], width // size[1])
    if shrink > 1:
        cut = cv2.resize(cut, (width // shrink, height // shrink), interpolation=cv2.INTER_AREA)
    scaled: np.ndarray = cv2.resize(cut, size[::-1], interpolation=cv2.INTER_LINEAR_EXACT)
    return scaled.reshape(*size, image.shape[-1])


def mirror(image: np.ndarray) -> np.ndarray:
    """Turns [y x c] left to right, as a copy in plain order: a strided view is slow to stack."""
    mirrored: np.ndarray = opencv().flip(image, 1)
    return mirrored.reshape(image.shape)


@cache
def opencv() -> ModuleType:
    """Returns OpenCV, which sets no threads going and prints nothing."""
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")  # of damage our own errors tell
    import cv2

    cv2.setNumThreads(1)  # the pictures are shared out over threads; one picture is not
    return cv2


def resample_image(image: np.ndarray, box: Box, dataset: Dataset | Preprocess) -> np.ndarray:
    """Cuts `box` out of a picture as `resample` does; what lies outside has the mean colour."""
    mean = np.round(np.multiply(dataset.mean, 255)).astype(np.uint8)[: image.shape[-1]]
    return resample(image, box, dataset.size, dataset.interpolation, mean)


def resample(
    image: np.ndarray, box: Box, size: tuple[int, int], interpolation: str = "bilinear",
    outside: int | np.ndarray = 0,
) -> np.ndarray:  # fmt: skip
    """Cuts `box` out of uint8 [y x c] and scales it to [*size c], antialiased.

    Args:
      image: the picture, or a mask.
      box: may be larger than the picture, which then is in its middle.
      size: rows and columns of the result.
      interpolation: a filter of Pillow's; masks, whose values must not be mixed, need `nearest`.
      outside: the colour of what lies outside the picture.
    """
    top, left, height, width = box
    if image.shape[:2] == size and (top, left, height, width) == (0, 0, *size):
        return image
    if top < 0 or left < 0:
        rows = max(1, round(size[0] * image.shape[0] / height))
        columns = max(1, round(size[1] * image.shape[1] / width))
        padded = np.empty((*size, image.shape[-1]), np.uint8)
        padded[:] = outside
        y, x = (size[0] - rows) // 2, (size[1] - columns) // 2
        padded[y : y + rows, x : x + columns] = _scaled(
            image, (0, 0, *image.shape[:2]), (rows, columns), interpolation
        )
        return padded
    return _scaled(image, box, size, interpolation)


def _scaled(
    image: np.ndarray, box: Box, size: tuple[int, int], interpolation: str
) -> np.ndarray:  # fmt: skip
    top, left, height, width = box
    from PIL import Image

    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    filter_ = Image.Resampling[interpolation.upper()]
    scaled = picture.resize(size[::-1], filter_, box=(left, top, left + width, top + height))
    return np.asarray(scaled).reshape(*size, image.shape[-1])


def crop_flip(images: Any, index: Any, top: Any, left: Any, flip: Any, padding: int) -> Any:
    """Gathers examples, shifted by a crop from a zero-padded copy and mirrored, in one gather.

    Args:
      images: [n y x c], any number type.
      index: which examples, int [b].
      top: first row of the crop in the padded picture, int [b] in 0..2*padding.
      left: first column, likewise.
      flip: whether to mirror after the crop, bool [b].
      padding: black pixels added on each side.

    Returns:
      [b y x c], of the type of `images`.
    """
    xp = images.__array_namespace__()
    height, width = images.shape[1:3]
    y = top[:, None] - padding + xp.arange(height)[None]
    x = left[:, None] - padding + xp.arange(width)[None]
    x = xp.where(flip[:, None], x[:, ::-1], x)
    inside = ((y >= 0) & (y < height))[:, :, None] & ((x >= 0) & (x < width))[:, None, :]
    y, x = xp.clip(y, 0, height - 1), xp.clip(x, 0, width - 1)
    picked = images[index[:, None, None], y[:, :, None], x[:, None, :]]
    return xp.where(inside[..., None], picked, 0).astype(images.dtype)


def normalise(image: Any, dataset: Dataset | Preprocess) -> Any:
    """Turns uint8 [... c] into the network's float32 [... 3]; greyscale is repeated first."""
    xp = image.__array_namespace__()
    if image.shape[-1] == 1:
        image = xp.repeat(image, 3, axis=-1)
    mean, std = _statistics(xp, dataset, image.ndim)
    return (image.astype(xp.float32) / 255 - mean) / std


def denormalise(image: Any, dataset: Dataset | Preprocess) -> Any:
    """Turns the network's float32 [... 3] back into uint8 pictures."""
    xp = image.__array_namespace__()
    mean, std = _statistics(xp, dataset, image.ndim)
    with np.errstate(over="ignore"):  # it is clipped
        pixels = (image.astype(xp.float32) * std + mean) * 255
    return xp.clip(xp.round(pixels), 0, 255).astype(xp.uint8)


def _statistics(xp: Any, dataset: Dataset | Preprocess, ndim: int) -> tuple[Any, Any]:
    shape = (1,) * (ndim - 1) + (3,)
    mean, std = (xp.asarray(v, dtype=xp.float32) for v in (dataset.mean, dataset.std))
    return mean.reshape(shape), std.reshape(shape)
