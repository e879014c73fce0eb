"""Corruptions by hand; the modes robustness and sanity on runs whose answer is known."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from lficam_jax.data import DATASETS
from lficam_jax.errors import UserError
from lficam_jax.explaining.session import Session
from lficam_jax.measure import robustness, sanity
from lficam_jax.measure.observe import Observer, Perturbation, planned
from lficam_jax.measure.resemblance import summarise, table, write_csv
from lficam_jax.methods import TRIVIAL
from lficam_jax.metrics.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from lficam_jax.metrics.robustness import fgsm
from lficam_jax.metrics.sanity import cascade
from lficam_jax.training.experiment import load_run

SMOOTH = np.add.outer(np.arange(32) * 4, np.arange(32) * 3).astype(np.uint8)
GREY = SMOOTH[..., None]
COLOUR = np.stack([SMOOTH, SMOOTH.T, 255 - SMOOTH], axis=-1)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_is_a_function_of_its_arguments_and_grows_with_severity(name):
    for image in (GREY, COLOUR):
        harm = []
        for severity in SEVERITIES:
            found = corrupt(image, name, severity, example=7)
            assert found.shape == image.shape and found.dtype == np.uint8
            again = corrupt(image, name, severity, example=7)
            np.testing.assert_array_equal(found, again)
            harm.append(np.mean((found.astype(float) - image) ** 2))
        assert harm[-1] > harm[0] > 0 or (name == "defocus_blur" and harm[-1] > harm[0])
    other = [corrupt(GREY, name, 5, example=8), corrupt(GREY, name, 5, example=7, seed=1)]
    drawn = name.endswith("_noise")
    for changed in other:
        assert drawn == bool((changed != corrupt(GREY, name, 5, example=7)).any())


def test_large_pictures_get_the_parameters_of_imagenet_c():
    large = np.full((96, 96, 3), 128, np.uint8)
    small = large[:84, :84]
    found = [corrupt(x, "gaussian_noise", 1, example=0) for x in (small, large)]
    np.testing.assert_allclose([np.std(x / 255) for x in found], [0.04, 0.08], rtol=0.05)


def test_noise_has_the_size_that_the_tables_say():
    flat = np.full((84, 84, 3), 102, np.uint8)  # 0.4
    noisy = corrupt(flat, "gaussian_noise", 5, example=0) / 255
    assert noisy.mean() == pytest.approx(0.4, abs=0.005)
    assert noisy.std() == pytest.approx(0.10, rel=0.05)
    shot = corrupt(flat, "shot_noise", 3, example=0) / 255  # Poisson: variance is mean / photons
    assert shot.mean() == pytest.approx(0.4, abs=0.005)
    assert shot.std() == pytest.approx(np.sqrt(0.4 / 100), rel=0.05)
    impulse = corrupt(flat, "impulse_noise", 5, example=0)
    assert (impulse == 0).mean() == pytest.approx(0.035, rel=0.2)
    assert (impulse == 255).mean() == pytest.approx(0.035, rel=0.2)
    assert ((impulse == 102) | (impulse == 0) | (impulse == 255)).all()


def test_brightness_contrast_and_pixelate_by_hand():
    image = np.zeros((2, 2, 3), np.uint8)
    image[0, 0], image[0, 1], image[1, 0] = (100, 40, 0), (250, 100, 0), (60, 60, 60)
    brighter = corrupt(image, "brightness", 4, example=0)  # V + 0.2, which is 51
    np.testing.assert_array_equal(brighter[0, 0], [151, 60, 0])  # the hue stays
    np.testing.assert_array_equal(brighter[0, 1], [255, 102, 0])  # V ends at 1
    np.testing.assert_array_equal(brighter[1], [[111] * 3, [51] * 3])  # black turns grey
    halves = np.array([0, 200], np.uint8).repeat(8)[None, :, None].repeat(16, axis=0)
    flatter = corrupt(halves, "contrast", 2, example=0)  # towards the mean, 100, by half
    np.testing.assert_array_equal(np.unique(flatter), [50, 150])
    fine = np.tile(np.array([0, 200], np.uint8), 48)[None, :, None].repeat(96, axis=0)
    blocks = corrupt(fine, "pixelate", 2, example=0)  # ImageNet-C: half the side, pairs are mixed
    np.testing.assert_array_equal(np.unique(blocks), [100])


def test_blurs_keep_a_flat_picture_and_the_centre():
    flat = np.full((32, 32, 1), 77, np.uint8)
    point = np.zeros((33, 33, 1), np.uint8)
    point[16, 16] = 255
    for name in ("defocus_blur", "zoom_blur"):
        np.testing.assert_array_equal(corrupt(flat, name, 5, example=0), flat)
        blurred = corrupt(point, name, 5, example=0)[..., 0]
        np.testing.assert_array_equal(blurred, blurred[::-1, ::-1])
        assert blurred[16, 16] == blurred.max()  # the centre stays
    spot = corrupt(point, "defocus_blur", 4, example=0)[..., 0]  # a disk of radius 1: five pixels
    np.testing.assert_array_equal(spot[15:18, 15:18] > 40, [[0, 1, 0], [1, 1, 1], [0, 1, 0]])


def test_jpeg_is_pillows(tmp_path):
    Image.fromarray(COLOUR).save(tmp_path / "x.jpg", quality=40)
    with Image.open(tmp_path / "x.jpg") as picture:
        expected = np.asarray(picture)
    np.testing.assert_array_equal(corrupt(COLOUR, "jpeg_compression", 5, example=0), expected)


def test_the_plan_names_what_is_wrong():
    plan = planned(["contrast", "fgsm"], [5, 1], [2])
    assert list(map(str, plan)) == ["contrast 1", "contrast 5", "fgsm 2/255"]
    assert len(planned([], [1, 3, 5], [1, 2, 4, 8])) == 4 + 3 * len(CORRUPTIONS)
    with pytest.raises(UserError, match="perturbation 'contarst' is unknown — did you mean 'contr"):
        planned(["contarst"], [1], [1])
    with pytest.raises(UserError, match="severity 6 of contrast does not exist; give 1 to 5"):
        planned(["contrast"], [6], [1])
    with pytest.raises(UserError, match="epsilon 0"):
        planned(["fgsm"], [1], [0])


def test_fgsm_takes_an_epsilon_for_each_image_and_raises_the_loss():
    images = jax.random.normal(jax.random.key(0), (2, 4, 4, 3)) / 4
    statistics = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}

    def loss(x, labels):
        return jnp.sum(jnp.sin(3 * x), (1, 2, 3))

    labels = jnp.zeros(2, int)
    both = fgsm(loss, images, labels, epsilon=jnp.array([0.01, 0.02]), **statistics)
    alone = fgsm(loss, images, labels, epsilon=0.02, **statistics)
    np.testing.assert_allclose(jnp.abs(both - images).max((1, 2, 3)), [0.02, 0.04], atol=1e-6)
    np.testing.assert_array_equal(both[1], alone[1])
    assert (loss(both, labels) > loss(images, labels)).all()
    grey = fgsm(
        lambda x, _: loss(x, _) - x[..., 0].sum((1, 2)), images, labels, grey=True, **statistics
    )
    moved = grey - images
    np.testing.assert_allclose(moved, moved[..., :1].repeat(3, axis=-1), atol=1e-6)


@pytest.fixture(scope="module")
def loaded(tiny_config, trained):
    return load_run(tiny_config, trained)


@pytest.fixture(scope="module")
def observed(loaded):
    """An observer as the modes make it, a batch, and the clean look at it."""
    session = Session(loaded, "test", 8)
    observer, batch = Observer.of(session), next(session.batches())
    seen = jax.device_get(observer.look(session.variables, batch))
    return observer, session.variables, batch, seen


def test_an_attack_costs_confidence_and_freezes_the_class(observed):
    observer, variables, batch, clean = observed
    batch = batch | {"label": clean["predicted"]}
    seen = jax.device_get(observer.look(variables, batch, clean["class"], Perturbation("fgsm", 8)))
    moved = np.abs(seen["image"] - clean["image"]).max()
    assert 0 < moved <= 8 / 255 / min(DATASETS["cluttered_digits"].std) + 1e-5
    kept = seen["predicted"] == clean["predicted"]
    assert (seen["confidence"][kept] < clean["confidence"][kept]).all()
    np.testing.assert_array_equal(seen["class"], clean["class"])
    assert not np.array_equal(seen["maps"]["random"], clean["maps"]["random"])


def test_an_image_is_corrupted_alike_whatever_its_batch(observed):
    observer, variables, batch, _ = observed
    what = Perturbation("impulse_noise", 5)
    turned = {k: v[::-1] for k, v in batch.items()}
    a, b = (jax.device_get(observer.look(variables, x, None, what)) for x in (batch, turned))
    np.testing.assert_array_equal(a["image"], b["image"][::-1])
    np.testing.assert_array_equal(a["maps"]["random"], b["maps"]["random"][::-1])


def test_robustness_leaves_numbers_and_a_picture(trained, loaded, capsys):
    session, plan = Session(loaded, "test", 8), planned(["fgsm", "contrast"], [5], [8])
    assert robustness.run(session, plan) == 0
    out = capsys.readouterr().out
    assert "contrast 5" in out and "fgsm 8/255" in out and "(gaussian)" in out
    result = json.loads((trained / "results" / "robustness.json").read_text())
    found = result["perturbations"]
    assert list(found) == ["clean", "fgsm 8/255", "contrast 5"] and result["images"] == 8
    for what, row in found.items():
        assert list(row["methods"]) == ["own", "grad_cam", *TRIVIAL]
        assert row["network"]["accuracy"]["n"] == 8
        still = row["methods"]["gaussian"]["statistics"]["iou"]
        assert still["value"] == 1 and still["chance"] == 1 and still["adjusted"] is None
        own = row["methods"]["own"]["statistics"]["spearman"]
        assert own["low"] <= own["value"] <= own["high"]
        assert (own["value"] == pytest.approx(1, abs=1e-6)) == (what == "clean")
        noise = row["methods"]["random"]["statistics"]["spearman"]["value"]
        assert (noise > 0.99) == (what == "clean")
    assert found["clean"]["network"]["changed"]["value"] == 0
    with (trained / "results" / "robustness.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * (2 + 6 * 3)
    assert {r["measure"] for r in rows if not r["method"]} == {"accuracy", "changed"}
    with Image.open(trained / "results" / "robustness.png") as picture:
        width, height = picture.size
    assert width > 300 and height > 300


def test_robustness_counts_maps_that_are_not_finite(loaded):
    broken = jax.tree.map(lambda leaf: leaf * np.nan, dict(loaded.variables))
    session = Session(replace(loaded, variables=broken), "test", 8)
    found = robustness.robustness(session, [Perturbation("contrast", 5)])["perturbations"]
    assert "not finite maps: own up to 8 (clean)" in robustness.told(found)
    own = found["contrast 5"]["methods"]["own"]
    assert own["not_finite"] == 8 and own["statistics"]["iou"]["n"] == 0


def test_sanity_goes_down_the_network(trained, loaded, capsys):
    assert sanity.run(Session(loaded, "test", 8)) == 0
    out = capsys.readouterr().out
    assert "trunk/stem" in out and "(mean_features)" in out
    stages = json.loads((trained / "results" / "sanity.json").read_text())["stages"]
    assert list(stages)[:2] == ["head", "classifier"] and list(stages)[-1] == "trunk/stem"

    def spearman(stage, method):
        return stages[stage]["methods"][method]["statistics"]["spearman"]["value"]

    # LFI's map asks no class: a fresh classifier changes Grad-CAM's map and not its own
    assert spearman("classifier", "own") == pytest.approx(1, abs=1e-6)
    assert spearman("classifier", "grad_cam") < 0.95
    assert spearman("trunk/stem", "own") < 0.95
    assert spearman("trunk/stem", "random") == pytest.approx(1, abs=1e-6)  # no network in it
    assert (trained / "results" / "sanity.png").stat().st_size > 10_000
    assert (trained / "results" / "sanity.csv").stat().st_size > 1000


def test_every_backbone_is_randomised_from_the_top_down():
    densenet = dict.fromkeys(["stem", "stage1", "transition1", "stage2", "transition2"], {})
    params = {"trunk": densenet, "last_stage": {}, "final": {}, "classifier": {}}
    stages = [name for name, _ in cascade({"params": params}, {"params": params})]
    assert stages[:3] == ["classifier", "final", "last_stage"]
    down = ["transition2", "stage2", "transition1", "stage1", "stem"]
    assert stages[3:] == [f"trunk/{name}" for name in down]


def test_summaries_tables_and_csv_by_hand(tmp_path):
    half = summarise({"iou": np.array([0.5, 0.5, np.nan])}, {"iou": np.array([0.2, 0.0, 0.1])})
    assert half["iou"]["n"] == 2 and half["iou"]["value"] == 0.5 and half["iou"]["low"] == 0.5
    assert half["iou"]["adjusted"] == pytest.approx((0.5 - 0.1) / 0.9)
    never = summarise({"iou": np.full(3, np.nan)})
    found = {
        "clean": {"network": {}, "methods": {"own": {"constant": 0, "not_finite": 0,
                                                     "statistics": half}}},
        "fog 1": {"network": {}, "methods": {"own": {"constant": 3, "not_finite": 1,
                                                     "statistics": never}}},
    }  # fmt: skip
    lines = table(found, ["iou"]).splitlines()
    assert lines[:3] == ["iou             own", "clean  0.500 (0.10)", "fog 1             -"]
    assert "constant maps: own up to 3 (fog 1)" in lines
    assert "not finite maps: own up to 1 (fog 1)" in lines
    write_csv(tmp_path / "x.csv", found)
    assert (
        (tmp_path / "x.csv").read_text().splitlines()[1].startswith("clean,own,iou,0.5,0.5,0.5,2")
    )


def test_the_table_in_the_docs_is_the_one_that_is_used():
    lines = Path("docs/measures.md").read_text().splitlines()
    for name, (small, large, _) in CORRUPTIONS.items():
        (line,) = [line for line in lines if line.startswith(f"| `{name}` |")]
        for cell, parameters in zip(line.split("|")[3:5], (small, large), strict=True):
            told = [[float(v) for v in word.split("/")] for word in cell.split()]
            used = [np.atleast_1d(p).tolist() for p in parameters]
            if name == "zoom_blur":  # whose step is told in words
                used = [pair[:1] for pair in used]
            assert told == used
