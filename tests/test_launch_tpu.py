"""launch/tpu_vm.sh, with a fake gcloud that keeps a machine's state and runs what is sent to it."""

import os
import re
import shlex
import signal
import subprocess

import pytest

from tests.launch_box import FLAGS, Box, wait_for, write


@pytest.fixture
def cloud(tmp_path):
    return Box(tmp_path).committed()


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
    assert any("--editable .[tpu,gcs]" in line for line in cloud.noted("installed"))


def test_tpu_mounts_the_bucket_so_that_folders_can_be_renamed(cloud):
    cloud.run("tpu_vm.sh", "create")
    write(cloud.path / "bin/gcsfuse", 'echo "gcsfuse $*" >> "$FAKE/installed"')
    write(cloud.path / "bin/mountpoint", "exit 1")
    assert cloud.run("tpu_vm.sh", "setup", BUCKET="mine", USER="me").returncode == 0
    mounting = "gcsfuse --implicit-dirs --rename-dir-limit=200000 mine /mnt/bucket"
    assert cloud.noted("installed")[-1] == mounting


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
