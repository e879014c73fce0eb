"""What `import lficam_jax as lfi` offers: three lines from a run to an overlay."""

import doctest
import gc
import inspect
import json
import os
import resource
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

import lficam_jax as lfi


@pytest.fixture(scope="module")
def photo(tmp_path_factory):
    """A photograph in colours, of a size that the network does not have."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    path = tmp_path_factory.mktemp("photos") / "photo.png"
    Image.fromarray(pixels).save(path)
    return path, pixels


def test_importing_starts_nothing():
    code = (
        "import sys, lficam_jax; print([m for m in ('jax', 'flax', 'orbax') if m in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


def test_every_public_name_is_there_and_documented_with_an_example():
    for name in lfi.__all__:
        value = getattr(lfi, name)
        assert value.__doc__ and not value.__doc__.startswith(f"{name}("), name
        if name not in ("UserError", "train"):  # an exception; and a program of minutes
            examples = doctest.DocTestFinder().find(value, name, globs={})
            assert any(test.examples for test in examples), name
    assert set(lfi.__all__) <= set(dir(lfi))
    with pytest.raises(AttributeError, match="no attribute 'explian'"):
        lfi.explian  # noqa: B018


def test_a_run_knows_its_network_and_classes(run, trained):
    assert run.classes == tuple("0123456789") and run.step == 0
    assert repr(run) == (
        f"Run({str(trained)!r}: cifar_resnet-8 with lfi head, step 0, 10 classes: 0, 1, 2, …)"
    )


def test_a_path_becomes_an_overlay_and_a_folder(run, photo, tmp_path):
    e = run.explain(str(photo[0]))
    assert len(e) == 1 and e[0].name == str(photo[0]) and e[0].map.shape == (4, 4)
    assert e[0].overlay().size == (360, 240)  # the original, 60 x 40, six times
    page = e.save(tmp_path / "out")
    assert page.name == "index.html"
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["images"][0]["id"] == "photo.png"
    assert manifest["details"]["model"] == "cifar_resnet-8 with lfi head"


def alike(run, one, other):
    first, second = run.explain(one)[0], run.explain(other)[0]
    np.testing.assert_allclose(first.map, second.map, atol=1e-5)
    np.testing.assert_allclose(first.probabilities, second.probabilities, atol=1e-5)


def test_every_way_to_say_the_same_image_means_the_same(run, photo):
    path, pixels = photo
    with Image.open(path) as picture:
        for same in (
            picture, pixels, pixels.transpose(2, 0, 1), pixels[None], [pixels], pixels / 255,
            pixels.tolist(),
            (pixels / 255).astype(np.float32), pixels.astype(np.int64), jax.numpy.asarray(pixels),
            np.concatenate([pixels, np.full((40, 60, 1), 255, np.uint8)], axis=-1),
            picture.convert("RGBA"), path, str(path), path.parent, f"{path.parent}/*.png",
        ):  # fmt: skip
            alike(run, path, same)


def test_grey_is_repeated_and_clear_pixels_lie_on_white(run):
    grey = np.random.default_rng(0).integers(0, 256, (48, 48), np.uint8)
    for same in (grey[..., None], grey[None], grey / 255, grey.astype(np.uint16) * 257):
        alike(run, grey, same)
    alike(run, grey, np.repeat(grey[..., None], 3, axis=-1))
    alike(run, grey > 99, np.where(grey > 99, 255, 0))
    clear = np.zeros((48, 48, 4), np.uint8)
    assert (run.explain(clear)[0].picture == 255).all()
    assert (run.explain(Image.fromarray(clear, "RGBA"))[0].picture == 255).all()


def test_images_of_several_sizes_and_kinds_in_one_list(run, photo):
    e = run.explain([photo[0], np.zeros((9, 7, 3), np.uint8), np.zeros((2, 8, 8, 3))])
    assert [item.name for item in e] == [str(photo[0]), "1", "2", "3"]


def test_normalised_floats_are_taken_as_they_are(run):
    pixels = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    mean, std = np.array(run.dataset.mean), np.array(run.dataset.std)
    fed = (pixels / 255 - mean) / std
    plain, normalised = run.explain(pixels), run.explain(fed, normalised=True)
    for one, other in zip(plain, normalised, strict=True):
        np.testing.assert_allclose(one.map, other.map, atol=1e-4)
        np.testing.assert_array_equal(one.picture, other.picture)


NAN = np.full((8, 8, 3), np.nan)
BAD = [
    ([], "there is no image"),
    (np.zeros((0, 8, 8, 3), np.uint8), "there is no image"),
    (NAN, "NaN"),
    (np.zeros((8, 8, 3)) + 2.6, r"must lie in 0\.\.1; these lie in 2.6"),
    (np.zeros((8, 8, 3)) - 2.6, "normalised=True"),
    (np.full((8, 8, 3), 999), r"must lie in 0\.\.255"),
    (np.zeros((8, 8, 5), np.uint8), r"has the shape \[8, 8, 5\]"),
    (np.zeros((2, 2, 8, 8, 3), np.uint8), "has the shape"),
    (np.zeros(8, np.uint8), "has the shape"),
    (np.zeros((0, 8, 3), np.uint8), "has the shape"),
    (np.zeros((8, 8), complex), "numbers"),
    ([np.zeros((8, 8, 3), np.uint8), None], "image 1 is a NoneType"),
    ({"a": 1}, "image 0 is a dict"),
    ([[1, 2], [3]], "image 0"),
    ("", "an empty name"),
    ("no/such/file.png", "no image found"),
]


@pytest.mark.parametrize(("images", "says"), BAD, ids=[str(i) for i in range(len(BAD))])
def test_what_is_no_image_is_told(run, images, says):
    with pytest.raises(lfi.UserError, match=says):
        run.explain(images)


ONE = np.zeros((8, 8, 3), np.uint8)
ASKED = [
    ({"target": "seven"}, "target: class 'seven' is unknown"),
    ({"target": 10, "method": "cam"}, "target: class 10 does not exist; classes are 0 to 9"),
    ({"target": -1, "method": "cam"}, "target: class -1 does not exist"),
    ({"target": [1, 2]}, "target has 2 entries for 1 images"),
    ({"target": 1.5}, "a class's name or number, not 1.5"),
    ({"target": True}, "a class's name or number"),
    ({"labels": [1, 2]}, "labels has 2 entries"),
    ({"labels": [11]}, "labels: class 11"),
    ({"names": []}, "names has 0 entries for 1 images"),
    ({"method": "gradcam"}, "did you mean 'grad_cam'"),
    ({"normalised": True, "images": "a.png"}, "normalised=True is for arrays"),
    ({"normalised": True, "images": NAN}, "NaN"),
    ({"normalised": True}, "these are uint8; leave out normalised=True"),
    ({"target": [None]}, "a class for each image"),
    ({"batch_size": 0}, "batch_size=0 must be a whole number, 1 at least"),
    ({"batch_size": "8"}, "batch_size='8'"),
    ({"chunk_size": 2.0}, "chunk_size=2.0"),
]


@pytest.mark.parametrize(("asked", "says"), ASKED, ids=[str(i) for i in range(len(ASKED))])
def test_what_cannot_be_asked_is_told(run, asked, says):
    with pytest.raises(lfi.UserError, match=says):
        run.explain(**{"images": ONE, **asked})


def test_without_a_run_the_preprocessing_must_be_said(run):
    with pytest.raises(lfi.UserError, match="image_size=….*, or normalised=True"):
        lfi.explain(run.model, run.variables, ONE)
    e = lfi.explain(run.model, run.variables, ONE, preprocess=run.dataset, target="3",
                    classes=run.classes, method="grad_cam")  # fmt: skip
    assert e[0].class_index == 3
    fed = lfi.Preprocess(image_size=16, mean=run.dataset.mean, std=run.dataset.std)
    mine = lfi.explain(run.model, run.variables, ONE, preprocess=fed, target=3, method="grad_cam")
    np.testing.assert_array_equal(mine[0].map, e[0].map)
    with pytest.raises(lfi.UserError, match="names 2 classes, but the network tells 10 apart"):
        lfi.explain(run.model, run.variables, ONE, preprocess=run.dataset, classes=("a", "b"))


def test_several_methods_show_themselves_in_a_notebook(run, photo):
    e = run.explain([photo[0], ONE], method=["own", "grad_cam"], labels=["3", None])
    assert e.methods == ["own", "grad_cam"] and len(e) == 4 and len(e.images) == 2
    assert e[0].label == 3 and e[-1].label is None and len(e[1:3]) == 2
    assert "2 images, maps: own, grad_cam" in repr(e) and "photo.png" in repr(e)
    html = e._repr_html_()
    assert html.count("<img") == 2 * 3 and "photo.png" in html and "data:image/png" in html
    assert len(repr(e[0])) < 100 and "photo.png" in repr(e[0]) and "<img" in e[0]._repr_html_()
    nasty = run.explain(ONE, names=["<script>alert(1)</script>"])._repr_html_()
    assert "<script>" not in nasty


def test_a_damaged_file_among_others_is_skipped_and_kept_in_mind(run, photo, tmp_path):
    (tmp_path / "torn.png").write_bytes(photo[0].read_bytes()[:50])
    e = run.explain([photo[0], tmp_path / "torn.png"])
    assert len(e) == 1 and e.skipped[0][0].endswith("torn.png") and "1 file skipped" in repr(e)
    with pytest.raises(lfi.UserError, match=r"none of the 1 files can be read"):
        run.explain(tmp_path / "torn.png")


def test_predictions_carry_probabilities_classes_and_maps(run, photo):
    found = run.predict([photo[0], ONE])
    assert (
        found.probabilities.shape == (2, 10) and found.maps.shape == (2, 4, 4) and len(found) == 2
    )
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1, rtol=1e-5)
    assert found.predicted == [run.classes[i] for i in found.probabilities.argmax(axis=1)]
    assert "photo.png" in repr(found)


def test_skipped_files_stay_with_slices_and_predictions(run, photo, tmp_path):
    (tmp_path / "torn.png").write_bytes(photo[0].read_bytes()[:50])
    e = run.explain([photo[0], tmp_path / "torn.png", ONE], method=["own", "cam"])
    assert len(e) == 4 and len(e.images) == 2
    assert e[2:].skipped == e.skipped and "torn.png" in e.skipped[0][0]
    found = run.predict([photo[0], tmp_path / "torn.png"])
    assert found.skipped == e.skipped and len(found) == 1
    assert repr(found).endswith("1 file skipped, see .skipped")


def test_the_class_is_named_where_a_map_is_for_another_than_the_predicted(run, photo):
    predicted = run.predict(photo[0]).predicted[0]
    other = next(name for name in run.classes if name != predicted)
    own, cam = run.explain(photo[0], method=["own", "cam"], target=other)
    assert (own.title, cam.title) == ("own", f"cam for '{other}'")
    assert f"cam for '{other}' map 4x4" in repr(cam)
    assert f">cam for &#x27;{other}&#x27;</figcaption>" in cam._repr_html_()
    (same,) = run.explain(photo[0], method="cam", target=predicted)
    assert same.title == "cam" and "for" not in repr(same)


def test_measures_are_rows_and_columns(run):
    found = run.measure(["own", "cam"], limit=8, measures=["deletion", "localisation"])
    assert list(found)[:2] == ["own", "cam"] and found.columns[0] == "deletion"
    assert found.rows[0]["method"] == "own" and not found.rows[0]["trivial"]
    low, high = found.interval("cam", "deletion")
    assert low <= found["cam"]["deletion"] <= high
    assert "deletion ↓" in repr(found) and "<table>" in found._repr_html_()
    with pytest.raises(lfi.UserError, match="did you mean 'deletion'"):
        run.measure(limit=8, measures="deltion")
    for asked, says in (
        ({"limit": 0}, "limit=0"), ({"target": "3"}, "target '3' is unknown"),
        ({"baseline": "white"}, "baseline 'white' is unknown"),
    ):  # fmt: skip
        with pytest.raises(lfi.UserError, match=says):
            run.measure(**{"limit": 8, **asked})


@pytest.fixture
def compiled():
    """Grows by one with each program that is compiled."""
    found = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: "backend_compile" in event and found.append(event)
    )
    return found


def test_a_second_measurement_compiles_nothing(run, compiled):
    asked = {"methods": "cam", "limit": 8, "measures": ["deletion", "adcc", "localisation"]}
    first = run.measure(**asked)
    compiled.clear()
    second = run.measure(**asked)
    assert not compiled and second.rows == first.rows
    run.measure(**asked, baseline="blur")  # another question: the listener does listen
    assert compiled


def test_a_second_call_compiles_nothing(run, photo, compiled):
    run.explain([photo[0], ONE], method=["own", "grad_cam"], target=3)
    compiled.clear()
    run.explain([ONE, photo[0]], method=["own", "grad_cam"], target=[1, 2])
    assert not compiled
    run.explain([ONE] * 3, method=["own"])  # another batch: the listener does listen
    assert compiled


def test_a_loop_over_images_does_not_grow(run):
    def used():
        gc.collect()
        return len(jax.live_arrays()), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    for _ in range(20):
        run.explain(ONE)
    arrays, memory = used()
    for _ in range(200):
        run.explain(ONE)
    after, grown = used()
    assert after <= arrays and grown - memory < 20_000  # kB; one image's features are 16


def test_a_folder_that_is_no_run_is_told(tmp_path):
    with pytest.raises(lfi.UserError, match="holds no run"):
        lfi.load(tmp_path)


def test_signatures_are_those_of_the_library(run):
    ours = set(inspect.signature(run.explain).parameters) - {"images"}
    assert ours <= set(inspect.signature(lfi.explain).parameters)


def test_a_pipe_among_pictures_is_passed_over(run, photo, tmp_path, capsys):
    """Reading one would wait for ever."""
    shutil.copy(photo[0], tmp_path / "a.png")
    os.mkfifo(tmp_path / "b.png")
    assert len(run.explain(tmp_path)) == 1
    assert "passed over" in capsys.readouterr().err
