"""Results: whole or not at all, strict JSON, and each says where it comes from."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lficam_jax
from lficam_jax.errors import UserError
from lficam_jax.workdir import origin
from lficam_jax.workdir.results import write_file, write_result


def read(path):
    """A result, with and without where it comes from."""
    result = json.loads(path.read_text(), parse_constant=pytest.fail)
    return result, {name: value for name, value in result.items() if name != "made_by"}


def test_a_result_is_replaced_whole(tmp_path):
    write_result(tmp_path, "evaluate", {"accuracy": 0.5})
    path = write_result(tmp_path, "evaluate", {"per_class": np.array([1, 0.5]), "where": tmp_path})
    assert path == tmp_path / "results" / "evaluate.json"
    assert read(path)[1] == {"per_class": [1, 0.5], "where": str(tmp_path)}
    assert [entry.name for entry in path.parent.iterdir()] == ["evaluate.json"]


def test_a_result_that_cannot_be_written_leaves_the_old_one(tmp_path):
    path = write_result(tmp_path, "train", {"step": 1})
    with pytest.raises(TypeError):
        write_result(tmp_path, "train", {"step": object()})
    assert read(path)[1] == {"step": 1}


@pytest.mark.parametrize("bad", [float("nan"), np.float32("inf"), jnp.float32("-inf")])
def test_a_non_finite_number_is_null_because_json_has_no_word_for_it(tmp_path, bad):
    path = write_result(tmp_path, "train", {"loss": [bad, 1.0], "test": {"loss": bad}})
    assert read(path)[1] == {"loss": [None, 1.0], "test": {"loss": None}}


def test_a_workdir_that_cannot_be_made_is_one_line_that_names_the_path(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot write .*file.*train.json"):
        write_result(tmp_path / "file", "train", {})


def test_a_file_that_cannot_be_finished_leaves_the_old_one_and_no_debris(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(28, "No space left on device")

    path = write_file(tmp_path / "new" / "model.onnx", b"first")
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UserError, match="cannot write .*model.onnx: No space left"):
        write_file(path, "second")
    assert path.read_text() == "first" and [p.name for p in path.parent.iterdir()] == ["model.onnx"]


def test_only_process_0_writes(tmp_path, monkeypatch):
    monkeypatch.setattr("jax.process_index", lambda: 1)
    write_result(tmp_path / "run", "train", {})
    assert not (tmp_path / "run").exists()


def test_a_result_says_when_how_of_what_and_on_what_it_was_made(tmp_path, tiny, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["main.py", "--workdir", "runs/a b"])
    monkeypatch.setattr(
        sys, "orig_argv", ["/v/bin/python", "-m", "lficam_jax.main", "--workdir", "runs/a b"]
    )
    tiny.seed = 3
    made = read(write_result(tmp_path, "evaluate", {}, tiny))[0]["made_by"]
    age = datetime.now(UTC) - datetime.fromisoformat(made["date"])
    assert timedelta(seconds=-2) < age < timedelta(minutes=1)
    assert made["command"] == "python -m lficam_jax.main --workdir 'runs/a b'"
    assert made["seed"] == 3 and made["config"]["train"]["batch_size"] == 16
    assert made["versions"]["jax"] == jax.__version__
    assert made["versions"]["lficam_jax"] == lficam_jax.__version__
    device = {"platform": "cpu", "device_kind": "cpu", "device_count": 8, "process_count": 1}
    assert device.items() <= made["hardware"].items()
    assert made["hardware"]["cpu"] and made["hardware"]["cpu_count"] >= 1


def test_without_a_config_there_is_no_seed(tmp_path):
    made = read(write_result(tmp_path, "stability", {}))[0]["made_by"]
    assert made["config"] is None and made["seed"] is None


def test_arguments_that_a_program_set_are_the_command(monkeypatch):
    """As IPython's %run does, whose own command line says nothing."""
    monkeypatch.setattr(sys, "argv", ["lficam_jax/main.py", "--workdir", "a"])
    monkeypatch.setattr(sys, "orig_argv", ["python", "/usr/bin/ipython"])
    assert origin.command() == "lficam_jax/main.py --workdir a"


def test_the_installed_command_is_told_by_its_name(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/opt/venv/bin/lficam", "train", "--workdir", "a b"])
    assert origin.command() == "lficam train --workdir 'a b'"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The package as if it lay in `tmp_path/lficam_jax`."""
    file = tmp_path / "lficam_jax" / "__init__.py"
    file.parent.mkdir()
    file.write_text("")
    monkeypatch.setattr(lficam_jax, "__file__", str(file))
    origin.commit.cache_clear()
    yield file
    origin.commit.cache_clear()


def git(folder, *words):
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    command = ["git", "-C", str(folder), *who, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_an_installed_package_has_no_commit_and_asks_no_git(package, monkeypatch):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("git was started"))
    assert origin.commit() is None


def test_a_checkout_names_its_commit_and_whether_the_package_was_changed(package):
    root = package.parents[1]
    git(root, "init", "-q")
    git(root, "add", ".")
    git(root, "commit", "-qm", "one")
    (root / "runs").mkdir()
    (root / "runs" / "mine").write_text("beside the package, so it changes nothing")
    assert origin.commit() == {"hash": git(root, "rev-parse", "HEAD"), "modified": False}
    package.write_text("changed = True")
    origin.commit.cache_clear()
    assert origin.commit()["modified"]


def test_where_git_is_absent_a_checkout_has_no_commit(package, monkeypatch):
    (package.parents[1] / ".git").mkdir()
    monkeypatch.setenv("PATH", "")
    assert origin.commit() is None
