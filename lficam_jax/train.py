"""Training: build the parts, restore, run the loop, then one look at the test split."""

import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from lficam_jax import optim
from lficam_jax.checkpoint import Checkpoints
from lficam_jax.config import duration, validate
from lficam_jax.data import dataset_info, open_pipeline
from lficam_jax.experiment import Evaluation, initial_variables, make_model, start_from
from lficam_jax.interrupt import Interruption
from lficam_jax.loop import Loop
from lficam_jax.models.classifier import Classifier
from lficam_jax.parallel import check_divides, replicate, spmd
from lficam_jax.state import TrainState, create_state
from lficam_jax.steps import make_train_step
from lficam_jax.workdir import claim
from lficam_jax.writer import write_result


def train(config: ConfigDict, workdir: Path | str) -> dict[str, Any]:
    """Trains, or continues, the run of `workdir`; chooses on validation and tests once.

    Returns:
      What `results/train.json` holds: `test` and `validation` (the measures of the best step),
      `step`, `best_step`, `resumed_at_step`, `seconds` (of this process), `images_per_second`.

    Raises:
      UserError: for bad input. DivergedError: on a non-finite loss or gradient.
      Interrupted: after SIGTERM or SIGINT, once the state is saved.
    """
    started, workdir = time.monotonic(), Path(workdir)
    validate(config)
    parts = config.optim.accumulate
    check_divides("train.batch_size", config.train.batch_size, jax.device_count(), parts)
    info = dataset_info(config.data)
    model = make_model(config, info)
    claim(workdir, config)
    finished = workdir / "results" / "train.json"
    if finished.exists():
        print(f"this run is finished; its result is {finished}")
        return json.loads(finished.read_text())
    validation = Evaluation(config, model, "validation")
    with Checkpoints(workdir, keep_latest=config.train.keep_latest) as checkpoints:
        loop, state = build(config, model, checkpoints, validation)
        resumed_at, like = int(state.step), jax.eval_shape(lambda: state.variables)
        with Interruption() as interruption:
            loop.run(state, workdir, interruption)
        best = checkpoints.best_step()
        variables = replicate(checkpoints.restore_model(like, best), config.parallel.mode)
    result = {
        "test": Evaluation(config, model, "test").measure(variables),
        "validation": validation.measure(variables),
        "step": loop.total_steps,
        "best_step": best,
        "resumed_at_step": resumed_at,
        "images_per_second": loop.images / loop.seconds if loop.seconds else None,
        "seconds": time.monotonic() - started,
    }
    write_result(workdir, "train", result)
    return result


def build(
    config: ConfigDict, model: Classifier, checkpoints: Checkpoints, validation: Evaluation
) -> tuple[Loop, TrainState]:
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
    variables = initial_variables(model, config, info)
    state = checkpoints.restore_latest(state_of(variables))
    if state is not None:
        print(f"continuing at step {int(state.step)} of {total}")
    else:
        state = state_of(start_from(config.init_from, variables))
    step = make_train_step(
        model, tx, pipeline.load, seed=config.seed, smoothing=config.optim.label_smoothing,
        accumulate=config.optim.accumulate, ema_decay=config.optim.ema_decay,
    )  # fmt: skip
    loop = Loop(
        config=config, pipeline=pipeline, resident=replicate(dict(pipeline.resident), mode),
        train_step=spmd(step, mode, donate_state=True), learning_rate=learning_rate,
        total_steps=total, evaluation=validation.measure, draw=validation.draw,
        checkpoints=checkpoints,
    )  # fmt: skip
    return loop, replicate(state, mode)
