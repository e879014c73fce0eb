"""Reading a file whole, and nothing but a file: a pipe waits, a device has no end."""

import csv
import errno
import os
import stat
from pathlib import Path

from lficam_jax.errors import UserError, check_path

MAX_BYTES = 2**31  # of a picture's file; larger ones are volumes, films and mistakes

_KINDS = {
    stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
}  # fmt: skip


def read_file(path: str | Path) -> bytes:
    """Returns the content of a file.

    Raises:
      UserError: naming the file, if it is not there, is no plain file, is larger than `MAX_BYTES`
        or changes its length meanwhile.
    """
    try:
        _check(path, os.stat(path))  # before it is opened: to open a device may set it going
        # Whatever took its place since then is opened without waiting for it.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            _check(path, status)
            content = file.read(status.st_size + 1)
    except (OSError, ValueError) as error:  # the latter of a name that no file can have
        raise UserError(f"cannot read {path}: {getattr(error, 'strerror', error)}") from error
    if len(content) != status.st_size:
        raise UserError(f"cannot read {path}: its length changes while it is read")
    return content


def kind(path: str | Path) -> str:
    """Returns what a path is, if it is no plain file; '' if it is one.

    >>> kind("/dev/null"), kind("/")
    ('a device', 'a folder')

    Raises:
      OSError: if it is not there.
    """
    return _kind(os.stat(path))


def plain_file(path: str | Path) -> Path:
    """Returns the path of what can be opened and read to its end: a pipe waits, a device has none.

    Raises:
      OSError: if it is not there (as `open` says it), or is neither a file nor a folder.
    """
    what = kind(path)
    if what not in ("", "a folder"):
        raise OSError(errno.EINVAL, f"it is {what}, not a file", str(path))
    return Path(path)


def read_csv(path: Path) -> list[list[str]]:
    """Returns the rows of a CSV in UTF-8, of an empty one an empty row.

    Ends of lines in a cell stay as they are.

    Raises:
      UserError: if it cannot be read.
    """
    try:
        with plain_file(path).open(
            encoding="utf-8-sig", errors="surrogateescape", newline=""
        ) as lines:
            return [*csv.reader(lines)] or [[]]
    except (OSError, csv.Error) as error:
        raise UserError(f"cannot read {path}: {getattr(error, 'strerror', error)}") from error


def _kind(status: os.stat_result) -> str:
    return _KINDS.get(stat.S_IFMT(status.st_mode), "")


def _check(path: str | Path, status: os.stat_result) -> None:
    if what := _kind(status):
        raise UserError(f"cannot read {path}: it is {what}, not a file")
    if status.st_size > MAX_BYTES:
        size, most = status.st_size / 1e9, MAX_BYTES / 1e9
        raise UserError(f"cannot read {path}: it has {size:.1f} GB, more than {most:.1f}")


def local_path(text: str) -> Path:
    """Returns the folder that `data.folder` names.

    Raises:
      UserError: for none, or a bucket: listing and reading it file by file would take for ever.
    """
    if not text:
        raise UserError(
            "data.folder is empty; say --config.data.folder=DIR, which holds CLASS/*.jpg"
        )
    if "://" in text:
        raise UserError(
            f"data.folder={text} must be a local path; mount the bucket and name the mount"
        )
    return check_path("data.folder", text)
