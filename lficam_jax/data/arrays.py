"""Arrays of numbers as pictures: which axis is what, and which number is black and which white."""

import numpy as np
from jaxtyping import Shaped, UInt8

CHANNELS = (1, 3, 4)  # of an array that is a picture: grey, RGB, RGBA
SHAPES = "[y x], [y x c], [c y x], or a batch of these with c = 1, 3 or 4"
BAND = 2**16  # pixels that are mixed at a time, which the processor's cache holds
MAX_PIXELS = 178_956_970  # twice what Pillow warns of, from where on it refuses, too
MAX_SIDE = 2**19  # of a picture in a file; a JPEG has at most 65,535
BACKGROUNDS = {"white": 255, "grey": 128, "black": 0}  # what transparent pixels are laid on

# What is to be said of a picture whose range had to be found out.
AS_8_BIT = "no value in it is above 255: read as 8 bits"
AS_12_BIT = "no value in it is above 4,095: read as 12 bits"
OWN_RANGE = "its range is not known: its lowest value was made black, its highest white"


class NoPicture(ValueError):
    """What cannot be meant as a picture; the text goes on from its name.

    Attributes:
      problem: 'holds NaN', say.
      remedy: for who gave an array; of a file the remedy is always the same.
    """

    def __init__(self, problem: str, remedy: str = ""):
        super().__init__(problem)
        self.problem, self.remedy = problem, remedy


def laid_out(array: np.ndarray) -> Shaped[np.ndarray, "n y x c"]:
    """Returns the pictures of an array, channels last.

    Raises:
      NoPicture: for a shape that is none of `SHAPES`, or what are no numbers.
    """
    if array.dtype.kind not in "buif":
        raise NoPicture(f"holds {array.dtype.name}, no numbers that are pixels")
    shape = list(array.shape)
    if array.ndim == 2:
        array = array[None, ..., None]
    elif array.ndim == 3 and array.shape[-1] in CHANNELS:
        array = array[None]
    elif array.ndim == 3 and array.shape[0] in CHANNELS:
        array = array.transpose(1, 2, 0)[None]
    elif array.ndim == 4 and array.shape[-1] not in CHANNELS and array.shape[1] in CHANNELS:
        array = array.transpose(0, 2, 3, 1)
    if array.ndim != 4 or array.shape[-1] not in CHANNELS or 0 in array.shape[1:]:
        raise NoPicture(f"has the shape {shape}", f"give {SHAPES}")
    return array


def to_pixels(
    array: Shaped[np.ndarray, "*shape"], white: float | None = None, *, file: bool = True
) -> tuple[UInt8[np.ndarray, "*shape"], tuple[str, ...]]:
    """Brings numbers of any type to 0..255: docs/datasets.md has the rule.

    Args:
      array: of one picture, or of several that belong together.
      white: the number that is white (0 is black), if that is known.
      file: of a file, whose range may have to be found out. An array is from somebody who can say
        what is meant: then what no type explains is an error.

    Returns:
      The pixels, and what is to be said of them.

    Raises:
      NoPicture: for NaN, infinity, and arrays out of range.
    """
    kind = array.dtype
    if kind == np.uint8 or not array.size:
        return array.astype(np.uint8, copy=False), ()
    if kind.kind == "b":
        return array.astype(np.uint8) * 255, ()
    check_finite(array)
    low, high = float(array.min()), float(array.max())
    if kind.kind == "f":
        if -1e-4 <= low and high <= 1 + 1e-4:
            return _scaled(array, 0, 1), ()
        if not file:
            raise NoPicture(
                f"holds floats, which must lie in 0..1; these lie in {low:.3g}..{high:.3g}",
                "give uint8 if they are pixels up to 255; say normalised=True if they are as the "
                "network is fed",
            )
        return _scaled(array, low, high), (OWN_RANGE,)
    if white is not None and 0 <= low and high <= white:
        return _scaled(array, 0, white), ()
    if not file and kind != np.uint16 and not 0 <= low <= high <= 255:
        raise NoPicture(
            f"holds whole numbers, which must lie in 0..255; these lie in {low:g}..{high:g}",
            "give uint16 if they have more bits, or floats in 0..1",
        )
    return _whole(array, low, high, said=file or kind == np.uint16)


def on_background(image: UInt8[np.ndarray, "y x c"], background: str) -> UInt8[np.ndarray, "y x d"]:
    """Lays RGBA on a background; what has no fourth channel is returned as it is."""
    if image.shape[-1] != 4:
        return image
    mixed, level = np.empty((*image.shape[:2], 3), np.uint8), BACKGROUNDS[background]
    pixels, out = image.reshape(-1, 4), mixed.reshape(-1, 3)
    for start in range(0, len(pixels), BAND):  # in one piece, a large picture would fill the memory
        part = pixels[start : start + BAND]
        share = part[:, 3:].astype(np.uint16)  # 255 * 255 + 127 is less than 2**16
        out[start : start + BAND] = (part[:, :3] * share + level * (255 - share) + 127) // 255
    return mixed


def check_finite(array: np.ndarray) -> None:
    """Raises `NoPicture` for NaN and infinity."""
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise NoPicture("holds NaN or infinity", "give finite numbers")


def check_size(pixels: int) -> None:
    """Raises `NoPicture` for more pixels than anybody means; they could fill the memory."""
    if pixels > MAX_PIXELS:
        raise NoPicture(f"has more than {MAX_PIXELS:,} pixels")


def _whole(
    array: np.ndarray, low: float, high: float, *, said: bool
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Scales whole numbers by the least of 8, 12 and 16 bits that holds them, else by their own."""
    if low < 0 or high > 65535:
        return _scaled(array, low, high), (OWN_RANGE,)
    if high > 4095:
        return _scaled(array, 0, 65535), ()
    white, note = (4095, AS_12_BIT) if high > 255 else (255, AS_8_BIT)
    return _scaled(array, 0, white), (note,) * said


def _scaled(array: np.ndarray, low: float, high: float) -> np.ndarray:
    """Makes `low` 0 and `high` 255; if they are one, all is 0."""
    size = max(abs(low), abs(high)) or 1.0  # first, for the difference may be more than a float is
    low, high = low / size, high / size
    pixels = np.empty(array.shape, np.uint8)
    for row, numbers in enumerate(array):  # one by one, for memory
        share = (numbers.astype(np.float64) / size - low) / ((high - low) or 1.0)
        pixels[row] = np.round(np.clip(share, 0, 1) * 255)
    return pixels
