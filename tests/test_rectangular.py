"""A network that is fed rectangles sees, learns, shows and measures what lies at a long end.

Pictures of 64 rows and 200 columns: one bright square around column 180, red or green.
"""

import json

import numpy as np
import pytest
from PIL import Image

import lficam_jax as lfi
from lficam_jax import main
from lficam_jax.config import default_config
from lficam_jax.config_file import overridden
from lficam_jax.data.transforms import Preprocess, fit_box, random_box

SQUARE = np.s_[24:40, 172:188]


def picture(colour, seed):
    pixels = np.random.default_rng(seed).integers(0, 60, (64, 200, 3), dtype=np.uint8)
    pixels[SQUARE] = (255, 0, 0) if colour == "red" else (0, 255, 0)
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("long")
    mask = np.zeros((64, 200), np.uint8)
    mask[SQUARE] = 255
    for split, count in (("train", 16), ("validation", 2), ("test", 4)):
        for colour in ("green", "red"):
            (folder / split / colour).mkdir(parents=True)
            for i in range(count):
                place = folder / split / colour / f"{i}.png"
                picture(colour, i).save(place)
                Image.fromarray(mask).save(place.with_suffix(".mask.png"))
    return folder


@pytest.fixture(scope="module")
def workdir(photos, tmp_path_factory):
    place = tmp_path_factory.mktemp("runs") / "long"
    words = {
        "data.folder": photos, "data.image_size": "16,50", "data.augment": "crop_flip",
        "data.crop_padding": 1, "model.backbone": "cifar_resnet", "model.depth": 8,
        "model.fin.width": 8, "train.batch_size": 8, "train.total_steps": 24, "optim.lr": 0.05,
        "optim.schedule": "constant", "optim.warmup_steps": 0, "train.tensorboard": False,
        "eval.batch_size": 8, "explain.limit": 4,
    }  # fmt: skip
    flags = [f"--config.{key}={value}" for key, value in words.items()]
    assert main.run("train", ["--config=folder", f"--workdir={place}", *flags], "lficam") == 0
    return place


@pytest.fixture(scope="module")
def long(workdir):
    return lfi.load(workdir)


def test_it_learns_from_an_object_at_the_end_and_the_run_keeps_its_shape(workdir):
    config = json.loads((workdir / "config.json").read_text())
    assert config["data"]["image_size"] == [16, 50]
    assert json.loads((workdir / "results/train.json").read_text())["test"]["accuracy"] == 1


def test_the_map_of_a_file_lies_on_the_object_in_the_original(long, photos):
    assert long.dataset.size == (16, 50)
    for e in long.explain(photos / "test" / "red", method=["own", "grad_cam"]):
        assert e.classes[e.predicted] == "red" and e.picture.shape == (16, 50, 3)
        assert e.map.shape == (4, 13) and np.ptp(e.map) > 0
        top, left, height, width = e.box
        row, column = e.peak
        # within one and a half cells, of 16 pixels of the original
        assert abs(top + (row + 0.5) / 16 * height - 32) < 25
        assert abs(left + (column + 0.5) / 50 * width - 180) < 25
        assert e.overlay().size == (200 * 4, 64 * 4)


def test_it_is_measured_on_the_object(long):
    asked = ["deletion", "road", "localisation"]
    measures = long.measure(["own"], limit=4, measures=asked)
    assert measures["own"]["pointing_game"] > measures["random"]["pointing_game"]
    assert measures.columns == ["deletion", "road", "pointing_game", "energy", "max_box_acc"]


@pytest.mark.parametrize(
    "mode", [["robustness", "--perturbations=fgsm,zoom_blur", "--limit=2"], ["explain"]]
)
def test_modes_take_it(mode, workdir, capsys):
    assert main.run(mode[0], [f"--workdir={workdir}", *mode[1:]], "lficam") == 0


def test_one_missing_file_stops_no_other_and_a_cut_one_is_noted(
    long, workdir, photos, tmp_path, capsys
):
    shown = photos / "test" / "red" / "0.png"
    square = tmp_path / "square.png"
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(square)
    words = [f"--workdir={workdir}", f"--out={tmp_path / 'page'}", "--images", "gone.png"]
    assert main.run("explain", [*words, str(shown), str(square)], "lficam") == 1
    out = capsys.readouterr().out
    assert "skipped gone.png: no image found" in out and "images explained  2, 1 skipped" in out
    assert "square.png" in out and "68 % of it lies outside" in out  # 20.5 of 64 rows are seen
    found = long.predict(["gone.png", shown, square])
    assert [name for name, _ in found.skipped] == ["gone.png"] and len(found) == 2
    assert not found.notes[0] and "square.png: 68 % of it lies outside" in repr(found)
    # the remedy, as the note says it
    assert main.run("explain", [*words, str(square), "--config.data.fit=pad"], "lficam") == 1
    assert "lies outside" not in capsys.readouterr().out
    padded = lfi.load(workdir, data={"fit": "pad"}).explain(square)
    assert padded[0].box == (0, -68, 64, 200)
    with pytest.raises(lfi.UserError, match="none of the 1 files"):
        main.run("explain", words, "lficam")


def test_describe_says_both_sides(workdir, capsys):
    assert main.run("describe", [f"--workdir={workdir}"], "lficam") == 0
    assert "at 16x50" in capsys.readouterr().out


def test_a_size_is_given_as_one_number_or_two():
    for text, size in (("64", 64), ("64,96", (64, 96)), ("(64, 96)", (64, 96)), ("64,64", 64)):
        assert overridden(default_config(), {"data.image_size": text}).data.image_size == size
    config = default_config()
    config.data.image_size = 224  # as config files say it
    config.data.image_size = (64, 96)
    with pytest.raises(lfi.UserError, match="whole number, or two"):
        overridden(default_config(), {"data.image_size": "64x"})
    for wrong in ((0, 5), (1, 2, 3), -1, 2.5, "64"):
        with pytest.raises(lfi.UserError, match="image_size"):
            config.data.image_size = wrong
            lfi.train(config, "nowhere")
    with pytest.raises(lfi.UserError, match="image_size"):
        Preprocess(image_size=(3, 0))


def test_boxes_have_the_shape_that_is_fed():
    fed = Preprocess(image_size=(64, 200))
    assert fit_box(64, 200, fed) == (0, 0, 64, 200)
    assert fit_box(100, 200, fed) == (18, 0, 64, 200)  # crop: the middle rows
    pad = Preprocess(image_size=(64, 200), fit="pad")
    assert fit_box(64, 100, pad) == (0, -50, 64, 200)
    _, _, height, width = random_box(np.random.default_rng(0), 64, 200, 200 / 64)
    assert 0.7 < width / height / (200 / 64) < 1.4  # stretched no more than a square would be
