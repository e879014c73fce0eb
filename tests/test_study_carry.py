"""Who carries out which run of a study, what is measured of it, and what the record says of it."""

import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from configs.cluttered_digits import get_config
from lficam_jax.config import as_json
from lficam_jax.devices.interrupt import Interrupted, stopping
from lficam_jax.errors import DivergedError, UserError
from lficam_jax.study import carry, record, runs, summary
from lficam_jax.study.__main__ import main
from lficam_jax.study.plan import default_study, plan
from lficam_jax.study.tables import tables
from lficam_jax.workdir.folder import claim as claim_folder
from lficam_jax.workdir.lock import Lock


def test_so_far_compares_the_settings_under_which_all_models_are_done(tmp_path, monkeypatch):
    study = default_study(get_config())
    wanted, first = plan(study), ["seed0", "seed1"]
    done = {f"{m}/{s}" for m in (*study.models, "uniform") for s in first} | {"plain/seed2"}
    monkeypatch.setattr(carry, "trained", lambda here: True)
    monkeypatch.setattr(carry, "measured", lambda here, study, run: run.name in done)
    part, found = carry.so_far(study, wanted, tmp_path)
    assert {run.name for run in found} == done - {"plain/seed2"}
    assert list(part.settings) == first and list(part.ablations) == ["uniform"]
    done -= {"lfi/seed1"}
    with pytest.raises(
        UserError, match="of 65 runs 65 are trained, and 10 of these measured .* 1 settings have"
    ):
        carry.so_far(study, wanted, tmp_path)


def test_runs_of_another_config_are_not_taken_for_this_studys(tmp_path):
    study = default_study(get_config())
    run = plan(study)[0]
    here = runs.folder(tmp_path, run)
    claim_folder(here, as_json(run.config))
    (here / "checkpoints" / "10").mkdir(parents=True)
    study.base.train.total_epochs = 20.0
    for act in (carry.carry_out, carry.so_far):
        with pytest.raises(UserError, match=r"plain/seed0 belongs to (.*\n)*.*epochs"):
            act(study, plan(study), tmp_path)


def test_the_time_left_is_that_of_the_same_model_or_of_its_kin():
    study, taken = default_study(get_config()), {"plain": [100.0, 120.0], "uniform": [20.0]}
    expected = {m: carry._expected(study, taken, m) for m in ("plain", "abn", "kernel_1")}
    assert expected == {"plain": 110, "abn": 110, "kernel_1": 20}
    assert carry._expected(study, {"plain": [100.0]}, "kernel_1") == 100


def test_a_run_that_diverges_names_its_setting_and_what_to_do(tmp_path, monkeypatch):
    def diverge(config, here):
        raise DivergedError("training diverged at step 3")

    monkeypatch.setattr(runs.train, "train", diverge)
    study = default_study(get_config())
    with pytest.raises(DivergedError, match=r"run plain/seed0: .* step 3.*'seed0'.*plain/seed0"):
        carry.carry_out(study, plan(study), tmp_path)


@pytest.fixture
def small(monkeypatch):
    """A study of two models and two settings; training and measuring only leave files behind."""
    study = default_study(get_config())
    study.models = {n: study.models[n] for n in ("plain", "lfi")}
    study.settings, study.ablations = {"a": {"seed": 1}, "b": {"seed": 2}}, {}
    trained = []

    def leave(here, name):
        (here / "results").mkdir(parents=True, exist_ok=True)
        right = {"accuracy": 0.5, "loss": 1.0}
        told = {"test": right, "validation": right, "step": 1, "best_step": 1, "asked": {}}
        (here / "results" / name).write_text(json.dumps({**told, "seconds": 60.0}))

    def train(run, here):
        trained.append(run.name)
        leave(here, "train.json")

    there = lambda here, study, run: (here / "results" / "measures.json").exists()  # noqa: E731
    monkeypatch.setattr(carry, "train_run", train)
    monkeypatch.setattr(carry, "measured", there)
    monkeypatch.setattr(carry, "measure_run", lambda s, run, here: leave(here, "measures.json"))
    return study, plan(study), trained


