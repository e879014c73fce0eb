"""The loop of one run: step, log, evaluate, save. Everything it needs was built by `train`."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

from lficam_jax.data import Pipeline
from lficam_jax.data.pipeline import HostBatch
from lficam_jax.devices import distributed
from lficam_jax.devices.interrupt import Interrupted, Interruption
from lficam_jax.devices.parallel import waits
from lficam_jax.devices.watchdog import GENEROUS, Watchdog
from lficam_jax.errors import DivergedError, UserError
from lficam_jax.structs import Sums, TrainState
from lficam_jax.training.evaluate import Evaluation
from lficam_jax.training.profiling import Profile
from lficam_jax.workdir.checkpoint import Checkpoints
from lficam_jax.workdir.measured import METRICS
from lficam_jax.workdir.metrics_file import MetricWriter
from lficam_jax.workdir.progress import Progress

AHEAD = 2  # steps that the host may queue before the devices have done them
_REMEDY = (
    ". Checkpoints before it are intact. Lower --config.optim.lr, warm up longer or set "
    "--config.optim.clip_norm"
)
RECENT = 16  # steps whose loss is shown between two log points


def due(step: int, every: int, total: int) -> bool:
    """The one cadence rule: every `every` steps (0 = never), and at the last step."""
    return step == total or (every > 0 and step % every == 0)


def scalars(prefix: str, measures: Mapping[str, Any]) -> dict[str, float]:
    """Returns the plain numbers among the measures, named `prefix/name`."""
    return {f"{prefix}/{k}": v for k, v in measures.items() if isinstance(v, int | float)}


@dataclass(frozen=True)
class Plan:
    """When a loop does what, in steps; 0 = never, but for the last step.

    Attributes:
      total_steps: where the run ends.
      log_every: between two log points.
      evaluate_every: between two looks at the validation split; before each the step is saved.
      save_every: between two checkpoints besides.
      tensorboard: write TensorBoard files too.
      watchdog_seconds: that a step may take; 0 = for ever.
      profile: first and last step for JAX' profiler to record; (0, 0) for none.
    """

    total_steps: int
    log_every: int
    evaluate_every: int
    save_every: int = 0
    tensorboard: bool = False
    watchdog_seconds: float = 0.0
    profile: tuple[int, int] = (0, 0)


@dataclass
class Speed:
    """Images per second of training, without compiling, evaluating and saving."""

    _images: float = 0.0
    _seconds: float = 0.0
    _step: int = 0  # up to which they are counted
    _since: float = 0.0  # when that step was done, or training went on behind it

    @property
    def value(self) -> float | None:
        """The mean over the run; None before anything was counted."""
        return self._images / self._seconds if self._images else None

    def go_on(self, step: int) -> None:
        """The clock goes on behind `step`, after something else than training."""
        self._step, self._since = step, time.monotonic()

    def count(self, step: int, rows: float) -> float | None:
        """Counts the steps up to `step`, of `rows` images each; returns the new value."""
        self._images += rows * (step - self._step)
        self._seconds += time.monotonic() - self._since
        self.go_on(step)
        return self.value


@dataclass
class Loop:
    """Steps from a state to the end of the run.

    Attributes:
      data: the training split.
      resident: its arrays, replicated.
      train_step: mapped by `parallel.spmd`; it consumes the state that it is given.
      learning_rate: of a step, to show it.
      validation: measures and draws the validation split.
      checkpoints: where states go.
      plan: when it does what.
    """

    data: Pipeline
    resident: Any
    train_step: Callable[..., tuple[TrainState, Sums]]
    learning_rate: optax.Schedule
    validation: Evaluation
    checkpoints: Checkpoints
    plan: Plan
    _speed: Speed = field(default_factory=Speed)
    _window: list[Sums] = field(default_factory=list)  # since the last log point, on the device
    _saved: int = 0  # the newest step that has a checkpoint, or that the run began with

    @property
    def images_per_second(self) -> float | None:
        """The pace of training, without compiling, evaluating and saving; None if too short."""
        return self._speed.value

    def run(self, state: TrainState, workdir: Path, interruption: Interruption) -> None:
        """Trains to `total_steps`, or until a signal: then saves and raises Interrupted."""
        first, plan = int(state.step), self.plan
        self._saved, unmeasured = first, self._unmeasured(first)
        again = "validation/" if unmeasured else None
        with (
            MetricWriter(workdir, plan.tensorboard, first, again) as self._writer,
            Progress(plan.total_steps, self.data.steps_per_epoch, first) as self._progress,
            Watchdog(plan.watchdog_seconds) as self._watchdog,
            Profile(workdir, plan.profile) as profile,
        ):
            if unmeasured:
                self._measure(first, state)
            batches = self.data.batches(first)
            for step in range(first + 1, plan.total_steps + 1):
                compiles = step == first + 1
                self._watchdog.watch(f"step {step}", GENEROUS if compiles else 1)
                batch = self._next(batches, step, state)
                with profile.step(step), self._compiling(step, compiles):
                    state, sums = self.train_step(state, self.resident, batch)
                    self._window.append(sums)
                # No further ahead: queued steps hold their batches in memory, and a step that is
                # stuck would be noticed late.
                queued = 0 if waits() else AHEAD
                done = self._window[: max(0, len(self._window) - queued)]
                jax.block_until_ready(done[-1:])
                profile.after(step, sums)
                if done and self._progress.due():
                    self._show(step - len(self._window) + len(done), done[-RECENT:])
                self._after(step, state, interruption.at(step))
            self.checkpoints.wait()

    def _unmeasured(self, first: int) -> bool:
        """Tells whether the step that the run goes on from was saved, and then not measured."""
        if not first or not due(first, self.plan.evaluate_every, self.plan.total_steps):
            return False
        measured = distributed.first(
            lambda: np.array(self.checkpoints.is_measured(first)), np.array(True)
        )
        return not measured

    @contextlib.contextmanager
    def _compiling(self, step: int, compiles: bool) -> Iterator[None]:
        """Around a step: the first of a process is waited for, and the clock starts behind it."""
        if not compiles:
            yield
            return
        with self._progress.compiling(step):
            yield
            jax.block_until_ready(self._window)
        self._speed.go_on(step)

    def _next(self, batches: Iterator[HostBatch], step: int, state: TrainState) -> HostBatch:
        """Returns the batch of `step`. Data that can be read no more cost no step that is done."""
        try:
            return next(batches)
        except (OSError, UserError) as error:
            if self._saved < step - 1:
                self._log(step - 1)
                self._save(step - 1, state)
            self.checkpoints.wait()
            saved = f"step {self._saved} is saved, the same command continues from there"
            raise UserError(
                f"the training data cannot be read any more: {error}; "
                + (saved if self._saved else "no step was done yet")
            ) from error

    def _after(self, step: int, state: TrainState, signum: int | None) -> None:
        """Logs, saves, stops and evaluates where it is time to."""
        plan, total = self.plan, self.plan.total_steps
        evaluates = due(step, plan.evaluate_every, total)
        saves = signum or evaluates or due(step, plan.save_every, total)
        if saves or due(step, plan.log_every, total):
            self._log(step)  # before a save: it refuses what is not finite
        if saves:
            self._watchdog.watch(f"saving step {step}", GENEROUS)
            self._save(step, state)
        if signum and step < total:
            self.checkpoints.wait()
            raise Interrupted(signum, step)
        if evaluates:  # what is saved by now: whatever happens costs no step
            self._measure(step, state)

    def _save(self, step: int, state: TrainState) -> None:
        self.checkpoints.save(state)
        self._saved = step
        self._speed.go_on(step)

    def _show(self, step: int, recent: list[Sums]) -> None:
        """Shows the last steps that the devices have done; waits for nothing."""
        window = jax.device_get(recent)
        speed = copy(self._speed).count(step, float(window[-1]["count"]))
        self._progress.update(step, **_means(window), images_per_second=speed or math.nan)

    def _log(self, step: int) -> None:
        if not self._window:
            return
        window = jax.device_get(self._window)
        _check_finite(window, step)
        speed = self._speed.count(step, float(window[-1]["count"]))
        shown = _means(window) | {"images_per_second": speed or math.nan}
        more = {
            **{k: float(window[-1][k]) for k in ("grad_norm", "fin_gradient") if k in window[-1]},
            "learning_rate": float(self.learning_rate(step - 1)),
            "epoch": step / self.data.steps_per_epoch,
        }
        self._writer.scalars(step, scalars("train", shown | more))
        if step == self.plan.total_steps or self._progress.due():
            self._progress.update(step, **shown)
        self._window = []

    def _measure(self, step: int, state: TrainState) -> None:
        """Measures the validation split and notes what came out beside the step, which is saved."""
        self._watchdog.watch(f"evaluating step {step}", GENEROUS)
        try:
            metrics = self._evaluate(step, state)
        except DivergedError:
            self.checkpoints.remove(step)
            raise
        except (OSError, UserError) as error:
            self.checkpoints.wait()
            raise UserError(
                f"the validation split cannot be measured: {error}; step {step} is saved, the "
                "same command continues from there"
            ) from error
        self.checkpoints.note(step, metrics)
        self._speed.go_on(step)

    def _evaluate(self, step: int, state: TrainState) -> dict[str, float]:
        with self._progress.doing("measuring the validation split …"):
            measures = self.validation.measure(state.variables)
        self._writer.scalars(step, scalars("validation", measures))
        if not math.isfinite(measures["loss"]):
            raise DivergedError(
                f"training diverged at step {step}: the validation loss is {measures['loss']}"
                f"{_REMEDY}"
            )
        if self.plan.tensorboard and jax.process_index() == 0:
            picture = self.validation.draw(state.variables)
            if picture is not None:
                self._writer.image(step, "validation/attention", picture)
        shown = (*METRICS, "f1", "rmse", "pointing_game", "effective_channels",
                 "correlation_with_mean")  # fmt: skip
        told = [k for k in shown if measures.get(k) is not None]
        text = "  ".join(f"{k} {measures[k]:.4f}" for k in told)
        self._progress.note(f"validation at step {step}: {text}")
        return {name: measures[name] for name in METRICS if measures.get(name) is not None}


def _means(window: list[Sums]) -> dict[str, float]:
    count = sum(float(s["count"]) for s in window)
    names = {"loss": "loss", "correct": "accuracy"}
    names |= {name: name for name in ("label_accuracy", "mae")}
    return {
        told: sum(float(s[name]) for s in window) / count
        for name, told in names.items() if name in window[0]
    }  # fmt: skip


def _check_finite(window: list[Sums], last_step: int) -> None:
    """Raises DivergedError for the first step of a window whose loss or gradient is not finite."""
    for step, sums in enumerate(window, last_step - len(window) + 1):
        bad = [
            f"{text} is {float(sums[name])}"
            for name, text in (("loss", "the loss"), ("grad_norm", "the norm of the gradient"))
            if not math.isfinite(sums[name])
        ]
        if bad:
            raise DivergedError(f"training diverged at step {step}: {' and '.join(bad)}{_REMEDY}")
