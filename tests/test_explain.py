"""Explanations of a classifier whose answer and map anyone can check by eye.

`Brightness` says which of red, green and blue is strongest, and looks where it is bright.
"""

import dataclasses
import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from lficam_jax.config import default_config
from lficam_jax.data import Preprocess
from lficam_jax.data.datasets import Dataset
from lficam_jax.errors import UserError
from lficam_jax.explaining.explain import explain
from lficam_jax.explaining.explanation import Explanation, by_image
from lficam_jax.explaining.run import run
from lficam_jax.explaining.session import Session
from lficam_jax.metrics.localisation import pointing_hit
from lficam_jax.models import create_model
from lficam_jax.ops import maps
from lficam_jax.structs import Outputs, Run

COLORS = ("blue", "green", "red")  # as a folder sorts them


class Brightness(nn.Module):
    draws: bool = True

    @nn.compact
    def __call__(self, images, *, train=False):
        scale = self.param("scale", nn.initializers.ones, ())
        attention = maps.min_max(maps.grey(images, (4, 4))) if self.draws else None
        logits = 10 * scale * jnp.mean(images, axis=(1, 2))[:, ::-1]
        features = jnp.zeros((len(images), 4, 4, 1))
        return Outputs(logits=logits, features=features, attended=features, attention=attention)


MODEL, VARIABLES = Brightness(), {"params": {"scale": jnp.float32(1)}}


def spot(color, corner=(0, 0), size=16):
    """A dark picture with a bright spot of one colour in one corner."""
    picture = np.zeros((size, size, 3), np.uint8)
    y, x = corner[0] * size // 2, corner[1] * size // 2
    picture[y : y + size // 2, x : x + size // 2, 2 - COLORS.index(color)] = 255
    return picture


def as_fed(*pictures):
    return np.stack(pictures).astype(np.float32) / 255


def test_it_tells_what_and_where():
    pictures = [spot("red", (0, 1)), spot("blue", (1, 0))]
    first, second = explain(
        MODEL, VARIABLES, as_fed(*pictures), normalised=True, labels=[2, "green"], classes=COLORS
    )
    assert first.top(1)[0][0] == "red" and first.correct is True
    assert second.top(1)[0][0] == "blue" and second.correct is False
    assert first.peak[0] < 8 <= first.peak[1] and second.peak[1] < 8 <= second.peak[0]
    assert first.map.shape == (4, 4) and first.map.dtype == np.float32
    np.testing.assert_allclose(first.probabilities.sum(), 1, rtol=1e-6)


def test_batches_and_their_padding_change_nothing():
    images = np.random.default_rng(0).random((7, 16, 16, 3), np.float32)
    whole = explain(MODEL, VARIABLES, images, normalised=True, batch_size=64)
    parts = explain(MODEL, VARIABLES, images, normalised=True, batch_size=3)
    assert [e.id for e in parts] == list("0123456")
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one.map, other.map, atol=1e-6)
        np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-6)


def test_one_program_serves_all_batches():
    traces = []

    class Counted(Brightness):
        def __call__(self, images, *, train=False):
            traces.append(images.shape)
            return super().__call__(images, train=train)

    explain(Counted(), VARIABLES, np.zeros((7, 16, 16, 3)), normalised=True, batch_size=3)
    # Before that it tells what it returns, and behind it where the cells lie.
    assert traces == [(1, 16, 16, 3), (3, 16, 16, 3), (1, 16, 16, 3)]


def test_without_pictures_the_images_are_stretched():
    (found,) = explain(MODEL, VARIABLES, as_fed(spot("green")) * 4 - 2, normalised=True)
    np.testing.assert_array_equal(found.picture, spot("green"))
    assert found.classes == ("0", "1", "2") and found.label is None and found.correct is None


def test_a_head_without_a_map_says_what_to_do():
    with pytest.raises(UserError, match="draws no map.*grad_cam.*--config.model.head=lfi"):
        explain(
            Brightness(draws=False), VARIABLES, as_fed(spot("red")), normalised=True, method="own"
        )


@pytest.fixture(scope="module")
def plain():
    """A network without a map of its own, and images for it."""
    model = create_model("cifar_resnet", 8, "plain", num_classes=3)
    images = np.random.default_rng(0).standard_normal((5, 16, 16, 3)).astype(np.float32)
    return model, jax.jit(model.init)(jax.random.key(0), images), images


