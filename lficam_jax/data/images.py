"""Pictures from files: finding them, and decoding them to uint8 arrays."""

import glob
import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from lficam_jax.errors import UserError

JPEG, EXIF = b"\xff\xd8\xff", b"Exif\0\0"  # how such a file, and the camera's notes, begin
SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")


class DamagedImage(UserError):
    """A picture whose bytes cannot be decoded; `name` is what the message calls it."""

    def __init__(self, name: str, problem: str):
        super().__init__(f"{name} {problem}; replace or remove it")
        self.name = name


def find_images(patterns: Iterable[str | Path]) -> list[Path]:
    """Finds image files.

    Args:
      patterns: each a file, a directory (searched below, by suffix) or a glob.

    Returns:
      The files, in the order of the patterns and sorted within each, without repetitions. A file
      that was named is returned whatever its suffix: reading it tells what it is.

    Raises:
      UserError: for a pattern that finds nothing.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        path = Path(pattern).expanduser()
        if path.is_file():
            matches = [path]
        elif path.is_dir():
            matches = sorted(p for p in path.rglob("*") if is_image(p))
        else:
            matches = sorted(Path(p) for p in glob.glob(str(path), recursive=True))
            matches = [p for p in matches if p.is_file()]
        if not matches:
            raise UserError(
                f"no image found at {str(pattern)!r}; give files, a directory or a glob"
            )
        found |= dict.fromkeys(matches)
    return list(found)


def is_image(path: Path) -> bool:
    """Tells by the suffix; hidden files are none."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


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
    """
    from PIL import Image, UnidentifiedImageError  # `describe` and `benchmark` do without

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
