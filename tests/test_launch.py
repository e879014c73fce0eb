"""The launch scripts, with fake gcloud, srun, scontrol and python in place of the machines."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from absl.flags import DEFINE_string, FlagValues
from ml_collections import config_flags

LAUNCH = Path(__file__).parent.parent / "launch"
SCRIPTS = sorted([*LAUNCH.glob("*.sh"), *LAUNCH.glob("*.sbatch")])
CALLABLE = [path.name for path in SCRIPTS if path.name != "lib.sh"]

# What stands for `python -m lficam_jax.main`: it notes its words, takes the next of the codes, and
# does as a run that ends with it. It leaves a result behind a 0, a checkpoint behind `saved`.
PYTHON = r"""#!/usr/bin/env bash
[ "$2" = lficam_jax.main ] || exit 0
echo "$*" >> "$FAKE/runs"
workdir=$(sed -E 's/.*--workdir[= ]([^ ]*).*/\1/' <<< "$*")
code=$(head -n 1 "$FAKE/codes"); [ "$(wc -l < "$FAKE/codes")" = 1 ] || sed -i 1d "$FAKE/codes"
case $code in
  0) mkdir -p "$workdir/results"; echo '{}' > "$workdir/results/train.json" ;;
  saved) mkdir -p "$workdir/checkpoints/$RANDOM$RANDOM"; code=1 ;;
  preempted) echo SUSPENDED > "$FAKE/state"; exec sleep 2 ;;
  long) trap 'echo saved; sleep 0.2; exit 143' TERM; touch "$FAKE/ready"
        for _ in {1..600}; do sleep 0.05; done ;;
esac
exit "$code"
"""
GCLOUD = r"""#!/usr/bin/env bash
printf '%q ' "$@" >> "$FAKE/calls"; echo >> "$FAKE/calls"
state=$(cat "$FAKE/state" 2> /dev/null || true)
for word; do case $word in --command=*) command=${word#*=} ;; esac; done
next() { [ -s "$1" ] || return 1; head -n 1 "$1"; sed -i 1d "$1"; }
if code=$(next "$FAKE/refused"); then exit "$code"; fi
case "$3 $4" in
  "queued-resources describe")
    [ -n "$state" ] || { echo "ERROR: NOT_FOUND: no such request" >&2; exit 1; }
    echo "$state"; if grown=$(next "$FAKE/grows"); then echo "$grown" > "$FAKE/state"; fi ;;
  "queued-resources create") cat "$FAKE/created" > "$FAKE/state" ;;
  "queued-resources delete") rm -rf "$FAKE/state" "$FAKE/home/lficam" ;;
  "tpu-vm scp") [ "$state" = ACTIVE ] && cp "$5" "$FAKE/home/lficam.tgz" ;;
  "tpu-vm ssh") [ "$state" = ACTIVE ] && cd "$FAKE/home" && HOME=$FAKE/home bash -c "$command" ;;
