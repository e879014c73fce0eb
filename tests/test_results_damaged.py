"""Files of a run that a disk, an editor or an older version spoilt: named, never a traceback.

What they said is measured again, or taken from elsewhere, or refused; a study goes on with the
other runs.
"""

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import strategies as st

from configs.cluttered_digits import get_config
from lficam_jax.config import as_json
from lficam_jax.data.division import from_csv
from lficam_jax.errors import UserError
from lficam_jax.explaining.run import _new
from lficam_jax.study import runs
from lficam_jax.study.formats import Table, to_csv
from lficam_jax.study.page import report
from lficam_jax.study.plan import default_study, plan
from lficam_jax.training.train import train
from lficam_jax.workdir.checkpoint import Checkpoints
from lficam_jax.workdir.folder import check, claim, read_config
from lficam_jax.workdir.metrics_file import MetricWriter
from lficam_jax.workdir.results import Unreadable, read_object, replacing
from tests.fuzz import damaged, fuzz, times
from tests.refused import refused

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "docs" / "results" / "first_edition" / "cluttered_digits.json"
DAMAGE = [b"", b"{}", b"[]", b"null", b"\xff\xfe{}", b'{"test": {}', b"[" * 10**5, b"folder"]


def put(path, content):
    if content == b"folder":
        path.mkdir()
    else:
        path.write_bytes(content)


@pytest.fixture
def finished(tmp_path):
    """The first run of a study, as it leaves its results."""
    study = default_study(get_config())
    run = plan(study)[0]
    here = runs.folder(tmp_path, run)
    (here / "results").mkdir(parents=True)
    split = {"accuracy": 0.5, "loss": 1.0}
    result = {"test": split, "validation": split, "best_step": 4, "step": 4, "seconds": 9.0}
    (here / "results" / "train.json").write_text(json.dumps(result))
    asked = {"asked": runs._asked(study, run), "seconds": 1.0}
    (here / "results" / "measures.json").write_text(json.dumps(asked))
    np.savez(here / "results" / "measures.npz", correct=np.ones(3), id=np.arange(3))
    return SimpleNamespace(study=study, run=run, here=here)


def done(run):
    return runs.trained(run.here) and runs.measured(run.here, run.study, run.run)


@pytest.mark.parametrize("name", ["train.json", "measures.json", "measures.npz"])
@pytest.mark.parametrize("content", DAMAGE)
def test_a_damaged_result_costs_a_study_that_run_alone(finished, name, content, capsys):
    assert done(finished)
    path = finished.here / "results" / name
    path.unlink()
    put(path, content)
    assert not done(finished)
    told = capsys.readouterr().err
    assert f"{path}" in told and "it counts as not there" in told and told.count("\n") == 1


def test_a_damaged_result_of_a_study_is_kept_and_measured_again(finished, monkeypatch):
    path = finished.here / "results" / "train.json"
    for n in ("", "-2"):
        path.write_text("{")
        monkeypatch.setattr(runs.train, "train", lambda config, here: None)
        runs.train_run(finished.run, finished.here)
        assert not path.exists() and path.with_name(f"train.json.damaged{n}").read_text() == "{"


@pytest.mark.parametrize("content", DAMAGE)
def test_a_damaged_record_of_a_study_is_named(content, tmp_path):
    (tmp_path / "results").mkdir()
    put(tmp_path / "results" / "study.json", content)
    refused("study.json is damaged|cannot read .*study.json", report, tmp_path)


@times
def test_a_record_with_anything_in_it_is_shown_or_refused(times, tmp_path, monkeypatch):
    """One value of a real record replaced; nothing is written outside of its folder."""
    monkeypatch.setattr("lficam_jax.study.plots.draw_all", lambda record, folder: None)
    text, path = RECORD.read_text(), tmp_path / "a" / "results" / "study.json"
    path.parent.mkdir(parents=True)
    odd = st.none() | st.integers() | st.floats() | st.text(max_size=8) | st.just({}) | st.just([])

    def check(data):
        record = json.loads(text)
        where, key = record, data.draw(st.sampled_from(sorted(record)))
        while isinstance(where[key], dict) and where[key] and data.draw(st.booleans()):
            where = where[key]
            key = data.draw(st.sampled_from(sorted(where)))
        if data.draw(st.booleans()):
            where[key] = data.draw(odd)
        else:
            where[data.draw(st.sampled_from(["../../../x", "", "a/b", "=1+1"]))] = where.pop(key)
        path.write_text(json.dumps(record))
        try:
            report(tmp_path / "a")
        except UserError as error:
            assert "study.json" in str(error) and len(str(error)) < 700
        assert [p.name for p in tmp_path.iterdir()] == ["a"]

    fuzz(check, 15, times)


def test_a_picture_of_ours_that_fails_is_no_damage_of_the_record(tmp_path, monkeypatch):
    def fail(record, folder):
        raise ValueError("a mistake of ours")

    monkeypatch.setattr("lficam_jax.study.plots.draw_all", fail)
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "study.json").write_bytes(RECORD.read_bytes())
    with pytest.raises(ValueError, match="a mistake of ours"):
        report(tmp_path)


