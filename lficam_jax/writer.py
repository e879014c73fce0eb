"""What a run says (a bar or plain lines) and leaves behind as numbers: `metrics.jsonl`, TensorBoard
files and `results/<mode>.json`.

Only process 0 speaks and writes. A line is flushed as soon as it is written, so a killed run keeps
every number that it has printed.
"""

import contextlib
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jax
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from lficam_jax.errors import UserError


class MetricWriter:
    """Appends scalars to `metrics.jsonl` and, if asked, to TensorBoard files; a context manager.

    Args:
      workdir: the run's folder; made if absent.
      tensorboard: also write `<workdir>/tensorboard/` (scalars and pictures).
      resume_step: the step from which the run goes on. Lines of later steps are dropped, because
        the run is about to write them again; None keeps every line.

    Raises:
      UserError: if the folder or the file cannot be written.
    """

    def __init__(
        self, workdir: str | os.PathLike, tensorboard: bool = True, resume_step: int | None = None
    ) -> None:
        self._path = Path(workdir) / "metrics.jsonl"
        self._lines, self._tensorboard = None, None
        if jax.process_index() != 0:
            return
        with _teaching(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if resume_step is not None and self._path.is_file():
                _drop_after(self._path, resume_step)
            # Unbuffered: when `scalars` returns the line is in the file, or it has raised.
            self._lines = self._path.open("ab", buffering=0)
            if tensorboard:
                from tensorboardX import SummaryWriter

                purge = None if resume_step is None else resume_step + 1
                folder = str(self._path.parent / "tensorboard")
                self._tensorboard = SummaryWriter(folder, purge_step=purge)

    def scalars(self, step: int, values: Mapping[str, Any]) -> None:
        """Writes one line `{"step": step, name: value, ...}`; a non-finite value becomes null."""
        if self._lines is None:
            return
        with _teaching(self._path):
            line = _to_json({"step": int(step), **values}) + "\n"
            self._lines.write(line.encode())
        if self._tensorboard is not None:
            for name, value in values.items():
                if math.isfinite(value):
                    self._tensorboard.add_scalar(name, float(value), int(step))

    def image(self, step: int, name: str, picture: np.ndarray) -> None:
        """Writes one picture (uint8 `[y x 3]`) to TensorBoard; nothing without TensorBoard."""
        if self._tensorboard is not None:
            self._tensorboard.add_image(name, picture, int(step), dataformats="HWC")

    def close(self) -> None:
        """Closes both files; safe to call twice."""
        lines, board = self._lines, self._tensorboard
        self._lines = self._tensorboard = None
        with _teaching(self._path):
            if lines is not None:
                lines.close()
            if board is not None:
                board.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def write_result(workdir: str | os.PathLike, mode: str, result: Mapping[str, Any]) -> Path:
    """Writes `results/<mode>.json` in one step: a reader sees the old file or the new, never half.

    Args:
      workdir: the run's folder.
      mode: names the file.
      result: nested mappings, lists and numbers (numpy's and JAX' too). Keys with dots stay as
        they are; a non-finite number becomes null, since JSON has no word for it.

    Returns:
      The path of the file; on processes other than 0 nothing is written there.

    Raises:
      UserError: if it cannot be written.
    """
    path = Path(workdir) / "results" / f"{mode}.json"
    if jax.process_index() == 0:
        with _teaching(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            _replace(path, _to_json(result, indent=2) + "\n")
    return path


class Progress:
    """Shows epoch, loss, accuracy, images per second and the time that is left; a context manager.

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
        # The first log point carries the compilation: the pace is measured from there on.
        self._from = self._begin = (start_step, clock())
        self._silent = jax.process_index() != 0
        self._console = console or Console(file=sys.stdout, highlight=False)
        self._bar = None
        if self._console.is_terminal and not self._silent:
            columns = (BarColumn(bar_width=None), TextColumn("{task.description}", markup=False))
            self._bar = Bar(*columns, console=self._console, expand=True)
            self._task = self._bar.add_task("compiling …", total=total_steps, completed=start_step)
            self._bar.start()

    def update(self, step: int, *, loss: float, accuracy: float, images_per_second: float) -> None:
        """Shows where the run is after `step` steps.

        Args:
          step: how many are done.
          loss: of the last log window.
          accuracy: likewise, a fraction in [0, 1].
          images_per_second: NaN while nobody knows it.
        """
        if self._silent:
            return
        epochs = -(-self._total // self._per_epoch)
        epoch = min(epochs, -(-step // self._per_epoch))
        speed = f"{images_per_second:,.0f} images/s  " if math.isfinite(images_per_second) else ""
        where = f"epoch {epoch}/{epochs}  "
        how = (
            f"loss {loss:.4f}  accuracy {100 * accuracy:.1f} %  {speed}{self._time_left(step)} left"
        )
        if self._bar is None:
            text = f"{where}step {step}/{self._total}  {how}"
            print(text, file=self._console.file, flush=True)
        else:  # which shows the step by its length, so that the rest fits 80 columns
            self._bar.update(self._task, completed=step, description=where + how)

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

    def _time_left(self, step: int) -> str:
        now = self._clock()
        since_step, since = self._from
        pace = (now - since) / max(1, step - since_step)
        if self._from is self._begin:
            self._from = (step, now)
        return duration_text(pace * max(0, self._total - step))

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


def _to_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(plain(value), indent=indent, allow_nan=False, ensure_ascii=False)


def _replace(path: Path, text: str) -> None:
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        scratch.write_text(text, encoding="utf-8")
        os.replace(scratch, path)
    finally:
        scratch.unlink(missing_ok=True)


def _drop_after(path: Path, step: int) -> None:
    """Keeps the lines up to `step`, and no line that a kill cut short."""
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(ValueError, TypeError, KeyError):
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
    _replace(path, "".join(kept))


@contextlib.contextmanager
def _teaching(path: Path) -> Iterator[None]:
    """Turns the system's refusal to write `path` into one line that says what to do."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; free some space or choose a "
            f"--workdir that you can write to"
        ) from error
