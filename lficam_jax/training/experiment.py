"""From a config to the parts of a run, each built once; and from a run's folder to its network."""

import copy
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import numpy as np
import optax
from flax.traverse_util import flatten_dict
from ml_collections import ConfigDict

from lficam_jax.config import as_json, duration
from lficam_jax.data import ALL, Dataset, Pipeline, dataset_info, open_pipeline
from lficam_jax.data.classes import listed
from lficam_jax.data.pipeline import Load
from lficam_jax.devices import distributed
from lficam_jax.devices.parallel import AXIS, check_divides
from lficam_jax.errors import UserError
from lficam_jax.models import create_model
from lficam_jax.models.classifier import Classifier, init_variables
from lficam_jax.structs import Run, Sums, TrainState, Variables
from lficam_jax.training import optim
from lficam_jax.training.steps import create_state, make_train_step
from lficam_jax.workdir.folder import among, check_model, recorded

OWN = (
    "data.dir",
    "data.folder",
    "data.labels_file",
    "data.split_file",
    "data.threads",
)  # keys that may differ from host to host


def recall(config: ConfigDict, workdir: Path | str, *, reads: bool = False) -> ConfigDict:
    """Returns the config with what the run of `workdir` knows where it says "derive it".

    Args:
      config: as given.
      workdir: of the run; a folder that holds none adds nothing.
      reads: the run is measured, not trained: another folder of pictures is not divided.
    """
    ours = jax.process_index() == 0
    known = recorded(workdir, config.data, reads=reads) if ours else {}
    (text, *_) = distributed.gather(json.dumps(known))
    recalled = copy.deepcopy(config)
    recalled.data.update(json.loads(text))
    file = Path(recalled.data.split_file)
    if str(file) != ALL and not file.exists() and file.parent == Path(workdir):
        recalled.data.split_file = ""  # the folder of the run is on process 0's machine alone
    return recalled


def open_splits(config: ConfigDict, *names: str, train: bool = False) -> dict[str, Pipeline]:
    """Opens splits, once it is clear that all processes of the run mean and see the same.

    Args:
      config: of the run.
      *names: splits to evaluate.
      train: also open the split `train`, to train on.

    Raises:
      UserError: in every process, if a batch cannot be split over the devices, or one process
        cannot read its data or differs from the others.
    """
    devices, train_size = jax.device_count(), config.train.batch_size
    check_divides("eval.batch_size", config.eval.batch_size, devices)
    if train:
        check_divides("train.batch_size", train_size, devices, config.optim.accumulate)

    def opened() -> dict[str, Pipeline]:
        check_loss(config.model.loss, dataset_info(config.data))  # before pictures are read
        evaluated = partial(
            open_pipeline, batch_size=config.eval.batch_size, train=False, parts=devices
        )
        splits = {name: evaluated(config.data, name) for name in names}
        if train:
            splits["train"] = open_pipeline(
                config.data, "train", batch_size=train_size, train=True, seed=config.seed,
                parts=devices * config.optim.accumulate,
            )  # fmt: skip
        return splits

    splits = distributed.together(opened)
    if jax.process_count() > 1:
        leaves = flatten_dict(as_json(config), sep=".")
        told = {f"config.{key}": value for key, value in leaves.items() if not among(key, OWN)}
        told |= {f"data, split {name}": split.fingerprint() for name, split in splits.items()}
        distributed.agree(told)
    return splits


def make_model(config: ConfigDict, info: Dataset) -> Classifier:
    """Builds the network of a config for the classes, labels or number of its data set.

    Raises:
      UserError: if `model.loss` does not fit what the data set's pictures have.
    """
    axis, one = AXIS if config.parallel.sync_batch_norm else None, config.model.loss == "sigmoid"
    check_loss(config.model.loss, info)
    outputs = 1 if one and info.labels == "class" else info.num_classes
    return create_model(
        **config.model.to_dict(), num_classes=outputs, number=info.number, axis_name=axis
    )


