"""The loop of one run: step, log, evaluate, save. Everything it needs was built by `train`."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from lficam_jax.checkpoint import METRIC, Checkpoints
from lficam_jax.config import duration
from lficam_jax.errors import DivergedError
from lficam_jax.interrupt import Interrupted, Interruption
from lficam_jax.parallel import waits
from lficam_jax.state import TrainState
from lficam_jax.structs import Pipeline, Sums
from lficam_jax.workdir import as_json
from lficam_jax.writer import MetricWriter, Progress


def due(step: int, every: int, total: int) -> bool:
    """The one cadence rule: every `every` steps (0 = never), and at the last step."""
    return step == total or (every > 0 and step % every == 0)


def scalars(prefix: str, measures: Mapping[str, Any]) -> dict[str, float]:
    """Returns the plain numbers among the measures, named `prefix/name`."""
    return {f"{prefix}/{k}": v for k, v in measures.items() if isinstance(v, int | float)}


@dataclass
class Loop:
    """Steps from a state to the end of the run.

    Attributes:
      config: of the run.
      pipeline: the training split.
      resident: its arrays, replicated.
      train_step: mapped by `parallel.spmd`; it consumes the state that it is given.
      learning_rate: of a step, to show it.
      total_steps: where the run ends.
      evaluation: measures of the validation split for replicated variables.
      draw: their maps on some validation images as one uint8 picture, or None.
      checkpoints: where states go.
      images: trained on since the first log point, before which the step was compiled.
      seconds: spent on those.
    """

    config: ConfigDict
    pipeline: Pipeline
    resident: Any
    train_step: Callable[..., tuple[TrainState, Sums]]
    learning_rate: optax.Schedule
    total_steps: int
    evaluation: Callable[[Any], dict[str, Any]]
    draw: Callable[[Any], np.ndarray | None]
    checkpoints: Checkpoints
    images: float = 0.0
    seconds: float = 0.0
    _window: list[Sums] = field(default_factory=list)  # since the last log point, on the device
    _since: float | None = None  # when that was; None before the first

    def run(self, state: TrainState, workdir: Path, interruption: Interruption) -> None:
        """Trains to `total_steps`, or until a signal: then saves and raises Interrupted."""
        first, total, train = int(state.step), self.total_steps, self.config.train
        per_epoch = self.pipeline.steps_per_epoch
        evaluate_every = duration(self.config.eval, "every", per_epoch)
        with (
            MetricWriter(workdir, train.tensorboard, resume_step=first) as writer,
            Progress(total, per_epoch, first) as progress,
        ):
            steps = range(first + 1, total + 1)
            for step, batch in zip(steps, self.pipeline.batches(first), strict=False):
                state, sums = self.train_step(state, self.resident, batch)
                self._window.append(sums)
                if waits():
                    jax.block_until_ready(sums)
                stops = interruption.signum is not None
                evaluates = due(step, evaluate_every, total)
                saves = stops or evaluates or due(step, train.checkpoint_every_steps, total)
                if saves or due(step, train.log_every_steps, total):
                    self._log(
                        step, writer, progress
                    )  # before a save: it refuses what is not finite
                if saves:
                    metrics = self._evaluate(step, state, writer, progress) if evaluates else None
                    self.checkpoints.save(state, config=as_json(self.config), metrics=metrics)
                    self._since = time.monotonic()
                if stops and step < total:
                    self.checkpoints.wait()
                    raise Interrupted(interruption.signum, step)
            self.checkpoints.wait()

    def _log(self, step: int, writer: MetricWriter, progress: Progress) -> None:
        window, now = jax.device_get(self._window), time.monotonic()
        _check_finite(window, step)
        count = sum(float(s["count"]) for s in window)
        if self._since is not None:
            self.images, self.seconds = self.images + count, self.seconds + now - self._since
        shown = {
            "loss": sum(float(s["loss"]) for s in window) / count,
            "accuracy": sum(float(s["correct"]) for s in window) / count,
            "images_per_second": self.images / self.seconds if self.seconds else math.nan,
        }
        more = {
            "grad_norm": float(window[-1]["grad_norm"]),
            "learning_rate": float(self.learning_rate(step - 1)),
            "epoch": step / self.pipeline.steps_per_epoch,
        }
        writer.scalars(step, scalars("train", shown | more))
        progress.update(step, **shown)
        self._window, self._since = [], now

    def _evaluate(
        self, step: int, state: TrainState, writer: MetricWriter, progress: Progress
    ) -> dict[str, float]:
        measures = self.evaluation(state.variables)
        writer.scalars(step, scalars("validation", measures))
        if self.config.train.tensorboard:
            picture = self.draw(state.variables)
            if picture is not None:
                writer.image(step, "validation/attention", picture)
        shown = ("accuracy", "pointing_game", "effective_channels", "correlation_with_mean")
        text = "  ".join(f"{k} {measures[k]:.4f}" for k in shown if k in measures)
        progress.note(f"validation at step {step}: {text}")
        return {METRIC: measures[METRIC]}


def _check_finite(window: list[Sums], last_step: int) -> None:
    """Raises DivergedError for the first step of a window whose loss or gradient is not finite."""
    for step, sums in enumerate(window, last_step - len(window) + 1):
        bad = [
            f"{text} is {float(sums[name])}"
            for name, text in (("loss", "the loss"), ("grad_norm", "the norm of the gradient"))
            if not math.isfinite(sums[name])
        ]
        if bad:
            raise DivergedError(
                f"training diverged at step {step}: {' and '.join(bad)}. Checkpoints before it are "
                "intact. Lower --config.optim.lr, warm up longer or set --config.optim.clip_norm"
            )