def test_a_plain_head_is_explained_by_grad_cam(plain):
    found = explain(*plain, normalised=True)
    assert {item.method for item in found} == {"grad_cam"} and len(found) == 5
    assert all(item.class_index == item.predicted for item in found)
    with pytest.raises(UserError, match="does not tell how it classifies.*create_model"):
        explain(Brightness(draws=False), VARIABLES, as_fed(spot("red")), normalised=True)


def test_several_methods_follow_one_another_image_by_image(plain):
    names = ["score_cam", "mean_features", "random"]
    found = explain(*plain, normalised=True, method=names, batch_size=2)
    assert [item.method for item in found] == names * 5
    assert [item.id for item in found] == [i for i in "01234" for _ in names]
    assert [len(same) for same in by_image(found)] == [3] * 5
    np.testing.assert_array_equal(found[0].probabilities, found[1].probabilities)
    assert found[1].class_index is None and found[0].class_index == found[0].predicted
    alone = explain(*plain, normalised=True, method="random")
    for one, other in zip(found[2::3], alone, strict=True):  # whatever the batch
        np.testing.assert_array_equal(one.map, other.map)


def test_a_map_may_be_asked_about_any_class(plain):
    model, variables, images = plain
    predicted, asked, mixed = (
        explain(
            model, variables, images, normalised=True, method="hires_cam", target=c, batch_size=2
        )
        for c in (None, 1, [0, 1, 2, 0, 1])
    )
    assert [item.class_index for item in mixed] == [0, 1, 2, 0, 1]
    np.testing.assert_allclose(asked[1].map, mixed[1].map, atol=1e-6)
    assert not np.allclose(asked[0].map, mixed[0].map)
    first = predicted[0].predicted
    (alone,) = explain(
        model, variables, images[0], normalised=True, method="hires_cam", target=first
    )
    np.testing.assert_allclose(alone.map, predicted[0].map, atol=1e-4)
    with pytest.raises(UserError, match="target: class 3 does not exist; classes are 0 to 2"):
        explain(model, variables, images, normalised=True, target=3)


def test_images_of_one_id_are_told_apart():
    first, second = (Explanation(**dict(
        id="a", name=name, picture=np.zeros((4, 4, 3), np.uint8), map=np.eye(4, dtype=np.float32),
        probabilities=np.ones(1), classes=("x",))) for name in ("1/a", "2/a"))  # fmt: skip
    other = dataclasses.replace(first, method="cam")
    assert by_image([first, second]) == [[first], [second]]
    assert by_image([first, other, second]) == [[first, other], [second]]


def test_an_unknown_method_names_the_nearest():
    for wrong in ("owm", ["own", "owm"]):
        with pytest.raises(UserError, match="'owm' is unknown.*'own'"):
            explain(MODEL, VARIABLES, as_fed(spot("red")), normalised=True, method=wrong)


def test_the_overlay_is_large_and_hot_where_the_map_is():
    hot = np.zeros((4, 4), np.float32)
    hot[0, 0] = 1
    found = Explanation("1", "1", np.full((16, 16, 3), 128, np.uint8), hot, np.ones(1), ("a",))
    overlay = np.asarray(found.overlay(alpha=0.5, cmap="jet", blend="mix")).astype(int)
    assert overlay.shape == (224, 224, 3)
    assert overlay[0, 0, 0] > overlay[0, 0, 2] + 50 and overlay[-1, -1, 2] > overlay[-1, -1, 0] + 50


def test_the_page_and_the_evaluation_agree_on_hits():
    random = np.random.default_rng(0)
    drawn = [*random.random((20, 4, 4)).astype(np.float32), np.ones((4, 4), np.float32)]
    mask = np.zeros((16, 16), bool)
    mask[4:14, 4:14] = True
    picture, options = np.zeros((16, 16, 3), np.uint8), {"classes": ("a",), "mask": mask}
    ours = [Explanation("1", "1", picture, m, np.ones(1), **options).peak_on_object for m in drawn]
    theirs = pointing_hit(jnp.stack(drawn), jnp.broadcast_to(mask, (21, 16, 16)))
    assert ours == theirs.tolist() and {*ours} == {True, False}
    assert ours[-1] is False  # a constant map points nowhere