def test_a_run_that_another_process_holds_is_passed_over(small, tmp_path, capsys):
    study, wanted, trained = small
    held = runs.folder(tmp_path, wanted[0])
    with Lock(held / carry.LOCK, held):
        assert carry.carry_out(study, wanted, tmp_path) == 1
    assert trained == ["lfi/a", "lfi/b", "plain/b"]  # what is compiled comes first in a setting
    said = capsys.readouterr().out
    assert "[2/4] lfi/a: 50.00 % of the test split right; about 3m 00s left" in said
    assert "shared by 2" in said
    assert carry.carry_out(study, wanted, tmp_path) == 0  # nobody holds it any more
    assert trained[3:] == ["plain/a"]
    assert "3 of 4 runs are done" in capsys.readouterr().out


def test_a_run_that_another_process_ended_in_the_meantime_is_not_done_again(small, tmp_path):
    study, wanted, trained = small
    train = carry.train_run

    def slowly(run, here):
        carry.train_run = train  # meanwhile another process does all the others
        assert carry.carry_out(study, wanted, tmp_path) == 1
        train(run, here)

    carry.train_run = slowly  # the fixture's patch puts it back
    assert carry.carry_out(study, wanted, tmp_path) == 0
    assert sorted(trained) == ["lfi/a", "lfi/b", "plain/a", "plain/b"]


def test_a_run_that_diverges_costs_that_run_alone(small, tmp_path, monkeypatch):
    study, wanted, trained = small
    train = carry.train_run

    def diverge(run, here):
        if run.name == "plain/a":
            raise DivergedError(f"run {run.name} diverged")
        train(run, here)

    monkeypatch.setattr(carry, "train_run", diverge)
    with pytest.raises(DivergedError, match="run plain/a diverged"):
        carry.carry_out(study, wanted, tmp_path)
    assert sorted(trained) == ["lfi/a", "lfi/b", "plain/b"]


def test_a_signal_between_trainings_ends_the_study_cleanly(small, tmp_path, monkeypatch):
    study, wanted, _ = small
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(carry, "measure_run", lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(Interrupted, match="SIGTERM: stopped.*the same command") as stop, stopping():
        carry.carry_out(study, wanted, tmp_path)
    assert stop.value.exit_code == 143 and signal.getsignal(signal.SIGTERM) is before
    assert not list(tmp_path.rglob(carry.LOCK))  # the next process may take it


def test_a_signal_among_the_garbage_is_not_lost():
    class Last:
        def __del__(self):  # what is raised in here, Python only prints
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Interrupted), stopping():
        Last()
        time.sleep(20)


def test_a_method_that_sees_fewer_images_is_compared_on_those():
    """Where score_cam looked, own is 1 better; elsewhere it is far worse, which does not count."""
    own = np.array([3.0, 1.0, -90.0, -90.0])
    arrays = {"id": np.array([7, 8, 9, 10]), "cluster": np.arange(4), "own/gini": own}
    arrays |= {"score_cam/gini": np.array([0.0, 2.0]), "rows/score_cam": np.array([0, 1])}
    arrays |= {f"score_cam/{name}": np.zeros(2) for name in ("constant", "not_finite")}
    rows = {"a": arrays, "b": arrays}
    found = summary._paired(rows, "own", rows, "score_cam", "gini")
    assert found["value"] == 1.0 and found["value_of_first"] == 2.0
    alone = summary._measures(rows, "score_cam", ["gini"])["gini"]
    assert alone["value"] == 1.0 and alone["n"] == 2 * 2


