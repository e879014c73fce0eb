"""The programs as a user starts them: real processes, real signals, real mistakes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from lficam_jax.errors import UserError
from lficam_jax.main import main
from lficam_jax.training.experiment import load_run

CONFIG = "configs/cluttered_digits.py:smoke"


@pytest.fixture
def start(digits):
    """Starts `python -m lficam_jax.main` on one CPU device."""

    def popen(*words, config=CONFIG):
        environment = {**os.environ, "XLA_FLAGS": ""}
        words = (f"--config.data.dir={digits}", *words)
        command = [sys.executable, "-m", "lficam_jax.main", "--config", config, *map(str, words)]
        return subprocess.Popen(
            command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    return popen


@pytest.fixture
def run(start):
    def finish(*words, config=CONFIG):
        process = start(*words, config=config)
        out, error = process.communicate(timeout=240)
        return process.returncode, out, error

    return finish


@pytest.mark.slow
def test_train_evaluate_explain_and_describe(run, digits, tmp_path):
    workdir = tmp_path / "run"
    code, out, error = run("--workdir", workdir)
    assert code == 0, error
    assert "compiled the training step in" in out and "step 4/4" in out and "images/s" in out
    assert "pointing_game" in out and "effective_channels" in out
    result = json.loads((workdir / "results" / "train.json").read_text())
    assert (workdir / "results" / "confusion.png").stat().st_size > 1000

    code, out, error = run("--workdir", workdir, "--mode", "evaluate")
    assert code == 0, error
    again = json.loads((workdir / "results" / "evaluate.json").read_text())
    assert again["accuracy"] == result["test"]["accuracy"]
    assert again["confusion"] == result["test"]["confusion"]

    words = ("--mode", "evaluate", "--split", "tset", f"--config.data.dir={digits}")
    told = refused("--workdir", workdir, *words)
    assert "'tset' is unknown — did you mean 'test'" in told

    (tmp_path / "note.jpg").write_text("not a picture")
    code, out, error = run("--workdir", workdir, "--mode", "explain")
    assert code == 0, error
    page = next(workdir.glob("explanations/*/index.html")).read_text()
    assert 'src="http' not in page and 'href="http' not in page  # self-contained
    picture = next(workdir.glob("explanations/*/*.png"))
    words = ("--mode", "explain", "--images", picture, tmp_path / "note.jpg")
    code, out, error = run("--workdir", workdir, *words)
    assert code == 1 and "note.jpg" in out + error


RUN = ("--config.train.total_steps=40", "--config.eval.every_steps=10",
       "--config.train.checkpoint_every_steps=1", "--config.train.log_every_steps=1",
       "--config.data.image_size=16", "--config.train.tensorboard=False")  # fmt: skip


def final_weights(tiny, workdir):
    tiny.data.image_size = 16
    tiny.train.total_steps = 40
    return load_run(tiny, workdir, 40).variables


def break_at(process, workdir, step, signum):
    """Sends a signal once `metrics.jsonl` shows that the run has passed `step`."""
    path, deadline = workdir / "metrics.jsonl", time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if path.exists() and path.read_text().count("train/loss") >= step:
            process.send_signal(signum)
            return process.communicate(timeout=120)
        time.sleep(0.005)
    raise AssertionError(f"the run ended before step {step}: {process.communicate()}")


@pytest.mark.slow
def test_a_run_that_is_killed_and_preempted_ends_with_the_weights_of_an_unbroken_one(
    start, run, tiny, tmp_path
):
    assert run("--workdir", tmp_path / "unbroken", *RUN)[0] == 0
    expected = final_weights(tiny, tmp_path / "unbroken")

    workdir = tmp_path / "broken"
    killed = start("--workdir", workdir, *RUN)
    break_at(killed, workdir, 5, signal.SIGKILL)
    assert killed.returncode == -signal.SIGKILL
    preempted = start("--workdir", workdir, *RUN)
    out, _ = break_at(preempted, workdir, 13, signal.SIGTERM)
    assert preempted.returncode == 143
    assert "continuing at step" in out and "SIGTERM: saved step" in out
    code, out, error = run("--workdir", workdir, *RUN)
    assert code == 0, error
    assert "continuing at step" in out
    jax.tree.map(np.testing.assert_array_equal, final_weights(tiny, workdir), expected)


MISTAKES = {
    "a key that does not exist": (
        ["--config.optim.lrr=1"], "unknown config key 'optim.lrr' — did you mean 'optim.lr'?"
    ),
    "a group that does not exist": (["--config.optm.lr=1"], "'optm.lr' — did you mean 'optim.lr'?"),
    "a value of the wrong type": (["--config.optim.lr=fast"], "optim.lr=fast is not a number"),
    "a name that does not exist": (["--config.optim.name=sdg"], "did you mean 'sgd'"),
    "a depth that does not exist": (["--config.model.depth=9"], "6n + 2, nearest: 8, 14"),
    "a data set that does not exist": (
        ["--config.data.name=fashionmnist"], "did you mean 'fashion_mnist'"
    ),
    "data that are not prepared": (
        ["--config.data.name=cifar10"], "lficam prepare cifar10 --data_dir"
    ),
    "a mode that does not exist": (["--mode", "trian"], "--mode 'trian' is unknown — did you"),
    "a word too many": (["nonsense"], "unexpected arguments: nonsense"),
    "maps where none is drawn": (["--methods", "own"], "--methods is for explain, faithfulness"),
    "a limit that is not used": (["--mode", "evaluate", "--limit", "1000"], "leave it out of eval"),
    "a perturbation that does not exist": (
        ["--mode", "robustness", "--perturbations", "fgsm,contarst"], "did you mean 'contrast'"
    ),
    "a run that is not there": (["--mode", "evaluate"], "holds no run"),
}  # fmt: skip


def refused(*words, config=CONFIG):
    """What is told of these words in place of doing anything."""
    with pytest.raises(UserError) as told:
        main(["--config", config, *map(str, words)])
    assert told.value.exit_code == 2
    return str(told.value)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gets_one_clear_line(digits, tmp_path, mistake):
    words, expected = MISTAKES[mistake]
    data = f"--config.data.dir={digits}"
    assert expected in refused(data, "--workdir", tmp_path / "run", *words)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_a_mistake_ends_the_program(run, tmp_path):
    code, _, error = run("--workdir", tmp_path / "run", "--config.model.depth=9")
    assert code == 2 and error.startswith("error: ") and "nearest: 8, 14" in error
    assert "Traceback" not in error


def test_missing_flags_and_files_are_told():
    assert "--workdir is missing" in refused()
    words = ("--workdir", "nowhere")
    told = refused(*words, config="configs/nothing.py")
    assert "cannot read the config file configs/nothing.py: no such file" in told
    told = refused(*words, config="configs/cluttered_digits.py:smok")
    assert "option 'smok' is unknown here — did you mean 'smoke'?" in told


def test_describe_needs_neither_data_nor_workdir(run):
    code, out, error = run("--mode", "describe", "--config.data.dir=/nowhere")
    assert code == 0, error
    assert "FLOPs" in out and "learning rate" in out


def test_help_teaches():
    command = [sys.executable, "-m", "lficam_jax.main", "--help"]
    out = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
    assert "modes:" in out and "exit codes:" in out and "examples:" in out
    readme = Path("README.md").read_text()
    assert "make quickstart" in readme and "make test" in readme


def test_help_may_be_cut_short():
    command = f"{sys.executable} -m lficam_jax.main --help | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert done.stdout.startswith("Trains") and not done.stderr
