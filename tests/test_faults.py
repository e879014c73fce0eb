"""What machines do to a run: full disks, vanished data, stuck steps, odd clocks, and kill -9."""

import contextlib
import errno
import io
import json
import os
import random
import resource
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from lficam_jax.devices import watchdog
from lficam_jax.devices.interrupt import Interrupted
from lficam_jax.errors import DivergedError, UserError
from lficam_jax.training import loop
from lficam_jax.training.experiment import load_run
from lficam_jax.training.train import train
from lficam_jax.workdir import compiled
from lficam_jax.workdir.progress import Progress


def at_step(monkeypatch, step, act):
    """Calls `act` while the run is at its `step`-th step."""
    taken = iter(range(1, 10_000))
    monkeypatch.setattr(loop, "waits", lambda: next(taken) == step and act() is None or True)


def same_weights(config, one, other, step=4):
    ours, theirs = (load_run(config, folder, step).variables for folder in (one, other))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


@contextlib.contextmanager
def full_disk(folder):
    """The system refuses to write any file beyond 20 kB: metrics fit, a state does not."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@contextlib.contextmanager
def read_only(folder):
    """Nobody may create anything in the folder; root may always, so root steps down."""
    is_root = os.geteuid() == 0
    folder.chmod(0o555)
    if is_root:
        os.seteuid(65534)
    yield
    if is_root:
        os.seteuid(0)
    folder.chmod(0o755)


@pytest.mark.parametrize(
    "trouble", [read_only, pytest.param(full_disk, marks=pytest.mark.long)]
)  # the disk that is full is in test_checkpoint, too
def test_a_checkpoint_that_cannot_be_written_stops_the_run_and_spares_the_last(
    tiny, tmp_path, monkeypatch, trouble
):
    folder, stack = tmp_path / "checkpoints", contextlib.ExitStack()

    def act():
        while not (folder / "2").is_dir():  # the save of step 2 is under way
            time.sleep(0.01)
        stack.enter_context(trouble(folder))

    at_step(monkeypatch, 3, act)
    with stack, pytest.raises(UserError, match="cannot be written.*full or read-only.*before it"):
        train(tiny, tmp_path)
    assert newest(folder) == 2
    load_run(tiny, tmp_path, 2)  # which compares the checksums


@pytest.fixture
def pictures(tmp_path):
    """A folder of 8 training pictures in two classes, and 2 each for the other splits."""
    random = np.random.default_rng(0)
    for split, count in (("train", 8), ("validation", 2), ("test", 2)):
        for i in range(count):
            path = tmp_path / "pictures" / split / f"class{i % 2}" / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 255, (16, 16, 3), np.uint8)).save(path)
    return tmp_path / "pictures"


def test_data_that_vanish_stop_the_run_and_cost_no_step(tiny, pictures, tmp_path, monkeypatch):
    tiny.data.update(name="folder", folder=str(pictures), pipeline="streaming", threads=1)
    tiny.data.train_examples = 0
    tiny.train.update(batch_size=8, total_steps=8)
    tiny.eval.every_steps = 8
    at_step(monkeypatch, 2, lambda: pictures.rename(tmp_path / "gone"))
    with pytest.raises(
        UserError, match="training data cannot be read any more: .*No such file"
    ) as stop:
        train(tiny, tmp_path / "run")
    last = newest(tmp_path / "run" / "checkpoints")
    assert last >= 2 and f"step {last} is saved" in str(stop.value)
    (tmp_path / "gone").rename(pictures)
    load_run(tiny, tmp_path / "run", last)


def test_a_validation_split_that_cannot_be_measured_costs_no_step(tiny, tmp_path, monkeypatch):
    tiny.eval.every_steps = 3
    errors = iter([UserError("a.png is damaged"), RuntimeError("a bug")])

    def measure(*_):
        raise next(errors)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Evaluation, "measure", measure)
        with pytest.raises(UserError, match="a.png is damaged; step 3 is saved"):
            train(tiny, tmp_path)
        assert newest(tmp_path / "checkpoints") == 3
        with pytest.raises(RuntimeError, match="a bug"):  # nothing is trained until it is measured
            train(tiny, tmp_path)
    assert newest(tmp_path / "checkpoints") == 3
    assert train(tiny, tmp_path)["resumed_at_step"] == 3


def test_killed_during_an_evaluation_no_step_is_lost_and_the_run_ends_alike(
    tiny, tmp_path, monkeypatch
):
    """What kill -9 leaves of the folder, copied: behind the evaluation of step 2, before its result
    is noted; and in the midst of that of step 4, the last."""
    tiny.eval.every_steps, run, left = 2, tmp_path / "run", {}
    for of, name in ((loop.Evaluation, "measure"), (loop.Checkpoints, "note")):
        monkeypatch.setattr(of, name, killed(getattr(of, name), run, left))
    unbroken = train(tiny, run)
    monkeypatch.undo()
    assert list(left.values())[:4] == [2, 2, 4, 4]
    for folder, step in list(left.items())[1:3]:
        found = train(tiny, folder)
        assert found["resumed_at_step"] == step
        same_weights(tiny, folder, run)
        assert [found[k] == unbroken[k] for k in ("test", "validation", "best_step")] == [True] * 3
        assert numbers(folder) == numbers(run)  # each once


def killed(method, run, left):
    """Copies the run's folder before `method` is called, once the newest step is saved."""

    def call(*given):
        trained = numbers(run)[-1]["step"]
        while not (run / "checkpoints" / str(trained)).is_dir():
            time.sleep(0.01)
        shutil.copytree(run, folder := run.with_name(f"killed-{len(left)}"))
        left[folder] = trained
        return method(*given)

    return call


