"""Training: build the parts, restore, run the loop, then one look at the test split."""

import contextlib
import copy
import json
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from lficam_jax.config import as_json, duration, validate
from lficam_jax.config_file import check_keys, configured
from lficam_jax.data import Pipeline, resolved, split_table
from lficam_jax.devices import distributed
from lficam_jax.devices.interrupt import Interruption
from lficam_jax.devices.parallel import replicate, spmd
from lficam_jax.errors import UserError, brief, check_path
from lficam_jax.structs import TrainState, Variables
from lficam_jax.training import header
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
from lficam_jax.training.transfer import as_pretrained, start_from
from lficam_jax.workdir import folder
from lficam_jax.workdir.checkpoint import Checkpoints
from lficam_jax.workdir.lock import Lock
from lficam_jax.workdir.progress import lasting_streams, say
from lficam_jax.workdir.remote import is_remote
from lficam_jax.workdir.results import Unreadable, read_object, set_aside, write_result


def train(
    config: ConfigDict | str | Path, workdir: Path | str, *, profile: tuple[int, int] = (0, 0)
) -> dict[str, Any]:
    """Trains, or continues, the run of `workdir`; chooses on validation and tests once.

    A finished run that is asked for more steps ends as if it had been so long from the start; with
    a cosine schedule, which that would change, it is refused. Signals reach the main thread alone.

    Args:
      config: of the run; or, as on the command line, the name or the file of one, with options
        behind a colon: `"cifar10:depth=20"`.
      workdir: its folder; with several processes, process 0's.
      profile: first and last step for JAX' profiler to record; (0, 0) for none.

    Returns:
      What `results/train.json` holds beside `made_by`: `data`, the measures of the best step on
      `test` and `validation`, `step best_step resumed_at_step damaged_images images_per_second`.

    Raises:
      UserError: for bad input, or if another process trains there; DivergedError: for a loss,
      gradient or weight that is not finite;
      Interrupted: after SIGTERM, SIGINT or SIGHUP, once the state is saved.
    """
    workdir, config = _place(workdir), _configured(config)
    with lasting_streams(), contextlib.ExitStack() as lock:
        config = as_pretrained(recall(config, workdir))
        return _finished(workdir, config) or _trained(config, workdir, profile, lock)


def _trained(
    config: ConfigDict, workdir: Path, profile: tuple[int, int], lock: contextlib.ExitStack
) -> dict[str, Any]:
    """Trains a run that is not finished; `lock` holds its folder from its first change on."""
    started, mode = time.monotonic(), config.parallel.mode
    header.tell_place(config, workdir)
    splits = open_splits(config, "validation", "test", train=True)
    data = splits["train"]
    header.tell_data(config, splits)
    model = make_model(config, data.dataset)
    recipe = make_recipe(config, data.steps_per_epoch)
    variables = initial_variables(model, config, data.dataset)
    header.tell_network(config, variables, recipe, data)
    step = spmd(recipe.step(model, data.load, config.seed), mode, donate_state=True)
    resident = replicate(dict(data.resident), mode)
    validation = Evaluation(model, splits["validation"], config)
    distributed.first(lambda: lock.enter_context(Lock(workdir / ".lock", workdir)) and None, None)
    config = _claimed(workdir, config, data, recipe)
    with Checkpoints(workdir, as_json(config), keep_latest=config.train.keep_latest) as checkpoints:
        state = _first_state(config, recipe, variables, checkpoints)
        resumed_at = int(state.step)
        loop = Loop(
            data, resident, step, recipe.learning_rate, validation, checkpoints,
            _plan(config, recipe, data, profile),
        )  # fmt: skip
        with Interruption() as interruption:
            loop.run(replicate(state, mode), workdir, interruption)
        best_step, best = _best(checkpoints, variables, mode)
    result = {
        "data": data.dataset.name,
        "test": Evaluation(model, splits["test"], config).measure(best),
        "validation": validation.measure(best),
        "step": recipe.total_steps,
        "best_step": best_step,
        "resumed_at_step": resumed_at,
        "damaged_images": len(data.damaged),
        "images_per_second": loop.images_per_second,
        "seconds": time.monotonic() - started,
    }
    write_result(workdir, "train", result, config)
    return result