esac
"""
UV = r"""#!/usr/bin/env bash
echo "uv $*" >> "$FAKE/installed"
if [ "$1" = venv ]; then mkdir -p .venv/bin; cp "$FAKE/python" .venv/bin/python; fi
"""
SRUN = r"""#!/usr/bin/env bash
echo "srun $*" >> "$FAKE/calls"
shift
exec "$@"
"""
SCANCEL = (
    'echo "scancel $*" >> "$FAKE/calls"; kill -TERM "$(pgrep -f "$FAKE/repo/.venv" | head -1)"'
)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text if text.startswith("#!") else f"#!/usr/bin/env bash\n{text}\n")
    path.chmod(0o755)


def wait_for(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


class Box:
    """A repository with the scripts, and commands that stand for the cloud."""

    def __init__(self, path):
        self.path, self.repo = path, path / "repo"
        shutil.copytree(LAUNCH, self.repo / "launch")
        (path / "home").mkdir()
        (path / "created").write_text("ACTIVE\n")
        write(path / "python", PYTHON)
        write(self.repo / ".venv/bin/python", PYTHON)
        write(path / "home/.local/bin/uv", UV)
        for name, text in {
            "gcloud": GCLOUD, "srun": SRUN, "sudo": "exit 0", "python3": "exit 0",
            "scancel": SCANCEL, "scontrol": 'echo "scontrol $*" >> "$FAKE/calls"',
        }.items():  # fmt: skip
            write(path / "bin" / name, text)

    def environment(self, **extra):
        keep = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "RETRIES"))}
        fakes = {"PATH": f"{self.path / 'bin'}:{os.environ['PATH']}", "FAKE": str(self.path)}
        quick = {"NAME": "box", "ZONE": "here", "POLL": "0", "WAIT": "0"}
        return keep | fakes | quick | {"TMPDIR": str(self.path)} | extra

    def words(self, script):
        return ["bash", str(self.repo / "launch" / script)]

    def run(self, script, *words, codes=(), **extra):
        if codes:
            self.say("codes", codes)
        return subprocess.run(
            [*self.words(script), *words], env=self.environment(**extra), cwd=self.repo,
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    def start(self, script, *words, **extra):
        """Starts a script whose run goes on until it is told to stop."""
        self.say("codes", ["long"])
        process = subprocess.Popen(
            # where the tests run in the background, INT is ignored, and a shell cannot undo that
            ["env", "--default-signal=INT", *self.words(script), *words],
            env=self.environment(**extra), cwd=self.repo,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        wait_for((self.path / "ready").exists)
        return process

    def say(self, name, lines):
        (self.path / name).write_text("".join(f"{line}\n" for line in lines))

    def noted(self, name):
        path = self.path / name
        return path.read_text().splitlines() if path.exists() else []

    def calls(self, *of):
        """The calls of gcloud that begin with these words, say `tpu-vm ssh`."""
        start = " ".join(("compute", "tpus", *of))
        return [call for call in self.noted("calls") if call.startswith(start)]


@pytest.fixture
def box(tmp_path):
    return Box(tmp_path)


@pytest.fixture
def cloud(box):
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(box.repo)]
    for words in (["init", "-q"], ["add", "launch"], ["commit", "-qm", "all"]):
        subprocess.run([*git, *words], check=True)
    return box


FLAGS = ("--config", "configs/a.py", "--workdir", "/mnt/bucket/a b", "--config.data.name=it's")


def test_shellcheck_finds_nothing():
    command = ["shellcheck", "-x", "-P", str(LAUNCH.parent), *map(str, SCRIPTS)]
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
def test_the_programme_understands_the_flags(cloud, monkeypatch):
    """--config.KEY behind --config, and no flag that does not exist."""
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
    (job,) = [
        d for d in yaml.safe_load_all((LAUNCH / "gke.yaml").read_text()) if d["kind"] == "Job"
    ]
    commands.append(job["spec"]["template"]["spec"]["containers"][0]["args"])
    for words in commands:
        values = FlagValues()
        config_flags.DEFINE_config_file("config", flag_values=values)
        for name in ("workdir", "distributed"):
            DEFINE_string(name, "", "", flag_values=values)
        monkeypatch.setattr(sys, "argv", ["main", *words])
        assert not values(sys.argv)[1:], words
        assert values.config.train.batch_size and values.workdir
    assert len(commands) == 5


def test_tpu_create_asks_for_the_machine_and_waits(cloud):
    cloud.say("created", ["WAITING_FOR_RESOURCES"])
    cloud.say("grows", ["PROVISIONING", "ACTIVE"])
    done = cloud.run("tpu_vm.sh", "create", TYPE="v6e-8", PROJECT="mine")
    assert done.returncode == 0 and done.stdout.split()[1::2] == [
        "WAITING_FOR_RESOURCES", "PROVISIONING"
    ]  # fmt: skip
    (call,) = cloud.calls("queued-resources", "create")
    assert shlex.split(call)[4:] == [
        "box", "--node-id=box", "--zone=here", "--project=mine", "--accelerator-type=v6e-8",
        "--runtime-version=v2-alpha-tpuv6e", "--spot", "--quiet",
    ]  # fmt: skip


def test_tpu_on_demand(cloud):
    assert cloud.run("tpu_vm.sh", "create", SPOT="0").returncode == 0
    assert "--spot" not in cloud.calls("queued-resources", "create")[0]


def test_tpu_run_from_nothing_to_deleted_through_preemption_and_crash(cloud):
    done = cloud.run("tpu_vm.sh", "babysit", *FLAGS, codes=["preempted", 75, 143, 0])
    assert done.returncode == 0, done.stderr
    ends = re.findall(r"attempt (\d) ended: (\w+)", done.stdout)
    assert ends == [("1", "lost"), ("2", "75"), ("3", "143"), ("4", "0")]
    assert len(cloud.calls("queued-resources", "create")) == 2
    assert len(cloud.calls("queued-resources", "delete")) == 2
    assert len(cloud.calls("tpu-vm", "scp")) == 2  # each new machine is set up once
    assert all("--worker=all" in call for call in cloud.calls("tpu-vm", "scp"))
    runs = cloud.noted("runs")  # always the same command, so that the run continues
    assert len(runs) == 4 and set(runs) == {
        f"-m lficam_jax.main {' '.join(FLAGS)} --distributed=auto --config.parallel.platform=tpu"
    }
    assert not (cloud.path / "state").exists()
    assert any("jax[tpu]" in line for line in cloud.noted("installed"))


@pytest.mark.parametrize("code", [2, 3])
def test_tpu_bad_input_and_divergence_are_not_tried_again(cloud, code):
    done = cloud.run("tpu_vm.sh", "babysit", *FLAGS, codes=[code])
    assert done.returncode == code and len(cloud.noted("runs")) == 1
    assert len(cloud.calls("queued-resources", "delete")) == 1


def test_tpu_retries_are_bounded_and_keep_keeps(cloud):
    done = cloud.run("tpu_vm.sh", "babysit", *FLAGS, codes=[1], RETRIES="2", KEEP="1")
    assert done.returncode == 1 and "given up after 2 restarts" in done.stderr
    assert len(cloud.noted("runs")) == 3
    assert not cloud.calls("queued-resources", "delete")


def test_tpu_request_that_fails_is_made_again(cloud):
    cloud.say("created", ["FAILED"])
    done = cloud.run("tpu_vm.sh", "babysit", *FLAGS, RETRIES="1")
    assert done.returncode == 1 and "the request box is FAILED" in done.stderr
    assert len(cloud.calls("queued-resources", "create")) == 2
    assert not cloud.noted("runs") and not (cloud.path / "state").exists()


def test_tpu_a_machine_that_refuses_at_first_and_a_silent_network_are_waited_for(cloud):
    cloud.run("tpu_vm.sh", "create")
    cloud.say("refused", [255] * 3)
    assert cloud.run("tpu_vm.sh", "setup").returncode == 0
    cloud.run("tpu_vm.sh", "run", *FLAGS, codes=["long"])
    wait_for((cloud.path / "ready").exists)
    status = cloud.run("tpu_vm.sh", "status")
    assert status.stdout.splitlines() == ["ACTIVE", "exit: running"]
    # Fewer than ten unanswered in a row, however the two calls share them.
    cloud.say("refused", [1] * 7)  # neither ssh nor describe answers: no reason to delete anything
    watching = subprocess.Popen(
        [*cloud.words("tpu_vm.sh"), "babysit", *FLAGS], env=cloud.environment(), cwd=cloud.repo,
        stdout=subprocess.DEVNULL,
    )  # fmt: skip
    wait_for(lambda: not cloud.noted("refused"))
    (run,) = cloud.noted("runs")  # it goes on, watched again
    cloud.say("refused", [1] * 7)
    wait_for(lambda: not cloud.noted("refused"))
    assert watching.poll() is None and not cloud.calls("queued-resources", "delete")
    os.killpg(int((cloud.path / "home/lficam/run.pid").read_text()), signal.SIGKILL)
    cloud.say("codes", [0])  # without an exit code: started again
    assert watching.wait(20) == 0 and cloud.noted("runs") == [run, run]
    assert len(cloud.calls("queued-resources", "delete")) == 1


def test_tpu_wants_a_workdir_that_outlives_the_machine(cloud):
    done = cloud.run("tpu_vm.sh", "babysit", "--config", "c.py", "--workdir=runs/a")
    assert done.returncode == 2 and "--workdir must outlive the machine" in done.stderr
    # of two, the last counts
    done = cloud.run("tpu_vm.sh", "babysit", "--workdir", "gs://a/b", "--workdir=c")
    assert done.returncode == 2 and "--workdir must outlive the machine" in done.stderr
    done = cloud.run("tpu_vm.sh", "create", ZONE="")
    assert done.returncode == 2 and "set ZONE" in done.stderr
    done = cloud.run("tpu_vm.sh", "creat")
    assert done.returncode == 2 and "unknown command creat" in done.stderr
    assert not cloud.noted("calls")


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


def test_kubernetes_job_agrees_with_itself_and_with_the_exit_codes():
    service, job = yaml.safe_load_all((LAUNCH / "gke.yaml").read_text())
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    address, count, index = container["args"][0].split("=")[1].split(",")
    name = job["metadata"]["name"]
    assert address.split(":")[0] == f"{name}-0.{service['metadata']['name']}"
    assert pod["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"] == {"job-name": name}
    assert int(count) == spec["completions"] == spec["parallelism"]
    assert index == "$(JOB_COMPLETION_INDEX)" and spec["completionMode"] == "Indexed"
    fails, ignored = spec["podFailurePolicy"]["rules"]
    assert fails["onExitCodes"] == {"containerName": "train", "operator": "In", "values": [2, 3]}
    assert ignored["action"] == "Ignore" and pod["restartPolicy"] == "Never"
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}
