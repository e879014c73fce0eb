"""Picture files of every kind that people bring, made here, each with the pixels that it means.

The scene has a bright and a dark end in both directions, so that no way to turn or invert it is
missed.
"""

import io
import struct
from dataclasses import dataclass

import cv2
import numpy as np
import pillow_heif
import pydicom
from PIL import Image, ImageCms
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

HEIGHT, WIDTH = 24, 32
_Y, _X = np.mgrid[:HEIGHT, :WIDTH]
GREY = (_Y * 7 + _X * 3).astype(np.uint8)  # 0 … 254
RGB = np.stack([GREY, 254 - GREY, _X.astype(np.uint8) * 8], axis=-1)
ALPHA = np.where(_X < WIDTH // 2, 0, 255).astype(np.uint8)
ORIENTATION = 0x0112
OWN = "its range is not known: its lowest value was made black, its highest white"
BITS_12 = "no value in it is above 4,095: read as 12 bits"
BITS_8 = "no value in it is above 255: read as 8 bits"


@dataclass(frozen=True)
class Animal:
    """A file, what it means, and what is to be said of it.

    Attributes:
      content: of the file.
      pixels: uint8 [y x] or [y x 3].
      off: levels by which pixels may differ.
      notes: of `read_image`.
    """

    content: bytes
    pixels: np.ndarray
    off: int = 1
    notes: tuple[str, ...] = ()


def saved(pixels, kind, mode=None, **options):
    """Writes an array with Pillow."""
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    file = io.BytesIO()
    (picture.convert(mode) if mode else picture).save(file, kind, **options)
    return file.getvalue()


def encoded(pixels, suffix, *options):
    """Writes an array with OpenCV, which knows 16 bits and floats in three channels."""
    order = [2, 1, 0, 3][: pixels.shape[-1]]
    return cv2.imencode(suffix, pixels[..., order], options)[1].tobytes()


def numpy_file(array):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def tiff(data, bits, photometric, height=HEIGHT, width=WIDTH):
    """Writes one strip of grey values as they are packed, which Pillow writes in no other way."""
    rows = [(256, 4, width), (257, 4, height), (258, 3, bits), (259, 3, 1), (262, 3, photometric),
            (273, 4, 8), (277, 3, 1), (278, 4, height), (279, 4, len(data))]  # fmt: skip
    table = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in rows)
    data += b"\0" * (len(data) % 2)
    head = b"II*\0" + struct.pack("<I", 8 + len(data))
    return head + data + struct.pack("<H", len(rows)) + table + bytes(4)


def packed_12(levels):
    """Packs two values of 12 bits into three bytes."""
    first, second = levels.reshape(-1, 2).astype(int).T
    parts = [first >> 4, (first & 15) << 4 | second >> 8, second & 255]
    return np.stack(parts, axis=-1).astype(np.uint8).tobytes()


def ink_profile():
    """Makes a colour profile of inks in which cyan is a middle grey, of L* 50, and black is black.

    Without it, cyan is (0, 255, 255).
    """
    table = [((0 if black else 128 if cyan else 255), 128, 128)  # L, a, b
             for cyan in (0, 1) for _ in range(4) for black in (0, 1)]  # fmt: skip
    straight = bytes(range(256))
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0])
    lut += struct.pack(">9i", *(65536 * (i % 4 == 0) for i in range(9)))
    lut += 4 * straight + b"".join(map(bytes, table)) + 3 * straight
    lut += bytes(-len(lut) % 4)
    tags = struct.pack(">I4sII", 1, b"A2B0", 144, len(lut))
    head = struct.pack(">I4sI4s4s4s12s4s", 144 + len(lut), b"", 0x02400000, b"prtr", b"CMYK",
                       b"Lab ", b"", b"acsp")  # fmt: skip
    light = struct.pack(">3i", 63190, 65536, 54061)  # D50
    return (head + bytes(28) + light).ljust(128, b"\0") + tags + lut


