"""Picture files, decoded to uint8 arrays."""

import io
from pathlib import Path

import numpy as np

from lficam_jax.errors import UserError

JPEG, EXIF = b"\xff\xd8\xff", b"Exif\0\0"  # how such a file, and the camera's notes, begin
HEIF, AVIF = {b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1"}, {b"avif", b"avis"}


class DamagedImage(UserError):
    """A picture whose bytes cannot be decoded; `name` is what the message calls it."""

    def __init__(self, name: str, problem: str):
        super().__init__(f"{name} {problem}; replace or remove it")
        self.name = name


def read_image(path: str | Path, channels: int = 3) -> np.ndarray:
    """Reads a picture, upright, as uint8 [y x channels]; one channel is grey.

    Raises:
      UserError: naming the file, if it is missing, damaged or no image.
    """
    try:
        content = (Path(path) if isinstance(path, str) else path).read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    return decode(content, channels=channels, name=str(path), upright=True)


def decode(content: bytes, *, channels: int, name: str, upright: bool = False) -> np.ndarray:
    """Decodes an encoded picture to uint8 [y x channels].

    Args:
      content: of the file.
      channels: 1 or 3; colour is dropped, or grey repeated, as needed.
      name: what an error calls the picture.
      upright: turn it as the camera noted in the file. (Prepared data sets are read as TFDS reads
        them: unturned.)

    Raises:
      DamagedImage: if it is damaged or no image.
      UserError: if a package that decodes its format is missing.
    """
    from PIL import Image, UnidentifiedImageError  # `describe` and `benchmark` do without

    _check_format(content, name)
    mode = "L" if channels == 1 else "RGB"
    array = _decode_jpeg(content, mode, upright)
    try:
        array = _decode_any(content, mode, upright) if array is None else array
    except UnidentifiedImageError as error:
        raise DamagedImage(name, "is not an image") from error
    # Damaged files make Pillow's decoders raise almost anything; all of it means the same here.
    except (OSError, ValueError, SyntaxError, IndexError, Image.DecompressionBombError) as error:
        raise DamagedImage(name, f"is damaged ({error})") from error
    return array[..., None] if array.ndim == 2 else array


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


def _decode_jpeg(content: bytes, mode: str, upright: bool) -> np.ndarray | None:
    """Decodes a plain colour JPEG, to Pillow's very pixels but faster; None for all else.

    What this decoder refuses (damage, four colours) is Pillow's to judge.
    """
    if mode != "RGB" or not content.startswith(JPEG) or (upright and EXIF in content):
        return None
    import simplejpeg
    from PIL import Image

    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(content)
        plain = space in ("YCbCr", "RGB", "Gray") and height * width <= Image.MAX_IMAGE_PIXELS
        return simplejpeg.decode_jpeg(content, "RGB") if plain else None
    except ValueError:
        return None


def _decode_any(content: bytes, mode: str, upright: bool) -> np.ndarray:
    from PIL import Image, ImageOps

    with Image.open(io.BytesIO(content)) as picture:
        turned = ImageOps.exif_transpose(picture) if upright else picture
        return np.asarray(turned if turned.mode == mode else turned.convert(mode))
