"""Training: build the parts, restore, run the loop, then one look at the test split."""

import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from lficam_jax.config import duration, validate
from lficam_jax.data import dataset_info, open_pipeline
from lficam_jax.devices import agreement, distributed
from lficam_jax.devices.interrupt import Interruption
from lficam_jax.devices.parallel import check_divides, replicate, spmd
from lficam_jax.models.classifier import Classifier
from lficam_jax.structs import TrainState, Variables
from lficam_jax.training import optim
from lficam_jax.training.experiment import Evaluation, initial_variables, make_model, start_from
from lficam_jax.training.loop import Loop
from lficam_jax.training.steps import create_state, make_train_step
from lficam_jax.workdir.checkpoint import Checkpoints
from lficam_jax.workdir.folder import claim
from lficam_jax.workdir.results import write_result


def train(
    config: ConfigDict, workdir: Path | str, *, profile: tuple[int, int] = (0, 0)
) -> dict[str, Any]:
    """Trains, or continues, the run of `workdir`; chooses on validation and tests once.

    Args:
      config: of the run.
      workdir: its folder; with several processes, process 0's.
      profile: first and last step for JAX' profiler to record; (0, 0) for none.

    Returns:
      What `results/train.json` holds: `test` and `validation` (the measures of the best step),
      `step`, `best_step`, `resumed_at_step`, and of this process `damaged_images` (passed over),
      `seconds`, `images_per_second`.

    Raises:
      UserError: for bad input. DivergedError: on a non-finite loss or gradient.
      Interrupted: after SIGTERM or SIGINT, once the state is saved.
    """
    started, workdir = time.monotonic(), Path(workdir)
    _check(config)
    info = dataset_info(config.data)
    model = make_model(config, info)
    distributed.first(lambda: claim(workdir, config), None)
    finished = _finished(workdir)
    if finished:
        return finished
    validation = Evaluation(config, model, "validation")
    with Checkpoints(workdir, keep_latest=config.train.keep_latest) as checkpoints:
        loop, state = build(config, model, checkpoints, validation, profile)
        resumed_at, like = int(state.step), jax.eval_shape(lambda: state.variables)
        with Interruption() as interruption:
            loop.run(state, workdir, interruption)
        best, variables = distributed.first(lambda: _best(checkpoints, like), (np.int32(0), like))
    variables = replicate(variables, config.parallel.mode)
    result = {
        "test": Evaluation(config, model, "test").measure(variables),
        "validation": validation.measure(variables),
        "step": loop.total_steps,
        "best_step": int(best),
        "resumed_at_step": resumed_at,
        "damaged_images": len(loop.pipeline.damaged),
        "images_per_second": loop.images / loop.seconds if loop.seconds else None,
        "seconds": time.monotonic() - started,
    }
    write_result(workdir, "train", result)
    return result


def _check(config: ConfigDict) -> None:
    """Looks for what is wrong before anything is opened, compiled or written."""
    validate(config)
    parts = config.optim.accumulate
    check_divides("train.batch_size", config.train.batch_size, jax.device_count(), parts)
    if jax.process_count() > 1:
        agreement.check(config, "train", "validation", "test")


def _finished(workdir: Path) -> dict[str, Any]:
    """Returns the result of a run that has one, as process 0 reads it; else nothing."""
    path = workdir / "results" / "train.json"
    there = path.exists() and jax.process_index() == 0
    (text, *_) = distributed.gather(path.read_text(encoding="utf-8") if there else "")
    if text:
        print(f"this run is finished; its result is {path}")
    return json.loads(text or "{}")


def _best(checkpoints: Checkpoints, like: Variables) -> tuple[np.int32, Variables]:
    step = checkpoints.best_step()
    return np.int32(step), checkpoints.restore_model(like, step)


def build(
    config: ConfigDict, model: Classifier, checkpoints: Checkpoints, validation: Evaluation,
    profile: tuple[int, int] = (0, 0),
) -> tuple[Loop, TrainState]:  # fmt: skip
    """Opens the training split and compiles nothing yet.

    Returns:
      The loop, and the state to start from, replicated: the newest checkpoint's; before there is
      one, that of `init_from`, or a fresh one.
    """
    info, mode = dataset_info(config.data), config.parallel.mode
    pipeline = open_pipeline(
        config.data, "train", batch_size=config.train.batch_size, train=True, seed=config.seed
    )
    total = duration(config.train, "total", pipeline.steps_per_epoch)
    learning_rate = optim.schedule(config.optim, pipeline.steps_per_epoch, total)
    tx = optim.optimizer(config.optim, learning_rate)
    state_of = partial(create_state, tx=tx, ema=config.optim.ema_decay > 0)
    fresh = state_of(initial_variables(model, config, info))

    def starting() -> TrainState:
        state = checkpoints.restore_latest(fresh)
        if state is None:
            return state_of(start_from(config.init_from, fresh.variables))
        print(f"continuing at step {int(state.step)} of {total}")
        return state

    state = distributed.first(starting, fresh)
    step = make_train_step(
        model, tx, pipeline.load, seed=config.seed, smoothing=config.optim.label_smoothing,
        accumulate=config.optim.accumulate, ema_decay=config.optim.ema_decay,
    )  # fmt: skip
    loop = Loop(
        config=config, pipeline=pipeline, resident=replicate(dict(pipeline.resident), mode),
        train_step=spmd(step, mode, donate_state=True), learning_rate=learning_rate,
        total_steps=total, evaluation=validation.measure, draw=validation.draw,
        checkpoints=checkpoints, profile=profile,
    )  # fmt: skip
    return loop, replicate(state, mode)
