"""Bad input to the Python API ends in one `UserError` that names the cause, never in a traceback
from inside flax, numpy or Pillow."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

import lficam_jax as lfi
from lficam_jax.errors import as_refusal
from tests.refused import refused

ONE = np.zeros((8, 8, 3), np.uint8)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("x", "data must be a dict of keys"),
        ({"dri": "x"}, "the key 'dri' is unknown — did you mean 'dir'"),
        ({3: 4}, "the key 3 is unknown"),
        ({"dir": 3}, "dir=3 must be of type str"),
        ({"dir": None}, "dir=None must be of type str"),
        ({"image_size": "16"}, "data.image_size=16 must be a whole number"),
        ({"image_size": -3}, "data.image_size=-3 must be"),
        ({"std": (0, 1, 1)}, "data.std="),
        ({"classes": "abc"}, "classes='abc' must be of type tuple"),
    ],
)
def test_load_tells_what_data_it_cannot_take(trained, given, says):
    refused(says, lfi.load, trained, data=given)


def test_load_takes_paths_and_the_home_folder(trained, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "runs").symlink_to(trained)
    run = lfi.load("~/runs", data={"dir": Path("~/elsewhere")})
    assert run.workdir == tmp_path / "runs" and run.config.data.dir == "~/elsewhere"
    refused("cluttered_digits is not prepared in .*/elsewhere", run.measure, "cam", limit=2)


def test_what_is_no_path_is_told(run, trained, tmp_path):
    for given in (None, 3, b"runs", ["a"]):
        refused("workdir must be a path", lfi.load, given)
        refused("to save to must be a path", run.explain(ONE).save, given)
    refused("names no file", lfi.load, "a\0b")
    refused("names no file", run.explain(ONE).save, "")
    refused("there is no such user", run.explain, "~no-such-user/a.png")
    for step in ("x", 1.5, -1, True):
        refused("step=", lfi.load, trained, step=step)
    for long in ("a" * 300 + ".png", "a/" * 3000, "a" * 300 + "*.png"):
        with pytest.raises(lfi.UserError, match="no image found at .*…|File name too long") as told:
            run.explain(long)
        assert len(str(told.value)) < 250
    refused("File name too long", run.explain(ONE).save, tmp_path / ("a" * 300))


def test_a_current_folder_that_was_removed_is_told(run, tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    refused("the current folder was removed", run.explain(ONE).save, "page")
    with pytest.raises(FileNotFoundError) as error:
        Path.cwd()
    assert "change to one that is there" in str(as_refusal(error.value))


def test_train_takes_a_config_by_name_and_tells_what_is_none(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    refused("cifar10 is not prepared", lfi.train, "cifar10:depth=8", tmp_path / "a")
    refused("did you mean 'cifar10'", lfi.train, "cifar11", tmp_path / "a")
    refused("is that of a study", lfi.train, "study_cluttered_digits", tmp_path / "a")
    for given in (None, {"a": 1}, 3):
        refused("config must be the name of one", lfi.train, given, tmp_path / "a")
    refused("lacks .* and .* more; start from", lfi.train, ConfigDict(), tmp_path / "a")
    refused("workdir must be a path", lfi.train, "cifar10", None)
    refused("is in a bucket", lfi.train, "cifar10", "gs://bucket/run")
    assert not (tmp_path / "a").exists()


def test_pil_images_of_any_mode_are_read_or_told(run, tmp_path):
    for mode in ("1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "LA", "PA", "La",
                 "RGBa", "RGBX"):  # fmt: skip
        assert len(run.explain(Image.new(mode, (20, 20)))) == 1, mode
    refused("image 0", run.explain, Image.new("RGB", (0, 5)))
    noise = np.random.default_rng(0).integers(0, 256, (99, 99, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.jpg")
    (tmp_path / "torn.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:3000])
    with Image.open(tmp_path / "torn.jpg") as torn:
        refused("image 1", run.explain, [ONE, torn])
    closed = Image.open(tmp_path / "a.jpg")
    closed.close()
    refused("image 0", run.explain, closed)


def test_names_that_are_not_utf8_are_shown_and_saved(run, tmp_path):
    path = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png")
    Image.fromarray(ONE).save(path)
    with Image.open(path) as picture:
        found = [run.explain(path), run.explain(picture), run.explain(ONE, names=["\udcff.png"])]
    for e in found:
        assert e[0].name.endswith("\\udcff.png") and "\\udcff.png" in repr(e)
        repr(e).encode()
        e._repr_html_().encode()
        e.save(tmp_path / "out", title="\udcff")
    classes = [f"\udcff{i}" for i in range(10)]
    e = lfi.explain(run.model, run.variables, ONE, preprocess=run.dataset, classes=classes,
                    method="cam", target="\udcff3")  # fmt: skip
    assert e[0].class_index == 3
    e.save(tmp_path / "out")


CLASSES = "must be a list of names, in label order"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"classes": "0123456789"}, CLASSES),
        ({"classes": set("0123456789")}, CLASSES),
        ({"classes": 3}, CLASSES),
        ({"classes": [None] * 10}, CLASSES),
        ({"labels": [[1]]}, r"a class's name or number, not \[1\]"),
        ({"labels": {"a": 1}}, "a class's name or number"),
        ({"labels": object()}, "a class's name or number"),
        ({"names": 3}, "names must be a list"),
        ({"names": [None]}, "None is no name"),
        ({"names": "abc", "images": [ONE] * 3}, "names has 1 entries for 3 images"),
        ({"method": 3}, "method must be a name or a list of names, not 3"),
        ({"method": [["own"]]}, "method must be a name or a list of names"),
        ({"method": b"own"}, "method must be a name"),
        ({"target": [["3"]]}, "a class's name or number"),
        ({"target": np.array([[3]])}, "a class's name or number"),
        ({"target": [3.0]}, "not 3.0"),
        ({"target": 2**40, "method": "grad_cam"}, "a class's name or number, not 1099511627776"),
        ({"target": "9" * 5000, "method": "grad_cam"}, "a class's name or number"),
        ({"normalised": "yes"}, "normalised='yes' must be True or False"),
        ({"target": "7"}, "target='7': .* the same map whatever class .*class-agnostic"),
        ({"target": 7, "method": "own"}, "class-agnostic.*choose another method"),
        ({"target": 7, "method": ["own", "eigen_cam"]}, "own, eigen_cam draws the same map"),
    ],
)
def test_words_of_other_kinds_are_told(run, given, says):
    asked = {"images": ONE, "preprocess": run.dataset, "classes": run.classes, **given}
    refused(says, lfi.explain, run.model, run.variables, asked.pop("images"), **asked)


def test_classes_may_be_an_array(run):
    names = np.array([f"digit {i}" for i in range(10)])
    e = lfi.explain(run.model, run.variables, [ONE, ONE], preprocess=run.dataset, classes=names,
                    labels=np.array([1, 2]), target=np.array([3, 4]), method="cam")  # fmt: skip
    assert [item.class_index for item in e] == [3, 4] and e[0].classes[9] == "digit 9"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"methods": 3}, "methods must be a name or a list of names"),
        ({"measures": [None]}, "measures must be a name"),
        ({"split": None}, "split None is unknown; known: train, validation, test"),
        ({"limit": None}, "limit=None must be a whole number"),
        ({"baseline": ["mean"]}, "did you mean 'mean'"),
        ({"target": ["x"]}, r"target \['x'\] is unknown; known: predicted, label"),
    ],
)
def test_measure_tells_what_it_cannot_take(run, given, says):
    refused(says, run.measure, **({"methods": "cam", "limit": 2} | given))


def test_looking_at_an_explanation_wrongly_is_told(run):
    (one,) = run.explain(ONE)
    refused("alpha='x' must be in", one.overlay, alpha="x")
    refused("alpha=nan", one.overlay, alpha=float("nan"))
    refused("colour map 3 is unknown", one.overlay, cmap=3)
    refused("n='x' must be a whole number", one.top, "x")


def test_a_manifest_that_was_edited_is_no_obstacle(run, tmp_path):
    e, file = run.explain(ONE), tmp_path / "out" / "manifest.json"
    e.save(tmp_path / "out")
    for rows in ([{"id": "0"}], [{"files": {"overlay": "0.png"}}], [3], [{"files": None}]):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"images": rows, "pages": 3}))
        assert e.save(tmp_path / "out").exists()


def test_runs_and_what_they_return_can_be_compared_and_hashed(run, trained):
    again = lfi.load(trained)
    assert run == run and run != again and len({run, again}) == 2
    e, other = run.explain(ONE), run.explain(ONE)
    assert e[0] in e and other[0] not in e and len({*e, *other}) == 2
    assert run.predict(ONE) != run.predict(ONE)
