"""A folder's own masks and boxes: where the object is, after the crop of its picture."""

import numpy as np
import pytest
from PIL import Image

from configs.folder import get_config
from lficam_jax.data import find_images, open_pipeline, open_source
from lficam_jax.data.sample import Sample
from lficam_jax.errors import UserError


@pytest.fixture
def photos(tmp_path):
    """Pictures of 24 x 16 pixels: two classes of three, in each split."""
    for split in ("train", "validation", "test"):
        for name in ("cat", "dog"):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for i in range(3):
                Image.new("RGB", (24, 16), (40 * i, 90, 200)).save(folder / f"{i}.jpg")
    return tmp_path


def config_of(folder, **data):
    config = get_config()
    config.data.update(folder=str(folder), image_size=8, **data)
    return config


def with_boxes(folder, *rows, header="file,x0,y0,x1,y1"):
    (folder / "boxes.csv").write_text("\n".join([header, *rows]) + "\n")
    return folder


def save_mask(path, shape=(16, 24), mode="L", value=1):
    """A mask whose object is rows 4 to 8 and columns 12 to 16."""
    mask = np.zeros(shape, np.uint8)
    mask[4:8, 12:16] = value
    image = Image.fromarray(mask)
    if mode == "P":
        image.putpalette([0, 0, 0, 200, 0, 0])
    elif mode in ("RGBA", "1"):
        image = Image.fromarray(mask * 255).convert(mode)
    image.save(path)


def masks_of(folder, **data):
    """The object's rows and columns in each picture of the test split, as the network sees it."""
    sample = Sample(config_of(folder, **data).data, "test", 100)
    (batch,) = sample.batches(len(sample))
    assert sample.has_mask == ("mask" in batch)
    places = [np.nonzero(mask) for mask in batch.get("mask", ())]
    return [(sorted({*map(int, y)}), sorted({*map(int, x)})) for y, x in places]


# The central square is columns 4 to 20; two pixels become one.
SEEN = ([2, 3], [4, 5])
NONE = ([], [])


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1"])
def test_a_mask_lies_beside_its_picture(photos, mode):
    save_mask(photos / "test" / "cat" / "1.mask.png", mode=mode)
    assert masks_of(photos) == [NONE, SEEN, NONE, NONE, NONE, NONE]
    assert len(find_images([photos])) == 18  # a mask is no picture


def test_boxes_are_rows_of_a_table(photos):
    with_boxes(
        photos, "test/cat/1.jpg,12,4,16,8", "test/dog/0.jpg,0,0,8,16", "test/dog/0.jpg,12,4,16,8"
    )
    whole = ([*range(8)], [0, 1, 4, 5])
    assert masks_of(photos) == [NONE, SEEN, NONE, whole, NONE, NONE]
    # three pixels become one: row 1.6, 4.8 and so on, below a stripe of one row
    assert masks_of(photos, fit="pad")[1] == ([2], [4])
    assert masks_of(photos, fit="stretch")[1] == ([2, 3], [4])


def test_without_either_nothing_is_known(photos):
    assert masks_of(photos) == []
    with_boxes(photos, "train/cat/1.jpg,12,4,16,8")  # of another split
    assert masks_of(photos) == []


def test_evaluation_sees_masks_and_training_does_not(photos):
    for split in ("train", "validation"):
        save_mask(photos / split / "cat" / "1.mask.png")
    data = config_of(photos).data
    asked = {"batch_size": 2, "seed": 0}
    trained = open_pipeline(data, "train", train=True, **asked)
    assert not trained.has_mask and "mask" not in next(trained.batches(0))
    seen = open_pipeline(data, "validation", train=False, **asked)
    assert seen.has_mask and next(seen.batches(0))["mask"].shape == (2, 8, 8, 1)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("test/cat/1.jpg,12,4,25,8", "line 2: the box 12,4,25,8 .* test/cat/1.jpg, .* 24 x 16"),
        ("test/cat/1.jpg,-1,4,16,8", "lies outside"),
        ("test/cat/1.jpeg,12,4,16,8", "1.jpeg' is no picture.*did you mean 'test/cat/1.jpg'"),
        ("test/cat/1.jpg,16,4,12,8", "line 2: 'test/cat/1.jpg,16,4,12,8' is no file,x0,y0,x1,y1"),
        ("test/cat/1.jpg,a,4,12,8", "is no file"),
        ("test/cat/1.jpg,4,12,8", "is no file"),
        ("test/cat/1.jpg,nan,4,12,8", "is no file"),
    ],
)  # fmt: skip
def test_a_wrong_box_is_told_in_one_line(photos, row, told):
    with pytest.raises(UserError, match=told) as error:
        masks_of(with_boxes(photos, row))
    assert "\n" not in str(error.value)


def test_a_table_of_other_columns(photos):
    with pytest.raises(UserError, match=r"boxes.csv must begin with the line file,x0,y0,x1,y1"):
        masks_of(with_boxes(photos, header="name,x,y,w,h"))


def test_wrong_masks_are_told_in_one_line(photos):
    cat = photos / "test" / "cat"
    save_mask(cat / "1.mask.png", (16, 16))
    with pytest.raises(
        UserError, match=r"1.mask.png is 16 x 16 pixels, but test/cat/1.jpg 24 x 16"
    ):
        masks_of(photos)
    (cat / "1.mask.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"1.mask.png cannot be read"):
        masks_of(photos)
    save_mask(cat / "1.mask.png")
    with_boxes(photos, "test/cat/1.jpg,12,4,16,8")
    with pytest.raises(UserError, match=r"has boxes.csv and masks \(test/cat/1.mask.png\)"):
        masks_of(photos)
    (cat / "1.mask.png").rename(cat / "9.mask.png")
    with pytest.raises(UserError, match=r"no picture beside test/cat/9.mask.png"):
        open_source(config_of(photos).data, "test")
