"""Two processes of two devices each: real ones, which meet, agree, train, die and go on."""

import copy
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from lficam_jax.devices import distributed
from lficam_jax.devices.parallel import replicate
from lficam_jax.errors import UserError
from lficam_jax.training.evaluate import Evaluation
from lficam_jax.training.experiment import load_run, open_splits
from lficam_jax.training.train import train

TOTAL = 30  # steps: jax takes about a second to tell all processes of a signal
# A small rate: rounding differs with the order of sums, and grows with every large step.
RUN = {
    "data.image_size": 16, "train.tensorboard": False, "train.checkpoint_every_steps": 1,
    "train.total_steps": TOTAL, "eval.every_steps": 10, "optim.lr": 0.0005,
}  # fmt: skip


def as_flags(keys):
    return [f"--config.{key}={value}" for key, value in keys.items()]


@pytest.fixture
def start(digits):
    """Starts the program; every process that a test leaves behind is ended."""
    started = []

    def popen(*words, devices=2, **environment):
        environment = {
            **os.environ, "NPROC": "8",
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}", **environment,
        }  # fmt: skip
        command = [sys.executable, "-m", "lficam_jax.main"]
        command += ["--config=configs/cluttered_digits.py:smoke", f"--config.data.dir={digits}"]
        command += map(str, words)
        process = subprocess.Popen(
            command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        started.append(process)
        return process

    yield popen
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()


@pytest.fixture
def pair(start):
    """Starts the program as two processes; `apart` are words for the second alone."""

    def popen(*words, apart=()):
        address = f"localhost:{free_port()}"
        return [
            start(*words, f"--distributed={address},2,{index}", *(apart if index else ()))
            for index in (0, 1)
        ]

    return popen


def free_port():
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]


def ended(*processes, timeout=180):
    """Returns the exit codes, what was printed, and what was told as errors."""
    texts = [process.communicate(timeout=timeout) for process in processes]
    codes = [process.returncode for process in processes]
    return codes, [out for out, _ in texts], [error for _, error in texts]


def after_step(step, workdir, processes):
    """Waits until the run has logged a step."""
    path, deadline = workdir / "metrics.jsonl", time.monotonic() + 150
    while time.monotonic() < deadline and all(p.poll() is None for p in processes):
        if path.exists() and path.read_text().count("train/loss") >= step:
            return
        time.sleep(0.01)
    raise AssertionError(f"the run ended before step {step}: {ended(*processes)}")


def own_words(out):
    """Returns what we printed: gloo, which reduces on CPUs, speaks on standard output too."""
    return [line for line in out.splitlines() if line and "[Gloo]" not in line]


def configured(tiny, digits, **keys):
    for key, value in {**RUN, "data.dir": str(digits), **keys}.items():
        group, name = key.split(".")
        tiny[group][name] = value
    return tiny


def close(config, workdir, other):
    """Same weights up to rounding: sums over devices are taken in another order."""
    ours, theirs = (load_run(config, folder, TOTAL).variables for folder in (workdir, other))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4), ours, theirs)


def newest(workdir):
    return max(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit())


def evaluated_alike(config, workdir, step):
    """One process counts the same: 40 examples in batches of 16, so that the last is half full."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    (found,) = [r for r in lines if r["step"] == step and "validation/loss" in r]
    run = load_run(config, workdir, step)
    split = open_splits(config, "validation")["validation"]
    expected = Evaluation(run.model, split, config).measure(replicate(run.variables, "pmap"))
    assert found["validation/examples"] == expected["examples"] == 40
    assert found["validation/accuracy"] == expected["accuracy"]
    assert found["validation/loss"] == pytest.approx(expected["loss"], rel=1e-5)


@pytest.fixture(scope="module")
def alone(tiny_config, digits, tmp_path_factory):
    """The same run in one process of eight devices."""
    config, workdir = copy.deepcopy(tiny_config), tmp_path_factory.mktemp("alone") / "run"
    return train(
        configured(config, digits, **{"train.checkpoint_every_steps": 0}), workdir
    ), workdir


@pytest.mark.slow
def test_a_pair_is_preempted_and_ends_elsewhere_as_one_process_does(
    pair, tiny, digits, alone, tmp_path
):
    config, workdir, words = configured(tiny, digits), tmp_path / "run", as_flags(RUN)
    stopped = pair("--workdir", workdir, *words)
    after_step(10, workdir, stopped)
    stopped[1].send_signal(signal.SIGTERM)  # process 0 is told by jax
    codes, outs, errors = ended(*stopped, timeout=60)
    assert codes == [143, 143], errors
    saved = newest(workdir)
    assert 10 <= saved < TOTAL and own_words(outs[0])[-1].startswith(
        f"SIGTERM: saved step {saved};"
    )
    assert own_words(outs[1]) == []  # process 0 speaks, and writes
    evaluated_alike(config, workdir, 10)

    config.parallel.mode = "shard_map"  # and goes on as one process of eight devices
    assert train(config, workdir)["resumed_at_step"] == saved
    close(config, workdir, alone[1])


MEET = """
import sys, time
from lficam_jax import cli
from lficam_jax.devices import distributed

