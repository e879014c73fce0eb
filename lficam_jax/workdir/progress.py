"""What a run says while it goes: a bar on a terminal, plain lines elsewhere. Process 0 speaks."""

import contextlib
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self, TextIO, cast

import jax
from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TextColumn
from rich.progress import Progress as Bar

REFRESH = 1.0  # seconds between two looks of the bar
LINES = (10.0, 30.0)  # seconds between two lines of a log, at first and later


def say(text: str) -> None:
    """Prints a line of process 0 at once, whatever standard output is."""
    if jax.process_index() == 0:
        print(text, flush=True)


class Lasting:
    """A stream that a run outlives: behind `| head`, on a full disk, after its terminal is gone.

    Args:
      stream: standard output or error; what cannot be written to it is dropped.
      name: of it, to be told once on standard error; '' tells nothing.
    """

    def __init__(self, stream: TextIO, name: str = "") -> None:
        self._stream, self._name = stream, name

    def write(self, text: str) -> int:
        """Writes if it can."""
        with self._lasts():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flushes if it can."""
        with self._lasts():
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    @contextlib.contextmanager
    def _lasts(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            with contextlib.suppress(OSError, ValueError):  # of a notebook, which has no number
                number = self._stream.fileno()
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, number)
                os.close(nowhere)
            if self._name:
                print(
                    f"warning: {self._name} cannot be written ({error.strerror}); the run goes on, "
                    "and metrics.jsonl says where it is", file=sys.stderr, flush=True,
                )  # fmt: skip
                self._name = ""


@contextlib.contextmanager
def lasting_streams() -> Iterator[None]:
    """Inside, nothing that cannot be printed ends the run."""
    with contextlib.ExitStack() as stack:
        if sys.stderr is not None:  # None: closed by the shell
            stack.enter_context(contextlib.redirect_stderr(cast(TextIO, Lasting(sys.stderr))))
        if sys.stdout is not None:
            out = Lasting(sys.stdout, "standard output")
            stack.enter_context(contextlib.redirect_stdout(cast(TextIO, out)))
        yield


class Progress:
    """Shows epoch, loss, accuracy, images per second and the time left; a context manager.

    What is shown goes by the clock, so that slow steps are seen and fast ones do not flood a log:
    `due` says when it is time to `update`.

    Args:
      total_steps: where the run ends.
      steps_per_epoch: training batches in one epoch.
      start_step: where this run began. The time left is judged by the steps of this run alone, so
        it stays right after a resume.
      console: where to print; default standard output.
      clock: seconds that only grow; tests bring their own.
    """

    def __init__(
        self,
        total_steps: int,
        steps_per_epoch: int,
        start_step: int = 0,
        *,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total, self._per_epoch = total_steps, max(1, steps_per_epoch)
        self._clock = clock
        self._begin = clock()
        self._from = (start_step, self._begin)  # where the pace is measured from
        self._shown = -math.inf  # when
        self._said: set[str] = set()
        self._silent = jax.process_index() != 0
        self._console = console or Console(file=sys.stdout, highlight=False)
        self._bar = None
        if self._console.is_terminal and not self._silent:
            # The spinner turns while a step or a compilation takes long; "line" is plain ASCII.
            columns = (
                SpinnerColumn("line"), BarColumn(bar_width=None),
                TextColumn("{task.description}", markup=False),
            )  # fmt: skip
            self._bar = Bar(*columns, console=self._console, expand=True)
            self._task = self._bar.add_task("", total=total_steps, completed=start_step)
            self._bar.start()

    def due(self) -> bool:
        """Tells whether it is time to show something new; costs one look at the clock."""
        if self._silent:
            return False
        now = self._clock()
        soon, late = LINES
        every = min(late, max(soon, (now - self._begin) / 20)) if self._bar is None else REFRESH
        return now - self._shown >= every

    def update(
        self, step: int, *, loss: float, images_per_second: float, **shown: float
    ) -> None:  # fmt: skip
        """Shows where the run is after `step` steps.

        Args:
          step: how many are done.
          loss: of the last few steps.
          images_per_second: NaN while nobody knows it.
          **shown: of the last few steps, too: `accuracy` or `label_accuracy`, fractions in [0, 1],
            or `mae`.
        """
        if self._silent:
            return
        self._shown = self._clock()
        epochs = -(-self._total // self._per_epoch)
        epoch = min(epochs, -(-step // self._per_epoch))
        where = f"epoch {epoch}/{epochs}  "
        how = [f"loss {loss:.4f}"]
        for name, value in shown.items():
            text = f"{value:.4g}" if name == "mae" else f"{100 * value:.1f} %"
            how.append(f"{name.replace('_', ' ')} {text}")
        if math.isfinite(images_per_second):
            how.append(f"{images_per_second:,.0f} images/s")
        how += self._time_left(step)
        if self._bar is None:
            print(
                f"{where}step {step}/{self._total}  {'  '.join(how)}",
                file=self._console.file, flush=True,
            )  # fmt: skip
        else:  # which shows the step by its length, so that the rest fits 80 columns
            self._bar.update(self._task, completed=step, description=where + "  ".join(how))

    @contextlib.contextmanager
    def compiling(self, step: int) -> Iterator[None]:
        """Around step `step`, which compiles: says so, and how long it took."""
        since = self._clock()
        with self.doing("compiling the training step …"):
            yield
        now = self._clock()
        seconds = f"{now - since:.1f}s" if now - since < 10 else duration_text(now - since)
        self.note(f"compiled the training step in {seconds}")
        self._from = (step, now)

    @contextlib.contextmanager
    def doing(self, text: str) -> Iterator[None]:
        """Says what is done besides training: in the bar while it lasts, in a log once."""
        if self._bar is None:
            if text not in self._said:
                self._said.add(text)
                self.note(text)
            yield
            return
        before = self._bar.tasks[0].description
        self._bar.update(self._task, description=text)
        yield
        self._bar.update(self._task, description=before)

    def note(self, text: str) -> None:
        """Prints a line of its own, above the bar if there is one."""
        if self._silent:
            return
        if self._bar is None:
            print(text, file=self._console.file, flush=True)
        else:
            self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Leaves the bar as it stands; safe to call twice."""
        if self._bar is not None:
            self._bar.stop()

    def _time_left(self, step: int) -> list[str]:
        since_step, since = self._from
        if not since_step < step < self._total:
            return []  # nobody knows yet, or it is over
        pace = (self._clock() - since) / (step - since_step)
        return [f"{duration_text(pace * (self._total - step))} left"]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Pace:
    """Prints how far a measurement is and how long the rest takes, every ten seconds at most.

    Args:
      total: how many equal pieces of work there are.
    """

    def __init__(self, total: int) -> None:
        self._total, self._done = total, 0
        self._start = self._said = time.monotonic()

    def tick(self, name: str) -> None:
        """Counts one piece of work as done; `name` says which."""
        self._done, now = self._done + 1, time.monotonic()
        if now - self._said < 10:
            return
        self._said = now
        left = (now - self._start) / self._done * (self._total - self._done)
        share = self._done / self._total
        print(f"{share:4.0%}  {name}  {duration_text(left)} left", flush=True)


def duration_text(seconds: float) -> str:
    """Writes a duration with its two largest units.

    >>> duration_text(7.4), duration_text(80), duration_text(7500), duration_text(200_000)
    ('7s', '1m 20s', '2h 05m', '2d 07h')
    """
    whole = round(seconds)
    minutes, s = divmod(whole, 60)
    hours, m = divmod(minutes, 60)
    days, h = divmod(hours, 24)
    if days:
        return f"{days}d {h:02d}h"
    if hours:
        return f"{h}h {m:02d}m"
    return f"{m}m {s:02d}s" if minutes else f"{s}s"
