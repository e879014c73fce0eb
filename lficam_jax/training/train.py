"""Training: build the parts, restore, run the loop, then one look at the test split."""

import json
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from lficam_jax.config import as_json, duration, validate
from lficam_jax.data import Pipeline, resolved
from lficam_jax.devices import distributed
from lficam_jax.devices.interrupt import Interruption
from lficam_jax.devices.parallel import replicate, spmd
from lficam_jax.structs import TrainState, Variables
from lficam_jax.training.evaluate import Evaluation
from lficam_jax.training.experiment import (
    Recipe,
    initial_variables,
    make_model,
    make_recipe,
    open_splits,
    recall,
)
from lficam_jax.training.loop import Loop, Plan
from lficam_jax.training.transfer import start_from
from lficam_jax.workdir import folder
from lficam_jax.workdir.checkpoint import Checkpoints
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
    started, workdir, mode = time.monotonic(), Path(workdir), config.parallel.mode
    validate(config)
    config = recall(config, workdir)
    if finished := _finished(workdir, config):
        return finished
    splits = open_splits(config, "validation", "test", train=True)
    data = splits["train"]
    model = make_model(config, data.dataset)
    recipe = make_recipe(config, data.steps_per_epoch)
    variables = initial_variables(model, config, data.dataset)
    step = spmd(recipe.step(model, data.load, config.seed), mode, donate_state=True)
    resident = replicate(dict(data.resident), mode)
    validation = Evaluation(model, splits["validation"], mode)
    config.data = resolved(config.data, data.dataset)
    distributed.first(lambda: folder.claim(workdir, as_json(config)), None)
    with Checkpoints(workdir, as_json(config), keep_latest=config.train.keep_latest) as checkpoints:
        state = _first_state(config.init_from, recipe, variables, checkpoints)
        resumed_at = int(state.step)
        loop = Loop(
            data, resident, step, recipe.learning_rate, validation, checkpoints,
            _plan(config, recipe, data, profile),
        )  # fmt: skip
        with Interruption() as interruption:
            loop.run(replicate(state, mode), workdir, interruption)
        best_step, best = _best(checkpoints, variables)
    best = replicate(best, mode)
    result = {
        "test": Evaluation(model, splits["test"], mode).measure(best),
        "validation": validation.measure(best),
        "step": recipe.total_steps,
        "best_step": best_step,
        "resumed_at_step": resumed_at,
        "damaged_images": len(data.damaged),
        "images_per_second": loop.images_per_second,
        "seconds": time.monotonic() - started,
    }
    write_result(workdir, "train", result)
    return result


def _finished(workdir: Path, config: ConfigDict) -> dict[str, Any]:
    """Returns the result of a run that has one, as process 0 reads it; else nothing."""
    distributed.first(lambda: folder.check(workdir, as_json(config)), None)
    path = workdir / "results" / "train.json"
    there = path.exists() and jax.process_index() == 0
    (text, *_) = distributed.gather(path.read_text(encoding="utf-8") if there else "")
    if text:
        print(f"this run is finished; its result is {path}")
    return json.loads(text or "{}")


def _first_state(
    init_from: str, recipe: Recipe, variables: Variables, checkpoints: Checkpoints
) -> TrainState:
    """Returns the newest checkpoint's state; before there is one, that of `init_from`, or fresh."""
    fresh = recipe.state(variables)

    def read() -> TrainState:
        state = checkpoints.restore_latest(fresh)
        if state is None:
            return recipe.state(start_from(init_from, fresh.variables))
        print(f"continuing at step {int(state.step)} of {recipe.total_steps}")
        return state

    return distributed.first(read, fresh)


def _plan(config: ConfigDict, recipe: Recipe, data: Pipeline, profile: tuple[int, int]) -> Plan:
    train = config.train
    return Plan(
        total_steps=recipe.total_steps, log_every=train.log_every_steps,
        evaluate_every=duration(config.eval, "every", data.steps_per_epoch),
        save_every=train.checkpoint_every_steps, tensorboard=train.tensorboard,
        watchdog_seconds=train.watchdog_seconds, profile=profile,
    )  # fmt: skip


def _best(checkpoints: Checkpoints, like: Variables) -> tuple[int, Variables]:
    def read() -> tuple[np.int32, Variables]:
        step = checkpoints.best_step()
        return np.int32(step), checkpoints.restore_model(like, step)

    step, variables = distributed.first(read, (np.int32(0), like))
    return int(step), variables