def medical(
    stored, kind="MONOCHROME2", bits=None, frames=0, syntax=ExplicitVRLittleEndian, **about
):
    """Writes an array as DICOM."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = syntax
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = SecondaryCaptureImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = generate_uid(entropy_srcs="x")
    shape = stored.shape[1:] if frames else stored.shape
    data.Rows, data.Columns = shape[:2]
    data.SamplesPerPixel, data.PhotometricInterpretation = (3 if kind == "RGB" else 1), kind
    if kind == "RGB":
        data.PlanarConfiguration = 0
    data.BitsAllocated = 8 * stored.dtype.itemsize
    data.BitsStored = bits or data.BitsAllocated
    data.HighBit, data.PixelRepresentation = data.BitsStored - 1, int(stored.dtype.kind == "i")
    if frames:
        data.NumberOfFrames = frames
    for name, value in about.items():
        setattr(data, name, value)
    data.PixelData = stored.tobytes() + b"\0" * (stored.nbytes % 2)
    if syntax != ExplicitVRLittleEndian:
        data.PixelData = encapsulate([data.PixelData])
    file = io.BytesIO()
    pydicom.dcmwrite(file, data, enforce_file_format=True)
    return file.getvalue()


def voi_table():
    """A table for display that turns values 0 … 4,095 of 12 bits over."""
    table = Dataset()
    table.LUTDescriptor = [4096, 0, 16]
    table.LUTData = (65535 - np.arange(4096) * 16).astype("<u2").tobytes()
    return [table]


def turned(pixels, orientation):
    """Stores a picture as a camera does that was held in one of eight ways."""
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # of Image.Transpose
    picture = Image.fromarray(pixels)
    if orientation > 1:
        picture = picture.transpose(Image.Transpose(undo[orientation]))
    exif = picture.getexif()
    exif[ORIENTATION] = orientation
    return picture, exif


def on(level, pixels=RGB, alpha=ALPHA):
    """Lays a picture on a background."""
    share = alpha[..., None] / 255
    return np.round(pixels * share + level * (1 - share)).astype(np.uint8)


def _jpegs():
    smooth = {"quality": 95, "subsampling": 0}
    grey = np.full((HEIGHT, WIDTH), 119, np.uint8)
    cyan = Image.new("CMYK", (WIDTH, HEIGHT), (255, 0, 0, 0))
    yield "plain.jpg", Animal(saved(RGB, "jpeg", **smooth), RGB, 4)
    yield "progressive.jpg", Animal(saved(RGB, "jpeg", progressive=True, **smooth), RGB, 4)
    yield "grey.jpeg", Animal(saved(GREY, "jpeg", **smooth), GREY, 4)
    yield "inks.jpg", Animal(saved(RGB, "jpeg", "CMYK", **smooth), RGB, 6)
    yield "profile.jpg", Animal(saved(cyan, "jpeg", icc_profile=ink_profile(), **smooth), grey, 3)
    yield "profile.tif", Animal(saved(cyan, "tiff", icc_profile=ink_profile()), grey, 3)
    for orientation in range(1, 9):
        picture, exif = turned(RGB, orientation)
        yield (f"turned-{orientation}.jpg",
               Animal(saved(picture, "jpeg", exif=exif, **smooth), RGB, 4))  # fmt: skip


def _pngs():
    clear = Image.fromarray(np.dstack([RGB, ALPHA]))
    only_alpha = np.dstack([np.zeros_like(RGB), GREY])
    few = Image.fromarray(GREY // 16 * 16).convert("P")
    few.info["transparency"] = 0
    one = np.where((RGB == RGB[2, 3]).all(-1), 0, 255)
    deep = GREY.astype(np.uint16)
    picture, exif = turned(GREY.astype(np.uint16) * 16, 6)
    yield "plain.png", Animal(saved(RGB, "png"), RGB, 0)
    yield "grey.png", Animal(saved(GREY, "png"), GREY, 0)
    yield "two.png", Animal(saved(GREY > 99, "png"), np.where(GREY > 99, 255, 0), 0)
    yield "palette.png", Animal(saved(GREY // 16 * 16, "png", "P"), GREY // 16 * 16, 0)
    yield (
        "palette-clear.png",
        Animal(saved(few, "png", transparency=0), np.where(GREY < 16, 255, GREY // 16 * 16), 0),
    )
    yield "alpha.png", Animal(saved(clear, "png"), on(255), 1)
    yield "only-alpha.png", Animal(saved(only_alpha, "png"), 255 - GREY, 1)
    yield "grey-alpha.png", Animal(saved(clear, "png", "LA"), on(255, np.asarray(
        clear.convert("L"))[..., None], ALPHA)[..., 0], 1)  # fmt: skip
    yield (
        "one-clear-colour.png",
        Animal(saved(RGB, "png", transparency=tuple(map(int, RGB[2, 3]))), on(255, RGB, one), 0),
    )
    yield "16.png", Animal(saved(deep * 257, "png"), GREY)
    yield "12.png", Animal(saved(deep * 16, "png"), GREY, 1, (BITS_12,))
    yield "8-in-16.png", Animal(saved(deep, "png"), GREY, 0, (BITS_8,))
    yield "16-clear.png", Animal(saved(deep * 257, "png", transparency=0), np.where(
        GREY, GREY, 255))  # fmt: skip
    yield "12-turned.png", Animal(saved(picture, "png", exif=exif), GREY, 1, (BITS_12,))
    yield "16-rgb.png", Animal(encoded(RGB.astype(np.uint16) * 257, ".png"), RGB)
    yield "12-rgb.png", Animal(encoded(RGB.astype(np.uint16) * 16, ".png"), RGB, 1, (BITS_12,))
    both = np.dstack([RGB, ALPHA]).astype(np.uint16) * 257
    yield "16-alpha.png", Animal(encoded(both, ".png"), on(255), 1)


def _tiffs():
    deep, share = GREY.astype(np.uint16), GREY / np.float32(254)
    srgb, lab = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    lab = ImageCms.profileToProfile(
        Image.fromarray(GREY).convert("RGB"), srgb, lab, outputMode="LAB"
    )
    yield "plain.tif", Animal(saved(RGB, "tiff"), RGB, 0)
    yield "lzw.tiff", Animal(saved(RGB, "tiff", compression="tiff_lzw"), RGB, 0)
    yield "big.tif", Animal(saved(RGB, "tiff", big_tiff=True), RGB, 0)
    more = [Image.fromarray(RGB[::-1])]
    yield "pages.tif", Animal(saved(RGB, "tiff", save_all=True, append_images=more), RGB, 0,
                              ("the first of several pages",))  # fmt: skip
    yield "16.tif", Animal(saved(deep * 257, "tiff"), GREY)
    yield "16-big-endian.tif", Animal(saved(Image.frombytes("I;16B", (WIDTH, HEIGHT), (
        deep * 257).astype(">u2").tobytes()), "tiff"), GREY)  # fmt: skip
    yield "12-in-16.tif", Animal(saved(deep * 16, "tiff"), GREY, 1, (BITS_12,))
    yield "12.tif", Animal(tiff(packed_12(deep * 16), 12, 1), GREY)
    yield "16-white-is-0.tif", Animal(tiff((65535 - deep * 257).tobytes(), 16, 0), GREY)
    yield "8-white-is-0.tif", Animal(tiff((255 - GREY).tobytes(), 8, 0), GREY, 0)
    yield "32.tif", Animal(saved(deep.astype(np.int32) * 1000 - 7, "tiff"), share * 255, 1, (OWN,))
    yield "8-in-32.tif", Animal(saved(deep.astype(np.int32), "tiff"), GREY, 0, (BITS_8,))
    yield "float.tif", Animal(saved(GREY / np.float32(255), "tiff"), GREY, 0)
    yield "float-wide.tif", Animal(saved(share * 3000 - 1000, "tiff"), share * 255, 1, (OWN,))
    seven = np.full((HEIGHT, WIDTH), 7, np.float32)
    yield "float-constant.tif", Animal(saved(seven, "tiff"), np.zeros_like(GREY), 0, (OWN,))
    yield "16-rgb.tif", Animal(encoded(RGB.astype(np.uint16) * 257, ".tif"), RGB)
    yield "12-rgb.tif", Animal(encoded(RGB.astype(np.uint16) * 16, ".tif"), RGB, 1, (BITS_12,))
    yield (
        "float-rgb.tif",
        Animal(encoded(RGB / np.float32(255), ".tif", cv2.IMWRITE_TIFF_COMPRESSION, 1), RGB),
    )
    yield "lab.tif", Animal(saved(lab, "tiff"), GREY, 3)
    picture, _ = turned(RGB, 6)
    yield "turned.tif", Animal(saved(picture, "tiff", tiffinfo={ORIENTATION: 6}), RGB, 0)
    picture, _ = turned(deep * 257, 8)
    yield "16-turned.tif", Animal(saved(picture, "tiff", tiffinfo={ORIENTATION: 8}), GREY)


def _others():
    pillow_heif.register_heif_opener()
    frames = {"save_all": True, "append_images": [Image.fromarray(255 - GREY)], "duration": 50}
    several = ("the first of several frames",)
    yield "frames.gif", Animal(saved(GREY, "gif", **frames), GREY, 0, several)
    yield "frames.webp", Animal(saved(GREY, "webp", lossless=True, **frames), GREY, 0, several)
    yield "frames.png", Animal(saved(GREY, "png", **frames), GREY, 0, several)
    yield "clear.gif", Animal(saved(GREY // 16 * 16, "gif", "P", transparency=0), np.where(
        GREY < 16, 255, GREY // 16 * 16), 0)  # fmt: skip
    yield "alpha.webp", Animal(saved(np.dstack([RGB, ALPHA]), "webp", lossless=True), on(255))
    yield "plain.bmp", Animal(saved(RGB, "bmp"), RGB, 0)
    yield "plain.ppm", Animal(saved(RGB, "ppm"), RGB, 0)
    levels = " ".join(map(str, (GREY.astype(int) * 4).ravel()))
    yield "10.pgm", Animal(f"P2 {WIDTH} {HEIGHT} 1023 {levels}".encode(), GREY)
    yield "plain.jp2", Animal(saved(RGB, "jpeg2000"), RGB, 0)
    yield "16.jp2", Animal(saved(GREY.astype(np.uint16) * 257, "jpeg2000"), GREY)
    yield "plain.avif", Animal(saved(RGB, "avif", quality=95, subsampling="4:4:4"), RGB, 12)
    yield "plain.heic", Animal(saved(RGB, "heif", quality=95, chroma=444), RGB, 12)
    pictures = {"save_all": True, "append_images": [Image.fromarray(RGB[::-1])]}
    yield "several.heic", Animal(saved(RGB, "heif", quality=95, chroma=444, **pictures), RGB, 12,
                                 ("the main of several pictures",))  # fmt: skip


def _arrays():
    yield "plain.npy", Animal(numpy_file(RGB), RGB, 0)
    yield "channels-first.npy", Animal(numpy_file(RGB.transpose(2, 0, 1) / 255), RGB, 0)
    yield "16.npy", Animal(numpy_file(GREY.astype(np.uint16) * 257), GREY)
    yield "12.npy", Animal(numpy_file(GREY.astype(">u2") * 16), GREY, 1, (BITS_12,))
    yield "half.npy", Animal(numpy_file((GREY / 255).astype(np.float16)), GREY)
    yield "wide.npy", Animal(numpy_file(GREY * 1e300 - 1e300), GREY / 254 * 255, 1, (OWN,))
    yield "two.npy", Animal(numpy_file(GREY > 99), np.where(GREY > 99, 255, 0), 0)
    yield "alpha.npy", Animal(numpy_file(np.dstack([RGB, ALPHA])), on(255))


def _medical():
    deep, share = GREY.astype(np.uint16), GREY / 254
    window = {"WindowCenter": 1000.5, "WindowWidth": 2001}  # linear from 0 to 2,000
    shown = np.clip(deep * 16 / 2000, 0, 1) * 255
    yield "window.dcm", Animal(medical(deep * 16, bits=12, **window), shown)
    yield "low-is-white.dcm", Animal(
        medical(deep * 16, "MONOCHROME1", bits=12, **window), 255 - shown)  # fmt: skip
    scale = {"RescaleSlope": 2, "RescaleIntercept": -1000}  # to -1000 … 1032
    lungs = {"WindowCenter": -500, "WindowWidth": 1000, "VOILUTFunction": "LINEAR_EXACT"}
    yield "rescaled.dcm", Animal(medical(deep * 4, bits=12, **scale, **lungs), np.clip(
        (deep * 8.0) / 1000, 0, 1) * 255)  # fmt: skip
    yield "no-window.dcm", Animal(medical(deep * 16, bits=12), GREY)
    yield "no-range.dcm", Animal(medical(deep * 4, bits=12, **scale), share * 255, 1, (OWN,))
    yield "signed.dcm", Animal(medical(GREY.astype(np.int16) - 99), share * 255, 1, (OWN,))
    yield "table.dcm", Animal(medical(deep * 16, bits=12, VOILUTSequence=voi_table()), 255 - GREY)
    two = np.stack([deep * 16, deep * 0])
    yield "frames.dcm", Animal(medical(two, bits=12, frames=2), GREY, 1,
                               ("the first of several frames",))  # fmt: skip
    yield "colour.dcm", Animal(medical(RGB, "RGB"), RGB, 0)
    sigmoid = {"WindowCenter": 2000, "WindowWidth": 1000, "VOILUTFunction": "SIGMOID"}
    yield "sigmoid.dcm", Animal(medical(deep * 16, bits=12, **sigmoid), 255 / (
        1 + np.exp(-4 * (deep * 16.0 - 2000) / 1000)))  # fmt: skip
    bare = medical(GREY)
    yield "without-mark.dcm", Animal(bare[132:], GREY, 0)


def zoo():
    """Returns name -> file of all kinds that can be read."""
    houses = (_jpegs, _pngs, _tiffs, _others, _arrays, _medical)
    return {name: animal for house in houses for name, animal in house()}
