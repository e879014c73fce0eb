"""A network as weights and config, and back; and the one that the package brings."""

import json

import jax
import numpy as np
import pytest

import lficam_jax as lfi
from lficam_jax.interop.export import weights
from lficam_jax.interop.export.weights import find_weights, save_weights
from lficam_jax.interop.pretrained import find


@pytest.fixture
def saved(run, tmp_path):
    path = tmp_path / "mine" / "model.safetensors"
    save_weights(run, path)
    return path


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (2, 40, 60, 3), dtype=np.uint8)


def test_what_was_saved_answers_as_the_run_does(run, saved, pixels):
    for place in (saved, str(saved), saved.parent):  # the file, or its folder
        again = lfi.load(place)
        assert again.classes == run.classes
        same = jax.tree.map(np.array_equal, dict(run.variables), dict(again.variables))
        assert jax.tree.all(same)
    ours, theirs = run.predict(pixels), again.predict(pixels)
    np.testing.assert_array_equal(ours.probabilities, theirs.probabilities)
    np.testing.assert_array_equal(ours.maps, theirs.maps)


def test_the_files_are_as_others_read_them(run, saved):
    told = json.loads((saved.parent / "config.json").read_text())
    assert told["config"]["data"]["dir"] == ""  # nothing of this machine travels
    data = saved.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    kernel = header["params/classifier/kernel"]
    start, end = (8 + length + n for n in kernel["data_offsets"])
    array = np.frombuffer(data[start:end], np.float32).reshape(kernel["shape"])
    np.testing.assert_array_equal(array, run.variables["params"]["classifier"]["kernel"])
    assert header["__metadata__"] and (8 + length) % 8 == 0


@pytest.mark.crosscheck
def test_the_safetensors_package_reads_them(run, saved):
    numpy = pytest.importorskip("safetensors.numpy")
    found = numpy.load_file(saved)
    kernel = run.variables["params"]["classifier"]["kernel"]
    np.testing.assert_array_equal(found["params/classifier/kernel"], kernel)


def _cut(path):
    path.write_bytes(path.read_bytes()[:-4])


def _alone(path):
    (path.parent / "config.json").unlink()


def _other(path):
    beside = path.parent / "config.json"
    told = json.loads(beside.read_text())
    told["config"]["model"]["depth"] = 14
    beside.write_text(json.dumps(told))


def _key(path):
    beside = path.parent / "config.json"
    beside.write_text(beside.read_text().replace("init_from", "nit_from"))


def _deep(path):
    (path.parent / "config.json").write_text("[" * 100_000)


def _no_step(path):
    beside = path.parent / "config.json"
    beside.write_text(json.dumps(json.loads(beside.read_text()) | {"step": "last"}))


def _no_classes(path):
    beside = path.parent / "config.json"
    told = json.loads(beside.read_text())
    told["config"]["data"]["classes"] = None
    beside.write_text(json.dumps(told))


def _none(path):
    (path.parent / "config.json").write_text("{}")


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (_cut, "SHA-256 differs"), (_alone, "config.json is missing"),
        (_other, "weights of another network"), (_none, "is it of an export"),
        (_key, r"config.json: .?Key .nit_from. does not exist.{,300}$"),
        (_deep, "is it of an export"), (_no_step, "step .*'last' must be a whole number"),
        (_no_classes, "data.classes is None, which no key may be"),
    ],
)  # fmt: skip
def test_damage_is_told_in_a_line(harm, told, saved):
    harm(saved)
    with pytest.raises(lfi.UserError, match=told) as error:
        lfi.load(saved)
    assert "\n" not in str(error.value)


def test_an_export_takes_the_place_of_a_link_and_does_not_follow_it(run, tmp_path):
    """Its folder, without a run, is called like the network: of a file without the ending."""
    (tmp_path / "model.safetensors").symlink_to(tmp_path / "elsewhere")
    save_weights(run, tmp_path / "model.safetensors")
    assert not (tmp_path / "elsewhere").exists()
    again = lfi.load(tmp_path / "model.safetensors")
    assert (again.slug, lfi.load("cluttered_digits").slug) == ("model", "cluttered_digits")


def test_the_config_of_a_run_is_never_replaced(run, trained):
    before = (trained / "config.json").read_text()
    with pytest.raises(lfi.UserError, match="not of an export"):
        save_weights(run, trained / "model.safetensors")
    assert (trained / "config.json").read_text() == before
    assert not (trained / "model.safetensors").exists()


def test_the_package_brings_a_network_that_knows_digits(digits, monkeypatch, tmp_path):
    """No training, no network: the 50 test images of the small set, which it never saw."""
    monkeypatch.chdir(tmp_path)
    network = lfi.load("cluttered_digits", data={"dir": str(digits)})
    assert network.workdir is None and network.name == "cluttered_digits"
    assert find_weights("cluttered_digits").stat().st_size < 1e6
    from lficam_jax.data.sample import Sample

    sample = Sample(network.config.data, "test", 50)
    (batch,) = sample.batches(50)
    told = network.predict(batch["image"])
    assert (told.probabilities.argmax(axis=1) == batch["label"]).mean() > 0.9
    assert told.maps.shape == (50, 12, 12)


def test_a_folder_of_that_name_is_not_looked_past(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cluttered_digits" / "checkpoints").mkdir(parents=True)
    with pytest.raises(lfi.UserError, match="holds no run"):
        lfi.load("cluttered_digits")


def test_everything_that_can_be_loaded_is_listed():
    listed = {row.name: row for row in lfi.list_models()}
    assert {"cluttered_digits", "efficientnet_lite0", "torchvision:resnet50"} <= {*listed}
    assert 0 < listed["cluttered_digits"].megabytes < 1
    assert all(row.megabytes > 0 for row in lfi.list_models())
    assert "0.9 MB" in str(lfi.list_models()) and len(lfi.list_models()) == len(listed)
    assert lfi.list_models()[0].name == "cluttered_digits"
    assert set(weights.SHIPPED) <= {*listed}


def test_a_misspelt_name_is_told_the_nearest():
    with pytest.raises(lfi.UserError, match="did you mean 'cluttered_digits'"):
        lfi.load("clutered_digits")


def test_the_name_of_a_shipped_network_is_no_folder_that_its_page_was_written_to(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cluttered_digits" / "export").mkdir(parents=True)
    assert lfi.load("cluttered_digits").name == "cluttered_digits"
    with pytest.raises(lfi.UserError, match="did you mean 'cluttered_digits'"):
        find("cluttered_digit")
