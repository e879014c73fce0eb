"""Where a result comes from: when and how it was made, of what, by which versions, on what."""

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

import lficam_jax

PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy")
GIT_SECONDS = 10  # that git may take to answer


def origin(config: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Returns what every result carries as `made_by`.

    Args:
      config: of the run, as plain JSON; None where there is none.

    Returns:
      `date` (UTC, ISO 8601), `command`, `config`, its `seed`, `versions`, `hardware` (`platform
      platform_version device_kind device_count process_count cpu cpu_count`), and `commit`: `hash`
      and `modified`, or None.
    """
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command(),
        "seed": config.get("seed") if config else None,
        "versions": versions(),
        "hardware": hardware(),
        "commit": commit(),
        "config": config,
    }


def command() -> str:
    """Returns what this process was started with, as a shell takes it."""
    if Path(sys.argv[0]).name == "lficam":  # the installed command, wherever it lies
        return shlex.join(["lficam", *sys.argv[1:]])
    # The interpreter by its name: its folder is nobody's business. Embedded, there may be none.
    started = [*(Path(word).name for word in sys.orig_argv[:1]), *sys.orig_argv[1:]]
    # `%run` in IPython, and programs that call one another, set arguments of their own.
    own = len(sys.argv) < 2 or started[-len(sys.argv) + 1 :] == sys.argv[1:]
    return shlex.join(started if own else sys.argv)


def versions() -> dict[str, str]:
    """Returns the versions of python, of this package and of what computes beneath it."""
    ours = {"python": platform.python_version(), "lficam_jax": lficam_jax.__version__}
    return ours | {name: metadata.version(name) for name in PACKAGES}


def hardware() -> dict[str, Any]:
    """Returns what jax runs on; the devices are those of all processes."""
    device = jax.devices()[0]
    return {
        "platform": device.platform,
        "platform_version": " ".join(device.client.platform_version.split()),
        "device_kind": device.device_kind,
        "device_count": jax.device_count(),
        "process_count": jax.process_count(),
        "cpu": _processor(),
        "cpu_count": os.cpu_count(),
    }


@cache
def commit() -> dict[str, Any] | None:
    """Returns the commit that the package lies in, as of the first call in this process.

    Returns:
      `hash`, and whether files of the package are `modified`; None for an installed package, or
      where git is absent or refuses.
    """
    root = Path(lficam_jax.__file__).parents[1]
    if not (root / ".git").exists():
        return None
    try:
        name = _git(root, "rev-parse", "HEAD")
        changed = _git(root, "status", "--porcelain", "--", Path(lficam_jax.__file__).parent.name)
    except (OSError, subprocess.SubprocessError):
        return None
    return {"hash": name, "modified": bool(changed)}


def told_origin() -> str:
    """Writes the date, versions and devices in one line, for a page."""
    today = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"{today}; {told_versions('jax')}; {told_hardware()}"


def told_versions(*names: str) -> str:
    """Writes the versions of this package with its commit, and of `names` or all, in one line."""
    made, found = versions(), commit()
    state = ", modified" if found and found["modified"] else ""
    where = f" ({found['hash'][:9]}{state})" if found else ""
    ours = f"lficam_jax {made.pop('lficam_jax')}{where}"
    return ", ".join([ours, *(f"{name} {made[name]}" for name in names or made)])


def told_hardware(found: Mapping[str, Any] | None = None) -> str:
    """Writes devices and processors in one line; `found`: as `hardware` gave them elsewhere."""
    found = found or hardware()
    processes = f" in {n} processes" if (n := found["process_count"]) > 1 else ""
    devices = f"{found['device_count']} x {found['device_kind']}{processes}"
    return f"{devices}; {found['cpu_count']} x {found['cpu']}"


def _git(root: Path, *words: str) -> str:
    done = subprocess.run(
        ["git", "--no-optional-locks", "-C", str(root), *words],
        check=True, capture_output=True, text=True, timeout=GIT_SECONDS,
    )  # fmt: skip
    return done.stdout.strip()


def _processor() -> str:
    """Returns the processor's name, or at least its kind."""
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    if sys.platform == "darwin":
        told = subprocess.run(
            ["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True
        )
        return told.stdout.strip() or platform.machine()
    return platform.machine()  # Linux on ARM names none