# --mode explain


@pytest.fixture
def config(tmp_path):
    """A folder of 4 spots per colour and split."""
    config = default_config()
    config.data.name, config.data.folder = "folder", str(tmp_path / "data")
    config.data.image_size = 16
    for split in ("train", "validation", "test"):
        for color in COLORS:
            folder = tmp_path / "data" / split / color
            folder.mkdir(parents=True)
            for i in range(4):
                Image.fromarray(spot(color, (i // 2, i % 2))).save(folder / f"{i}.png")
    return config


def start(config, tmp_path, *images, methods=()):
    trained = Run(tmp_path / "run", config, MODEL, VARIABLES, step=30)
    split = None if images else config.explain.split
    return run(Session(trained, split, config.explain.limit, methods), images)


def test_a_split_sample_is_spread_over_the_classes(config, tmp_path, capsys):
    config.explain.limit = 6
    assert start(config, tmp_path) == 0
    folder = tmp_path / "run" / "explanations" / "30"
    rows = json.loads((folder / "manifest.json").read_text())["images"]
    assert [row["label"] for row in rows] == [c for c in COLORS for _ in range(2)]
    assert [row["id"] for row in rows] == ["0", "2", "4", "6", "8", "10"]
    assert all(row["correct"] and row["peak_on_object"] is None for row in rows)
    assert all(row["notes"] == [] and row["box"][2] == row["box"][3] > 0 for row in rows)
    result = json.loads((tmp_path / "run" / "results" / "explain.json").read_text())
    assert result["accuracy"] == 1 and result["images"] == 6 and "pointing_game" not in result
    printed = capsys.readouterr().out
    assert f"{folder}/index.html" in printed and "100.0 %" in printed


def test_a_small_split_is_explained_whole(config, tmp_path):
    config.explain.limit, config.explain.split = 1000, "validation"
    start(config, tmp_path)
    assert len(list((tmp_path / "run" / "explanations" / "30").glob("*.map.png"))) == 12


def test_own_files_may_be_of_any_size_and_shape(config, tmp_path, capsys):
    big = Image.fromarray(spot("red")).resize((90, 60))
    big.save(tmp_path / "big.png")
    Image.fromarray(spot("blue")).convert("P").save(tmp_path / "palette.png")
    assert start(config, tmp_path, str(tmp_path / "*.png")) == 0
    manifest = json.loads((tmp_path / "run/explanations/30-images/manifest.json").read_text())
    said = {row["id"]: (row["predicted"], row["label"]) for row in manifest["images"]}
    assert said == {"big.png": ("red", None), "palette.png": ("blue", None)}
    assert f"{tmp_path}/big.png: red" in capsys.readouterr().out


def test_files_of_one_name_are_told_apart_everywhere(config, tmp_path):
    for folder in ("first", "second"):
        (tmp_path / folder).mkdir()
        Image.fromarray(spot("red")).save(tmp_path / folder / "a.png")
    Image.fromarray(spot("blue")).save(tmp_path / "second" / "b.png")
    expected = ["first/a.png", "second/a.png", "b.png"]
    assert start(config, tmp_path, str(tmp_path / "first"), str(tmp_path / "second")) == 0
    folder = tmp_path / "run/explanations/30-images"
    rows = json.loads((folder / "manifest.json").read_text())["images"]
    assert [row["id"] for row in rows] == expected
    assert {"first_a_png.png", "second_a_png.png"} <= {path.name for path in folder.iterdir()}
    page = (folder / "index.html").read_text()
    assert all(f'"title": "{name}"' in page for name in expected)
    found = explain(
        MODEL, VARIABLES, [tmp_path / "first", tmp_path / "second"],
        preprocess=Preprocess(image_size=16),
    )  # fmt: skip
    assert all(name in repr(found) and name in found._repr_html_() for name in expected)


def test_numbers_come_first_where_nothing_can_be_written(config, tmp_path, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "explanations").touch()  # in the way of the page
    (tmp_path / "run" / "results").touch()  # and of its record
    with pytest.raises(UserError, match="cannot write .*explanations"):
        start(config, tmp_path)
    assert "accuracy of them  100.0 %" in capsys.readouterr().out
    trained = Run(tmp_path / "run", config, MODEL, VARIABLES, step=30)
    with pytest.raises(UserError, match="cannot write .*results"):
        run(Session(trained, "test", 4, ()), out=tmp_path / "out")
    printed = capsys.readouterr().out
    assert printed.index("accuracy of them") < printed.index(f"page              {tmp_path}/out/")


def test_a_file_that_is_no_image_is_named_skipped_and_counted(config, tmp_path, capsys):
    Image.fromarray(spot("green")).save(tmp_path / "good.png")
    (tmp_path / "notes.png").write_text("no picture")
    (tmp_path / "torn.png").write_bytes((tmp_path / "good.png").read_bytes()[:60])
    files = [str(tmp_path / name) for name in ("good.png", "notes.png", "torn.png")]
    assert start(config, tmp_path, *files) == 1
    printed = capsys.readouterr().out
    assert "notes.png" in printed and "torn.png" in printed and "1, 2 skipped" in printed
    manifest = json.loads((tmp_path / "run/explanations/30-images/manifest.json").read_text())
    assert [row["file"] for row in manifest["skipped"]] == files[1:]
    result = json.loads((tmp_path / "run" / "results" / "explain.json").read_text())
    assert set(result["skipped"]) == set(files[1:])


def test_nothing_readable_is_an_error_and_writes_nothing(config, tmp_path):
    (tmp_path / "notes.png").write_text("no picture")
    with pytest.raises(UserError, match="none of the 1 files.*\n.*notes.png"):
        start(config, tmp_path, str(tmp_path / "notes.png"))
    assert not (tmp_path / "run").exists()


class Masked:
    """Two red spots top left; the object's mask is there once, and once elsewhere."""

    classes = COLORS

    def __len__(self):
        return 2

    def __getitem__(self, i):
        mask = np.zeros((16, 16, 1), np.uint8)
        mask[:8, :8] = i == 0
        mask[8:, 8:] = i == 1
        return {"image": spot("red"), "label": 2, "id": 100 + i, "mask": mask}

    def name(self, i):
        return f"spot {i}"


def test_with_masks_the_peak_is_judged(config, tmp_path, monkeypatch):
    info = Dataset("masked", "", 3, 16, (0.5,) * 3, (0.5,) * 3, {}, {}, has_mask=True)
    for module in ("explaining.session", "data.sample"):
        monkeypatch.setattr(f"lficam_jax.{module}.dataset_info", lambda data: info)
    monkeypatch.setattr("lficam_jax.data.sample.open_source", lambda data, split: Masked())
    start(config, tmp_path)
    manifest = json.loads((tmp_path / "run/explanations/30/manifest.json").read_text())
    hits = {row["id"]: row["peak_on_object"] for row in manifest["images"]}
    assert hits == {"100": True, "101": False}
    result = json.loads((tmp_path / "run" / "results" / "explain.json").read_text())
    assert result["pointing_game"] == 0.5
    assert result["methods"] == {"own": {"pointing_game": 0.5, "constant_maps": 0}}


def test_several_methods_lie_side_by_side(config, tmp_path, capsys):
    config.explain.limit = 2
    start(config, tmp_path, methods=["own", "mean_features", "gaussian"])
    folder = tmp_path / "run/explanations/30"
    rows = json.loads((folder / "manifest.json").read_text())["images"]
    assert [row["method"] for row in rows] == ["own", "mean_features", "gaussian"] * 2
    assert {row["files"]["overlay"] for row in rows} == {p.name for p in folder.glob("*.png")
                                                         if ".map." not in p.name}  # fmt: skip
    assert len(list(folder.glob("*.map.png"))) == 6
    result = json.loads((tmp_path / "run" / "results" / "explain.json").read_text())
    assert result["images"] == 2 and result["accuracy"] == 1
    # `Brightness` has features of zeros: their mean is constant, and that is said.
    constant = {name: values["constant_maps"] for name, values in result["methods"].items()}
    assert constant == {"own": 0, "mean_features": 2, "gaussian": 0}
    assert "constant maps     2  mean_features" in capsys.readouterr().out