def numbers(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if "per_second" not in k} for line in lines]


@pytest.mark.parametrize("every, step", [(1, 1), (4, 2)])
def test_weights_that_diverged_are_not_saved_though_the_loss_was_finite(
    tiny, tmp_path, every, step
):
    """The step's loss is that of the weights before it: it and the gradient are finite."""
    tiny.optim.update(lr=1e30, warmup_steps=0, warmup_epochs=0.0, clip_norm=0.0)
    tiny.eval.every_steps = every  # validation finds it, or else the next step
    with pytest.raises(DivergedError, match=f"diverged at step {step}: .* is (nan|inf)"):
        train(tiny, tmp_path)
    assert newest(tmp_path / "checkpoints") == -1
    for line in (tmp_path / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)  # NaN and Infinity are no JSON


def test_a_clock_that_is_set_back_harms_nothing_and_a_window_is_profiled(
    tiny, tmp_path, monkeypatch, capsys
):
    now, day = time.time, 24 * 3600
    at_step(monkeypatch, 1, lambda: monkeypatch.setattr(time, "time", lambda: now() - day))
    result = train(tiny, tmp_path, profile=(2, 3))
    assert result["step"] == 4 and 0 < result["seconds"] < 1000
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))  # and this run was profiled
    with Progress(10, 5, clock=lambda: 7.0) as progress:  # a clock that stands still
        for step in (1, 2):
            progress.update(step, loss=1.0, accuracy=0.5, images_per_second=float("nan"))
    assert "0s left" in capsys.readouterr().out


ASCII = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}