def main(words):
    distributed.start(words[0])
    print("met", file=sys.stderr, flush=True)
    while True:
        distributed.gather("alive")

cli.run(main)
"""


@pytest.mark.parametrize("dead", [1, 0])
def test_a_process_whose_partner_dies_ends_soon_and_says_so(dead):
    address, environment = f"localhost:{free_port()}", {**os.environ, "XLA_FLAGS": ""}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", MEET, f"{address},2,{index}"], env=environment, text=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )
        for index in (0, 1)
    ]  # fmt: skip
    try:
        assert [p.stderr.readline() for p in processes] == ["met\n", "met\n"]
        processes[dead].kill()
        _, error = processes[1 - dead].communicate(timeout=30)
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    code = processes[1 - dead].returncode
    if dead == 0 and code == -signal.SIGABRT:  # jax, whose service died with it, was faster
        assert "another task died" in error
        return
    assert code == 75, error
    assert f"error: process {1 - dead} lost another process of this run" in error
    assert "same command to all processes again" in error and "Traceback" not in error


@pytest.mark.long
def test_a_pair_that_lost_one_goes_on_in_the_other_mapping(pair, tiny, digits, alone, tmp_path):
    config, workdir, words = configured(tiny, digits), tmp_path / "run", as_flags(RUN)
    killed = pair("--workdir", workdir, *words)
    after_step(4, workdir, killed)
    killed[1].kill()
    assert ended(*killed, timeout=60)[0] == [75, -signal.SIGKILL]
    last = pair("--workdir", workdir, *words, "--config.parallel.mode=shard_map")
    codes, outs, errors = ended(*last)
    assert codes == [0, 0] and own_words(outs[0])[0].startswith("continuing at step"), errors
    close(config, workdir, alone[1])


@pytest.mark.long
@pytest.mark.parametrize(
    "index,signum",
    [(0, signal.SIGKILL), (0, signal.SIGTERM), (1, signal.SIGINT), (1, signal.SIGHUP)],
)
def test_whichever_process_is_struck_the_pair_goes_on_with_the_same_bits(
    pair, tiny, digits, tmp_path, index, signum, request
):
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under nohup
    request.addfinalizer(lambda: signal.signal(signal.SIGHUP, before))
    config, words = configured(tiny, digits), as_flags(RUN)
    assert ended(*pair("--workdir", tmp_path / "unbroken", *words))[0] == [0, 0]
    struck = pair("--workdir", tmp_path / "run", *words)
    after_step(3, tmp_path / "run", struck)
    struck[index].send_signal(signum)
    codes, _, errors = ended(*struck, timeout=60)
    if signum == signal.SIGKILL:  # process 0 held the service that all processes report to
        assert codes[0] == -signal.SIGKILL and codes[1] in (75, -signal.SIGABRT)
        assert "another task died" in errors[1] or "lost another process" in errors[1]
    else:
        assert codes == [143, 143], errors
    assert ended(*pair("--workdir", tmp_path / "run", *words))[0] == [0, 0]
    ours, theirs = (
        load_run(config, tmp_path / name, TOTAL).variables for name in ("run", "unbroken")
    )
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


@pytest.mark.long
@pytest.mark.parametrize(
    "flag,code,said",
    [
        ("--config.parallel.heartbeat_seconds=10", -signal.SIGABRT, "another task died"),
        ("--config.train.watchdog_seconds=10", 75, "did not end within 10 s"),
    ],
)
def test_a_process_that_falls_silent_is_not_waited_for_for_ever(pair, tmp_path, flag, code, said):
    processes = pair("--workdir", tmp_path, *as_flags({**RUN, "train.total_steps": 500}), flag)
    after_step(3, tmp_path, processes)
    processes[1].send_signal(signal.SIGSTOP)  # it lives, its sockets are open, it says nothing
    _, error = processes[0].communicate(timeout=90)
    processes[1].kill()
    assert processes[0].returncode == code and said in error, error
    assert newest(tmp_path) >= 2


@pytest.mark.long
def test_streamed_and_sharded_a_pair_trains_as_one_and_evaluates_exactly(
    pair, tiny, digits, alone, tmp_path
):
    keys = {**RUN, "data.pipeline": "streaming", "parallel.mode": "shard_map"}
    config, words = configured(tiny, digits), as_flags(keys)
    codes, _, errors = ended(*pair("--workdir", tmp_path, *words))
    assert codes == [0, 0], errors
    close(config, tmp_path, alone[1])

    evaluated_alike(config, tmp_path, TOTAL)


@pytest.mark.long
def test_a_pair_evaluates_and_one_device_goes_on(pair, start, tiny, digits, alone, tmp_path):
    config, words = configured(tiny, digits), as_flags(RUN)
    shutil.copytree(alone[1], tmp_path / "run")
    codes, outs, errors = ended(*pair("--workdir", tmp_path / "run", *words, "--mode=evaluate"))
    assert codes == [0, 0], errors
    assert own_words(outs[1]) == []
    result = json.loads((tmp_path / "run" / "results" / "evaluate.json").read_text())
    assert result["confusion"] == alone[0]["test"]["confusion"]

    stopped = pair("--workdir", tmp_path / "moved", *words)
    after_step(5, tmp_path / "moved", stopped)
    stopped[0].send_signal(signal.SIGTERM)
    assert ended(*stopped)[0] == [143, 143]
    codes, outs, errors = ended(start("--workdir", tmp_path / "moved", *words, devices=1))
    assert codes == [0] and "continuing at step" in outs[0], errors
    close(config, tmp_path / "moved", alone[1])


def test_processes_that_differ_are_told_in_what(pair, tmp_path):
    words = ["--workdir", tmp_path, *as_flags(RUN)]
    apart = ["--config.optim.lr=0.02", "--config.data.train_examples=48", "--config.data.threads=3"]
    codes, _, errors = ended(*pair(*words, apart=apart), timeout=60)
    assert codes == [2, 2]
    for error in errors:
        assert "the processes of this run differ in" in error
        assert "config.optim.lr: 0.0005 on process 0, 0.02 on process 1" in error
        assert "data, split train: 64 examples" in error and "threads" not in error
    assert not (tmp_path / "config.json").exists()


def test_a_coordinator_that_is_not_there_is_waited_for_and_named(start, tmp_path):
    address = f"localhost:{free_port()}"
    words = ["--workdir", tmp_path, "--config.parallel.connect_seconds=1"]
    alone = start(*words, f"--distributed={address},2,1")
    first = start(*words, f"--distributed=localhost:{free_port()},2,0")
    codes, _, errors = ended(alone, first, timeout=60)
    assert codes == [75, 75]
    assert f"after 1 s nobody answers at {address}; is process 0 running there" in errors[0]
    assert "answers, but not all 2 processes have come" in errors[1]


def test_no_cluster_and_no_accelerator_are_told(start, tmp_path):
    auto = start("--workdir", tmp_path, "--distributed=auto")
    gpu = start("--workdir", tmp_path, "--config.parallel.platform=gpu")
    codes, _, errors = ended(auto, gpu, timeout=60)
    assert codes == [2, 2]
    assert "--distributed=auto finds no TPU pod, SLURM, Open MPI or Kubernetes" in errors[0]
    assert "parallel.platform=gpu, but jax sees only 2 cpu device(s)" in errors[1]
    assert "pip install 'jax[cuda13]'" in errors[1]


ONE_TASK = {  # as srun starts it: jax finds one process
    "SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "1",
    "SLURM_PROCID": "0", "SLURM_LOCALID": "0",
}  # fmt: skip


def test_one_process_where_the_environment_names_more_is_told(start, tmp_path):
    words = ("--workdir", tmp_path, "--distributed=auto")
    one = start(*words, **ONE_TASK, OMPI_COMM_WORLD_SIZE="4")
    none = start(*words, OMPI_COMM_WORLD_SIZE="4")  # nor does jax know Open MPI 5
    codes, _, errors = ended(one, none, timeout=60)
    assert codes == [2, 2], errors
    assert "--distributed=auto finds one process, but OMPI_COMM_WORLD_SIZE=4" in errors[0]
    assert "finds no TPU pod" in errors[1]
    for error in errors:
        assert "say --distributed=HOST:PORT,4,$OMPI_COMM_WORLD_RANK" in error
    assert not list(tmp_path.iterdir())


@pytest.fixture
def slurm(monkeypatch):
    """Starts as a SLURM task with GPUs; returns what jax was told of the devices to take."""

    def begin(**environment):
        told = {}
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(jax.distributed, "initialize", lambda **words: told.update(words))
        monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
        distributed.start("auto")
        return told.get("local_device_ids")

    return begin


def test_a_gpu_that_the_launcher_chose_is_taken(slurm):
    """The fourth task of a node that sees one GPU takes it, not the fourth that it sees."""
    assert slurm(SLURM_LOCALID="3", CUDA_VISIBLE_DEVICES="GPU-5e8a") == [0]
    assert slurm(SLURM_LOCALID="3", CUDA_VISIBLE_DEVICES="0,1,2,3") is None  # jax takes the fourth


@pytest.mark.parametrize(
    "tasks,node,said",
    [("1(x2)", "1", "SLURM started 1 process(es) on this node of 8 GPUs"), ("8(x2)", "1", ""),
     ("8,4", "0", ""), ("8,4", "1", "SLURM started 4 process(es)"), ("", "0", "")],
)  # fmt: skip
def test_gpus_that_no_process_takes_are_told(slurm, capsys, tasks, node, said):
    slurm(
        SLURM_STEP_TASKS_PER_NODE=tasks, SLURM_NODEID=node, SLURM_LOCALID="0",
        SLURM_GPUS_ON_NODE="8",
    )  # fmt: skip
    error = capsys.readouterr().err
    assert said in error and ("--ntasks-per-node=8" in error) == bool(said)


@pytest.mark.parametrize(
    "spec,message",
    [
        ("yes", "neither auto nor HOST:PORT,N,I"),
        ("host,2,0", "neither auto nor HOST:PORT,N,I"),
        ("host:1,2", "neither auto nor HOST:PORT,N,I"),
        ("host:1,2,2", "of 2 processes the last is number 1, so there is no 2"),
    ],
)
def test_a_spec_that_is_none_is_told(spec, message):
    with pytest.raises(UserError, match=message):
        distributed.parse(spec)


def test_a_port_that_is_taken_is_told():
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"cannot listen on port {port}"):
            distributed.start(f"localhost:{port},2,0")


def test_one_process_needs_nobody():
    assert distributed.gather("a") == ["a"]
    assert distributed.together(lambda: 3) == distributed.first(lambda: 3, None) == 3
    distributed.agree({"lr": 0.1})
    assert distributed.as_lost(jax.errors.JaxRuntimeError("UNKNOWN: Gloo")) is None


@pytest.fixture
def two(monkeypatch):
    """Pretends that there are two processes; the other says what the test lets it say."""
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    return lambda other: monkeypatch.setattr(distributed, "gather", lambda text: [text, other])


def test_another_version_is_told_with_its_process(two):
    two('{"jax": "0.12.0", "flax": "0.12.8"}')
    with pytest.raises(
        UserError, match="differ in\n  jax: 0.10.2 on process 0, 0.12.0 on process 1$"
    ):
        distributed.agree({"jax": "0.10.2", "flax": "0.12.8"})


def test_what_one_process_cannot_read_stops_all(two):
    two("cifar10 is not prepared in /data")
    with pytest.raises(UserError, match="^process 1: cifar10 is not prepared"):
        distributed.together(lambda: 3)


def test_only_a_failed_collective_means_a_lost_process(two):
    lost = distributed.as_lost(jax.errors.JaxRuntimeError("UNKNOWN: Gloo AllReduce failed"))
    assert lost.exit_code == 75 and "Gloo AllReduce failed" in str(lost)
    assert distributed.as_lost(ValueError("UNKNOWN: Gloo AllGather failed")) is not None
    full = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
    assert distributed.as_lost(full) is None and distributed.as_lost(ValueError("bug")) is None
