"""A run's config is the record of what it knows: classes by name, and how pictures are fed."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from lficam_jax import modes
from lficam_jax.config import as_json, default_config, validate
from lficam_jax.data import DATASETS, RECORDED, dataset_info, fit_image, open_source, resolved
from lficam_jax.data.sources import TfdsSource
from lficam_jax.errors import UserError
from lficam_jax.measure.stability import read_config
from lficam_jax.training.experiment import load_run, recall
from lficam_jax.training.train import train
from lficam_jax.workdir.checkpoint import Checkpoints

SHADES = {"ant": 0, "bee": 120, "cat": 240}


def paint(folder, count=8, shades=SHADES):
    """Pictures of one shade for each class."""
    for name, shade in shades.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            Image.new("RGB", (18, 14), (shade, i, 0)).save(folder / name / f"{i}.png")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    root = tmp_path_factory.mktemp("photos")
    for split in ("train", "validation", "test"):
        paint(root / split)
    return root


def for_folder(config, folder):
    config.data.name, config.data.folder, config.data.train_examples = "folder", str(folder), 0
    config.data.dir = ""
    config.train.total_steps = config.eval.every_steps = 1
    return config


@pytest.fixture(scope="module")
def trained(tiny_config, photos, tmp_path_factory):
    """A run on a folder that is gone afterwards."""
    import copy

    workdir = tmp_path_factory.mktemp("runs") / "run"
    gone = tmp_path_factory.mktemp("gone") / "photos"
    shutil.copytree(photos, gone)
    config = for_folder(copy.deepcopy(tiny_config), gone)
    config.data.mean, config.data.interpolation = (0.5, 0.25, 0.125), "bicubic"
    train(config, workdir)
    shutil.rmtree(gone)
    return workdir


@pytest.fixture
def given(tiny, photos):
    return for_folder(tiny, photos)


def test_config_and_checkpoint_hold_what_was_derived(trained):
    data = json.loads((trained / "config.json").read_text())["data"]
    assert data["classes"] == ["ant", "bee", "cat"]
    assert data["mean"] == [0.5, 0.25, 0.125] and data["std"] == [0.229, 0.224, 0.225]
    assert (data["image_size"], data["channels"], data["crop_share"]) == (16, 3, 1.0)
    assert (data["interpolation"], data["background"], data["fit"]) == ("bicubic", "white", "crop")
    with Checkpoints(trained, read_only=True) as checkpoints:
        items = checkpoints.manager.restore(1)
    assert items["meta"]["config"]["data"]["classes"] == ["ant", "bee", "cat"]


def test_a_run_is_opened_where_its_data_are_gone(trained):
    config = read_config(trained)
    info = dataset_info(config.data)
    assert info.classes == ("ant", "bee", "cat") and info.num_classes == 3
    assert info.mean == (0.5, 0.25, 0.125) and info.interpolation == "bicubic"
    assert load_run(config, trained).step == 1
    with pytest.raises(UserError, match="is not a directory"):
        open_source(config.data, "test")


def test_what_a_given_config_leaves_open_is_taken_from_the_run(given, trained):
    recalled = recall(given, trained).data
    assert recalled.classes == ("ant", "bee", "cat") and recalled.mean == (0.5, 0.25, 0.125)
    assert given.data.classes == ()  # the given config is not changed
    assert load_run(given, trained).step == 1
    given.data.classes = ("cat", "bee", "ant")
    with pytest.raises(UserError, match=r"data.classes: \['ant', 'bee', 'cat'\] -> \['cat'"):
        load_run(given, trained)
    given.data.classes, given.data.crop_share = (), 0.5
    with pytest.raises(UserError, match=r"data.crop_share: 1.0 -> 0.5"):
        load_run(given, trained)


def test_a_run_from_before_the_record_still_loads(given, trained, tmp_path):
    shutil.copytree(trained, tmp_path / "old")
    path = tmp_path / "old" / "config.json"
    config = json.loads(path.read_text())
    for key in RECORDED:
        del config["data"][key]
    config["data"]["image_size"] = 16
    path.write_text(json.dumps(config))
    assert load_run(given, tmp_path / "old").step == 1
    assert recall(given, tmp_path / "old").data.classes == ("ant", "bee", "cat")
    given.data.image_size = 32
    with pytest.raises(UserError, match="data.image_size: 16 -> 32"):
        load_run(given, tmp_path / "old")


@pytest.mark.parametrize("order", [{"cat": 240, "ant": 0}, {"bee": 120}])
def test_an_evaluation_folder_is_mapped_by_name(given, trained, tmp_path, order):
    """It may hold fewer classes, and needs no other split."""
    paint(tmp_path / "other" / "test", shades=order)
    given.data.folder = str(tmp_path / "other")
    source = open_source(recall(given, trained).data, "test")
    assert source.classes == ("ant", "bee", "cat")
    for i in range(len(source)):
        example = source[i]
        assert list(SHADES)[example["label"]] in order
        assert SHADES[source.classes[example["label"]]] == example["image"][0, 0, 0]
    assert modes.evaluate(given, str(trained), "test") == 0
    result = json.loads((trained / "results" / "evaluate.json").read_text())
    assert result["classes"] == ["ant", "bee", "cat"] and result["examples"] == 8 * len(order)
    absent = [name not in order for name in SHADES]
    assert [share is None for share in result["per_class_accuracy"]] == absent


def test_an_unknown_class_is_one_error_with_both_lists_and_the_nearest(given, trained, tmp_path):
    paint(tmp_path / "other" / "test", shades={"ants": 0, "bee": 120, "dog": 240})
    given.data.folder = str(tmp_path / "other")
    with pytest.raises(UserError) as error:
        modes.evaluate(given, str(trained), "test")
    text = str(error.value)
    assert "has classes that the run does not know: 'ants' (did you mean 'ant'?), 'dog'" in text
    assert "there: ants, bee, dog\n  the run: ant, bee, cat" in text


def test_prepared_sets_are_mapped_by_name_too(digits):
    row = DATASETS["cluttered_digits"]
    plain = TfdsSource(row, digits, "test")
    turned = TfdsSource(row, digits, "test", tuple("9876543210"))
    assert [9 - plain[i]["label"] for i in range(20)] == [turned[i]["label"] for i in range(20)]
    with pytest.raises(UserError, match="the run does not know: '5', '6', '7', '8', '9'"):
        TfdsSource(row, digits, "test", tuple("01234"))


def test_names_of_a_table_set_are_recorded(tiny):
    data = resolved(tiny.data, dataset_info(tiny.data))
    assert data.classes == tuple("0123456789") and data.mean == (0.345, 0.359, 0.325)
    tiny.data.augment = "resized_crop_flip"
    assert dataset_info(tiny.data).crop_share == 0.875
    tiny.data.crop_share = 0.5
    assert dataset_info(tiny.data).crop_share == 0.5
    assert dataset_info(data).crop_share == 1.0


def test_a_run_from_before_background_and_fit_needs_no_data(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "old")
    path = tmp_path / "old" / "config.json"
    config = json.loads(path.read_text())
    del config["data"]["background"], config["data"]["fit"]
    config["data"]["folder"] = str(tmp_path / "gone")
    path.write_text(json.dumps(config))
    info = dataset_info(read_config(tmp_path / "old").data)
    assert (info.background, info.fit, info.interpolation) == ("white", "crop", "bicubic")


def test_how_pictures_are_scaled_is_a_key(tiny):
    step = np.zeros((8, 8, 3), np.uint8)
    step[:, 4:] = 255
    rows = {}
    for name in ("", "bilinear", "nearest", "bicubic"):
        tiny.data.interpolation, tiny.data.image_size = name, 16
        rows[name] = fit_image(step, dataset_info(tiny.data))[0, :, 0].tolist()
    assert rows[""] == rows["bilinear"] != rows["bicubic"]
    assert rows["nearest"] == [0] * 8 + [255] * 8


def test_one_channel_drops_colour(given):
    given.data.channels = 1
    example = open_source(given.data, "test")[20]
    assert example["image"].shape == (14, 18, 1)
    fitted = fit_image(np.full((9, 9, 3), (240, 0, 0), np.uint8), dataset_info(given.data))
    assert (fitted[0, 0] == 72).all()  # 0.299 of the red


def test_bad_values_are_told():
    config = default_config()
    config.data.update(mean=(0.5,), std=(1.0, 1.0, 0.0), channels=2, crop_share=1.5)
    config.data.update(classes=("a", "a"), interpolation="cubic")
    with pytest.raises(UserError) as error:
        validate(config)
    for text in ("mean=(0.5,) must hold three", "std=(1.0, 1.0, 0.0) must hold",
                 "channels=2 must be 1 or 3", "must hold different", "crop_share=1.5 must",
                 "interpolation='cubic' is unknown — did you mean 'bicubic'"):  # fmt: skip
        assert text in str(error.value)


def test_the_record_survives_json(tiny):
    data = resolved(tiny.data, dataset_info(tiny.data))
    tiny.data = data
    again = default_config()
    again.update(json.loads(json.dumps(as_json(tiny))))
    assert as_json(again) == as_json(tiny)
