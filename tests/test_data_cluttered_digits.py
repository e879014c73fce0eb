"""The embedded data set: what its examples are, and that they never change."""

import hashlib
import shutil

import numpy as np
import pytest
from scipy import ndimage

from lficam_jax.config import default_config
from lficam_jax.data import DATASETS, open_pipeline
from lficam_jax.data.builders import cluttered_digits
from lficam_jax.errors import UserError


@pytest.fixture(scope="module")
def drawers():
    return cluttered_digits.drawers()


@pytest.fixture(scope="module")
def directory(few_digits):
    return few_digits(60, 20, 30)


def test_splits_share_no_source_digit(drawers):
    sources = {split: {s.tobytes() for s in drawer.strokes} for split, drawer in drawers.items()}
    assert not sources["train"] & sources["test"]
    assert not sources["train"] & sources["validation"]
    assert not sources["validation"] & sources["test"]
    assert sum(len(drawer.strokes) for drawer in drawers.values()) == 1797
    for drawer in drawers.values():  # each class is in each split
        assert np.bincount(drawer.labels).min() > 15


def test_the_digit_is_bright_with_a_dark_outline_inside_its_mask(drawers):
    for i in range(40):
        image, mask, label = drawers["test"].example(i)
        assert image.shape == (48, 48, 3) and image.dtype == np.uint8
        assert label == i % 10
        height = np.flatnonzero(mask.any(1))[[0, -1]] @ [-1, 1] + 1
        assert 24 <= height <= 35
        luma = image @ [0.299, 0.587, 0.114]
        around = ndimage.binary_dilation(mask, iterations=3) & ~ndimage.binary_dilation(mask)
        strokes, inside = ndimage.binary_erosion(mask, iterations=4), ndimage.binary_erosion(mask)
        outline = inside & ~ndimage.binary_erosion(mask, iterations=2)
        ground = np.median(luma[around])
        assert luma[strokes].mean() > ground + 40
        assert luma[outline].mean() < ground - 15
        assert 200 < mask.sum() < 700


def test_fragments_are_small_and_off_the_digit(drawers):
    drawer = drawers["train"]
    areas = [(piece[1] > 0.5).sum() for piece in drawer.fragments]
    digits = [drawer.example(i)[1].sum() for i in range(50)]
    assert np.mean(areas) < np.mean(digits) / 2.5
    assert len(drawer.fragments) > 1000


def test_an_example_depends_on_its_number_and_split_alone(drawers):
    again = cluttered_digits.drawers()
    for split in drawers:
        for a, b in zip(drawers[split].example(5), again[split].example(5), strict=True):
            np.testing.assert_array_equal(a, b)
    first, second = (drawers["train"].example(i)[0] for i in (5, 15))
    assert not np.array_equal(first, second)


def test_preparing_twice_gives_identical_files(directory, few_digits):
    first, second = (
        {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in root.rglob("*.array_record*")}
        for root in (directory, few_digits(60, 20, 30))
    )
    assert first == second and len(first) == 3


def test_the_table_tells_the_truth():
    row = DATASETS["cluttered_digits"]
    assert dict(row.examples) == cluttered_digits.COUNTS
    assert row.image_size == cluttered_digits.SIZE


def test_read_back_through_the_pipeline(directory, drawers):
    config = default_config()
    config.data.dir = str(directory)
    pipeline = open_pipeline(config.data, "test", batch_size=30, train=False)
    assert pipeline.examples == 30 and pipeline.has_mask
    assert pipeline.classes == tuple("0123456789")
    arrays = pipeline.resident
    for row, id_ in enumerate(arrays["id"]):
        image, mask, label = drawers["test"].example(int(id_))
        np.testing.assert_array_equal(arrays["image"][row], image)
        np.testing.assert_array_equal(arrays["mask"][row, ..., 0] > 0, mask)
        assert arrays["label"][row] == label
    assert sorted(arrays["id"]) == list(range(30))


def test_bounding_box_holds_the_mask(directory):
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(str(directory / "cluttered_digits/1.0.0"))
    for row in builder.as_data_source("validation"):
        top, left, bottom, right = np.round(row["bbox"] * 48).astype(int)
        outside = row["mask"][..., 0] > 0
        assert (
            outside[[top, bottom - 1]].any(1).all() and outside[:, [left, right - 1]].any(0).all()
        )
        outside[top:bottom, left:right] = False
        assert not outside.any()
    assert "CC BY 4.0" in builder.info.description and "Alpaydin" in builder.info.citation


def test_examples_of_one_source_digit_are_known_as_such():
    """2,000 test images show 358 digits, 1,000 validation images 180: as many as there are."""
    found = {s: cluttered_digits.sources("cluttered_digits", s) for s in ("validation", "test")}
    assert {s: (len(x), len({*x})) for s, x in found.items()} == {
        "validation": (1000, 180), "test": (2000, 358),
    }  # fmt: skip
    drawer = cluttered_digits.drawers()["test"]
    assert drawer.labels[found["test"]].tolist() == [i % 10 for i in range(2000)]


def test_damaged_files_are_told(directory, tmp_path):
    copy = tmp_path / "cluttered_digits/1.0.0"
    shutil.copytree(directory / "cluttered_digits/1.0.0", copy)
    (file,) = copy.glob("*test.array_record*")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 255
    file.write_bytes(content)
    config = default_config()
    config.data.dir = str(tmp_path)
    with pytest.raises(UserError, match=f"damaged.*remove {copy} and prepare"):
        open_pipeline(config.data, "test", batch_size=30, train=False)
    copy.rename(copy.with_name("incomplete.ABC_1.0.0"))  # as a killed preparation leaves it
    with pytest.raises(UserError, match="is not prepared"):
        open_pipeline(config.data, "test", batch_size=30, train=False)


def test_another_file_format_is_told(directory, tmp_path):
    copy = tmp_path / "cluttered_digits/1.0.0"
    shutil.copytree(directory / "cluttered_digits/1.0.0", copy)
    info = copy / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    config = default_config()
    config.data.dir = str(tmp_path)
    with pytest.raises(UserError, match=f"tfds convert_format --dataset_version_dir {copy}"):
        open_pipeline(config.data, "test", batch_size=30, train=False)
