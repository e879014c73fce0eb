"""Medical pictures (DICOM), as a viewer shows them: rescaled, windowed, the right way round."""

import io
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from lficam_jax.data.arrays import NoPicture, check_size, to_pixels
from lficam_jax.errors import UserError

SUFFIXES = (".dcm", ".dicom")
FRAMES = "the first of several frames"
FIRST_WINDOW = "the first of several windows"
MARK = b"DICM"  # behind 128 bytes
DEFLATED = "1.2.840.10008.1.2.1.99"  # the transfer syntax of a file that is packed as a whole
MAX_UNPACKED = 2**29  # bytes of one


def is_dicom(content: bytes, name: str) -> bool:
    """Tells such a file by its mark; by its name if it comes without one, as old ones do."""
    return content[128:132] == MARK or Path(name).suffix.lower() in SUFFIXES


def decode(content: bytes, name: str) -> tuple[UInt8[np.ndarray, "y x c"], tuple[str, ...]]:
    """Returns the pixels of the first frame, and what is to be said of them.

    Stored values become measured ones (rescale slope and intercept, or the table instead of them);
    the window or the table for display says which are black and white, else the bits of an
    unscaled value, else the file's own range. Where low is white (MONOCHROME1) the result is
    turned over.

    Raises:
      UserError: if the package that reads such files is missing.
      NoPicture: if it holds no picture, or too large a one.
      Exception: whatever pydicom raises of a damaged file.
    """
    try:
        import pydicom
        from pydicom import pixels as pixel
    except ImportError as error:
        raise UserError(f"{name} is DICOM; to read it: pip install pydicom") from error
    _check_packed(content)
    head = pydicom.dcmread(io.BytesIO(content), force=True)
    _check(head)
    stored = _stored(head, name)
    notes = (FRAMES,) if int(head.get("NumberOfFrames") or 1) > 1 else ()
    kind = str(head.PhotometricInterpretation)
    if kind == "PALETTE COLOR":
        stored = pixel.apply_color_lut(stored, head)
        white: float | None = np.iinfo(stored.dtype).max
    elif not kind.startswith("MONOCHROME"):
        white = 2 ** int(head.BitsStored) - 1
    else:
        measured = pixel.apply_modality_lut(stored, head)
        shown, white, said = _displayed(measured, head)
        shown, more = to_pixels(shown, white)
        shown = 255 - shown if kind == "MONOCHROME1" else shown
        return shown[..., None], notes + said + more
    shown, said = to_pixels(stored, white)
    return shown, notes + said


def _stored(head: Any, name: str) -> np.ndarray:
    from pydicom import pixels as pixel

    try:
        first: np.ndarray = pixel.pixel_array(head, index=0)
    except RuntimeError as error:
        title, *packages = str(error).splitlines()
        if "missing dependencies" not in title:
            raise
        named = "; or ".join(line.strip() for line in packages)
        raise UserError(f"{name} is compressed DICOM, which pydicom reads with {named}") from error
    return first


def _check_packed(content: bytes) -> None:
    """Raises `NoPicture` for a packed file that pydicom would unpack until the memory is full."""
    from pydicom.filereader import read_dataset

    file = io.BytesIO(content)
    file.seek(132 if content[128:132] == MARK else 0)
    meta = read_dataset(file, False, True, stop_when=lambda tag, kind, size: tag.group != 2)
    if meta.get("TransferSyntaxUID") != DEFLATED:
        return
    unpacking, packed, size = zlib.decompressobj(-zlib.MAX_WBITS), file.read(), 0
    while packed:
        size += len(unpacking.decompress(packed, 2**24))
        packed = unpacking.unconsumed_tail
        if size > MAX_UNPACKED:
            raise NoPicture(f"unpacks to more than {MAX_UNPACKED:,} bytes")


def _check(head: Any) -> None:
    if "PixelData" not in head and "FloatPixelData" not in head:
        raise NoPicture("holds no picture")
    check_size(int(head.Rows) * int(head.Columns))


def _displayed(measured: np.ndarray, head: Any) -> tuple[np.ndarray, float | None, tuple[str, ...]]:
    """Returns values for display, which of them is white, and what is to be said."""
    from pydicom import pixels as pixel

    if tables := head.get("VOILUTSequence"):
        # The table's values fill the bits that its description names.
        white = 2 ** int(tables[0].LUTDescriptor[2]) - 1
        return pixel.apply_voi(measured, head).astype(np.uint16), white, ()
    if head.get("WindowCenter") is not None and head.get("WindowWidth") is not None:
        centres, widths = (np.atleast_1d(np.asarray(head[k].value, float))
                           for k in ("WindowCenter", "WindowWidth"))  # fmt: skip
        function = str(head.get("VOILUTFunction") or "LINEAR")
        share = _window(measured.astype(np.float64), centres[0], widths[0], function)
        return share, None, (FIRST_WINDOW,) * (len(centres) > 1)
    scale = float(head.get("RescaleSlope", 1)), float(head.get("RescaleIntercept", 0))
    if "ModalityLUTSequence" in head or scale != (1, 0) or measured.min() < 0:
        return measured, None, ()
    return measured.astype(np.uint32), 2 ** int(head.BitsStored) - 1, ()


def _window(
    values: Float[np.ndarray, "y x"], centre: float, width: float, function: str
) -> Float[np.ndarray, "y x"]:
    """Maps a window to [0, 1]: DICOM PS3.3, C.11.2.1.2 and C.11.2.1.3."""
    if function == "SIGMOID":
        with np.errstate(over="ignore"):
            return 1 / (1 + np.exp(-4 * (values - centre) / width))
    if function != "LINEAR_EXACT":  # LINEAR counts pixels, whose widths are one less
        centre, width = centre - 0.5, width - 1
    if width <= 0:
        return (values > centre).astype(np.float64)
    return np.clip((values - centre) / width + 0.5, 0, 1)
