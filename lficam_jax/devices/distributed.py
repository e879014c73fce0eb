"""Several processes as one program: how they find each other, agree, and part.

`start` comes before anything that makes jax look at its devices. Afterwards process 0 alone reads
and writes the run's folder and speaks on standard output; what it read reaches the others through
`first`. The other helpers work with one process too, where they do nothing.
"""

import json
import os
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

import lficam_jax
from lficam_jax.devices import launcher
from lficam_jax.errors import LostError, UserError

T = TypeVar("T")
PACKAGES = {"gpu": "pip install 'jax[cuda13]'", "tpu": "pip install 'jax[tpu]'"}
LOST = ("UNKNOWN:", "UNAVAILABLE:", "INTERNAL:", "ABORTED:", "CANCELLED:", "DEADLINE_EXCEEDED:")
PARTING = 3  # seconds that a process which fails waits for the others to fail too


def start(
    spec: str = "", platform: str = "auto", *, connect_seconds: int = 300,
    heartbeat_seconds: int = 100, preemptible: bool = False,
) -> None:  # fmt: skip
    """Connects this process with the others, and looks at the devices.

    Args:
      spec: '' for one process; `HOST:PORT,N,I` for process I of N with process 0 at that address;
        `auto` to read the three from a TPU pod, SLURM, Open MPI or Kubernetes. There, a GPU that
        no process takes is named on standard error.
      platform: `cpu`, `gpu` or `tpu`, which must then be there; `auto` takes what jax chooses.
      connect_seconds: for all processes to come.
      heartbeat_seconds: after which a silent process counts as dead.
      preemptible: SIGTERM is left to jax, for `agreed_to_stop`; else it ends the process.

    Raises:
      UserError: for a spec that is none, an address where nobody answers, an absent device, or
        `auto` that finds one process where the environment names more.
    """
    if platform == "cpu":
        jax.config.update("jax_platforms", "cpu")
    if spec:
        _connect(spec, connect_seconds, heartbeat_seconds, preemptible)
    _check_devices(platform)
    if spec == "auto":
        _check_detected()
    if spec:
        count = jax.process_count() if spec == "auto" else parse(spec)["num_processes"]
        versions = {name: metadata.version(name) for name in ("jax", "jaxlib", "flax", "optax")}
        agree(
            {
                "the number of processes told": count,
                "lficam_jax": lficam_jax.__version__,
                **versions,
            }
        )
    if jax.process_index() != 0:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (for the rest of the process)


def parse(spec: str) -> dict[str, Any]:
    """Reads `HOST:PORT,N,I` as `jax.distributed.initialize` names the three.

    >>> parse("10.0.0.1:1234,4,0")
    {'coordinator_address': '10.0.0.1:1234', 'num_processes': 4, 'process_id': 0}

    Raises:
      UserError: if it is anything else.
    """
    address, _, numbers = spec.partition(",")
    host, _, port = address.rpartition(":")
    count, _, index = numbers.partition(",")
    if not (host and port.isdigit() and count.isdigit() and index.isdigit()):
        raise UserError(
            f"--distributed={spec} is neither auto nor HOST:PORT,N,I; for example "
            "--distributed=10.0.0.1:1234,2,0 for process 0 of 2"
        )
    if int(index) >= int(count):
        raise UserError(
            f"--distributed={spec}: of {count} processes the last is number {int(count) - 1}, "
            f"so there is no {index}"
        )
    return {
        "coordinator_address": address, "num_processes": int(count), "process_id": int(index)
    }  # fmt: skip


def gather(text: str) -> list[str]:
    """Returns every process's text, in the order of the processes."""
    if jax.process_count() == 1:
        return [text]
    words = np.frombuffer(text.encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.int32(words.size))
    padded = np.zeros(max(1, sizes.max()), np.uint8)
    padded[: words.size] = words
    rows = multihost_utils.process_allgather(padded)
    return [bytes(row[:size]).decode() for row, size in zip(rows, sizes, strict=True)]


def together(make: Callable[[], T]) -> T:
    """Returns what `make` returns here; a UserError of any process is raised in all of them."""
    if jax.process_count() == 1:
        return make()
    problem = ""
    try:
        value = make()
    except UserError as error:
        problem = str(error)
    problems = gather(problem)
    if any(problems):
        lines = [f"process {i}: {text}" for i, text in enumerate(problems) if text]
        raise UserError(problems[0] if len(set(problems)) == 1 else "\n".join(lines))
    return value


def first(make: Callable[[], T], like: T) -> T:
    """Runs `make` in process 0 alone and returns its result, or raises its UserError, everywhere.

    Args:
      make: returns a pytree of arrays or numbers.
      like: the same pytree, of arrays or `ShapeDtypeStruct`s.
    """
    if jax.process_count() == 1:
        return make()
    zero = jax.process_index() == 0
    value = together(lambda: make() if zero else like)
    leaves, structure = jax.tree.flatten(like)
    if not leaves:
        return value
    kinds = [(np.shape(leaf), np.dtype(leaf.dtype)) for leaf in leaves]
    sizes = [int(np.prod(shape)) * kind.itemsize for shape, kind in kinds]
    content = np.zeros(sum(sizes), np.uint8)
    if zero:
        parts = [np.ascontiguousarray(jax.device_get(leaf)) for leaf in jax.tree.leaves(value)]
        content = np.concatenate([part.reshape(-1).view(np.uint8) for part in parts])
    # As bytes, since they are spread by a sum, which would turn -0.0 into 0.0.
    content = np.asarray(multihost_utils.broadcast_one_to_all(content))
    pieces = np.split(content, np.cumsum(sizes)[:-1])
    found = [p.copy().view(k).reshape(shape) for p, (shape, k) in zip(pieces, kinds, strict=True)]
    spread: T = jax.tree.unflatten(structure, found)
    return spread


