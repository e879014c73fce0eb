"""What a run says and writes: every number once, valid JSON, one clear line when it cannot."""

import io
import json

import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from lficam_jax.errors import UserError
from lficam_jax.workdir.metrics_file import MetricWriter
from lficam_jax.workdir.progress import Progress
from lficam_jax.workdir.results import write_result


def read_lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_each_call_is_one_line_that_is_on_disk_at_once(tmp_path):
    with MetricWriter(tmp_path / "run", tensorboard=False) as writer:
        writer.scalars(1, {"loss": np.float32(0.5), "accuracy": jnp.float32(0.25)})
        writer.scalars(np.int64(2), {"loss": 0.25})
        assert read_lines(tmp_path / "run") == [
            {"step": 1, "loss": 0.5, "accuracy": 0.25},
            {"step": 2, "loss": 0.25},
        ]


def test_a_resumed_run_does_not_leave_steps_twice(tmp_path):
    with MetricWriter(tmp_path, tensorboard=False) as writer:
        for step in (10, 20, 30):
            writer.scalars(step, {"loss": step})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 40, "lo')  # the kill came here
    with MetricWriter(tmp_path, tensorboard=False, resume_step=20) as writer:
        writer.scalars(30, {"loss": -1})
    assert [(row["step"], row["loss"]) for row in read_lines(tmp_path)] == [
        (10, 10), (20, 20), (30, -1)
    ]  # fmt: skip


def test_without_a_resume_step_earlier_lines_stay(tmp_path):
    for step in (1, 2):
        with MetricWriter(tmp_path, tensorboard=False) as writer:
            writer.scalars(step, {})
    assert [row["step"] for row in read_lines(tmp_path)] == [1, 2]


def test_tensorboard_gets_scalars_and_pictures(tmp_path):
    with MetricWriter(tmp_path, tensorboard=True) as writer:
        writer.scalars(1, {"train/loss": 0.5})
        writer.image(1, "overlays", np.zeros((8, 8, 3), np.uint8))
    (events,) = (tmp_path / "tensorboard").iterdir()
    content = events.read_bytes()
    assert b"train/loss" in content and b"overlays" in content


@pytest.mark.parametrize("bad", [float("nan"), np.float32("inf"), jnp.float32("-inf")])
def test_a_non_finite_number_is_null_because_json_has_no_word_for_it(tmp_path, bad):
    with MetricWriter(tmp_path, tensorboard=False) as writer:
        writer.scalars(1, {"loss": bad})
    path = write_result(tmp_path, "train", {"loss": [bad, 1.0], "test": {"loss": bad}})
    assert read_lines(tmp_path) == [{"step": 1, "loss": None}]
    assert json.loads(path.read_text()) == {"loss": [None, 1.0], "test": {"loss": None}}


def test_results_are_replaced_whole(tmp_path):
    write_result(tmp_path, "evaluate", {"accuracy": 0.5})
    path = write_result(tmp_path, "evaluate", {"per_class": np.array([1, 0.5]), "where": tmp_path})
    assert path == tmp_path / "results" / "evaluate.json"
    assert json.loads(path.read_text()) == {"per_class": [1, 0.5], "where": str(tmp_path)}
    assert [entry.name for entry in path.parent.iterdir()] == ["evaluate.json"]


def test_a_result_that_cannot_be_written_leaves_the_old_one(tmp_path):
    path = write_result(tmp_path, "train", {"step": 1})
    with pytest.raises(TypeError):
        write_result(tmp_path, "train", {"step": object()})
    assert json.loads(path.read_text()) == {"step": 1}


def test_a_full_disk_is_one_line_that_names_the_path(tmp_path):
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    told = r"cannot write .*metrics\.jsonl: No space left.*--workdir"
    with MetricWriter(tmp_path, tensorboard=False) as writer, pytest.raises(UserError, match=told):
        writer.scalars(1, {"loss": 1.0})


def test_a_workdir_that_cannot_be_made_is_one_line_that_names_the_path(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot write .*file.*metrics"):
        MetricWriter(tmp_path / "file" / "run")
    with pytest.raises(UserError, match="cannot write .*file.*train.json"):
        write_result(tmp_path / "file", "train", {})


def test_only_process_0_writes_and_speaks(tmp_path, monkeypatch):
    monkeypatch.setattr("jax.process_index", lambda: 1)
    with MetricWriter(tmp_path / "run") as writer:
        writer.scalars(1, {"loss": 1.0})
        writer.image(1, "x", np.zeros((2, 2, 3), np.uint8))
    write_result(tmp_path / "run", "train", {})
    out = io.StringIO()
    with Progress(10, 5, console=Console(file=out)) as progress:
        progress.update(1, loss=1.0, accuracy=0.0, images_per_second=1.0)
        progress.note("x")
    assert not (tmp_path / "run").exists() and out.getvalue() == ""


def progress_lines(terminal, start_step, times, steps):
    out, ticks = io.StringIO(), iter(times)
    console = Console(file=out, force_terminal=terminal, width=160)
    with Progress(100, 25, start_step, console=console, clock=lambda: next(ticks)) as progress:
        for step in steps:
            progress.update(step, loss=0.5, accuracy=0.9312, images_per_second=1234.5)
        progress.note("validation [0.91] of 3")
    return out.getvalue()


def test_a_log_gets_plain_lines():
    first, second, note = progress_lines(False, 0, (0, 10, 20), (25, 26)).splitlines()
    assert first == (
        "epoch 1/4  step 25/100  loss 0.5000  accuracy 93.1 %  1,234 images/s  30s left"
    )
    assert second.startswith("epoch 2/4  step 26/100")
    assert note == "validation [0.91] of 3"


def test_the_time_left_counts_this_runs_steps_only():
    # Resumed at 80 of 100: a slow first step (compilation), then 1 step per second.
    lines = progress_lines(False, 80, (0, 50, 55), (85, 90)).splitlines()
    assert lines[0].endswith("2m 30s left")  # 5 steps took 50 s
    assert lines[1].endswith(" 10s left")  # 5 steps took 5 s: 10 remain


def test_a_terminal_gets_a_bar_and_notes_keep_their_brackets():
    out = progress_lines(True, 0, range(100), (50,))
    assert "━" in out and "epoch 2/4" in out and "validation [0.91] of 3" in out
