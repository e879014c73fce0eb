"""A window of steps recorded by JAX' profiler, for `xprof` or Perfetto to show."""

import contextlib
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jax

from lficam_jax.errors import UserError


def window(words: str) -> tuple[int, int]:
    """Reads `FIRST:LAST`, two steps counted from 1; '' is the empty window (0, 0).

    >>> window("10:15")
    (10, 15)

    Raises:
      UserError: if it is anything else.
    """
    first, _, last = (words or "0:0").partition(":")
    if not (first.isdigit() and last.isdigit() and int(first) <= int(last)) or words == "0:0":
        raise UserError(f"--profile_steps={words} is not FIRST:LAST; for example 10:15")
    return int(first), int(last)


class Profile:
    """Records the steps of a window into `<workdir>/profile`; a context manager.

    Args:
      workdir: of the run.
      steps: first and last; (0, 0) records nothing.
    """

    def __init__(self, workdir: Path, steps: tuple[int, int]) -> None:
        # Process 0 alone writes into the run's folder.
        self._first, self._last = steps if jax.process_index() == 0 else (0, 0)
        self._folder = workdir / "profile"
        self._running = False

    def step(self, number: int) -> contextlib.AbstractContextManager[Any]:
        """Returns the context in which step `number` is taken."""
        if number == self._first:
            jax.profiler.start_trace(self._folder)
            self._running = True
        if not self._running:
            return contextlib.nullcontext()
        return jax.profiler.StepTraceAnnotation("train", step_num=number)

    def after(self, number: int, result: Any) -> None:
        """Ends the recording behind the last step, once the devices have finished it."""
        if self._running and number >= self._last:
            jax.block_until_ready(result)
            self._stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._stop()

    def _stop(self) -> None:
        if self._running:
            self._running = False
            jax.profiler.stop_trace()