def test_the_record_names_the_machines_that_trained(tmp_path):
    def made(date, kind, jax, command="lficam study"):
        device = {"device_kind": kind, "device_count": 1, "process_count": 1}
        hardware = device | {"cpu": "AMD EPYC", "cpu_count": 16}
        versions = {"jax": jax, "numpy": "2.4.6"}
        return {"date": date, "hardware": hardware, "versions": versions, "command": command}

    card = made("2026-01-02T03:04:05+00:00", "NVIDIA H100", "0.11.2")
    later = made("2026-01-03T00:00:00+00:00", "cpu", "0.10.2", "lficam study --config x")
    told = record._made([card, card, later])
    assert told["command"] == "lficam study; lficam study --config x"
    assert told["hardware"] == "1 x NVIDIA H100; 16 x AMD EPYC and 1 x cpu; 16 x AMD EPYC"
    assert told["date"] == "2026-01-02 to 2026-01-03"
    assert told["versions"] == {"jax": "0.11.2 and 0.10.2", "numpy": "2.4.6"}
    assert record._made([card])["date"] == "2026-01-02"


def test_the_record_names_the_command_that_measured(tmp_path):
    """One that compares alone, as `--so_far` does, is not how the numbers came about."""
    (tmp_path / "results").mkdir()
    made = {"date": "2026-01-02", "hardware": {}, "versions": {}}
    for name, command in (("train", "lficam study"), ("measures", "lficam study --config x")):
        text = json.dumps({"made_by": made | {"command": command}})
        (tmp_path / "results" / f"{name}.json").write_text(text)
    assert runs.origin_of(tmp_path) == made | {"command": "lficam study --config x"}


def test_the_rise_in_the_last_quarter_is_that_of_validation(tmp_path):
    at = {25: 0.5, 50: 0.8, 75: 0.9, 100: 0.95}
    rows = [{"step": 10, "train/accuracy": 0.1, "train/loss": 1.0}]
    rows += [{"step": s, "validation/accuracy": a, "validation/loss": 0.1} for s, a in at.items()]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert runs.late_change(tmp_path) == pytest.approx(5.0)
    (tmp_path / "metrics.jsonl").write_text(json.dumps(rows[-1]))
    assert runs.late_change(tmp_path) is None  # measured once
    assert runs.late_change(tmp_path / "nowhere") is None
    for told in ("[5]\n", '{"step": "a", "validation/loss": 1, "validation/accuracy": 1}'):
        (tmp_path / "metrics.jsonl").write_text(told)
        assert runs.late_change(tmp_path) is None


@pytest.mark.parametrize(
    ("steps", "rise"),
    [((188, 376, 564, 750), 10.0), ((50, 100), None)],  # 564 is late by rounding; half is too early
)
def test_the_last_quarter_begins_where_it_was_measured_next_to_it(tmp_path, steps, rise):
    rows = [
        {"step": step, "validation/accuracy": i / 10, "validation/loss": 0.1}
        for i, step in enumerate(steps)
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = runs.late_change(tmp_path)
    assert found is None if rise is None else found == pytest.approx(rise)


def test_a_signal_while_a_file_is_read_is_no_damage(tmp_path, monkeypatch):
    def killed(path):
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(runs.np, "load", killed)
    with pytest.raises(Interrupted), stopping():
        runs.arrays_of(tmp_path)


def test_of_several_labels_all_must_be_right():
    assert runs.accuracy_of({"exact_match": 0.25, "label_accuracy": 0.9}) == 0.25
    assert runs.accuracy_of({"accuracy": 0.5}) == 0.5


def test_tables_say_what_was_measured_on_fewer_images():
    first = Path(__file__).parents[1] / "docs" / "results" / "first_edition"
    told = json.loads((first / "cluttered_digits.json").read_text())
    assert not any("of them for" in table.caption for table in tables(told))
    for run in told["runs"].values():
        run["validation_late_change"] = 0.25
    told |= {"fewer_images": {"score_cam": 128}, "labels": "several"}
    by_name = {table.name: table for table in tables(told)}
    assert "128 of them for score_cam" in by_name["maps_lfi"].caption
    assert "exactly the labels that they have" in by_name["accuracy"].caption
    assert by_name["accuracy"].header[-1] == "last quarter"
    assert {row[-1] for row in by_name["accuracy"].rows} == {"0.25"}


def test_a_report_of_what_is_so_far_is_told_to_choose(tmp_path):
    with pytest.raises(UserError, match="--so_far compares anew, --report compares nothing"):
        main(["--workdir", str(tmp_path), "--report", "--so_far"], "lficam study")
