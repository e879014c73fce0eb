"""Pictures of every kind mean what they mean by every way in; what is none is refused by name."""

import os
import re
import socket
import struct
import time
import zlib

import jax
import numpy as np
import pytest
from PIL import Image
from pydicom.uid import JPEGLosslessSV1
from zoo import ALPHA, GREY, RGB, encoded, medical, numpy_file, on, saved, tiff, zoo

from lficam_jax.config import default_config, validate
from lficam_jax.data import dataset_info, find_images, open_pipeline, open_source, read_image
from lficam_jax.data import files as plain_files
from lficam_jax.data.arrays import AS_12_BIT, OWN_RANGE
from lficam_jax.data.images import DamagedImage, decode
from lficam_jax.data.notes import notes_of
from lficam_jax.data.sample import Sample
from lficam_jax.data.transforms import Preprocess
from lficam_jax.errors import UserError
from lficam_jax.explaining.inputs import read_inputs


@pytest.fixture(scope="module")
def animals():
    return zoo()


@pytest.fixture
def folder(animals, tmp_path):
    for name, animal in animals.items():
        path = tmp_path / "test" / name[0] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(animal.content)
    return tmp_path


@pytest.fixture
def data(folder):
    """The zoo as a data set whose classes are first letters; nothing is scaled or cut."""
    data = default_config().data
    data.name, data.folder, data.image_size = "folder", str(folder), 24
    data.classes = tuple(sorted(path.name for path in (folder / "test").iterdir()))
    data.mean, data.std = (0.5,) * 3, (0.25,) * 3
    return data


def differs(pixels, animal):
    """Returns by how much a picture is off what it means, or why it cannot be compared."""
    right = animal.pixels.astype(float)
    right = np.broadcast_to(right[..., None] if right.ndim == 2 else right, (*right.shape[:2], 3))
    if pixels.shape != right.shape:
        return f"shape {pixels.shape}"
    off = np.abs(pixels - right).max()
    return off if off > animal.off else 0


# Of 24 x 32 pixels, the square in the middle is three quarters.
CUT = "25 % of it lies outside what the network sees; data.fit=pad shows all"


@pytest.fixture(autouse=True)
def _unsaid():
    notes_of.cache_clear()


def test_every_animal_has_the_right_pixels(animals, folder):
    assert len(animals) >= 80
    wrong = {}
    for name, animal in animals.items():
        found = read_image(folder / "test" / name[0] / name)
        if differs(found.pixels, animal) or found.notes != animal.notes:
            wrong[name] = differs(found.pixels, animal), found.notes
    assert not wrong


def test_colour_is_dropped_as_pillow_does(animals):
    for name, animal in animals.items():
        grey = decode(animal.content, channels=1, name=name, upright=True).pixels
        rgb = decode(animal.content, channels=3, name=name, upright=True).pixels
        expected = np.asarray(Image.fromarray(rgb).convert("L"))
        assert grey.shape == (*expected.shape, 1)
        assert np.abs(grey[..., 0].astype(int) - expected).max() <= 1, name


def test_training_and_explaining_read_alike_and_say_so(animals, folder, data, capsys):
    data.pipeline, data.threads = "streaming", 2
    pipeline = open_pipeline(data, "test", batch_size=len(animals), train=False)
    (batch,) = pipeline.batches(0)
    fed = pipeline.load({}, batch, jax.random.key(0))["image"]
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 + len({note for animal in animals.values() for note in animal.notes})
    (line,) = (line for line in said if AS_12_BIT in line)
    assert re.fullmatch(r"test/./[^ ]+: no value in it is above 4,095: .* \(said once\)", line)

    own = read_inputs(folder / "test", dataset_info(data))
    assert not own.skipped and len(own.names) == len(animals)
    np.testing.assert_array_equal(np.asarray(fed), own.images)
    notes = {path.rsplit("/", 1)[1]: n for path, n in zip(own.names, own.notes, strict=True)}
    assert notes == {name: (*animal.notes, CUT) for name, animal in animals.items()}


