"""What a mode leaves behind: `results/<mode>.json`, whole or not at all, and where it is from."""

import contextlib
import errno
import itertools
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from lficam_jax.config import as_json
from lficam_jax.data.files import plain_file
from lficam_jax.errors import UserError, brief, shortened
from lficam_jax.workdir.damage import ABSENT
from lficam_jax.workdir.origin import origin


def write_result(
    workdir: str | os.PathLike[str], mode: str, result: Mapping[str, Any],
    config: ConfigDict | None = None,
) -> Path:  # fmt: skip
    """Writes `results/<mode>.json` in one step: a reader sees the old file or the new, never half.

    Args:
      workdir: the run's folder.
      mode: names the file.
      result: nested mappings, lists and numbers (numpy's and JAX' too). Keys with dots stay as
        they are; a non-finite number becomes null, since JSON has no word for it. What
        `origin.origin` knows is added as `made_by`.
      config: that made the result.

    Returns:
      The path of the file; on processes other than 0 nothing is written there.

    Raises:
      UserError: if it cannot be written.
    """
    path = Path(workdir) / "results" / f"{mode}.json"
    if jax.process_index() == 0:
        with teaching(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            made_by = origin(None if config is None else as_json(config))
            replace_text(path, as_text({**result, "made_by": made_by}, indent=2) + "\n")
    return path


def plain(value: Any) -> Any:
    """Returns `value` as JSON knows it: numpy and JAX leaves as python, non-finite as None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic | np.ndarray | jax.Array):
        return plain(np.asarray(value).tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value


def as_text(value: Any, indent: int | None = None) -> str:
    """Returns strict JSON of anything that `plain` takes."""
    return json.dumps(plain(value), indent=indent, allow_nan=False, ensure_ascii=False)


class Unreadable(UserError):
    """A file of results that is damaged, or of another version; the message names it."""


def read_object(path: Path) -> dict[str, Any]:
    """Returns the object that a JSON file of ours holds.

    Raises:
      Unreadable: if it is absent or damaged.
      UserError: if the system refuses to read it, which says nothing of the file.
    """
    try:
        found = json.loads(plain_file(path).read_text(encoding="utf-8"))
    except OSError as error:
        kind = Unreadable if error.errno in ABSENT else UserError
        raise kind(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"{path} is damaged ({shortened(str(error))})") from error
    if not isinstance(found, dict):
        raise Unreadable(f"{path} is damaged: it holds {brief(found, 40)}")
    return found


@contextlib.contextmanager
def understood(path: Path) -> Iterator[None]:
    """Around what uses the content of a file: what is absent or of another kind is told.

    Raises:
      Unreadable: naming the file.
    """
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, StopIteration) as error:
        told = shortened(f"{type(error).__name__}: {error}")
        raise Unreadable(f"{path} is damaged, or of another version ({told})") from error


def set_aside(path: Path) -> Path:
    """Renames a damaged file to `NAME.damaged`, `NAME.damaged-2`, …; returns the new path."""
    names = (f"{path.name}.damaged{f'-{n}' * (n > 1)}" for n in itertools.count(1))
    kept = next(p for name in names if not (p := path.with_name(name)).exists())
    with teaching(path):
        return path.rename(kept)


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives a path to write to, whose file then takes the place of `path`, in one step.

    A link at `path` is replaced, not followed. Nothing is left of what fails.
    """
    path = Path(path)
    scratch = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        scratch.unlink(missing_ok=True)  # of a killed process, or a link that leads elsewhere
        yield scratch
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


def replace_text(path: Path, text: str, errors: str = "backslashreplace") -> None:
    """Writes a file in one step: a reader sees the old text or the new, never half.

    A link at `path` is replaced, not followed.

    Args:
      path: of the file.
      text: to be written in UTF-8.
      errors: what becomes of the bytes of file names that are no UTF-8; by default `\\udcXX`, which
        JSON reads as they were.
    """
    _replace(path, text.encode("utf-8", errors))


def _replace(path: Path, content: bytes) -> None:
    with replacing(path) as scratch, scratch.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())  # else a power cut may leave the new name with no content


def write_file(path: Path, content: bytes | str) -> Path:
    """Writes a file that the user named, and its folder, in one step; returns the path.

    Raises:
      UserError: if it cannot be written.
    """
    if isinstance(content, str):
        content = content.encode("utf-8", "backslashreplace")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, content)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
    return path


@contextlib.contextmanager
def teaching(
    path: Path, remedy: str = "choose a --workdir that you can write to"
) -> Iterator[None]:
    """Turns the system's refusal to write `path` into one line that says what to do."""
    try:
        yield
    except OSError as error:
        full = "free some space or " if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; {full}{remedy}"
        ) from error
