"""The folder of a run: it belongs to one configuration."""

import contextlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from lficam_jax.config import as_json, default_config, validate
from lficam_jax.data import ALL, RECORDED, dataset_info, is_synthetic, resolved, split_table_fits
from lficam_jax.data.files import plain_file
from lficam_jax.errors import UserError, first_line
from lficam_jax.workdir.results import Unreadable, read_object, replace_text, understood

# Keys that change where things are read, how often something is written, or how a step is spread
# over devices and their memory: a run may go on with others, on other machines.
# `init_from` is none of them: once there is a checkpoint it is not read again, but it shaped it.
FREE = (
    "data.dir", "data.folder", "data.labels_file", "data.split_file", "data.threads",
    "data.max_corrupt",
    "eval.batch_size", "explain", "model.remat", "optim.accumulate", "parallel.mode",
    "parallel.platform",
    "parallel.connect_seconds", "parallel.heartbeat_seconds",
    "train.log_every_steps", "train.keep_latest", "train.checkpoint_every_steps",
    "train.tensorboard", "train.watchdog_seconds",
)  # fmt: skip
LENGTH = ("train.total_epochs", "train.total_steps")
SPLIT_FILE = "split.csv"  # who is in which split, where the folder of pictures does not say it
# What must agree to read a run's weights. Pictures may be fitted otherwise than in the training.
MODEL = ("model", "data.synthetic", *(f"data.{key}" for key in RECORDED if key != "fit"))


def claim(
    workdir: Path | str, config: Mapping[str, Any], division: str = "", *, resize: bool = False
) -> None:
    """Makes the folder, or checks that it belongs to a run of the same config; writes the config.

    A folder without a checkpoint belongs to none yet, so that a mistake found late, for example in
    `init_from`, can be put right and the command given again.

    Args:
      workdir: of the run.
      config: of the run, with what it derived.
      division: as CSV, the split of every picture of a folder that does not say it itself.
      resize: as for `check`.

    Raises:
      UserError: if it cannot be written, or belongs to another config; what differs is listed.
    """
    workdir = Path(workdir)
    check(workdir, config, resize=resize)
    _check_division(workdir, division)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        _write(workdir / SPLIT_FILE, division)
        _write(workdir / "config.json", json.dumps(config, indent=2, allow_nan=False) + "\n")
    except OSError as error:
        raise UserError(
            f"cannot write to --workdir {workdir}: {error.strerror}; choose a writable folder"
        ) from error


def _check_division(workdir: Path, division: str) -> None:
    file = workdir / SPLIT_FILE
    before = plain_file(file).read_text("utf-8", "surrogateescape") if file.exists() else ""
    if holds_run(workdir) and division != before:
        raise UserError(
            f"{workdir} belongs to a run on other splits of the pictures; use another --workdir, "
            f"or leave out data.split_file: {file} is taken"
        )


def _write(path: Path, text: str) -> None:
    """Writes a file whole or not at all; no text removes it."""
    if text:
        replace_text(path, text, "surrogateescape")
    else:
        path.unlink(missing_ok=True)


def check(workdir: Path | str, config: Mapping[str, Any], *, resize: bool = False) -> None:
    """Checks that the folder, if it holds a checkpoint, belongs to a run of the same config.

    Args:
      workdir: the folder.
      config: of the run.
      resize: allow another length, where the schedule does not follow from it: the steps that
        are done are those of the longer run, too.

    Raises:
      UserError: if it belongs to another; what differs is listed.
    """
    if not holds_run(workdir):
        return
    cosine = config["optim"]["schedule"] == "cosine"
    free = FREE if cosine or not resize else FREE + LENGTH
    lines = [d for d in _differing(workdir, config) if not among(d, free)]
    reason = (
        " (a cosine schedule ends with the run, so each learning rate would have been another; to "
        f"train on, start a new run with --config.init_from={workdir})"
    )
    _check(workdir, [d + reason * (cosine and among(d, LENGTH)) for d in lines])


def resized(workdir: Path | str, config: Mapping[str, Any]) -> bool:
    """Tells whether the folder's run was told to be of another length."""
    differing = _differing(workdir, config) if holds_run(workdir) else ()
    return any(among(difference, LENGTH) for difference in differing)


def newest_step(workdir: Path | str) -> int | None:
    """Returns the step of the newest checkpoint, damaged or not; None if there is none."""
    return max(_steps(workdir), default=None)


def _steps(workdir: Path | str) -> list[int]:
    names = [path.name for path in (Path(workdir) / "checkpoints").glob("*")]
    return [int(name) for name in names if name.isdecimal()]


def holds_run(workdir: Path | str) -> bool:
    """Tells whether the folder belongs to a run: whether it has a checkpoint."""
    return newest_step(workdir) is not None


def recorded(workdir: Path | str, data: ConfigDict, *, reads: bool = False) -> dict[str, Any]:
    """Returns what the run of a folder knows and `data` leaves to be derived; {} without a run.

    Args:
      workdir: of the run.
      data: the group `config.data` of the config that was given.
      reads: the run is measured, not trained: another folder of pictures is not divided.
    """
    if not holds_run(workdir):
        return {}
    theirs = _read(workdir, data)["data"]
    known = {key: theirs[key] for key in RECORDED if theirs[key] and not data[key]}
    file = Path(workdir) / SPLIT_FILE
    if data.name == "folder" and data.folder and not data.split_file:
        same = data.folder == theirs["folder"]
        own = same and data.labels_file == theirs["labels_file"]
        moved = not same and file.exists() and split_table_fits(data, file, theirs["folder"])
        if file.exists() and (own or moved):
            known["split_file"] = str(file)
        elif reads and not own:
            known["split_file"] = ALL
    return known


