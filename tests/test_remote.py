"""A workdir in a bucket. fsspec's store in memory stands for it: same calls, no network."""

import copy
import threading
from pathlib import Path

import fsspec
import numpy as np
import pytest

from lficam_jax.devices import interrupt
from lficam_jax.devices.interrupt import Interrupted
from lficam_jax.errors import UserError
from lficam_jax.training.experiment import load_run
from lficam_jax.training.train import train
from lficam_jax.training.transfer import start_from
from lficam_jax.workdir.remote import fetched, mirrored

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
    for _ in range(500):
        if come():
            return
        threading.Event().wait(0.01)
    raise AssertionError("it did not come within five seconds")


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