def agree(facts: Mapping[str, Any]) -> None:
    """Checks that every process was started alike.

    Raises:
      UserError: naming each fact that differs from process 0's, and where.
    """
    told = [json.loads(text) for text in gather(json.dumps(facts, default=str))]
    lines = [
        f"{name}: {told[0].get(name)} on process 0, {theirs.get(name)} on process {i}"
        for i, theirs in enumerate(told)
        for name in sorted({*told[0], *theirs})
        if theirs.get(name) != told[0].get(name)
    ]
    if lines:
        raise UserError("the processes of this run differ in\n  " + "\n  ".join(lines))


def agreed_to_stop(step: int) -> bool:
    """Tells every process at the same step that one of them got SIGTERM; asked after each step."""
    return multihost_utils.reached_preemption_sync_point(step)


def as_lost(error: Exception) -> LostError | None:
    """Reads a failed collective as what it means: another process is gone."""
    text = " ".join(str(error).split())
    # XLA's words for it come as JaxRuntimeError or, from jit's fast path, as plain ValueError.
    if jax.process_count() == 1 or not text.startswith(LOST):
        return None
    return LostError(
        f"process {jax.process_index()} lost another process of this run, whose own output says "
        "why; saved checkpoints are intact: give the same command to all processes again "
        f"({text[:160]})"
    )


def leave(code: int) -> None:
    """Ends a process that failed, soon: a tidy end would wait for processes that wait for it."""
    if jax.distributed.is_initialized():
        # Process 0 serves the others, who mostly leave too; who lost it has nobody to wait for.
        if jax.process_index() == 0 or code != LostError.exit_code:
            parting = threading.Thread(target=jax.distributed.shutdown, daemon=True)
            parting.start()
            parting.join(PARTING)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _connect(spec: str, connect_seconds: int, heartbeat_seconds: int, preemptible: bool) -> None:
    told = launcher.devices()
    if spec != "auto":
        told = {"cluster_detection_method": "deactivate", **parse(spec)}
    if told.get("process_id") == 0:
        _check_port(told["coordinator_address"])
    jax.config.update("jax_enable_preemption_service", preemptible)
    # jax itself would abort the process, with a stack of C++ frames.
    limit = threading.Timer(connect_seconds, _give_up, (spec, told, connect_seconds))
    limit.daemon = True
    limit.start()
    try:
        jax.distributed.initialize(
            **told, initialization_timeout=connect_seconds + 60,
            heartbeat_timeout_seconds=heartbeat_seconds,
        )  # fmt: skip
    except (ValueError, RuntimeError) as error:
        raise UserError(
            f"--distributed=auto finds no TPU pod, SLURM, Open MPI or Kubernetes here ({error}); "
            f"leave it out for one process, or say {launcher.explicit()}"
            if spec == "auto"
            else f"--distributed={spec}: {error}"
        ) from error
    finally:
        limit.cancel()


def _check_detected() -> None:
    """Compares what `auto` found with what the launcher says that it started."""
    if jax.process_count() == 1 and (more := launcher.more_than_one()):
        raise UserError(
            f"--distributed=auto finds one process, but {more}: all of them would write the same "
            f"workdir; say {launcher.explicit()}, or leave it out for one process"
        )
    if jax.default_backend() == "gpu" and (idle := launcher.idle_gpus()):
        print(f"warning: {idle}", file=sys.stderr, flush=True)


def _check_port(address: str) -> None:
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", int(port)))
        except (OSError, OverflowError) as error:
            raise UserError(
                f"process 0 cannot listen on port {port} of {host} ({error}); choose another port"
            ) from error


def _give_up(spec: str, told: Mapping[str, Any], seconds: int) -> None:
    address = told.get("coordinator_address", "the coordinator that was detected")
    try:
        host, _, port = address.rpartition(":")
        socket.create_connection((host, int(port)), timeout=5).close()
        problem = (
            f"{address} answers, but not all {told['num_processes']} processes have come; start "
            "each with the same HOST:PORT,N and its own I"
        )
    except (OSError, ValueError):
        problem = (
            f"nobody answers at {address}; is process 0 running there, and its port reachable?"
        )
    print(f"error: --distributed={spec}: after {seconds} s {problem}", file=sys.stderr, flush=True)
    os._exit(LostError.exit_code)


def _check_devices(platform: str) -> None:
    try:
        devices = jax.devices()
    except (RuntimeError, AssertionError) as error:  # JAX_PLATFORMS names what is not there
        asked = str(jax.config.jax_platforms or "")  # type: ignore[attr-defined]
        wanted = "tpu" if "tpu" in asked else "gpu"
        raise UserError(
            f"jax cannot use JAX_PLATFORMS={asked} ({' '.join(str(error).split()) or 'absent'}); "
            f"unset it, or install what it needs: {PACKAGES[wanted]}"
        ) from error
    found = jax.default_backend()
    if platform in PACKAGES and platform != found:
        raise UserError(
            f"parallel.platform={platform}, but jax sees only {len(devices)} {found} device(s); "
            f"install what it needs: {PACKAGES[platform]}"
        )