def check_loss(loss: str, info: Dataset) -> None:
    """Raises a UserError for a loss that does not fit what the pictures have; it says which do."""
    have = f"each picture of {info.name} has "
    if info.labels == "several" and loss != "sigmoid":
        raise UserError(
            f"{have}several labels ({listed(info.classes)}), so say --config.model.loss=sigmoid; "
            f"model.loss={loss} is for one answer"
        )
    if info.labels == "number" and loss != "regression":
        raise UserError(
            f"{have}a number ({info.classes[0]}), so say --config.model.loss=regression; "
            f"model.loss={loss} is for classes and labels"
        )
    if info.labels == "class" and loss == "regression":
        raise UserError(
            f"{have}a class, and model.loss=regression learns a number; bring one for each picture "
            "by --config.data.labels_file, or leave model.loss out"
        )
    if info.labels == "class" and loss == "sigmoid" and info.num_classes != 2:
        raise UserError(
            f"{have}one of {info.num_classes} classes, and model.loss=sigmoid is for two, or for "
            "several labels (--config.data.labels_file); leave model.loss out"
        )


def initial_variables(model: Classifier, config: ConfigDict, info: Dataset) -> Variables:
    """Draws the weights that a run of this config starts from."""
    return init_variables(model, (*info.size, 3), config.seed)


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes:
      tx: the optimiser.
      learning_rate: of a step.
      total_steps: of the whole run.
      warmup_steps: of these, in which the learning rate rises.
      ema_decay: of the running mean of the weights; 0 = there is none.
      smoothing: of the labels.
      accumulate: microbatches per step and device.
      freeze: which parameters stay.
    """

    tx: optax.GradientTransformation
    learning_rate: optax.Schedule
    total_steps: int
    warmup_steps: int
    ema_decay: float
    smoothing: float
    accumulate: int
    freeze: str

    def state(self, variables: Variables) -> TrainState:
        """Returns the state before the first step."""
        return create_state(variables, self.tx, ema=self.ema_decay > 0)

    def step(
        self, model: Classifier, load: Load, seed: int
    ) -> Callable[..., tuple[TrainState, Sums]]:
        """Returns the step of `steps.make_train_step`."""
        return make_train_step(
            model, self.tx, load, seed=seed, smoothing=self.smoothing,
            accumulate=self.accumulate, ema_decay=self.ema_decay, freeze=self.freeze,
        )  # fmt: skip


def make_recipe(config: ConfigDict, steps_per_epoch: int) -> Recipe:
    """Builds optimiser and schedule of a config."""
    total = duration(config.train, "total", steps_per_epoch)
    learning_rate = optim.schedule(config.optim, steps_per_epoch, total)
    return Recipe(
        optim.optimizer(config.optim, learning_rate), learning_rate, total,
        optim.warmup_steps(config.optim, steps_per_epoch, total),
        ema_decay=config.optim.ema_decay, smoothing=config.optim.label_smoothing,
        accumulate=config.optim.accumulate, freeze=config.optim.freeze,
    )  # fmt: skip


def load_run(config: ConfigDict, workdir: Path | str, step: int | None = None) -> Run:
    """Reads the model item of a run's best step, or of `step`.

    Returns:
      The run, its variables as host arrays.

    Raises:
      UserError: if the folder holds no run of this network, or no readable checkpoint.
    """
    config = recall(config, workdir, reads=True)
    info = dataset_info(config.data)
    model = make_model(config, info)
    like = jax.eval_shape(lambda: initial_variables(model, config, info))

    def read() -> tuple[Variables, np.int32]:
        from lficam_jax.workdir.checkpoint import Checkpoints  # brings orbax; describe does without

        check_model(workdir, as_json(config))
        with Checkpoints(workdir, read_only=True) as checkpoints:
            wanted = checkpoints.best_step() if step is None else step
            return checkpoints.restore_model(like, wanted), np.int32(wanted)

    variables, found = distributed.first(read, (like, np.int32(0)))
    return Run(Path(workdir), config, model, variables, int(found))
