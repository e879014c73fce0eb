"""A config's programs, lowered for devices that need not be here: no data, no weights, no run."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.stages import Lowered
from ml_collections import ConfigDict

from lficam_jax.data import Pipeline, dataset_info, normalise, open_pipeline
from lficam_jax.devices.parallel import check_divides, over_rows, spmd
from lficam_jax.methods import maps_of
from lficam_jax.ops.pool import made_for
from lficam_jax.speed.programs import MAPS_BATCH
from lficam_jax.training.evaluate import make_eval_step
from lficam_jax.training.experiment import initial_variables, make_model, make_recipe

# A program's name, the rows that one device takes, and what lowers it.
Program = tuple[str, int, Callable[[], Lowered]]
SECTIONS = ("train", "evaluate", "maps")


class Lowering:
    """Makes the programs of a config for `devices`; nothing is traced before it is asked for."""

    def __init__(self, config: ConfigDict, devices: Sequence[jax.Device]) -> None:
        self._config, self._devices = config, devices
        self._info = dataset_info(config.data)
        self._model = make_model(config, self._info)
        self._weights = jax.eval_shape(lambda: initial_variables(self._model, config, self._info))

    def programs(self, sections: Sequence[str], methods: Sequence[str]) -> Iterator[Program]:
        """Yields what a run consists of: a training step, one of evaluation, one batch of maps.

        Args:
          sections: of `SECTIONS`.
          methods: whose maps; keys of `methods.METHODS`.

        Raises:
          UserError: if a batch cannot be shared by the devices.
        """
        count, config = len(self._devices), self._config
        if "train" in sections:
            size = config.train.batch_size
            check_divides("train.batch_size", size, count, config.optim.accumulate)
            yield "training step", size // count, self.train
        if "evaluate" in sections:
            check_divides("eval.batch_size", config.eval.batch_size, count)
            yield "evaluation", config.eval.batch_size // count, self.evaluate
        if "maps" in sections:
            for name in methods:
                yield name, MAPS_BATCH, partial(self.draw, name)

    def train(self) -> Lowered:
        """One optimiser step: gathering, augmenting, gradient, update."""
        pipeline = self._open("train", self._config.train.batch_size)
        recipe = make_recipe(self._config, pipeline.steps_per_epoch)
        step = recipe.step(self._model, pipeline.load, self._config.seed)
        mapped = spmd(step, self._config.parallel.mode, self._devices, donate_state=True)
        state = jax.eval_shape(recipe.state, self._weights)
        with made_for(self._devices[0].platform):
            return mapped.lower(state, *_shapes(pipeline))

    def evaluate(self) -> Lowered:
        """One batch of the test split and its sums."""
        pipeline = self._open("test", self._config.eval.batch_size)
        step = make_eval_step(self._model, pipeline.load)
        mapped = spmd(step, self._config.parallel.mode, self._devices)
        return mapped.lower(self._weights, *_shapes(pipeline))

    def draw(self, name: str) -> Lowered:
        """One method's maps of the predicted classes, `MAPS_BATCH` images on each device."""

        def draw(variables: Any, images: Any) -> Any:
            images = normalise(images, self._info)
            return maps_of(name, self._model, variables, images, key=jax.random.key(0))

        rows = MAPS_BATCH * len(self._devices)
        images = jax.ShapeDtypeStruct((rows, *self._info.size, 3), np.uint8)
        with made_for(self._devices[0].platform):  # some maps are gradients
            return over_rows(draw, self._devices).lower(self._weights, images)

    def _open(self, split: str, size: int) -> Pipeline:
        data = self._config.data
        return open_pipeline(data, split, batch_size=size, train=split == "train", blank=True)


def _shapes(pipeline: Pipeline) -> tuple[Any, Any]:
    """Returns the shapes of what is resident, and of a batch."""
    arrays = dict(pipeline.resident), dict(next(pipeline.batches(0)))
    shapes: tuple[Any, Any] = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), arrays)
    return shapes
