"""The numbers of a run while it goes: every one once, on disk at once, valid JSON."""

import json
import os

import jax.numpy as jnp
import numpy as np
import pytest

from lficam_jax.errors import UserError
from lficam_jax.workdir.metrics_file import MetricWriter


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


def test_damaged_lines_are_dropped_where_a_step_is_measured_again(tmp_path):
    lines = ['{"step": 19}', "[5]", "5", '{"step": 20, "validation/loss": 1}', '{"step": 20, "tr']
    (tmp_path / "metrics.jsonl").write_text("\n".join(lines))
    MetricWriter(tmp_path, tensorboard=False, resume_step=20, again="validation/").close()
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 19}\n'


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


def test_a_full_disk_is_one_line_that_names_the_path(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "O_NOFOLLOW", 0)  # else the link below would be refused
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    told = r"cannot write .*metrics\.jsonl: No space left.*--workdir"
    with MetricWriter(tmp_path, tensorboard=False) as writer, pytest.raises(UserError, match=told):
        writer.scalars(1, {"loss": 1.0})


@pytest.mark.parametrize("bad", [float("nan"), np.float32("inf"), jnp.float32("-inf")])
def test_a_non_finite_number_is_null_because_json_has_no_word_for_it(tmp_path, bad):
    with MetricWriter(tmp_path, tensorboard=False) as writer:
        writer.scalars(1, {"loss": bad})
    assert read_lines(tmp_path) == [{"step": 1, "loss": None}]


def test_a_workdir_that_cannot_be_made_is_one_line_that_names_the_path(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot write .*file.*metrics"):
        MetricWriter(tmp_path / "file" / "run")


def test_only_process_0_writes(tmp_path, monkeypatch):
    monkeypatch.setattr("jax.process_index", lambda: 1)
    with MetricWriter(tmp_path / "run") as writer:
        writer.scalars(1, {"loss": 1.0})
        writer.image(1, "x", np.zeros((2, 2, 3), np.uint8))
    assert not (tmp_path / "run").exists()


def test_a_link_in_place_of_the_file_is_not_followed(tmp_path):
    """As in a folder that somebody else packed: the next line would end in another's file."""
    (tmp_path / "profile").write_text("mine\n")
    (tmp_path / "metrics.jsonl").symlink_to(tmp_path / "profile")
    with pytest.raises(UserError, match="cannot write .*metrics.jsonl"), MetricWriter(tmp_path):
        pass
    assert (tmp_path / "profile").read_text() == "mine\n"
