"""One process at a time writes a run in a bucket: an object that its holder rewrites as it lives.

A bucket knows no locks that end with their process, and the clocks of two machines differ. So who
finds the object of another watches it by the own clock: while its content changes, its holder is
alive.
"""

import contextlib
import json
import os
import signal
import sys
import threading
import time
import uuid
from types import TracebackType
from typing import Any, Self

from lficam_jax.errors import UserError
from lficam_jax.workdir.lock import busy, ourselves

NAME = ".lease"
BEATS = 4  # that a holder may miss before it counts as gone
SETTLES = 1.0  # seconds after which two that begin at once see which of them is the holder


class Lease:
    """Holds the right to write into a folder of a bucket; a context manager.

    Args:
      fs: fsspec's file system.
      root: the folder in it.
      url: its address, for messages.
      every: seconds between two beats.

    Raises:
      UserError: if another process works there: which, where and since when.
    """

    def __init__(self, fs: Any, root: str, url: str, every: float) -> None:
        self._fs, self._path, self._url, self._every = fs, f"{root}/{NAME}", url, every
        self._own = ourselves() | {"id": uuid.uuid4().hex, "beat": 0}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat_on, daemon=True)
        self._lost = ""

    def __enter__(self) -> Self:
        self._wait_for_the_former()
        self._write()
        self._over.wait(min(SETTLES, self._every))
        self.check()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._over.set()
        self._thread.join()
        with contextlib.suppress(Exception):  # what is left counts as gone in a while
            if self._holder() == self._own["id"]:
                self._fs.rm_file(self._path)

    def check(self) -> None:
        """Looks whether the folder is still ours.

        Raises:
          UserError: if another process took it, for this one had not been heard of.
        """
        text = self._read()
        if text and _id(text) != self._own["id"]:
            self._lost = busy(text, self._url)
        if self._lost:
            raise UserError(self._lost)

    def _wait_for_the_former(self) -> None:
        text, seconds = self._read(), BEATS * self._every
        if not text:
            return
        print(f"{self._url} was left locked; looking for {seconds:g} s whether its process lives",
              flush=True)  # fmt: skip
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self._over.wait(self._every / 4)
            now = self._read()
            if not now:
                return
            if now != text:
                raise UserError(busy(now, self._url))

    def _beat_on(self) -> None:
        while not self._over.wait(self._every):
            try:
                self.check()
                self._own["beat"] += 1
                self._write()
            except UserError as error:  # the run saves here and ends; nothing of it goes there
                print(f"error: {error}", file=sys.stderr, flush=True)
                os.kill(os.getpid(), signal.SIGTERM)
                return
            except Exception as error:  # each store has exceptions of its own
                print(f"warning: cannot reach {self._url} ({error}); trying again",
                      file=sys.stderr, flush=True)  # fmt: skip

    def _holder(self) -> str:
        return _id(self._read())

    def _read(self) -> bytes:
        self._fs.invalidate_cache()
        try:
            found: bytes = self._fs.cat_file(self._path)
        except FileNotFoundError:
            return b""
        return found

    def _write(self) -> None:
        self._fs.makedirs(self._path.rpartition("/")[0], exist_ok=True)
        self._fs.pipe_file(self._path, json.dumps(self._own).encode())


def _id(text: bytes) -> str:
    with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
        return str(json.loads(text)["id"])
    return ""