def test_a_sample_of_a_split_knows_how_its_pictures_were_read(animals, data):
    sample = Sample(data, "test", 999)
    (batch,) = sample.batches(len(animals))
    for name, notes, box in zip(batch["name"], batch["notes"], batch["box"], strict=True):
        assert tuple(notes.splitlines()) == (*animals[name.rsplit("/", 1)[1]].notes, CUT)
        assert box.tolist() == [0, 4, 24, 24]  # the square in the middle of 24 x 32


def test_pil_pictures_and_arrays_are_read_like_files(animals, tmp_path):
    same, cut = Preprocess(image_size=24), CUT.replace("data.fit=pad", 'fit="pad"')
    for name in ("16.png", "12.png", "alpha.png", "float-wide.tif", "turned-6.jpg", "frames.gif",
                 "16-white-is-0.tif", "palette-clear.png"):  # fmt: skip
        (tmp_path / name).write_bytes(animals[name].content)
        with Image.open(tmp_path / name) as picture:
            one, other = read_inputs(picture, same), read_inputs(tmp_path / name, same)
        np.testing.assert_array_equal(one.pictures, other.pictures, err_msg=name)
        assert one.notes == other.notes == [(*animals[name].notes, cut)]
    deep = GREY.astype(np.uint16)
    for array, notes in ((GREY, ()), (deep * 257, ()), (deep * 16, (AS_12_BIT,)), (GREY / 255, ())):
        found = read_inputs(array, same)
        off = found.pictures.astype(int) - read_inputs(GREY, same).pictures
        assert np.abs(off).max() <= 1 and found.notes == [(*notes, cut)]
    # Pictures of one array share their range: the dark one stays dark.
    found = read_inputs(np.stack([deep * 16, deep // 16])[..., None], same)
    assert found.pictures[1].max() <= 1 and found.notes == 2 * [(AS_12_BIT, cut)]


def test_what_is_clear_lies_on_the_background_of_the_config(animals, folder, data):
    assert dataset_info(data).background == "white"
    for background, level in (("grey", 128), ("black", 0)):
        data.background = background
        source = open_source(data, "test")
        image = source[source.names.index("test/a/alpha.png")]["image"]
        assert np.abs(image - on(level).astype(int)).max() <= 1
        own = read_inputs([folder / "test/a/alpha.png", np.dstack([RGB, ALPHA])],
                          dataset_info(data))  # fmt: skip
        np.testing.assert_array_equal(own.pictures[0], own.pictures[1])
        assert own.pictures[0, 0, 0].tolist() == [level] * 3
    config = default_config()
    config.data.background = "pink"
    with pytest.raises(UserError, match="data.background='pink' is unknown"):
        validate(config)


def test_how_a_long_picture_becomes_square_is_a_key_and_said(tmp_path, data, capsys):
    long = np.zeros((64, 200, 3), np.uint8)
    long[24:40, 172:188] = 255
    path = tmp_path / "test" / "p" / "long.png"
    path.write_bytes(saved(long, "png"))
    note = CUT.replace("25 %", "68 %")
    for fit, bright, box in (("crop", False, (0, 68, 64, 64)), ("pad", True, (-68, 0, 200, 200)),
                             ("stretch", True, (0, 0, 64, 200))):  # fmt: skip
        data.fit, data.pipeline = fit, "streaming"
        inputs = read_inputs([path, long], dataset_info(data))
        assert inputs.boxes == [box, box] and inputs.notes == 2 * [(note,) * (fit == "crop")]
        assert (inputs.pictures.max() > 200) == bright
        (batch,) = open_pipeline(data, "test", batch_size=90, train=False).batches(0)
        (row,) = np.flatnonzero(
            batch["id"] == open_source(data, "test").names.index("test/p/long.png")
        )
        np.testing.assert_array_equal(batch["image"][row], inputs.pictures[0])
        said = capsys.readouterr().err  # of the first picture alone that loses some
        assert said.count("of it lies outside what the network sees") == (fit == "crop")


def png(width, height, bits):
    chunks = (b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, 0)), (b"IDAT", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def dds():
    content = bytearray(saved(RGB, "dds"))
    content[80:88] = struct.pack("<I4s", 4, b"ABCD")  # a compression that nobody knows
    return bytes(content)


NAN = np.full((8, 8), np.nan, np.float32)
HUGE = "{'descr': '|u1', 'fortran_order': False, 'shape': (10000000, 10000000, 3), }"
REFUSED = {
    "empty.png": (b"", "is empty"),
    "text.png": (b"hello", "is not an image"),
    "vectors.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is not an image"),
    "program.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n",
                    "is a drawing"),
    "unknown.dds": (dds(), "cannot be read (Unimplemented pixel format"),
    "unknown.blp": (b"BLP1" + struct.pack("<iIIiii", 9, 0, 8, 8, 0, 0) + bytes(1200),
                    "cannot be read (Unsupported BLP compression"),
    "data.h5": (b"\x89HDF\r\n\x1a\n" + bytes(99), "has no pixels"),
    "nan.tif": (saved(NAN, "tiff"), "holds NaN or infinity"),
    "infinite.npy": (numpy_file(NAN * 0 + np.inf), "holds NaN or infinity"),
    "objects.npy": (numpy_file(np.array([{}])), "cannot be read (Object arrays cannot be loaded"),
    "complex.npy": (numpy_file(np.zeros((8, 8), complex)), "holds complex128"),
    "records.npy": (numpy_file(np.zeros((8, 8), [("a", "u1")])), "holds void8"),
    "five.npy": (numpy_file(np.zeros((5, 8, 8, 3), np.uint8)), "holds 5 pictures"),
    "channels.npy": (numpy_file(np.zeros((8, 8, 5), np.uint8)), "has the shape [8, 8, 5]"),
    "cut.npy": (numpy_file(RGB)[:-9], "cannot be read (EOF"),
    "bomb.npy": (b"\x93NUMPY\x01\0" + struct.pack("<H", 118) + f"{HUGE:117}\n".encode(),
                 "cannot be read (Unable to allocate"),
    "bomb.png": (png(60000, 60000, 8), "has more than 178,956,970 pixels"),
    "bomb-16.png": (png(60000, 60000, 16), "has more than 178,956,970 pixels"),
    "bomb.tif": (tiff(bytes(8), 64, 1, 60000, 60000), "has more than 178,956,970 pixels"),
    "bomb.dcm": (medical(GREY, ).replace(b"US\x02\0\x18\0", b"US\x02\0\xff\xff")
                 .replace(b"US\x02\0\x20\0", b"US\x02\0\xff\xff"), "has more than 178,956,970"),
    "text.dcm": (b"hello", "holds no picture"),
    "cut.dcm": (medical(GREY)[:-99], "cannot be read (The number of bytes of pixel data"),
    "cut.gif": (saved(RGB, "gif")[:800], "cannot be read"),
    "cut.webp": (saved(RGB, "webp")[:60], "cannot be read"),
    "cut.jp2": (saved(RGB, "jpeg2000")[:300], "cannot be read"),
    "cut-16.png": (encoded(RGB.astype(np.uint16) * 257, ".png")[:-300], "cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_meant_is_refused_by_name(name, tmp_path):
    content, why = REFUSED[name]
    (tmp_path / name).write_bytes(content)
    start = time.process_time()
    with pytest.raises(DamagedImage) as refused:
        read_image(tmp_path / name)
    assert time.process_time() - start < 1
    assert str(refused.value).startswith(f"{tmp_path / name} {why}")
    assert str(refused.value).endswith("; replace or remove it")
    assert "\n" not in str(refused.value)


def test_a_compression_that_needs_a_package_names_it():
    content = medical(GREY, syntax=JPEGLosslessSV1)
    with pytest.raises(UserError, match="^x is compressed DICOM, which pydicom reads with .*gdcm"):
        decode(content, channels=3, name="x")


@pytest.mark.parametrize("error", [NotImplementedError("DXT7"), RuntimeError("first\nsecond"),
                                   SyntaxError("no"), struct.error("unpack"), MemoryError(),
                                   KeyError("mode"), RecursionError(), EOFError()])  # fmt: skip
@pytest.mark.parametrize("threads", [0, 3])
def test_whatever_a_decoder_raises_the_picture_is_named(error, threads, data, monkeypatch):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(Image, "open", fail)
    data.pipeline, data.threads = "streaming", threads
    with pytest.raises(DamagedImage, match=r"plain.bmp cannot be read \([^\n]+\); replace") as told:
        source = open_source(data, "test")
        source[source.names.index("test/p/plain.bmp")]
    assert "second" not in str(told.value)
    if threads:  # of grain
        with pytest.raises(DamagedImage, match="cannot be read"):
            next(iter(open_pipeline(data, "test", batch_size=90, train=False).batches(0)))


def special(path, kind):
    """Makes what is called a picture but is no file, and returns what it is."""
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "link":
        os.mkfifo(path.with_name("pipe"))
        path.symlink_to("pipe")
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "socket":
        here = os.getcwd()
        os.chdir(path.parent)  # a socket's path must be short
        socket.socket(socket.AF_UNIX).bind(path.name)
        os.chdir(here)
    else:
        path.mkdir()
    return {"fifo": "a pipe", "link": "a pipe", "folder": "a folder"}.get(kind, f"a {kind}")


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("kind", ["fifo", "link", "device", "socket", "folder"])
def test_what_is_no_file_is_refused_at_once(kind, folder, data, capsys):
    path = folder / "test" / "p" / "x.png"
    what, start = special(path, kind), time.process_time()
    with pytest.raises(UserError, match=f"cannot read {path}: it is {what}, not a file"):
        read_image(path)
    if kind != "folder":  # which holds pictures, perhaps
        with pytest.raises(UserError, match=f"{path}' is {what}, not a file"):
            find_images([path])
        assert path not in find_images([f"{path.parent}/*.png"])
        assert f"passed over: {path}" in capsys.readouterr().err
    assert path not in find_images([path.parent])
    assert "x.png" in capsys.readouterr().err
    assert "test/p/x.png" not in open_source(data, "test").names
    assert time.process_time() - start < 1


def test_a_name_that_no_file_can_have_is_told():
    for name, why in (("a\0.png", "embedded null byte"), ("x" * 999, "File name too long")):
        with pytest.raises(UserError, match=f"^cannot read .*: {why}"):
            read_image(name)


def test_a_pil_picture_without_pixels_is_told():
    with pytest.raises(UserError, match="image 1 has no pixels"):
        read_inputs([GREY, Image.new("L", (0, 9))], Preprocess(image_size=24))


def test_a_file_that_grows_or_is_too_large_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "x.png"
    with path.open("wb") as file:
        file.truncate(2**31 + 1)  # sparse
    with pytest.raises(UserError, match="x.png: it has 2.1 GB, more than 2.1"):
        read_image(path)
    path.write_bytes(saved(RGB, "png"))
    measured = os.fstat

    def grow(descriptor):
        status = measured(descriptor)
        with path.open("ab") as file:
            file.write(b"more")
        return status

    monkeypatch.setattr(plain_files.os, "fstat", grow)
    with pytest.raises(UserError, match="x.png: its length changes while it is read"):
        read_image(path)


def test_a_constant_picture_is_no_division_by_zero():
    for value in (0.0, 0.5, 7.0, -3.0, 1e300):
        found = decode(numpy_file(np.full((4, 4), value)), channels=3, name="x")
        known = 0 <= value <= 1
        assert (found.pixels == (round(255 * value) if known else 0)).all()
        assert found.notes == (() if known else (OWN_RANGE,))
