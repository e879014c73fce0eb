"""Whole runs: they learn nothing in four steps, but they log, save, resume, stop and refuse."""

import contextlib
import io
import json
import os
import shutil
import signal
import threading

import jax
import numpy as np
import pytest

from lficam_jax.config import as_json
from lficam_jax.devices.interrupt import Interrupted
from lficam_jax.errors import DivergedError, UserError
from lficam_jax.speed.describe import describe
from lficam_jax.training import loop
from lficam_jax.training.experiment import load_run
from lficam_jax.training.loop import due
from lficam_jax.training.train import train
from lficam_jax.workdir import progress
from lficam_jax.workdir.checkpoint import Checkpoints


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def weights(config, workdir, step=4):
    return load_run(config, workdir, step).variables


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.fixture(scope="module")
def finished(tiny_config, tmp_path_factory):
    """One finished run that the tests share, and what it said; each gets a copy of its folder."""
    workdir, said = tmp_path_factory.mktemp("finished") / "run", io.StringIO()
    with contextlib.redirect_stdout(said):
        result = train(tiny_config, workdir)
    return result, workdir, said.getvalue()


@pytest.fixture
def run(tiny, finished, tmp_path):
    result, workdir, _ = finished
    shutil.copytree(workdir, tmp_path / "run")
    return tiny, result, tmp_path / "run"


def test_a_run_leaves_what_it_promises(run):
    config, result, workdir = run
    stored = json.loads((workdir / "results" / "train.json").read_text())
    assert stored.pop("made_by")["config"] == json.loads((workdir / "config.json").read_text())
    assert stored == result
    assert result["step"] == 4 and result["resumed_at_step"] == 0 and result["seconds"] > 0
    assert result["damaged_images"] == 0
    for split, count in (("test", 50), ("validation", 40)):
        assert result[split]["examples"] == count
        assert 0 <= result[split]["accuracy"] <= 1 and 0 <= result[split]["pointing_game"] <= 1
        assert 1 < result[split]["effective_channels"] <= 64
    assert json.loads((workdir / "config.json").read_text())["train"]["total_steps"] == 4
    logged = lines(workdir)
    assert [r["step"] for r in logged if "train/loss" in r] == [1, 2, 3, 4]
    assert [r["step"] for r in logged if "validation/accuracy" in r] == [2, 4]


def test_the_best_on_validation_is_what_is_tested(run):
    config, result, workdir = run
    by_step = {
        r["step"]: r["validation/accuracy"] for r in lines(workdir) if "validation/accuracy" in r
    }
    assert result["best_step"] in by_step
    assert by_step[result["best_step"]] == max(by_step.values()) == result["validation"]["accuracy"]


def test_another_seed_gives_other_weights(run, tmp_path):
    config, _, workdir = run
    config.seed = 1
    train(config, tmp_path / "other")
    with pytest.raises(AssertionError):
        same(weights(config, workdir), weights(config, tmp_path / "other"))


def test_a_finished_run_is_not_touched_again(run, capsys):
    config, result, workdir = run
    stamp = (workdir / "results" / "train.json").stat().st_mtime_ns
    assert train(config, workdir) == result
    assert (workdir / "results" / "train.json").stat().st_mtime_ns == stamp
    assert "this run is finished" in capsys.readouterr().out


def test_another_config_in_the_workdir_is_refused_with_the_difference(run):
    config, _, workdir = run
    config.optim.lr = 0.01
    with pytest.raises(UserError, match="another config.*\n  optim.lr: 0.1 -> 0.01"):
        train(config, workdir)
    config.optim.lr, config.train.log_every_steps = 0.1, 2  # how often to print is free,
    config.optim.accumulate = 2  # and in how many pieces a device takes its rows
    train(config, workdir)


@pytest.fixture
def piecewise(tiny):
    """A config of four steps whose learning rate drops behind the sixth; an epoch has four."""
    tiny.optim.update(schedule="multistep", milestones_epochs=(1.5,))
    return tiny