def read_data(workdir: Path | str) -> dict[str, Any]:
    """Returns the group `data` of a run's config; {} where there is none."""
    known = (Path(workdir) / "config.json").exists() or holds_run(workdir)
    return dict(_read(workdir)["data"]) if known else {}


def check_model(workdir: Path | str, config: Mapping[str, Any]) -> None:
    """Checks that `config` describes the network that `workdir` holds.

    Raises:
      UserError: if the folder holds no run, or one of another network.
    """
    if not ((Path(workdir) / "config.json").exists() or holds_run(workdir)):
        raise UserError(f"{workdir} holds no run (no config.json); train first, with lficam train")
    differing = [d for d in _differing(workdir, config) if among(d, MODEL)]
    _check(workdir, [d for d in differing if not among(d, FREE)])


def read_config(workdir: Path | str, data: ConfigDict | None = None) -> ConfigDict:
    """Returns the config that a run left behind; `data` says where its data lie and how they fit.

    Raises:
      UserError: if the folder holds no run, or one that this version cannot read.
    """
    path, config = Path(workdir) / "config.json", default_config().lock()
    theirs = _stored(workdir)
    try:
        config.update(theirs)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        told = first_line(error)
        raise UserError(f"cannot read {path}: {told}; is the folder a run's?") from error
    if data is not None:
        config.data.dir = data.dir or config.data.dir
        config.data.folder = data.folder or config.data.folder
        config.data.fit = data.fit or config.data.fit
    validate(config)
    return config


def _stored(workdir: Path | str) -> dict[str, Any]:
    """Returns what `config.json` holds or, where it is gone or damaged, the newest checkpoint.

    Raises:
      UserError: if the folder holds no run, or the system refuses to read it.
    """
    path = Path(workdir) / "config.json"
    try:
        return read_object(path)
    except Unreadable as error:
        for step in sorted(_steps(workdir), reverse=True):
            beside = path.with_name("checkpoints") / str(step) / "meta" / "metadata"
            with contextlib.suppress(Unreadable), understood(beside):
                found = dict(read_object(beside)["config"])
                print(f"warning: {error}; its run's checkpoint {step} knows it", file=sys.stderr)
                return found
        if not path.exists():
            raise UserError(f"{workdir} holds no run (no config.json)") from error
        raise UserError(f"{error}; is the folder a run's?") from error


def differing(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Lists in what a config differs from a run's; "derive it" agrees with anything."""
    data = ours["data"] | {"synthetic": is_synthetic(ConfigDict(ours["data"]))}
    open_ = [f"data.{k}" for k in RECORDED if not (data[k] and theirs["data"][k])]
    return [d for d in differences({**ours, "data": data}, theirs) if not among(d, tuple(open_))]


def differences(ours: Mapping[str, Any], theirs: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Lists `key: theirs -> ours` for every leaf in which two nested dicts differ."""
    lines = []
    for name in sorted({*ours, *theirs}):
        left, right = theirs.get(name, "(absent)"), ours.get(name, "(absent)")
        if isinstance(left, dict) and isinstance(right, dict):
            lines += differences(right, left, f"{prefix}{name}.")
        elif left != right:
            lines.append(f"{prefix}{name}: {left} -> {right}")
    return lines


def among(difference: str, prefixes: tuple[str, ...]) -> bool:
    """Tells whether a key, or a line of `differences`, belongs to one of the keys or groups."""
    key = difference.split(":")[0]
    return any(key == p or key.startswith(p + ".") for p in prefixes)


def _differing(workdir: Path | str, config: Mapping[str, Any]) -> list[str]:
    return differing(config, _read(workdir, ConfigDict(config["data"])))


def _check(workdir: Path | str, lines: list[str]) -> None:
    if lines:
        raise UserError(
            f"{workdir} belongs to a run of another config; use another --workdir, or undo:\n  "
            + "\n  ".join(lines)
        )


def _read(workdir: Path | str, given: ConfigDict | None = None) -> dict[str, Any]:
    """Returns a run's config; a key that is newer than the run has its default.

    What a run from before it was recorded has to derive is derived here, from its data or, if they
    moved, from those of `given`.
    """
    stored = _stored(workdir)
    with understood(Path(workdir) / "config.json"):
        theirs = _filled(stored, as_json(default_config()))
        data = ConfigDict(theirs["data"])
    if not all(data[key] for key in RECORDED):
        if given is not None:
            data.dir = given.dir or data.dir
            data.folder = data.folder if Path(data.folder).is_dir() else given.folder
        with contextlib.suppress(UserError):
            derived = as_json(resolved(data, dataset_info(data)))
            theirs["data"] |= {key: derived[key] for key in RECORDED}
    return theirs


def _filled(theirs: dict[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    filled = defaults | theirs
    for name, value in filled.items():
        if isinstance(value, dict):
            filled[name] = _filled(value, defaults.get(name, {}))
    return filled
