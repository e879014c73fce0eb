"""Folders, prepared TFDS splits, picture files, and what goes wrong with each."""

import io
import re
from dataclasses import replace

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from lficam_jax.config import default_config
from lficam_jax.data import (
    DATASETS,
    dataset_info,
    find_images,
    open_pipeline,
    open_source,
    read_image,
    sources,
)
from lficam_jax.data.damaged import Mended
from lficam_jax.data.images import decode
from lficam_jax.data.sources import TfdsSource, as_path, open_builder, tfds_dataset
from lficam_jax.errors import UserError


def jpeg(shade: int, size=(20, 10)) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", size, (shade, shade, shade)).save(content, "jpeg")
    return content.getvalue()


@pytest.fixture
def data():
    return default_config().data


@pytest.fixture
def folder(tmp_path):
    for split, count in (("train", 6), ("validation", 2), ("test", 3)):
        for label, name in enumerate(("cat", "dog")):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(count):
                (tmp_path / split / name / f"{i}.jpg").write_bytes(jpeg(100 * label + 10 * i))
    (tmp_path / "train/cat/notes.txt").write_text("not a picture, by its name")
    return tmp_path


def test_folder_labels_are_the_sorted_class_names(data, folder):
    data.name, data.folder, data.image_size = "folder", str(folder), 10
    info = dataset_info(data)
    assert info.classes == ("cat", "dog") and info.image_size == 10
    assert [len(open_source(data, s)) for s in ("train", "validation", "test")] == [12, 4, 6]
    source = open_source(data, "test")
    assert [source[i]["label"] for i in range(6)] == [0, 0, 0, 1, 1, 1]
    assert [source[i]["id"] for i in range(6)] == list(range(6))
    assert source[4]["image"].shape == (10, 20, 3)
    np.testing.assert_allclose(source[4]["image"], 110, atol=2)


@pytest.mark.parametrize("kind", ["resident", "streaming"])
def test_folder_feeds_both_pipelines(data, folder, kind):
    data.name, data.folder, data.image_size, data.pipeline = "folder", str(folder), 10, kind
    pipeline = open_pipeline(data, "test", batch_size=4, train=False)
    batches = [pipeline.load(pipeline.resident, b, None) for b in pipeline.batches(0)]
    labels = np.concatenate([b["label"][b["valid"]] for b in batches])
    assert labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert batches[0]["image"].shape == (4, 10, 10, 3)


def test_train_examples_shortens_training_alone(data, folder):
    data.name, data.folder, data.train_examples = "folder", str(folder), 5
    assert len(open_source(data, "train")) == 5
    assert len(open_source(data, "test")) == 6


def test_empty_split_and_broken_picture_are_named(data, folder):
    data.name, data.folder, data.pipeline = "folder", str(folder), "resident"
    (folder / "test/cat/1.jpg").write_bytes(jpeg(0)[:200])
    with pytest.raises(UserError, match=r"test/cat/1.jpg cannot be read"):
        open_pipeline(data, "test", batch_size=2, train=False)
    for path in (folder / "validation").rglob("*.jpg"):
        path.unlink()
    with pytest.raises(UserError, match="validation holds no pictures"):
        open_pipeline(data, "validation", batch_size=2, train=False)


def test_a_slice_keeps_the_numbers_of_its_split(prepared):
    row = replace(
        DATASETS["cats_vs_dogs"],
        tfds_name="shades",
        has_mask=True,
        splits={"train": "train", "test": "train[6:]"},
    )
    part, whole = (TfdsSource(row, prepared, split) for split in ("test", "train"))
    assert len(part) == 4 and part.classes == ("dark", "light")
    readable = [i for i in range(4) if whole_is_readable(part, i)]
    assert len(readable) >= 3
    for i in readable:
        assert part[i]["id"] == 6 + i
        np.testing.assert_array_equal(part[i]["image"], whole[6 + i]["image"])
        # the trimap's 1 and 3 (object and rim) are the object
        assert part[i]["mask"][0, :, 0].tolist() == [1, 0, 1, 0]