def test_a_longer_run_ends_as_if_it_had_been_so_long_from_the_start(
    piecewise, tmp_path, capsys, monkeypatch
):
    """Also one that is stopped: the shorter run's result must not pass for its own."""
    config, workdir = piecewise, tmp_path / "run"
    first = train(config, workdir)
    config.train.update(total_steps=0, total_epochs=2.0)  # eight steps, said otherwise
    steps = iter(range(5, 9))
    monkeypatch.setattr(
        loop, "waits", lambda: next(steps) == 6 and os.kill(os.getpid(), signal.SIGTERM) or True
    )
    with pytest.raises(Interrupted, match="saved step 6"):
        train(config, workdir)
    monkeypatch.undo()
    assert "goes on to step 8; the result so far is" in capsys.readouterr().out
    stored = json.loads((workdir / "results" / "train_4.json").read_text())
    assert stored["test"] == first["test"]
    config.train.update(total_steps=4, total_epochs=0.0)
    with pytest.raises(UserError, match="has 6 steps already, more than the 4 .*to no less"):
        train(config, workdir)
    config.train.update(total_steps=8)
    result = train(config, workdir)
    assert result["step"] == 8 and result["resumed_at_step"] == 6
    assert [r["step"] for r in lines(workdir) if "train/loss" in r] == [*range(1, 9)]
    assert train(config, workdir) == result  # and now it is finished
    train(config, tmp_path / "unbroken")
    same(weights(config, workdir, 8), weights(config, tmp_path / "unbroken", 8))


def test_a_longer_run_that_would_have_warmed_up_longer_is_refused(piecewise, run, capsys):
    """A warm-up of five steps is cut to a quarter: of four steps one, of twelve three."""
    config, (_, _, workdir) = piecewise, run
    config.optim.warmup_steps, path = 5, workdir / "config.json"
    asked = as_json(config)
    path.write_text(json.dumps(json.loads(path.read_text()) | {"optim": asked["optim"]}))
    config.train.total_steps = 12
    with pytest.raises(UserError, match=r"in 1 step.s., a quarter .* 12 steps would .* in 3\."):
        train(config, workdir)
    told = "the warm-up takes 3 steps instead of 5: at most 25% of all"
    assert told in capsys.readouterr().out


def test_a_cosine_schedule_would_have_been_another_so_a_longer_run_is_refused(run):
    config, _, workdir = run
    assert config.optim.schedule == "cosine"
    config.train.total_steps = 8
    with pytest.raises(UserError, match=r"total_steps: 4 -> 8 \(a cosine .*--config.init_from="):
        train(config, workdir)
    assert (workdir / "results" / "train.json").exists()


def test_a_run_says_what_it_is_before_its_first_step(finished):
    _, workdir, said = finished
    lines = said.splitlines()
    assert [line[:10].strip() for line in lines[:9]] == [
        "workdir", "versions", "devices", "data", "", "", "", "network", "training"
    ]  # fmt: skip
    assert {line[9] for line in lines[:9]} == {" "} and " " not in {line[10] for line in lines[:9]}
    told = "\n".join(lines[:9])
    for fact in (
        str(workdir), f"jax {jax.__version__}", "8 x cpu", "cluttered_digits, 10 classes",
        "train       64 pictures (0: ", "validation  40 pictures (0: ",
        "test        50 pictures (0: ",
        "cifar_resnet-8, lfi head", "226,010 parameters", "4 steps of 16 images (1 epoch)",
    ):  # fmt: skip
        assert fact in told
    assert "64 pictures are few to train a network from scratch" in lines[9]
    assert "4 steps are too few to learn much: for about 1,000" in lines[10]
    assert "--config.train.total_epochs=250;" in lines[10]  # an epoch has four
    assert lines[11] == "compiling the training step …"
    assert lines[12].startswith("compiled the training step in ")
    assert lines[13].startswith("epoch 1/1  step 1/4  loss ")


def test_a_process_that_is_not_the_first_says_nothing(tiny, tmp_path, capsys, monkeypatch):
    from lficam_jax.training import header

    monkeypatch.setattr("jax.process_index", lambda: 1)
    header.tell_place(tiny, tmp_path)
    assert capsys.readouterr().out == ""


def test_the_same_seed_gives_the_same_weights_and_in_a_thread(run, tmp_path):
    """As in a web service or a notebook's executor, where python forbids to listen to signals."""
    config, _, unbroken = run
    found = []
    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=lambda: found.append(train(config, tmp_path / "threaded")))
    thread.start()
    thread.join()
    assert found and found[0]["step"] == 4 and signal.getsignal(signal.SIGINT) is before
    same(weights(config, unbroken), weights(config, tmp_path / "threaded"))


def test_slow_steps_are_shown_between_two_log_points(tiny, tmp_path, capsys, monkeypatch):
    """The numbers file keeps to its steps, the lines to the clock: here it is always time."""
    monkeypatch.setattr(progress, "LINES", (0.0, 0.0))
    tiny.train.log_every_steps = tiny.eval.every_steps = 4
    result = train(tiny, tmp_path)
    shown = [line for line in capsys.readouterr().out.splitlines() if " step " in line]
    shown = [line for line in shown if line.startswith("epoch")]
    assert [line.split()[3] for line in shown] == ["1/4", "2/4", "3/4", "4/4", "4/4"]
    assert "images/s" not in shown[0] and "left" not in shown[0]  # it compiled
    assert "images/s" in shown[1] and "left" in shown[1]
    assert [r["step"] for r in lines(tmp_path) if "train/loss" in r] == [4]
    assert result["images_per_second"] > 0


