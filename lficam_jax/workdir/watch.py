"""`with lfi.progress():` how far long explanations and measurements are, and the time left."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, TypeVar

import jax
from rich.console import Console
from rich.progress import BarColumn, TaskID, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from lficam_jax.workdir.progress import duration_text

T = TypeVar("T")
EVERY = 10.0  # seconds between two lines of one work, where there is no terminal


class Watch:
    """Shows works by name: a bar each on a terminal, lines elsewhere.

    Args:
      console: where to print; default standard output.
      clock: seconds that only grow; tests bring their own.
    """

    def __init__(
        self, console: Console | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._console = console or Console(file=sys.stdout, highlight=False)
        self._clock, self._batch = clock, (0, 1)
        self._since: dict[str, float] = {}
        self._said: dict[str, float] = {}
        self._tasks: dict[str, TaskID] = {}
        self._bar: Bar | None = None
        if self._console.is_terminal:
            columns = (
                TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(),
                TimeRemainingColumn(),
            )  # fmt: skip
            self._bar = Bar(*columns, console=self._console)
            self._bar.start()

    def batch(self, done: int, total: int) -> None:
        """Says which of how many batches begins; what `part` tells is of this one."""
        self._batch = done, total
        if done == 0:
            self._since.clear()
        self._show("batches", done / total)

    def part(self, name: str, total: int, number: Any) -> None:
        """Says that a method has begun its part of that number, counted from 0, of a batch."""
        done, batches = self._batch
        self._show(name, (done + (int(number) + 1) / total) / batches)

    def close(self) -> None:
        """Leaves what is shown as it stands."""
        if self._bar is not None:
            self._bar.stop()

    def _show(self, name: str, share: float) -> None:
        now = self._clock()
        since = self._since.setdefault(name, now)
        if self._bar is not None:
            if name not in self._tasks:
                self._tasks[name] = self._bar.add_task(name, total=1.0)
            self._bar.update(self._tasks[name], completed=share)
        elif now - self._said.setdefault(name, now) >= EVERY and 0 < share:
            self._said[name] = now
            left = duration_text((now - since) / share * (1 - share))
            print(f"{share:4.0%}  {name}  {left} left", file=self._console.file, flush=True)


_current: list[Watch] = []  # a global, as programs call back from threads of their own


@contextlib.contextmanager
def progress(console: Any = None) -> Iterator[None]:
    """Shows how far `explain` and `measure` are, and the time left, while the context lasts.

    On a terminal each long method has a bar (score_cam, rise, occlusion, smooth_grad and all that
    look at an image many times); elsewhere, as in a notebook, there is a line every ten seconds. A
    method with `+augmented` walks six times through its bar in each batch. Programs that tell are
    compiled apart from those that do not.

    Args:
      console: a `rich.console.Console`; default: standard output.

    Example:
      >>> import lficam_jax as lfi
      >>> run = lfi.load("runs/quickstart")
      >>> with lfi.progress():
      ...     e = run.explain("photo.png", method="rise")
    """
    watch = Watch(console)
    _current.append(watch)
    try:
        yield
        jax.effects_barrier()  # what programs have still to tell
    finally:
        _current.remove(watch)
        watch.close()


def watching() -> bool:
    """Tells whether somebody wants to know; a program that tells is another than one that does not.

    So it belongs to what a compiled program is kept by.
    """
    return bool(_current)


def each(batches: Iterable[T], total: int) -> Iterator[T]:
    """Yields `total` batches, and says how far they are."""
    for number, batch in enumerate(batches):
        if _current:
            _current[-1].batch(number, total)
        yield batch
    if _current:
        jax.effects_barrier()
        _current[-1].batch(total, total)


def tell(name: str, number: Any, total: int) -> None:
    """Within a program: says that part `number` of `total` begins, if somebody is watching."""
    if _current:
        jax.debug.callback(partial(_told, name, total), number)


def _told(name: str, total: int, number: Any) -> None:
    if _current:
        _current[-1].part(name, total, number)
