"""Pictures of more than 8 bits in several channels, which Pillow cuts to 8 or cannot read.

OpenCV reads them whole.
"""

import io
from typing import Any

import numpy as np
from jaxtyping import Shaped

from lficam_jax.data.arrays import check_size
from lficam_jax.data.transforms import opencv

PNG = b"\x89PNG\r\n\x1a\n"
TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the latter two are BigTIFF
WIDTH, HEIGHT, BITS = 256, 257, 258  # tags of TIFF


def decode(content: bytes, picture: Any = None) -> Shaped[np.ndarray, "y x c"] | None:
    """Returns the numbers of such a picture, as they are; None for all other kinds.

    Args:
      content: of the file.
      picture: as Pillow opened it; None: it could not.

    Raises:
      NoPicture: if it has more pixels than Pillow takes.
    """
    if picture is None:
        if not content.startswith(TIFF):
            return None
        _check_size(content)
    elif _is_cut(content, picture):
        picture.load()  # damage is Pillow's to judge, whose errors have words
    else:
        return None
    cv2 = opencv()
    levels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if levels is None:
        return None
    levels = np.atleast_3d(levels)
    order = {3: [2, 1, 0], 4: [2, 1, 0, 3]}.get(levels.shape[-1])  # OpenCV's blue comes first
    return levels if order is None else levels[..., order]


def _is_cut(content: bytes, picture: Any) -> bool:
    if len(picture.getbands()) == 1 or picture.mode == "CMYK":
        return False
    if content.startswith(PNG):
        return content[24] == 16  # of the header: bits of a channel
    return bool(picture.format == "TIFF" and max(picture.tag_v2.get(BITS, (8,))) > 8)


def _check_size(content: bytes) -> None:
    """Does what Pillow does before it decodes, for files that it does not know."""
    from PIL import TiffImagePlugin

    file = io.BytesIO(content)
    head = file.read(16 if content[2] == 43 or content[3] == 43 else 8)
    tags = TiffImagePlugin.ImageFileDirectory_v2(head)
    file.seek(tags.next)
    tags.load(file)
    pixels = int(tags.get(WIDTH, 0)) * int(tags.get(HEIGHT, 0))
    check_size(pixels)
