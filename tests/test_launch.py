"""The launch scripts, with fake gcloud, srun, scontrol and python in place of the machines."""

import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lficam_jax.cli.commands import parser
from lficam_jax.config_file import configured, split_overrides
from tests.launch_box import FLAGS, LAUNCH, Box, containers, read, wait_for

SCRIPTS = sorted([*LAUNCH.glob("*.sh"), *LAUNCH.glob("*.sbatch")])
CALLABLE = [path.name for path in SCRIPTS if path.name != "lib.sh"]


@pytest.fixture
def box(tmp_path):
    return Box(tmp_path)


@pytest.fixture
def cloud(tmp_path):
    return Box(tmp_path).committed()


def test_shellcheck_finds_nothing():
    program = Path(sys.executable).with_name("shellcheck")  # of the environment, active or not
    command = [program, "-x", "-P", str(LAUNCH.parent), *map(str, SCRIPTS)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=LAUNCH.parent)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", CALLABLE)
def test_help_is_the_comment_at_the_head(name):
    done = subprocess.run(["bash", LAUNCH / name, "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and f"launch/{name}" in done.stdout
    assert "#SBATCH" not in done.stdout and "set -euo" not in done.stdout
    assert "set -euo pipefail" in (LAUNCH / name).read_text()


def test_dry_runs_print_and_do_nothing(cloud):
    printed = cloud.run("tpu_vm.sh", "--dry-run", "babysit", *FLAGS).stdout.splitlines()
    starts = [line.split("box")[0].strip() for line in printed if line.startswith("gcloud")]
    assert starts == [
        "gcloud compute tpus queued-resources create",
        f"gcloud compute tpus tpu-vm scp {cloud.path}/lficam-",
        "gcloud compute tpus tpu-vm ssh",
        "gcloud compute tpus tpu-vm ssh",
        "gcloud compute tpus tpu-vm ssh",
        "gcloud compute tpus queued-resources delete",
    ]
    for script in ("gpu.sh", "slurm.sbatch"):
        done = cloud.run(script, "--dry-run", *FLAGS)
        assert shlex.join(FLAGS) in shlex.join(shlex.split(done.stdout))
    done = cloud.run("sweep.sh", "--dry-run", "--config", "c.py", "--dir", "d", "--seeds", "0,1")
    assert [line.split()[-1] for line in done.stdout.splitlines()] == [
        "--config.seed=0", "--config.seed=1"
    ]  # fmt: skip
    done = cloud.run("local.sh", "--dry-run", "c.py", "d", "--config.seed=1")
    modes = [re.findall(r"--mode (\w+)", line) for line in done.stdout.splitlines()]
    assert modes == [[], ["evaluate"], ["explain"]]
    assert not cloud.noted("calls") and not cloud.noted("runs")


def test_local_trains_evaluates_and_explains_until_one_fails(box):
    assert box.run("local.sh", "c.py", "d", "--config.seed=1", codes=[0, 2]).returncode == 2
    assert box.noted("runs") == [
        "-m lficam_jax.main --config c.py --workdir d --config.seed=1",
        "-m lficam_jax.main --config c.py --workdir d --mode evaluate --config.seed=1",
    ]
    assert box.run("local.sh", "c.py").returncode == 2


@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # of ml_collections
def test_the_programme_understands_the_flags(cloud):
    """No key and no flag that does not exist."""
    flags = ("--config", "configs/cifar10.py", "--workdir=/mnt/bucket/a")
    sweep = ("--config", flags[1], "--dir", "d", "--variant", "a --config.optim.lr=1")
    printed = [
        cloud.run("gpu.sh", "--dry-run", *flags).stdout,
        cloud.run("slurm.sbatch", "--dry-run", *flags).stdout,
        cloud.run("sweep.sh", "--dry-run", *sweep).stdout,
    ]
    cloud.run("tpu_vm.sh", "babysit", *flags, codes=[0])
    commands = [shlex.split(text.split("lficam_jax.main")[1]) for text in printed]
    commands += [line.split()[2:] for line in cloud.noted("runs")]
    commands += [c["args"] for n in ("gke.yaml", "jobset.yaml") for c in containers(read(n))]
    for words in commands:
        rest, overrides = split_overrides(words)
        asked = parser("train", "lficam train").parse(rest)
        assert configured(asked.config, overrides).train.batch_size and asked.workdir
    assert len(commands) == 6


def test_gpu_starts_again_until_done(box):
    done = box.run("gpu.sh", *FLAGS, codes=[1, 75, 137, 0])
    assert done.returncode == 0 and len(box.noted("runs")) == 4
    assert set(box.noted("runs")) == {
        f"-m lficam_jax.main {' '.join(FLAGS)} --config.parallel.platform=gpu"
    }


def test_gpu_gives_up_after_crashes_without_a_checkpoint(box):
    flags = ("--config", "c.py", "--workdir", str(box.path / "w"))
    done = box.run("gpu.sh", *flags, codes=["saved", 1, "saved", 1, 1, 1], RETRIES="2")
    assert done.returncode == 1 and len(box.noted("runs")) == 5
    assert "3 times without a new checkpoint" in done.stderr
    assert box.run("gpu.sh", *flags, codes=[3, 0]).returncode == 3
    assert len(box.noted("runs")) == 6


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_gpu_passes_a_signal_on_and_waits_until_the_run_has_saved(box, signum):
    process = box.start("gpu.sh", *FLAGS)
    process.send_signal(signum)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 143 and "saved" in output
    assert len(box.noted("runs")) == 1


def test_slurm_runs_one_process_per_gpu(box):
    done = box.run("slurm.sbatch", *FLAGS, codes=[0], SLURM_JOB_ID="7")
    assert done.returncode == 0, done.stderr
    assert box.noted("calls") == [
        f"srun --kill-on-bad-exit=1 .venv/bin/python -m lficam_jax.main {' '.join(FLAGS)} "
        "--distributed=auto --config.parallel.platform=gpu"
    ]
    options = dict(
        re.findall(r"^#SBATCH --([\w-]+)=(.*)$", LAUNCH.joinpath("slurm.sbatch").read_text(), re.M)
    )
    assert options["ntasks-per-node"] == options["gpus-per-node"]
    assert options["signal"] == "B:TERM@120"


def test_slurm_saves_and_queues_itself_again_on_a_signal(box):
    process = box.start("slurm.sbatch", *FLAGS, SLURM_JOB_ID="7", SLURM_RESTART_COUNT="99")
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 143 and "saved" in output
    assert box.noted("calls")[1:] == ["scancel --signal=TERM 7", "scontrol requeue 7"]


@pytest.mark.parametrize(
    ("code", "restarts", "again"),
    [(2, 0, False), (3, 0, False), (75, 0, True), (1, 4, True), (1, 5, False), (143, 50, True)],
)
def test_slurm_restarts_what_can_go_on(box, code, restarts, again):
    done = box.run(
        "slurm.sbatch", *FLAGS, codes=[code], SLURM_JOB_ID="7", SLURM_RESTART_COUNT=str(restarts)
    )
    assert done.returncode == code
    assert ("scontrol requeue 7" in box.noted("calls")) == again
    assert again or "not queued again" in done.stderr


def test_slurm_outside_a_job(box):
    done = box.run("slurm.sbatch", *FLAGS)
    assert done.returncode == 2 and "give it to sbatch" in done.stderr


SWEEP = ("--config", "c.py", "--seeds", "0,1", "--variant", "low --config.optim.lr=0.1",
         "--variant", "high --config.optim.lr=0.2")  # fmt: skip


def test_a_sweep_runs_all_skips_what_is_finished_and_goes_on_behind_a_failure(box):
    where = ("--dir", str(box.path / "s"))
    done = box.run("sweep.sh", *SWEEP, *where, "--", "--config.x=1", codes=[0, 2, 0, 0])
    assert done.returncode == 1 and "1 runs failed" in done.stderr
    assert len(box.noted("runs")) == 4
    done = box.run("sweep.sh", *SWEEP, *where, "--", "--config.x=1", codes=[0])
    assert done.returncode == 0 and done.stdout.count("already finished") == 3
    last = box.noted("runs")[-1]
    assert last == (
        f"-m lficam_jax.main --config c.py --workdir {box.path}/s/low/seed1 --config.seed=1 "
        "--config.optim.lr=0.1 --config.x=1"
    )
    assert (box.path / "s/high/seed0/results/train.json").exists()


def test_a_sweep_runs_several_at_once(box):
    process = box.start("sweep.sh", *SWEEP, "--dir", str(box.path / "s"), "--jobs", "2")
    wait_for(lambda: len(box.noted("runs")) == 2)
    time.sleep(0.1)  # for the second one's trap
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=20)
    assert process.returncode == 143, output
    assert len(box.noted("runs")) == 2  # and no third is started


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ((), "--config FILE and --dir DIR are needed"),
        (("--config", "c", "--dir", "d", "--jobs", "0"), "--jobs 0"),
        (("--config", "c", "--dir", "d", "--seeds", "a"), "--seeds a"),
        (("--config", "c", "--dir", "d", "--lr", "1"), "unknown option --lr"),
        (("--config", "c", "--dir", "d", "--variant", "--x=1"), "begins with no NAME"),
    ],
)
def test_what_is_wrong_with_a_sweep(box, words, problem):
    done = box.run("sweep.sh", *words)
    assert done.returncode == 2 and problem in done.stderr