def test_a_run_from_before_a_key_existed_has_its_default(run):
    config, result, workdir = run
    path = workdir / "config.json"
    former = path.read_text()
    older = json.loads(former)
    del older["model"]["fin"]["mask_image"]
    path.write_text(json.dumps(older))
    assert train(config, workdir) == result
    path.write_text(json.dumps(older).replace('"depth": 8', '"depth": 14'))
    with pytest.raises(UserError, match="another config.*\n  model.depth: 14 -> 8"):
        train(config, workdir)
    path.write_text(former)


def test_reading_a_run_as_another_network_is_refused(run):
    config, _, workdir = run
    config.model.depth = 14
    with pytest.raises(UserError, match="model.depth: 8 -> 14"):
        load_run(config, workdir)


def test_a_signal_saves_and_the_same_call_goes_on_bit_identically(run, tmp_path, monkeypatch):
    """SIGTERM during step 3, between two evaluations."""
    config, _, unbroken = run
    steps = iter(range(1, 9))
    monkeypatch.setattr(
        loop, "waits", lambda: next(steps) == 3 and os.kill(os.getpid(), signal.SIGTERM) or True
    )
    with pytest.raises(Interrupted, match="SIGTERM: saved step 3") as stop:
        train(config, tmp_path / "broken")
    assert stop.value.exit_code == 143
    monkeypatch.undo()
    result = train(config, tmp_path / "broken")
    assert result["resumed_at_step"] == 3
    same(weights(config, unbroken), weights(config, tmp_path / "broken"))
    assert [r["step"] for r in lines(tmp_path / "broken") if "train/loss" in r] == [1, 2, 3, 4]


def test_a_damaged_newest_step_costs_its_steps_and_nothing_else(run, finished):
    config, _, workdir = run
    (workdir / "results" / "train.json").unlink()
    for file in (workdir / "checkpoints" / "4" / "model").rglob("d/*"):
        file.write_bytes(b"")
    before = weights(config, workdir, 2)
    result = train(config, workdir)
    assert result["resumed_at_step"] == 2 and result["step"] == 4
    same(weights(config, workdir), weights(config, finished[1]))
    same(before, weights(config, workdir, 2))


def test_a_loss_that_is_not_finite_stops_the_run_and_spares_the_checkpoints(tiny, tmp_path):
    tiny.optim.lr, tiny.optim.warmup_steps = 1e30, 0
    tiny.eval.every_steps = 1
    with pytest.raises(DivergedError, match=r"diverged at step \d: the .*loss is (nan|inf)"):
        train(tiny, tmp_path)
    with Checkpoints(tmp_path) as checkpoints:
        for step in checkpoints.manager.all_steps():
            leaves = jax.tree.leaves(weights(tiny, tmp_path, step))
            assert all(np.isfinite(leaf).all() for leaf in leaves)


def test_a_run_with_every_option_on_resumes_too(tiny, tmp_path):
    tiny.optim.update(name="adamw", ema_decay=0.5, clip_norm=1.0, label_smoothing=0.1, accumulate=2)
    tiny.parallel.mode = "shard_map"
    tiny.data.augment, tiny.train.checkpoint_every_steps = "crop", 3
    tiny.train.tensorboard = True
    tiny.train.batch_size = 16
    assert train(tiny, tmp_path)["step"] == 4
    assert list((tmp_path / "tensorboard").glob("events*"))


def test_a_workdir_that_cannot_be_made_is_told(tiny, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot write .*: Not a directory; choose a --workdir"):
        train(tiny, tmp_path / "file" / "run")


def test_fewer_images_than_a_batch_shrink_it(tiny, tmp_path, capsys):
    """64 of 128: eight devices get eight rows each, as `describe` says before."""
    tiny.train.batch_size, tiny.train.total_steps = 128, 0
    tiny.train.total_epochs = 2.0
    assert describe(tiny)["total_steps"] == 2
    assert train(tiny, tmp_path)["step"] == 2
    out = capsys.readouterr().out
    assert "batches of 64 instead of 128, so that an epoch takes 64 of the 64 pictures" in out
    tiny.data.train_examples = 7
    with pytest.raises(UserError, match="7 examples, fewer than the 8 parts"):
        train(tiny, tmp_path / "other")


def test_one_cadence_rule():
    assert [s for s in range(1, 8) if due(s, 3, total=7)] == [3, 6, 7]
    assert [s for s in range(1, 8) if due(s, 0, total=7)] == [7]
