"""What a run leaves behind as numbers while it goes: `metrics.jsonl` and TensorBoard files.

Only process 0 writes. A line is flushed as soon as it is written, so a killed run keeps every
number that it has printed.
"""

import contextlib
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jax
import numpy as np

from lficam_jax.workdir.results import as_text, replace_text, teaching


class MetricWriter:
    """Appends scalars to `metrics.jsonl` and, if asked, to TensorBoard files; a context manager.

    Args:
      workdir: the run's folder; made if absent.
      tensorboard: also write `<workdir>/tensorboard/` (scalars and pictures).
      resume_step: the step from which the run goes on. Lines of later steps are dropped, because
        the run is about to write them again; None keeps every line.
      again: how the names of numbers begin that it writes again at that very step; None for none.

    Raises:
      UserError: if the folder or the file cannot be written.
    """

    def __init__(
        self,
        workdir: str | os.PathLike[str],
        tensorboard: bool = True,
        resume_step: int | None = None,
        again: str | None = None,
    ) -> None:
        self._path = Path(workdir) / "metrics.jsonl"
        self._lines, self._tensorboard = None, None
        if jax.process_index() != 0:
            return
        with teaching(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if resume_step is not None and self._path.is_file():
                _drop_after(self._path, resume_step, again)
            # Unbuffered: when `scalars` returns the line is in the file, or it has raised.
            # A link would lead out of a folder that may be somebody else's.
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
            self._lines = os.fdopen(os.open(self._path, flags, 0o666), "ab", buffering=0)
            if tensorboard:
                from tensorboardX import SummaryWriter

                purge = None if resume_step is None else resume_step + 1
                folder = str(self._path.parent / "tensorboard")
                self._tensorboard = SummaryWriter(folder, purge_step=purge)

    def scalars(self, step: int, values: Mapping[str, Any]) -> None:
        """Writes one line `{"step": step, name: value, ...}`; a non-finite value becomes null."""
        if self._lines is None:
            return
        with teaching(self._path):
            line = as_text({"step": int(step), **values}) + "\n"
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
        with teaching(self._path):
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


def _drop_after(path: Path, step: int, again: str | None) -> None:
    """Keeps the lines up to `step`, but not what comes `again`, nor what a kill cut short."""
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
            found = json.loads(line)
            repeated = again is not None and any(str(name).startswith(again) for name in found)
            if found["step"] < step + (not repeated):
                kept.append(line + "\n")
    replace_text(path, "".join(kept))
