"""`:smoke` needs no data: it draws pictures of the config's shapes, and says so everywhere."""

import copy
import importlib
import json
from pathlib import Path

import jax
import numpy as np
import pytest

from lficam_jax import modes
from lficam_jax.config import default_config, validate
from lficam_jax.data import counts, dataset_info, open_pipeline, open_source, train_examples
from lficam_jax.data.datasets import DATASETS
from lficam_jax.errors import UserError
from lficam_jax.study.plan import plan

CONFIGS = sorted(p.stem for p in Path("configs").glob("*.py"))
SPLITS = ("train", "validation", "test")


@pytest.fixture(autouse=True)
def nothing_is_prepared(monkeypatch, tmp_path):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "nothing"))


def load(name, arg):
    config = importlib.import_module(f"configs.{name}").get_config(arg)
    return config.base if name.startswith("study_") else config


def opened(config):
    return {
        split: open_pipeline(config.data, split, batch_size=16, train=split == "train")
        for split in SPLITS
    }


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_opens_without_data(name):
    config, whole = load(name, "smoke"), load(name, "")
    validate(config)
    assert config.model.backbone == whole.model.backbone and config.model.head == whole.model.head
    splits = opened(config)
    info = splits["train"].dataset
    assert info.name == "synthetic" and [s.examples for s in splits.values()] == [64, 32, 32]
    batch = next(splits["train"].batches(0))
    batch = splits["train"].load(splits["train"].resident, batch, jax.random.key(0))
    size = whole.data.image_size or DATASETS[whole.data.name].image_size
    size = min(size, 48)
    assert batch["image"].shape == (16, size, size, 3)
    if name != "folder":
        row = DATASETS[whole.data.name]
        assert info.num_classes == row.num_classes and info.channels == row.channels
        assert info.mean == row.mean and ("mask" in batch) == row.has_mask
    assert train_examples(config.data) == 64


def test_the_kind_of_block_stays():
    deep, shallow = load("cifar10", "smoke").model, load("cifar10", "depth=20,smoke").model
    assert (deep.depth, deep.block) == (8, "bottleneck")
    assert (shallow.depth, shallow.block) == (8, "auto")  # which is basic at 8
    assert load("imagenet", "backbone=resnet152,smoke").model.depth == 50
    assert load("imagenet", "backbone=resnet18,smoke").model.depth == 18


def test_a_place_of_real_data_is_taken(digits, tmp_path):
    config = load("cluttered_digits", "smoke")
    config.data.dir = str(digits)
    assert dataset_info(config.data).name == "cluttered_digits"
    assert len(open_source(config.data, "test")) == 50
    config.data.dir = str(tmp_path)
    with pytest.raises(UserError, match="cluttered_digits is not prepared"):
        open_source(config.data, "test")
    config = load("folder", "smoke")
    config.data.folder = str(tmp_path / "absent")
    with pytest.raises(UserError, match="absent is not a directory"):
        open_source(config.data, "test")


def test_pictures_follow_from_split_and_number_and_show_their_class():
    data = load("cluttered_digits", "smoke").data
    first, again = open_source(data, "train"), open_source(data, "train")
    assert first.name(7) == "train 7"
    for i in (0, 7, 63):
        np.testing.assert_array_equal(first[i]["image"], again[i]["image"])
    assert not np.array_equal(first[0]["image"], open_source(data, "test")[0]["image"])
    colours = {}
    for i in range(40):
        example = first[i]
        inside = example["image"][example["mask"][..., 0] > 0]
        assert (inside == inside[0]).all()  # one colour, that of the class
        colours.setdefault(example["label"], set()).add(tuple(inside[0].tolist()))
    assert [len(seen) for seen in colours.values()] == [1] * 10
    assert len(set.union(*colours.values())) == 10


def test_a_set_that_nobody_knows_needs_its_classes():
    data = default_config().data
    data.name, data.synthetic = "caltech101", True
    with pytest.raises(UserError, match="'caltech101' is unknown.* say its --config.data.classes"):
        dataset_info(data)
    data.name = "fashionmnist"
    with pytest.raises(UserError, match="did you mean 'fashion_mnist'"):
        dataset_info(data)
    data.classes = ("car", "plane")
    assert dataset_info(data).classes == ("car", "plane")


def test_a_study_plans_without_data():
    study = importlib.import_module("configs.study_stl10").get_config("smoke")
    assert len(plan(study)) == 4 * 2 + 1 * 2


def test_results_and_pages_say_that_the_data_were_synthetic(tmp_path, capsys):
    config = load("cluttered_digits", "smoke")
    config.data.image_size, config.train.tensorboard = 16, False
    workdir = str(tmp_path / "run")
    assert modes.train(copy.deepcopy(config), workdir) == 0
    out = capsys.readouterr()
    assert "the pictures are synthetic" in out.out + out.err
    assert "train       64 pictures (0: 7, 1: 7, 2: 7, 3: 7, 4: 6" in out.out + out.err
    assert modes.evaluate(copy.deepcopy(config), workdir, "test") == 0
    assert modes.explain(copy.deepcopy(config), workdir, images=[], methods=[]) == 0
    sample = {"split": "test", "limit": 8, "methods": ["own"]}
    asked = {"groups": ["deletion", "localisation"], "baseline": "mean", "target": "predicted"}
    assert modes.faithfulness(copy.deepcopy(config), workdir, **sample, **asked) == 0
    for mode in ("train", "evaluate", "explain", "faithfulness"):
        text = (tmp_path / "run" / "results" / f"{mode}.json").read_text()
        assert json.loads(text)["data"] == "synthetic"
    pages = [*(tmp_path / "run").rglob("*.html")]
    assert len(pages) == 2 and all("synthetic, test split" in p.read_text() for p in pages)
    kept = json.loads((tmp_path / "run" / "config.json").read_text())["data"]
    assert kept["synthetic"] is True and kept["name"] == "cluttered_digits"


def test_the_batch_is_not_told_when_it_fits():
    config = load("cluttered_digits", "smoke")
    assert not any("batches" in line for line in counts.told(opened(config), 16))
