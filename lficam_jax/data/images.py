"""Pictures from files: finding them, and decoding them to uint8 arrays."""

import glob
import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from lficam_jax.errors import UserError

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")


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


def read_image(path: str | Path) -> np.ndarray:
    """Reads a picture, upright, as uint8 [y x 3].

    Raises:
      UserError: naming the file, if it is missing, damaged or no image.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    return decode(content, channels=3, name=str(path), upright=True)


def decode(content: bytes, *, channels: int, name: str, upright: bool = False) -> np.ndarray:
    """Decodes an encoded picture to uint8 [y x channels].

    Args:
      content: of the file.
      channels: 1 or 3; colour is dropped, or grey repeated, as needed.
      name: what an error calls the picture.
      upright: turn it as the camera noted in the file. (Prepared data sets are read as TFDS reads
        them: unturned.)

    Raises:
      UserError: if it is damaged or no image.
    """
    mode = "L" if channels == 1 else "RGB"
    try:
        with Image.open(io.BytesIO(content)) as picture:
            turned = ImageOps.exif_transpose(picture) if upright else picture
            array = np.asarray(turned if turned.mode == mode else turned.convert(mode))
    except UnidentifiedImageError as error:
        raise UserError(f"{name} is not an image; replace or remove it") from error
    # Damaged files make Pillow's decoders raise almost anything; all of it means the same here.
    except (OSError, ValueError, SyntaxError, IndexError, Image.DecompressionBombError) as error:
        raise UserError(f"{name} is damaged ({error}); replace or remove it") from error
    return array[..., None] if channels == 1 else array
