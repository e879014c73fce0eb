"""What a launcher, say SLURM or Open MPI, tells its processes by the environment."""

import os
import re
from typing import Any

# Where launchers say how many processes there are, and which of them this is.
NAMED = {
    "SLURM_NTASKS": "SLURM_PROCID", "OMPI_COMM_WORLD_SIZE": "OMPI_COMM_WORLD_RANK",
    "PMI_SIZE": "PMI_RANK", "WORLD_SIZE": "RANK",
}  # fmt: skip


def more_than_one() -> str:
    """Returns what names several processes, say `SLURM_NTASKS=16`, or '' if nothing does."""
    return next((f"{k}={os.environ[k]}" for k in NAMED if _number(k) > 1), "")


def explicit() -> str:
    """Returns the flag that leaves nothing to detect, filled in as far as the environment knows."""
    size, _, count = more_than_one().partition("=")
    return (
        f"--distributed=HOST:PORT,{count},${NAMED[size]}" if size else "--distributed=HOST:PORT,N,I"
    )


def devices() -> dict[str, Any]:
    """Returns which of the visible devices to take, where jax would choose one that is not there.

    Under SLURM and Open MPI, jax takes the device with the process's number on its node. A launcher
    that lets each process see but one GPU has chosen already.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return {"local_device_ids": [0]} if visible and "," not in visible else {}


def idle_gpus() -> str:
    """Returns in words how many GPUs of this node stay idle under SLURM, or '' if none does."""
    tasks = [
        int(count)
        for count, times in re.findall(
            r"(\d+)(?:\(x(\d+)\))?", os.environ.get("SLURM_STEP_TASKS_PER_NODE", "")
        )
        for _ in range(int(times or 1))
    ]  # "4(x2),1" for three nodes
    node, gpus = _number("SLURM_NODEID"), _number("SLURM_GPUS_ON_NODE")
    if node >= len(tasks) or tasks[node] >= gpus or _number("SLURM_LOCALID") > 0:
        return ""
    return (
        f"SLURM started {tasks[node]} process(es) on this node of {gpus} GPUs, and each takes one; "
        f"start one per GPU: --ntasks-per-node={gpus}"
    )


def _number(name: str) -> int:
    text = os.environ.get(name, "")
    return int(text) if text.isdigit() else 0