def test_cells_of_a_studys_table_are_numbers():
    first = ("own", "**+0.038 [-0.054, 0.129]**", "3")
    header, rows = ("map", "drop ↓", "n"), (first, ("cam", "–", "–"), ("=1+1", "-1.0 [–, –]", "+2"))
    assert to_csv(Table("t", "T", "C.", header, rows)) == (
        "map,drop ↓,drop ↓ low,drop ↓ high,n\nown,0.038,-0.054,0.129,3\ncam,,,,\n'=1+1,-1.0,,,2\n"
    )


def test_a_damaged_result_of_training_is_measured_again(tiny, trained, tmp_path, monkeypatch):
    shutil.copytree(trained, tmp_path / "run")
    monkeypatch.setattr("lficam_jax.training.train._trained", lambda *_: {"step": 4})
    path = tmp_path / "run" / "results" / "train.json"
    for content in (c for c in DAMAGE if c != b"{}"):
        path.parent.mkdir()
        put(path, content)
        assert train(tiny, tmp_path / "run") == {"step": 4}
        shutil.rmtree(path.parent)


def test_a_run_whose_config_is_gone_is_known_by_its_checkpoints(tiny, trained, tmp_path, capsys):
    shutil.copytree(trained, tmp_path / "run")
    path, config = tmp_path / "run" / "config.json", as_json(tiny)
    whole = path.read_bytes()
    path.unlink()
    for content in (None, b"", b"{", b"[]", b"\xff"):
        if content is not None:
            path.write_bytes(content)
        check(tmp_path / "run", config)
        assert as_json(read_config(tmp_path / "run")) == json.loads(whole)
        assert "checkpoint 0 knows it" in capsys.readouterr().err
        other = json.loads(json.dumps(config))
        other["optim"]["lr"] = 0.7
        refused("optim.lr: 0.1 -> 0.7", check, tmp_path / "run", other)
    claim(tmp_path / "run", json.loads(whole))
    assert json.loads(path.read_bytes()) == json.loads(whole)
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "0" / "meta")
    path.write_text("{")
    refused("config.json is damaged .*is the folder a run's", check, tmp_path / "run", config)


@times
def test_any_damaged_config_is_read_or_named(times, tmp_path, tiny):
    whole, path = json.dumps(as_json(tiny), indent=2).encode(), tmp_path / "config.json"

    def check(data):
        path.write_bytes(damaged(data, whole))
        try:
            read_config(tmp_path)
        except UserError as error:
            assert len(str(error)) < 700

    fuzz(check, 40, times)


def test_checkpoints_that_are_a_file_are_told(tmp_path):
    (tmp_path / "checkpoints").write_text("x")
    for read_only in (False, True):
        refused("is a file, and should be the folder", Checkpoints, tmp_path, read_only=read_only)


def test_a_very_deep_line_of_metrics_is_dropped_with_what_cannot_be_read(tmp_path):
    lines = ['{"step": 1}', "[" * 10**5, '{"step": {}}', "\udcff", '{"step": 9}']
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines), errors="surrogateescape")
    with MetricWriter(tmp_path, tensorboard=False, resume_step=3):
        pass
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1}\n'


def test_a_picture_takes_the_place_of_a_link_and_does_not_follow_it(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "a.png").symlink_to(tmp_path / "mine.txt")
    with replacing(tmp_path / "a.png") as scratch:
        scratch.write_text("a picture")
    assert (tmp_path / "mine.txt").read_text() == "mine"
    assert (tmp_path / "a.png").read_text() == "a picture" and len([*tmp_path.iterdir()]) == 2
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "a.png") as scratch:
        scratch.write_text("half")
        _ = 1 / 0
    assert (tmp_path / "a.png").read_text() == "a picture" and len([*tmp_path.iterdir()]) == 2


def test_each_of_two_explanations_gets_a_folder_of_its_own(tmp_path):
    names = [_new(tmp_path, "4-images", "", Path.mkdir).name for _ in range(3)]
    assert names == ["4-images", "4-images-2", "4-images-3"]


def test_a_pipe_or_a_device_in_a_foreign_folder_is_not_read(tmp_path):
    """To open a pipe waits for ever, and /dev/zero has no end."""
    (tmp_path / "config.json").symlink_to("/dev/zero")
    refused("config.json: it is a device, not a file", read_config, tmp_path)
    for place in ("results/train.json", "split.csv", "checkpoints/4/meta/metadata"):
        pipe = tmp_path / place
        pipe.parent.mkdir(parents=True, exist_ok=True)
        os.mkfifo(pipe)
    refused("train.json: it is a pipe", read_object, tmp_path / "results" / "train.json")
    refused("split.csv: it is a pipe", from_csv, tmp_path / "split.csv")
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        refused("checkpoint 4 .* it is a pipe", checkpoints.restore_model, None, 4)


def test_a_link_to_nowhere_or_in_a_circle_is_no_result(tmp_path):
    (tmp_path / "a.json").symlink_to(tmp_path / "b.json")
    with pytest.raises(Unreadable, match="cannot read .*a.json: No such file"):
        read_object(tmp_path / "a.json")
    (tmp_path / "b.json").symlink_to(tmp_path / "a.json")
    refused("cannot read .*a.json: Too many levels", read_object, tmp_path / "a.json")
