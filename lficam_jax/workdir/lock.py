"""One process at a time writes a run or a page: locks that end with their process."""

import contextlib
import errno
import fcntl
import json
import os
import socket
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lficam_jax.errors import UserError
from lficam_jax.workdir.results import teaching

# What file systems say that know no locks: some of those that are mounted over a network.
UNKNOWN = (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL)


class Busy(UserError):
    """Another process holds what was to be locked."""


class Lock:
    """Holds a file, so that no other process works in a folder; a context manager.

    The system gives the lock back when the process ends, however it ends, so a file that a killed
    process left locks nobody out. Within one process it works between threads, too.

    Args:
      file: to be locked: made, and removed at the end.
      place: what it stands for, for the message.

    Raises:
      Busy: if another process holds it: which, where and since when.
      UserError: if the file cannot be written.
    """

    def __init__(self, file: Path, place: Path) -> None:
        self._file, self._place = file, place

    def __enter__(self) -> Self:
        with teaching(self._file):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            while not self._take():
                pass  # its holder ended, and removed it, between our opening and locking it
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        with contextlib.suppress(OSError):  # the folder became read-only, or is gone
            self._file.unlink()
        os.close(self._descriptor)

    def _take(self) -> bool:
        """Locks the file; returns whether it is still the one of that name."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(self._file, flags, 0o666)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            text = os.pread(self._descriptor, 4096, 0)
            os.close(self._descriptor)
            raise Busy(busy(text, str(self._place))) from None
        except OSError as problem:
            if problem.errno not in UNKNOWN:
                os.close(self._descriptor)
                raise
            print(f"warning: {self._place} cannot be locked ({problem.strerror}); take care that "
                  "no other process works there", file=sys.stderr)  # fmt: skip
        try:
            here = os.path.samestat(os.fstat(self._descriptor), os.stat(self._file))
        except FileNotFoundError:
            here = False
        if not here:
            os.close(self._descriptor)
            return False
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, json.dumps(ourselves()).encode(), 0)
        return True


def ourselves() -> dict[str, Any]:
    """Returns what others are told of this process: `pid`, `host` and `since` (UTC, ISO 8601)."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": now}


def busy(text: bytes, place: str) -> str:
    """Says that another process works in a place, and what it left to be known of it."""
    try:
        told = json.loads(text)
        who = f"PID {told['pid']} on {told['host']}, since {told['since']}"
    except (ValueError, KeyError, TypeError, RecursionError):
        who = "it does not say which"
    return (
        f"another process ({who}) is working in {place}; wait until it has ended, or choose "
        "another folder"
    )