def program(*words, **environment):
    command = [
        sys.executable,
        "-m",
        "lficam_jax.main",
        "--config=configs/cluttered_digits.py:smoke",
    ]
    return subprocess.Popen(
        [*command, *map(str, words)], env={**os.environ, "XLA_FLAGS": "", **environment},
        text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def test_a_terminal_that_knows_no_letter_but_ascii_is_no_reason_to_fail():
    """An en dash and an ellipsis are in our words; they arrive escaped."""
    wrong = program("--mode=describe", "--config.optim.name=sdg", **ASCII)
    describe = program("--mode=describe", **ASCII)
    _, error = wrong.communicate(timeout=60)
    assert wrong.returncode == 2 and r"\u2014 did you mean 'sgd'" in error
    out, error = describe.communicate(timeout=60)
    assert describe.returncode == 0 and "FLOPs" in out, error


STUCK = """
import time
from pathlib import Path
from lficam_jax.devices.watchdog import Watchdog
def stand_still(): time.sleep(60)
with Watchdog(0.3) as watchdog:
    watchdog.watch("step 1", patience=3)
    time.sleep(0.5)  # longer than a step may take, but it compiles
    watchdog.watch("step 2")
    stand_still()
"""


def test_the_watchdog_ends_a_stuck_step_and_says_where_it_stood():
    since = time.monotonic()
    found = subprocess.run([sys.executable, "-c", STUCK], capture_output=True, text=True)
    assert found.returncode == 75 and time.monotonic() - since < 50  # of 60
    assert "stuck: step 2 did not end within 0.3 s" in found.stderr
    assert "in stand_still" in found.stderr  # the stack


def test_the_loop_is_watched_step_by_step_and_sigint_ends_it(tiny, tmp_path, monkeypatch):
    """Step 3 takes longer than is allowed, no other does; the first, which compiles, may."""
    barked = []
    monkeypatch.setattr(watchdog.Watchdog, "_bark", lambda self: barked.append(self._doing))
    tiny.train.watchdog_seconds = 3.0
    tiny.eval.every_steps = 4
    at_step(monkeypatch, 3, lambda: time.sleep(4.5) or os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(Interrupted, match="SIGINT: saved step 3") as stop:
        train(tiny, tmp_path)
    assert stop.value.exit_code == 130 and (tmp_path / "checkpoints" / "3").is_dir()
    assert "step 3" in barked and "step 2" not in barked


class Gone(io.StringIO):
    """A terminal that was closed, or a disk that is full."""

    def write(self, text):
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_a_run_whose_terminal_is_gone_saves_and_says_so_once(
    tiny, tmp_path, monkeypatch, capsys, request
):
    """All that it prints fails, and SIGHUP comes; under nohup it would go on."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
    request.addfinalizer(lambda: signal.signal(signal.SIGHUP, before))
    monkeypatch.setattr(sys, "stdout", Gone())
    at_step(monkeypatch, 2, lambda: os.kill(os.getpid(), signal.SIGHUP))
    with pytest.raises(Interrupted, match="SIGHUP: saved step 2") as stop:
        train(tiny, tmp_path)
    assert stop.value.exit_code == 129 and newest(tmp_path / "checkpoints") == 2
    told = capsys.readouterr().err
    assert "warning: standard output cannot be written (Input/output error); the run go" in told
    assert told.count("\n") == 1


def place_of_programs(monkeypatch):
    """Returns what `keep_compiled` chooses where nobody chose before."""
    before = jax.config.jax_compilation_cache_dir
    try:
        jax.config.update("jax_compilation_cache_dir", None)
        compiled.keep_compiled()
        return jax.config.jax_compilation_cache_dir
    finally:
        jax.config.update("jax_compilation_cache_dir", before)


def test_compiled_programs_are_kept_with_the_user_alone(tmp_path, monkeypatch):
    before = jax.config.jax_compilation_cache_dir
    compiled.keep_compiled()
    assert jax.config.jax_compilation_cache_dir == before  # conftest chose
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    ours = tmp_path / "cache" / "lficam_jax"
    (tmp_path / "cache").mkdir()
    ours.mkdir(mode=0o777)
    place = Path(place_of_programs(monkeypatch))
    assert place.parent == ours
    assert [stat.S_IMODE(p.stat().st_mode) for p in (ours, place)] == [0o700, 0o700]
    monkeypatch.setenv("XDG_CACHE_HOME", "here")  # must be absolute, says its specification
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert place_of_programs(monkeypatch).startswith(str(tmp_path / "home/.cache/lficam_jax/"))


def test_programs_of_somebody_else_are_not_loaded(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "theirs").mkdir()
    (tmp_path / "lficam_jax").symlink_to("theirs")
    assert place_of_programs(monkeypatch) is None
    (tmp_path / "lficam_jax").unlink()
    (tmp_path / "lficam_jax").mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert place_of_programs(monkeypatch) is None
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    assert place_of_programs(monkeypatch) is None


RUN = ("--config.train.total_steps=60", "--config.eval.every_steps=20",
       "--config.train.checkpoint_every_steps=1", "--config.data.image_size=16",
       "--config.train.tensorboard=False")  # fmt: skip
KILLS = 20


@pytest.mark.long
def test_killed_at_twenty_random_moments_the_weights_are_the_same_bits(tiny, digits, tmp_path):
    """Saving goes on all the time: a step takes about as long as its checkpoint."""
    data = f"--config.data.dir={digits}"
    unbroken = program("--workdir", tmp_path / "unbroken", *RUN, data)
    assert unbroken.communicate(timeout=300) and unbroken.returncode == 0
    moments, met, half_saved = random.Random(0), 0, 0
    lines, folder = tmp_path / "run" / "metrics.jsonl", tmp_path / "run" / "checkpoints"
    while met < KILLS:
        if newest(folder) > 50:  # the next kill would come too late: begin anew
            finish(tmp_path / "run", tmp_path / "unbroken", tiny, data)
        process, before = program("--workdir", tmp_path / "run", *RUN, data), newest(folder)
        while process.poll() is None and newest(folder) == before:
            time.sleep(0.01)  # until the run is under way
        time.sleep(moments.uniform(0, 0.6))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        met += 1
        half_saved += any(folder.glob("*.orbax-checkpoint-tmp*"))
        steps = [json.loads(line)["step"] for line in lines.read_text().splitlines()[:-1]]
        assert steps == sorted(steps)
    finish(tmp_path / "run", tmp_path / "unbroken", tiny, data)
    print(f"{met} kills, {half_saved} of them during a save")


def newest(folder):
    return max((int(p.name) for p in folder.glob("*") if p.name.isdigit()), default=-1)


def finish(folder, unbroken, tiny, data):
    process = program("--workdir", folder, *RUN, data)
    _, error = process.communicate(timeout=300)
    assert process.returncode == 0, error
    tiny.data.image_size, tiny.train.total_steps = 16, 60
    same_weights(tiny, folder, unbroken, 60)
    shutil.rmtree(folder)
