"""The folder of a run: it belongs to one configuration."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from lficam_jax.config import among, as_json, default_config, differences
from lficam_jax.errors import UserError

# Keys that change where things are read, how often something is written, or how a step is spread
# over devices and their memory: a run may go on with others, on other machines.
# `init_from` is none of them: once there is a checkpoint it is not read again, but it shaped it.
FREE = (
    "data.dir", "data.folder", "data.threads", "data.max_corrupt", "eval.batch_size", "explain",
    "optim.accumulate", "parallel.mode", "parallel.platform", "parallel.connect_seconds",
    "parallel.heartbeat_seconds",
    "train.log_every_steps", "train.keep_latest", "train.checkpoint_every_steps",
    "train.tensorboard", "train.watchdog_seconds",
)  # fmt: skip
MODEL = ("model", "data.name", "data.image_size")  # what must agree to read a run's weights


def claim(workdir: Path | str, config: Mapping[str, Any]) -> None:
    """Makes the folder, or checks that it belongs to a run of the same config.

    A folder without a checkpoint belongs to none yet, so that a mistake found late, for example in
    `init_from`, can be put right and the command given again.

    Raises:
      UserError: if it cannot be written, or belongs to another config; what differs is listed.
    """
    workdir = Path(workdir)
    path = workdir / "config.json"
    check(workdir, config)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".tmp")
        partial.write_text(json.dumps(config, indent=2) + "\n")
        os.replace(partial, path)
    except OSError as error:
        raise UserError(
            f"cannot write to --workdir {workdir}: {error.strerror}; choose a writable folder"
        ) from error


def check(workdir: Path | str, config: Mapping[str, Any]) -> None:
    """Checks that the folder, if it holds a checkpoint, belongs to a run of the same config.

    Raises:
      UserError: if it belongs to another; what differs is listed.
    """
    path = Path(workdir) / "config.json"
    if path.exists() and any(p.name.isdigit() for p in (path.parent / "checkpoints").glob("*")):
        _check(path, [d for d in differences(config, _read(path)) if not among(d, FREE)])


def keep_compiled(workdir: Path | str) -> None:
    """Lets jax keep compiled programs in `<workdir>/.jax_cache`, so that a restart skips compiling.

    Whoever chose another place, by JAX_COMPILATION_CACHE_DIR, keeps it.
    """
    if jax.config.jax_compilation_cache_dir is None:
        jax.config.update("jax_compilation_cache_dir", str(Path(workdir).absolute() / ".jax_cache"))


def check_model(workdir: Path | str, config: Mapping[str, Any]) -> None:
    """Checks that `config` describes the network that `workdir` holds.

    Raises:
      UserError: if the folder holds no run, or one of another network.
    """
    path = Path(workdir) / "config.json"
    if not path.exists():
        raise UserError(f"{workdir} holds no run (no config.json); train first, with --mode train")
    _check(path, [d for d in differences(config, _read(path)) if among(d, MODEL)])


def _check(path: Path, lines: list[str]) -> None:
    if lines:
        raise UserError(
            f"{path.parent} belongs to a run of another config; use another --workdir, or undo:\n  "
            + "\n  ".join(lines)
        )


def _read(path: Path) -> dict[str, Any]:
    """Returns a run's config; a key that is newer than the run has its default."""
    try:
        return _filled(json.loads(path.read_text()), as_json(default_config()))
    except (OSError, ValueError, TypeError) as error:
        raise UserError(f"cannot read {path}: {error}; is the folder a run's?") from error


def _filled(theirs: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    filled = defaults | theirs
    for name, value in filled.items():
        if isinstance(value, dict):
            filled[name] = _filled(value, defaults.get(name, {}))
    return filled
