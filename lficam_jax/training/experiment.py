"""From a config to the parts that every mode is made of."""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from lficam_jax.data import Dataset, dataset_info, denormalise, open_pipeline
from lficam_jax.devices import distributed
from lficam_jax.devices.parallel import AXIS, check_divides, replicate, spmd
from lficam_jax.errors import UserError
from lficam_jax.explaining.render import contact_sheet, overlay
from lficam_jax.models import create_model
from lficam_jax.models.classifier import Classifier, init_variables, predict
from lficam_jax.structs import Pipeline, Variables
from lficam_jax.training.evaluate import evaluate, make_eval_step
from lficam_jax.training.transfer import told, transfer
from lficam_jax.workdir.folder import check_model
from lficam_jax.workdir.remote import fetched

DRAWN = 16  # images on the picture for TensorBoard


def make_model(config: ConfigDict, info: Dataset) -> Classifier:
    """Builds the network of a config for the classes of its data set."""
    axis = AXIS if config.parallel.sync_batch_norm else None
    return create_model(**config.model.to_dict(), num_classes=info.num_classes, axis_name=axis)


def initial_variables(model: Classifier, config: ConfigDict, info: Dataset) -> Variables:
    """Draws the weights that a run of this config starts from."""
    return init_variables(model, (info.image_size, info.image_size, 3), config.seed)


def open_split(config: ConfigDict, split: str) -> Pipeline:
    """Opens a split for evaluation."""
    check_divides("eval.batch_size", config.eval.batch_size, jax.device_count())
    return open_pipeline(config.data, split, batch_size=config.eval.batch_size, train=False)


class Evaluation:
    """One split, opened and compiled once, to be measured and drawn again and again."""

    def __init__(self, config: ConfigDict, model: Classifier, split: str) -> None:
        mode = config.parallel.mode
        self._model, self._info = model, dataset_info(config.data)
        self._pipeline = open_split(config, split)
        self._step = spmd(make_eval_step(model, self._pipeline.load), mode)
        self._resident = replicate(dict(self._pipeline.resident), mode)

    def measure(self, variables: Variables) -> dict[str, Any]:
        """Returns the measures of `evaluate.evaluate`; `variables` are replicated."""
        return evaluate(self._step, variables, self._resident, self._pipeline)

    def draw(self, variables: Variables) -> np.ndarray | None:
        """Draws the maps of the split's first images as one picture; None if the head has none."""
        attention = self._attention(jax.device_get(dict(variables)), self._sample)
        if attention is None:
            return None
        pictures = denormalise(self._sample, self._info)
        return contact_sheet(
            [overlay(p, m) for p, m in zip(pictures, np.asarray(attention), strict=True)]
        )

    @cached_property
    def _sample(self) -> np.ndarray:
        rows = {k: v[:DRAWN] for k, v in next(self._pipeline.batches(0)).items()}
        load = jax.jit(self._pipeline.load)
        batch = jax.device_get(load(dict(self._pipeline.resident), rows, jax.random.key(0)))
        return batch["image"][batch["valid"]]

    @cached_property
    def _attention(self) -> Callable[..., Any]:
        return jax.jit(lambda variables, images: predict(self._model, variables, images).attention)


def load_run(
    config: ConfigDict, workdir: Path | str, step: int | None = None
) -> tuple[Classifier, Variables, int]:
    """Reads the model item of a run's best step, or of `step`.

    Returns:
      The model, its variables as host arrays, and the step they were saved at.

    Raises:
      UserError: if the folder holds no run of this network, or no readable checkpoint.
    """
    info = dataset_info(config.data)
    model = make_model(config, info)
    like = jax.eval_shape(lambda: initial_variables(model, config, info))

    def read() -> tuple[Variables, np.int32]:
        from lficam_jax.workdir.checkpoint import (
            Checkpoints,  # brings orbax; `describe` does without
        )

        check_model(workdir, config)
        with Checkpoints(workdir, read_only=True) as checkpoints:
            wanted = checkpoints.best_step() if step is None else step
            return checkpoints.restore_model(like, wanted), np.int32(wanted)

    variables, found = distributed.first(read, (like, np.int32(0)))
    return model, variables, int(found)


def start_from(source: str, fresh: Variables) -> Variables:
    """Reads the weights that `config.init_from` names, and says what starts fresh.

    Args:
      source: a workdir, for its best step; one step of it, `WORKDIR/checkpoints/STEP`; or '' for
        the fresh ones.
      fresh: variables of the network to fill.

    Raises:
      UserError: if there is no such run or step, or its backbone differs.
    """
    if not source:
        return fresh
    place, step = _locate(source)
    with fetched(place) as workdir:
        step, theirs = _read_model(Path(workdir), step, source)
    try:
        variables, stay = transfer(theirs, fresh)
    except UserError as error:
        raise UserError(f"init_from={source} is of another network; {error}") from None
    print(f"starting from step {step} of {place}{told(stay)}")
    return variables


def _read_model(workdir: Path, step: int | None, source: str) -> tuple[int, Variables]:
    from lficam_jax.workdir.checkpoint import Checkpoints

    if not (workdir / "checkpoints").is_dir():
        raise UserError(
            f"init_from={source} holds no run (no checkpoints); give the workdir of one, or one "
            "step of it, WORKDIR/checkpoints/STEP"
        )
    with Checkpoints(workdir, read_only=True) as checkpoints:
        step = checkpoints.best_step() if step is None else step
        return step, checkpoints.restore_model(None, step)


def _locate(source: str) -> tuple[str, int | None]:
    place, _, step = source.rstrip("/").rpartition("/checkpoints/")  # of a folder or a bucket
    return (place, int(step)) if place and step.isdigit() else (source, None)