def whole_is_readable(source, i):
    try:
        return source[i] is not None
    except UserError:
        return False


def test_a_broken_example_is_named(prepared):
    row = replace(DATASETS["cats_vs_dogs"], tfds_name="shades", splits={"train": "train"})
    source = TfdsSource(row, prepared, "train")
    with pytest.raises(UserError, match=r"example \d of cats_vs_dogs train is not an image"):
        source.read(0, 10)


def test_training_passes_over_a_broken_example_of_a_prepared_set(data, prepared):
    data.name, data.dir, data.image_size, data.max_corrupt = "shades", str(prepared), 8, 1
    data.augment = "resized_crop_flip"
    pipeline = open_pipeline(data, "train", batch_size=8, train=True)
    batch = next(pipeline.batches(0))
    assert len(pipeline.damaged) <= 1 and batch["image"].shape == (8, 8, 8, 3)
    row = replace(DATASETS["cats_vs_dogs"], tfds_name="shades", splits={"train": "train"})
    mended = Mended(TfdsSource(row, prepared, "train"), seed=0, limit=1)
    assert len(mended.read(0, 10)) == 10
    (name,) = mended.damaged.values()
    assert re.fullmatch(r"example \d of cats_vs_dogs train", name)


def test_a_prepared_set_outside_the_table_is_cut_in_three(data, prepared):
    data.name, data.dir = "shades", str(prepared)
    info = dataset_info(data)
    assert info.classes == ("dark", "light") and info.image_size == 224
    assert dict(info.examples) == {"train": 8, "validation": 1, "test": 1}


def test_a_set_of_other_sizes_than_the_table_says(data, prepared):
    row = replace(DATASETS["cats_vs_dogs"], tfds_name="shades")
    with pytest.raises(UserError, match=r"needs the split train\[:18610\].*train \(10\)"):
        TfdsSource(row, prepared, "train")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cifar10", "lficam prepare cifar10 --data_dir DIR"),
        ("cats_vs_dogs", "tfds build cats_vs_dogs --data_dir DIR --file_format array_record"),
        ("caltech101", "tfds build caltech101 --data_dir DIR"),
        ("cifar1O", "did you mean 'cifar10'"),
        ("imagenet", "did you mean 'imagenet"),
    ],
)
def test_unprepared_and_unknown_names_say_what_to_type(data, tmp_path, name, expected):
    data.name, data.dir = name, str(tmp_path)
    with pytest.raises(UserError) as caught:
        open_pipeline(data, "train", batch_size=2, train=True)
    assert expected.replace("DIR", str(tmp_path)) in str(caught.value)


@pytest.mark.parametrize("name", ["../shades", "/shades", "a/../shades", "shades/.."])
def test_a_name_of_data_that_leaves_their_folder_is_refused(prepared, name):
    with pytest.raises(UserError, match="is unknown|no name of a file inside a folder"):
        tfds_dataset(name, prepared)
    with pytest.raises(UserError, match="no name of a file inside a folder"):
        open_builder(name, prepared)


def test_unknown_split(data):
    with pytest.raises(UserError, match="did you mean 'validation'"):
        open_source(data, "valid")


def test_data_directory(data, monkeypatch, tmp_path):
    data.name = "cifar10"
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "from_environment"))
    with pytest.raises(UserError, match="from_environment"):
        open_source(data, "test")


def test_data_in_a_bucket(data, monkeypatch):
    data.name, data.dir = "cifar10", "gs://bucket/tfds"
    monkeypatch.setattr(sources, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"gs://bucket/tfds needs .*pip install '\.\[gcs\]'"):
        open_source(data, "test")
    monkeypatch.setattr(sources, "find_spec", lambda name: "installed")
    assert str(as_path("gs://bucket/tfds") / "cifar10") == "gs://bucket/tfds/cifar10"
    with pytest.raises(UserError, match="s3://bucket: of the addresses only gs:// is known"):
        as_path("s3://bucket")
    data.name, data.folder = "folder", "gs://bucket/pictures"
    with pytest.raises(UserError, match="gs://bucket/pictures must be a local path; mount"):
        open_source(data, "train")