def _configured(given: Any) -> ConfigDict:
    """Returns a whole and valid config.

    Raises:
      UserError: for what is none, or lacks keys, or is not valid.
    """
    config = configured(str(given), {}) if isinstance(given, str | Path) else given
    if not isinstance(config, ConfigDict):
        raise UserError(
            "config must be the name of one ('cifar10:depth=20', say), a file, or a ConfigDict "
            f"that starts from lficam_jax.config.default_config(), not {brief(config)}"
        )
    check_keys("config", config)
    validate(config)
    return config


def _place(workdir: Any) -> Path:
    if is_remote(str(workdir)):
        raise UserError(
            f"workdir={brief(str(workdir))} is in a bucket, to which the command trains: lficam "
            "train --workdir …"
        )
    return check_path("workdir", workdir)


def _finished(workdir: Path, config: ConfigDict) -> dict[str, Any]:
    """Returns the result of a run that has one, as process 0 reads it; else nothing."""
    asked = as_json(config)
    distributed.first(lambda: folder.check(workdir, asked, resize=True), None)
    path = workdir / "results" / "train.json"
    there = jax.process_index() == 0 and path.exists() and not folder.resized(workdir, asked)
    found: dict[str, Any] = {}
    if there:
        try:
            found = read_object(path)
        except Unreadable as error:
            say(f"warning: {error}; what it said is measured again")
    (text, *_) = distributed.gather(json.dumps(found))
    if found:
        say(f"this run is finished; its result is {path}")
    return {name: value for name, value in json.loads(text).items() if name != "made_by"}


def _claimed(workdir: Path, config: ConfigDict, data: Pipeline, recipe: Recipe) -> ConfigDict:
    """Takes the folder for the run, and returns the config with what it came to."""
    division, claimed = split_table(config.data), copy.deepcopy(config)
    claimed.data = resolved(config.data, data.dataset)

    def claim() -> None:
        before = recipe
        if folder.holds_run(workdir):
            before = make_recipe(folder.read_config(workdir), data.steps_per_epoch)
        _check_length(workdir, before, recipe)
        _claim(workdir, claimed, recipe.total_steps, division)

    distributed.first(claim, None)
    return claimed


def _check_length(workdir: Path, before: Recipe, now: Recipe) -> None:
    """Checks that the steps that are done are those of the run as it is asked for now.

    Raises:
      UserError: if the run has more steps already, or had a shorter warm-up.
    """
    done = folder.newest_step(workdir) or 0
    if done > now.total_steps:
        raise UserError(
            f"{workdir} has {done} steps already, more than the {now.total_steps} that the config "
            "asks for; set --config.train.total_steps or total_epochs to no less"
        )
    if before.warmup_steps != now.warmup_steps:
        raise UserError(
            f"{workdir} warmed up in {before.warmup_steps} step(s), a quarter of its run; one of "
            f"{now.total_steps} steps would have warmed up in {now.warmup_steps}. To train on, "
            f"start a new run with --config.init_from={workdir}"
        )


def _claim(workdir: Path, config: ConfigDict, total_steps: int, division: str) -> None:
    """Takes the folder; of a run that was finished and goes on now, the result is set aside.

    Raises:
      UserError: if the folder is another run's.
    """
    done = folder.newest_step(workdir) or 0
    former = workdir / "results" / "train.json"
    if former.exists():  # first, for a folder with a result counts as finished
        if folder.resized(workdir, as_json(config)):
            kept = former.replace(former.with_name(f"train_{done}.json"))
            say(f"this run goes on to step {total_steps}; the result so far is {kept}")
        else:
            say(f"the damaged result is kept as {set_aside(former)}")
    folder.claim(workdir, as_json(config), division, resize=True)


def _first_state(
    config: ConfigDict, recipe: Recipe, variables: Variables, checkpoints: Checkpoints
) -> TrainState:
    """Returns the newest checkpoint's state; before there is one, that of `init_from`, or fresh."""
    fresh = recipe.state(variables)

    def read() -> TrainState:
        state = checkpoints.restore_latest(fresh)
        if state is None:
            return recipe.state(start_from(config.init_from, fresh.variables, config.data))
        say(f"continuing at step {int(state.step)} of {recipe.total_steps}")
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


def _best(checkpoints: Checkpoints, like: Variables, mode: str) -> tuple[int, Variables]:
    """Returns the step that is best on the validation split, and its variables, replicated."""

    def read() -> tuple[np.int32, Variables]:
        step = checkpoints.best_step()
        return np.int32(step), checkpoints.restore_model(like, step)

    step, variables = distributed.first(read, (np.int32(0), like))
    say(f"measuring step {step}, the best on the validation split, on the test split …")
    return int(step), replicate(variables, mode)
