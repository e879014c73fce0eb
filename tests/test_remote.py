"""A workdir in a bucket. fsspec's store in memory stands for it: same calls, no network."""

import contextlib
import copy
import threading
from pathlib import Path

import fsspec
import numpy as np
import pytest

import lficam_jax
from lficam_jax.devices import interrupt
from lficam_jax.devices.interrupt import Interrupted
from lficam_jax.errors import UserError
from lficam_jax.measure import stability
from lficam_jax.training.experiment import load_run
from lficam_jax.training.train import train
from lficam_jax.training.transfer import start_from
from lficam_jax.workdir.remote import Mirror, fetched, mirrored

STORE = fsspec.filesystem("memory")


@pytest.fixture(autouse=True)
def empty():
    yield
    STORE.store.clear()


def weights(config, workdir):
    return load_run(config, workdir, step=4).variables["params"]["classifier"]["kernel"]


def test_a_folder_is_worked_in_as_it_is(tmp_path):
    with mirrored(str(tmp_path)) as here:
        assert here == str(tmp_path)
    with mirrored(None) as here:
        assert here is None


def test_a_run_in_a_bucket_goes_on_from_where_another_machine_left_it(tiny, tmp_path, monkeypatch):
    whole = copy.deepcopy(tiny)
    train(whole, tmp_path)

    monkeypatch.setattr(interrupt.Interruption, "at", lambda self, step: 15 if step == 2 else None)
    with pytest.raises(Interrupted), mirrored("memory://bucket/run") as here:
        train(tiny, here)
    left = STORE.find("/bucket/run")
    assert not any("orbax-checkpoint-tmp" in name for name in left)
    assert {n.split("/")[4] for n in left if "/checkpoints/" in n} == {"2"}
    monkeypatch.undo()

    with mirrored("memory://bucket/run") as here:  # an empty folder, as on a new machine
        result = train(tiny, here)
        assert result["resumed_at_step"] == 2
        np.testing.assert_array_equal(weights(whole, tmp_path), weights(tiny, here))
    assert STORE.exists("/bucket/run/results/train.json")
    fresh = load_run(tiny, tmp_path).variables
    tiny.data.classes = tuple("0123456789")
    started = start_from("memory://bucket/run/checkpoints/4", fresh, tiny.data)
    np.testing.assert_array_equal(
        started["params"]["classifier"]["kernel"], weights(whole, tmp_path)
    )


def test_what_changes_and_what_goes_reaches_the_bucket(tmp_path):
    with mirrored("memory://bucket/run", every=0.01) as here:
        folder = Path(here)
        (folder / "metrics.jsonl").write_text("one\n")
        (folder / ".partial").write_text("not yet")
        step = folder / "checkpoints" / "1"
        step.mkdir(parents=True)
        (step / "model").write_text("weights")
        wait_for(lambda: STORE.exists("/bucket/run/checkpoints/1/model"))
        (folder / "metrics.jsonl").write_text("one\ntwo\n")
        (step / "model").unlink()
        wait_for(lambda: STORE.cat("/bucket/run/metrics.jsonl") == b"one\ntwo\n")
    assert STORE.find("/bucket/run") == ["/bucket/run/metrics.jsonl"]
    with fetched("memory://bucket/run") as copied:
        assert (Path(copied) / "metrics.jsonl").read_text() == "one\ntwo\n"


def wait_for(come):
    for _ in range(3000):
        with contextlib.suppress(FileNotFoundError):  # not there yet
            if come():
                return
        threading.Event().wait(0.01)
    raise AssertionError("it did not come within half a minute")


def test_a_store_that_fails_for_a_while_is_tried_again(monkeypatch, capsys):
    failures = iter([OSError("no route to host")])
    put = type(STORE).put_file

    def flaky(self, *args, **kwargs):
        for error in failures:
            raise error
        return put(self, *args, **kwargs)

    monkeypatch.setattr(type(STORE), "put_file", flaky)
    with mirrored("memory://bucket/run", every=0.01) as here:
        with open(f"{here}/a", "w") as file:
            file.write("kept")
        wait_for(lambda: STORE.exists("/bucket/run/a"))
    assert STORE.cat("/bucket/run/a") == b"kept"
    assert "no route to host" in capsys.readouterr().err


def test_a_store_that_cannot_be_used_is_told(monkeypatch):
    with pytest.raises(UserError, match="nowhere"), mirrored("nowhere://b/run"):
        pass
    with pytest.raises(UserError, match="holds nothing"), fetched("memory://bucket/none"):
        pass

    def absent(url):
        raise ImportError("Please install gcsfs")

    monkeypatch.setattr(fsspec.core, "url_to_fs", absent)
    with pytest.raises(UserError, match=r"pip install '\.\[gcs\]'"), mirrored("gs://b/run"):
        pass


@pytest.mark.parametrize(
    "name",
    ["../../outside.txt", "..", "a/../../x", "/etc/x", "a//b", "./a", "a/.", "a\0b"],
)
def test_an_object_whose_name_leaves_the_folder_is_refused_with_all_others(tmp_path, name):
    STORE.pipe("/bucket/run/config.json", b"{}")
    STORE.store[f"/bucket/run/{name}"] = STORE.store["/bucket/run/config.json"]
    for reads in (fetched, mirrored):
        with pytest.raises(UserError, match="no name of a file inside a folder") as told:
            with reads("memory://bucket/run"):
                pass
        assert "\n" not in str(told.value)
    local = tmp_path / "deep" / "copy"
    with pytest.raises(UserError):
        Mirror("memory://bucket/run", local).pull()
    assert not [*tmp_path.iterdir()]


def test_init_from_and_runs_refuse_such_names(tiny, trained, tmp_path):
    STORE.pipe("/bucket/run/config.json", (trained / "config.json").read_bytes())
    STORE.pipe("/bucket/run/checkpoints/../../../x", b"")
    fresh = load_run(tiny, trained).variables
    with pytest.raises(UserError, match="no name of a file"):
        start_from("memory://bucket/run", fresh, tiny.data)
    with pytest.raises(UserError, match="no name of a file"):
        stability.run(["memory://bucket/run", str(trained)], tmp_path, split="test", limit=1)
    with pytest.raises(UserError, match="no name of a file"):
        lficam_jax.load("memory://bucket/run")


def test_what_is_hidden_or_stands_for_a_folder_stays_in_the_bucket():
    """An older version kept compiled programs there, which jax loads unchecked."""
    for name in ("config.json", ".jax_cache/jit_step", "a/.b/c", ".lease", "folder/"):
        STORE.pipe("/bucket/run/" + name.rstrip("/"), b"x")
    STORE.store["/bucket/run/folder/"] = STORE.store.pop("/bucket/run/folder")
    with fetched("memory://bucket/run") as here:
        assert [p.name for p in Path(here).rglob("*")] == ["config.json"]