def test_a_place_that_cannot_be_read_is_told(data, tmp_path, monkeypatch):
    def unreachable(name, data_dir):
        raise ConnectionError("Cannot connect to host storage:443")

    monkeypatch.setattr(tfds.core.read_only_builder, "builder_from_files", unreachable)
    data.name, data.dir = "cifar10", str(tmp_path)
    with pytest.raises(UserError, match=f"cannot read data sets from {tmp_path}: Cannot connect"):
        open_source(data, "test")


def test_every_row_has_three_disjoint_splits():
    for row in DATASETS.values():
        assert set(row.splits) == set(row.examples) == {"train", "validation", "test"}
        assert len(set(row.splits.values())) == 3
        assert len(row.mean) == len(row.std) == 3 and row.citation and row.licence
        assert not row.classes or len(row.classes) == row.num_classes
        cuts = {}
        for split, expression in row.splits.items():
            name, _, window = expression.partition("[")
            start, _, stop = window.rstrip("]").partition(":")
            if window:
                assert not stop or int(stop) - int(start or 0) == row.examples[split]
                cuts.setdefault(name, []).append((int(start or 0), int(stop or 10**9)))
            else:
                assert expression not in cuts
        for windows in cuts.values():
            windows.sort()
            assert all(a[1] == b[0] for a, b in zip(windows, windows[1:], strict=False))


def test_find_images(tmp_path):
    (tmp_path / "sub").mkdir()
    for name in ("b.png", "a.JPG", "sub/c.webp", "notes.txt", ".hidden.png"):
        (tmp_path / name).write_bytes(jpeg(1))
    found = find_images([tmp_path / "notes.txt", tmp_path, str(tmp_path / "*.png")])
    names = [path.relative_to(tmp_path).as_posix() for path in found]
    assert names == ["notes.txt", "a.JPG", "b.png", "sub/c.webp"]
    with pytest.raises(UserError, match="no image found at '.*x.gif'"):
        find_images([tmp_path / "x.gif"])


def test_read_image_turns_upright_and_makes_three_channels(tmp_path):
    turned = Image.new("L", (20, 10), 90)
    exif = turned.getexif()
    exif[0x0112] = 6  # Orientation: the camera was turned by a quarter
    turned.save(tmp_path / "turned.jpg", exif=exif)
    image = read_image(tmp_path / "turned.jpg").pixels
    assert image.shape == (20, 10, 3) and image.dtype == np.uint8
    Image.new("RGBA", (4, 3), (9, 8, 7, 255)).save(tmp_path / "alpha.png")
    assert read_image(tmp_path / "alpha.png").pixels[0, 0].tolist() == [9, 8, 7]


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"progressive": True, "subsampling": 0}])
def test_jpegs_are_decoded_to_the_pixels_of_pillow(mode, options):
    noise = np.random.default_rng(0).integers(0, 256, (33, 47, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(content, "jpeg", **options)
    for channels, converted in ((1, "L"), (3, "RGB")):
        expected = np.asarray(Image.open(content).convert(converted)).reshape(33, 47, channels)
        decoded = decode(content.getvalue(), channels=channels, name="x").pixels
        np.testing.assert_array_equal(decoded, expected)


def test_a_picture_of_absurd_size_is_refused_before_it_is_decoded():
    header = bytearray(jpeg(0))
    sizes = header.index(b"\xff\xc0") + 5  # start of frame: length, precision, height, width
    header[sizes : sizes + 4] = b"\xff\xff\xff\xff"
    with pytest.raises(UserError, match="huge.jpg has more than 178,956,970 pixels"):
        decode(bytes(header), channels=3, name="huge.jpg")


def test_read_image_names_what_it_cannot_read(tmp_path):
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "cut.jpg").write_bytes(jpeg(5, (300, 300))[:700])
    for name, why in (("text.png", "is not an image"), ("cut.jpg", "cannot be read")):
        with pytest.raises(UserError, match=f"{name} {why}"):
            read_image(tmp_path / name)
    with pytest.raises(UserError, match="cannot read .*absent.png: No such file"):
        read_image(tmp_path / "absent.png")
