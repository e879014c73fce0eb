"""Any bytes as a picture: pixels, or one line that names the file, and soon."""

import io
import struct
import time
import zlib

import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image

from lficam_jax.data.images import decode
from lficam_jax.errors import UserError
from tests.fuzz import damaged, fuzz, times

COLOURS = np.random.default_rng(0).integers(0, 256, (9, 7, 4), np.uint8)
SECONDS = 2.0  # of this process, for one picture of at most some kilobytes; most take 1 ms


def written(form, mode="RGB", **options):
    """A small picture in a format of Pillow's."""
    colours = Image.fromarray(COLOURS).convert("RGBA" if mode == "RGBA" else "RGB")
    picture = colours if mode in ("RGB", "RGBA") else colours.convert(mode)
    if options.pop("several", False):
        options |= {"save_all": True, "append_images": [picture.rotate(180)]}
    file = io.BytesIO()
    picture.save(file, form, **options)
    return file.getvalue()


def array(values):
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


def deep(form):
    import cv2

    return cv2.imencode(form, COLOURS[..., :3].astype(np.uint16) * 257)[1].tobytes()


def dicom(values=(), syntax=b"1.2.840.10008.1.2.1\0", packed=False):
    """The least that pydicom reads: 9x7 grey pixels; or other values."""
    values = values or [
        (0x0028, 0x0002, b"US", struct.pack("<H", 1)), (0x0028, 0x0004, b"CS", b"MONOCHROME2 "),
        (0x0028, 0x0010, b"US", struct.pack("<H", 9)), (0x0028, 0x0011, b"US", b"\7\0"),
        (0x0028, 0x0100, b"US", b"\x08\0"), (0x0028, 0x0101, b"US", b"\x08\0"),
        (0x0028, 0x0103, b"US", b"\0\0"), (0x0028, 0x1050, b"DS", b"90"),
        (0x0028, 0x1051, b"DS", b"60"), (0x7FE0, 0x0010, b"OB", COLOURS[..., 0].tobytes() + b"\0"),
    ]  # fmt: skip
    head = struct.pack("<HH2sH", 2, 0x10, b"UI", len(syntax)) + syntax
    body = b""
    for group, element, kind, value in values:
        size = struct.pack("<HI", 0, len(value)) if kind == b"OB" else struct.pack("<H", len(value))
        body += struct.pack("<HH2s", group, element, kind) + size + value
    pack = zlib.compressobj(wbits=-15)
    return bytes(128) + b"DICM" + head + (pack.compress(body) + pack.flush() if packed else body)


DEFLATED = b"1.2.840.10008.1.2.1.99"
EXIF = Image.Exif()
EXIF[0x0112] = 6  # turned
PICTURES = {
    "png": written("PNG", exif=EXIF),
    "png palette": written("PNG", "P", transparency=3),
    "png moving": written("PNG", "RGBA", several=True),
    "png deep": deep(".png"),
    "jpeg": written("JPEG"),
    "jpeg turned": written("JPEG", exif=EXIF, progressive=True),
    "jpeg inks": written("JPEG", "CMYK"),
    "gif": written("GIF", "P", several=True),
    "webp": written("WEBP", "RGBA"),
    "webp moving": written("WEBP", several=True, lossless=True),
    "tiff": written("TIFF", compression="tiff_lzw"),
    "tiff pages": written("TIFF", several=True),
    "tiff deep": deep(".tiff"),
    "bmp": written("BMP", "P"),
    "ppm": written("PPM"),
    "jpeg 2000": written("JPEG2000"),
    "ico": written("ICO", "RGBA"),
    "tga": written("TGA"),
    "npy": array(COLOURS),
    "npy floats": array(COLOURS.astype(np.float64)),
    "dicom": dicom(),
    "dicom packed": dicom(syntax=DEFLATED, packed=True),
}


@times
@pytest.mark.parametrize("kind", PICTURES)
def test_any_bytes_are_pixels_or_one_line(kind, times):
    content = PICTURES[kind]
    assert decode(content, channels=3, name="a.bin").pixels.shape in ((9, 7, 3), (7, 9, 3))

    def check(data):
        changed = damaged(data, content)
        channels, upright = data.draw(st.sampled_from([1, 3])), data.draw(st.booleans())
        since = time.process_time()
        try:
            found = decode(changed, channels=channels, name="a.bin", upright=upright)
        except UserError as told:
            assert "a.bin" in str(told) and "\n" not in str(told)
        else:
            assert found.pixels.dtype == np.uint8 and found.pixels.size
            assert found.pixels.ndim == 3 and found.pixels.shape[-1] == channels
        assert time.process_time() - since < SECONDS

    fuzz(check, 30, times)


def test_a_packed_file_that_would_fill_the_memory_is_refused_before_it_is_unpacked(monkeypatch):
    """A megabyte of a packed DICOM may unpack to a thousand."""
    monkeypatch.setattr("lficam_jax.data.dicom.MAX_UNPACKED", 100_000)
    bomb = dicom([(0x0009, 0x0010, b"OB", bytes(1_000_000))], DEFLATED, packed=True)
    assert len(bomb) < 2000
    with pytest.raises(UserError, match="a.dcm unpacks to more than 100,000 bytes"):
        decode(bomb, channels=3, name="a.dcm")


def test_a_small_file_that_claims_a_row_of_millions_is_refused_at_once():
    content = bytearray(PICTURES["webp moving"])
    content[26] = 100  # 6,553,607 pixels wide, 9 high: not too many in all
    since = time.process_time()
    with pytest.raises(UserError, match="has a side of 6,553,607 pixels, more than 524,288"):
        decode(bytes(content), channels=1, name="a.webp")
    assert time.process_time() - since < SECONDS
