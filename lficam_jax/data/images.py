"""Picture files of any kind, decoded to uint8 arrays."""

import contextlib
import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lficam_jax.data import deep, dicom
from lficam_jax.data.arrays import (
    MAX_PIXELS,
    MAX_SIDE,
    NoPicture,
    check_size,
    laid_out,
    on_background,
    to_pixels,
)
from lficam_jax.data.files import read_file
from lficam_jax.errors import UserError

JPEG, EXIF = b"\xff\xd8\xff", b"Exif\0\0"  # how such a file, and the camera's notes, begin
HEIF, AVIF = {b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1"}, {b"avif", b"avis"}
NPY = b"\x93NUMPY"
LEVELS = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")  # Pillow's modes of more than 8 bits
PARTS = {"TIFF": "pages", "GIF": "frames", "WEBP": "frames", "PNG": "frames", "AVIF": "frames",
         "HEIF": "pictures"}  # fmt: skip
WHITE_IS_ZERO, BITS, PHOTOMETRIC = 0, 258, 262  # of TIFF
BAD_PROFILE = "its colour profile cannot be read and was left out"

# What a camera's notes have wrong is nothing to be told of a picture that can be read.
warnings.filterwarnings("ignore", module=r"(PIL|pydicom)\.")


class Picture(NamedTuple):
    """What was in a file.

    Attributes:
      pixels: uint8 [y x c].
      notes: what is to be said of how it was read.
    """

    pixels: np.ndarray
    notes: tuple[str, ...] = ()


class DamagedImage(UserError):
    """A picture that cannot be read; `name` is what the message calls it."""

    def __init__(self, name: str, problem: str):
        super().__init__(f"{name} {problem}; replace or remove it")
        self.name = name


def read_image(path: str | Path, channels: int = 3, background: str = "white") -> Picture:
    """Reads a picture, upright, as uint8 [y x channels]; one channel is grey.

    Raises:
      UserError: naming the file, if it is missing, no plain file, damaged or no image.
    """
    content = read_file(path)
    return decode(content, channels=channels, name=str(path), upright=True, background=background)


def read_raw(content: bytes, name: str) -> np.ndarray:
    """Returns the numbers in a picture [y x c], of whatever type, without its opacity.

    Nothing is scaled or looked up in a palette.

    Raises:
      DamagedImage: if it cannot be read.
    """
    from PIL import Image

    with _named(name), Image.open(io.BytesIO(content)) as picture:
        pixels = np.asarray(picture).reshape(*picture.size[::-1], -1)
        return pixels[..., :-1] if pixels.shape[-1] in (2, 4) else pixels


def decode(
    content: bytes, *, channels: int, name: str, upright: bool = False, background: str = "white"
) -> Picture:
    """Decodes an encoded picture to uint8 [y x channels].

    Args:
      content: of the file.
      channels: 1 or 3; colour is dropped, or grey repeated, as needed.
      name: what an error calls the picture.
      upright: turn it as the camera noted in the file. (Prepared data sets are read as TFDS reads
        them: unturned.)
      background: what transparent pixels are laid on, a key of `arrays.BACKGROUNDS`.

    Raises:
      DamagedImage: if it is damaged, no image, or cannot be meant as one.
      UserError: if a package that decodes its format is missing.
    """
    with _named(name):
        plain = _decode_jpeg(content, channels, upright)
        found = Picture(plain) if plain is not None else _decode_any(content, name, upright)
        pixels = on_background(found.pixels, background)
        return Picture(_with_channels(pixels, channels), found.notes)


def from_pillow(picture: Any, name: str) -> Picture:
    """Returns the pixels of a PIL picture, uint8 [y x c] with c = 1, 3 or, with clear pixels, 4.

    Raises:
      DamagedImage: if it cannot be read, or cannot be meant as a picture.
    """
    with _named(name):
        return _from_pillow(picture, upright=True)


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    """Says of which picture an error is: decoders of damaged and rare files raise anything."""
    from PIL import Image

    try:
        yield
    except UserError:
        raise
    except Image.DecompressionBombError as error:
        raise DamagedImage(name, f"has more than {MAX_PIXELS:,} pixels") from error
    except NoPicture as error:
        raise DamagedImage(name, error.problem) from error
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise DamagedImage(name, f"cannot be read ({reason})") from error


def _from_pillow(picture: Any, upright: bool) -> Picture:
    from PIL import ImageOps

    if 0 in picture.size:
        raise NoPicture("has no pixels")
    if (side := max(picture.size)) > MAX_SIDE:  # Pillow's time grows as its square
        raise NoPicture(f"has a side of {side:,} pixels, more than {MAX_SIDE:,}")
    if picture.format == "EPS":  # Pillow would start another program to draw it
        raise NoPicture("is a drawing (EPS)")
    notes = _told_parts(picture)
    white, inverted, clear = _white(picture), _is_inverted(picture), _clear_level(picture)
    turned = ImageOps.exif_transpose(picture) if upright else picture
    if turned.mode in LEVELS:
        levels = np.asarray(turned)
        pixels, said = to_pixels(levels, white)
        pixels = 255 - pixels if inverted else pixels
        if clear is not None:
            alpha = np.where(levels == clear, 0, 255).astype(np.uint8)
            return Picture(np.stack([pixels, pixels, pixels, alpha], axis=-1), notes + said)
        return Picture(pixels[..., None], notes + said)
    turned, said = _in_plain_colours(turned)
    pixels = np.asarray(turned)
    return Picture(pixels[..., None] if pixels.ndim == 2 else pixels, notes + said)


def _decode_jpeg(content: bytes, channels: int, upright: bool) -> np.ndarray | None:
    """Decodes a plain colour JPEG, to Pillow's very pixels but faster; None for all else.

    What this decoder refuses (damage, four colours) is Pillow's to judge.
    """
    if channels != 3 or not content.startswith(JPEG) or (upright and EXIF in content):
        return None
    import simplejpeg
    from PIL import Image

    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(content)
        plain = space in ("YCbCr", "RGB", "Gray") and height * width <= Image.MAX_IMAGE_PIXELS
        return simplejpeg.decode_jpeg(content, "RGB") if plain else None
    except ValueError:
        return None


def _decode_any(content: bytes, name: str, upright: bool) -> Picture:
    from PIL import Image, UnidentifiedImageError  # `describe` and `benchmark` do without

    if not content:
        raise NoPicture("is empty")
    if content.startswith(NPY):
        return _from_numpy(content)
    if dicom.is_dicom(content, name):
        return Picture(*dicom.decode(content, name))
    _check_format(content, name)
    try:
        with Image.open(io.BytesIO(content)) as picture:
            levels = deep.decode(content, picture)
            if levels is None:
                return _from_pillow(picture, upright)
            notes, turn = _told_parts(picture), picture.getexif() if upright else None
    except UnidentifiedImageError as error:
        levels, notes, turn = deep.decode(content), (), None
        if levels is None:
            raise NoPicture("is not an image") from error
    pixels, said = to_pixels(levels)
    return Picture(_turned(pixels, turn), notes + said)


def _from_numpy(content: bytes) -> Picture:
    array = np.load(io.BytesIO(content), allow_pickle=False)
    pictures = laid_out(array)
    if len(pictures) != 1:
        raise NoPicture(f"holds {len(pictures)} pictures, where one is wanted")
    check_size(pictures.shape[1] * pictures.shape[2])
    return Picture(*to_pixels(pictures[0]))


def _check_format(content: bytes, name: str) -> None:
    """Lets Pillow read HEIC, if the package for it is there."""
    if content[4:8] != b"ftyp":
        return
    brands = {content[i : i + 4] for i in range(8, min(content[3], 64), 4)}
    if brands & AVIF:
        from PIL import features

        if not features.check("avif"):
            raise UserError(f"{name} is AVIF, which this Pillow cannot read; take 11.3 or later")
    elif brands & HEIF:
        try:
            import pillow_heif
        except ImportError as error:
            raise UserError(f"{name} is HEIC; to read it: pip install pillow-heif") from error
        pillow_heif.register_heif_opener()


def _told_parts(picture: Any) -> tuple[str, ...]:
    """Says that a file has more pictures than the one that is read, its first."""
    several = picture.format in PARTS and getattr(picture, "is_animated", False)
    which = "main" if picture.format == "HEIF" else "first"
    first = picture.format == "HEIF" or (several and picture.tell() == 0)
    return (f"the {which} of several {PARTS[picture.format]}",) if several and first else ()


def _white(picture: Any) -> float | None:
    """Returns the number that is white in a picture of more than 8 bits; None if it is not said.

    Pillow spreads the range of PGM and JPEG 2000 over 16 bits. PNG's sBIT says how exact its
    numbers are, not which is white.
    """
    if picture.format in ("PPM", "JPEG2000"):
        return 65535
    bits = int(picture.tag_v2.get(BITS, (16,))[0]) if picture.format == "TIFF" else 16
    return 2**bits - 1 if 8 < bits < 16 else None


def _is_inverted(picture: Any) -> bool:
    """Tells whether 0 is white, which Pillow heeds in pictures of 8 bits only."""
    return bool(picture.format == "TIFF" and picture.tag_v2.get(PHOTOMETRIC) == WHITE_IS_ZERO)


def _clear_level(picture: Any) -> int | None:
    """Returns the number that is transparent in a PNG of 16 bits."""
    level = picture.info.get("transparency")
    return level if picture.mode in LEVELS and isinstance(level, int) else None


def _in_plain_colours(picture: Any) -> tuple[Any, tuple[str, ...]]:
    """Brings a PIL picture of 8 bits to L, RGB or, if it has clear pixels, RGBA."""
    from PIL import ImageCms

    if picture.mode in ("La", "RGBa"):
        picture = picture.convert(picture.mode.upper())
    if picture.mode in ("LA", "PA", "RGBA") or "transparency" in picture.info:
        return picture.convert("RGBA"), ()
    profile = picture.info.get("icc_profile")
    if picture.mode != "CMYK" or not profile:
        return picture if picture.mode in ("L", "RGB") else picture.convert("RGB"), ()
    try:  # without its profile, ink is no colour
        inks = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        screen = ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(picture, inks, screen, outputMode="RGB"), ()
    except (ImageCms.PyCMSError, OSError):
        return picture.convert("RGB"), (BAD_PROFILE,)


def _turned(pixels: np.ndarray, exif: Any) -> np.ndarray:
    """Turns a picture upright, as its camera's notes say."""
    from PIL import ExifTags, Image, ImageOps

    orientation = exif.get(ExifTags.Base.Orientation, 1) if exif else 1
    if orientation == 1:
        return pixels
    picture = Image.fromarray(pixels if pixels.shape[-1] > 1 else pixels[..., 0])
    picture.getexif()[ExifTags.Base.Orientation] = orientation
    turned = np.asarray(ImageOps.exif_transpose(picture))
    return turned[..., None] if turned.ndim == 2 else turned


def _with_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    """Drops colour, or repeats grey."""
    if pixels.shape[-1] == channels:
        return pixels
    if channels == 3:
        return np.repeat(pixels, 3, axis=-1)
    from PIL import Image

    return np.asarray(Image.fromarray(pixels).convert("L"))[..., None]
