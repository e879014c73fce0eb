"""A watchdog over the loop: ends a process that is stuck, so that a launcher can start it again."""

import faulthandler
import os
import sys
import threading
import time
from types import TracebackType
from typing import Self

from lficam_jax.errors import LostError

GENEROUS = 10  # times as long for what compiles or reads a whole split


class Watchdog:
    """Inside the context, whatever was announced by `watch` must end before the next is due.

    A thread, not a timeout of the call: a collective that waits for a dead machine never returns.

    Args:
      seconds: for one step; 0 = off.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds, self._over = seconds, threading.Event()
        self._doing, self._since, self._limit = "", 0.0, float("inf")

    def watch(self, doing: str, patience: int = 1) -> None:
        """Announces what is done next.

        Args:
          doing: names it, should it get stuck.
          patience: times `seconds` that it may take.
        """
        self._limit = float("inf")  # first, so that the thread never mixes the old with the new
        self._doing, self._since = doing, time.monotonic()
        self._limit = self._seconds * patience

    def __enter__(self) -> Self:
        if self._seconds:
            threading.Thread(target=self._look, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._over.set()

    def _look(self) -> None:
        while not self._over.wait(min(1.0, self._seconds / 4)):
            if time.monotonic() - self._since > self._limit:
                self._bark()

    def _bark(self) -> None:
        print(
            f"error: stuck: {self._doing} did not end within {self._limit:g} s "
            "(--config.train.watchdog_seconds); saved checkpoints are intact, the same command "
            "continues. Where each thread is:",
            file=sys.stderr, flush=True,
        )  # fmt: skip
        faulthandler.dump_traceback(all_threads=True)
        os._exit(LostError.exit_code)
