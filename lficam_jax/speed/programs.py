"""The programs that `lficam benchmark` measures: of one config, random images, fresh weights."""

import time
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from ml_collections import ConfigDict

from lficam_jax.data import Pipeline, dataset_info, normalise, open_pipeline
from lficam_jax.data.pipeline import Load
from lficam_jax.devices.parallel import AXIS, over_rows, replicate, spmd
from lficam_jax.measure.faithfulness import STEPS, Measurement
from lficam_jax.methods import maps_of
from lficam_jax.models.classifier import predict
from lficam_jax.structs import Batch, Outputs
from lficam_jax.training.experiment import initial_variables, make_model, make_recipe

Program = Callable[[], Any]
MAPS_BATCH = 8  # images per device for maps and measures; Score-CAM's cost hardly depends on it
STEPS_PER_EPOCH = 1000  # of the learning rate's schedule, which takes no time


class Programs:
    """Makes programs that take no argument; calling one again runs it again.

    Attributes:
      config: whose network and sizes they have.
      info: its data set.
      model: its network.
    """

    def __init__(self, config: ConfigDict) -> None:
        self.config, self.info = config, dataset_info(config.data)
        self.model = make_model(config, self.info)
        self._weights = initial_variables(self.model, config, self.info)

    def batch(self, size: int) -> dict[str, np.ndarray]:
        """Returns random uint8 images, labels and ids, on the host."""
        random = np.random.default_rng(0)
        return {
            "image": random.integers(0, 256, (size, *self.info.size, 3), np.uint8),
            "label": self._labels(random, size),
            "id": np.arange(size, dtype=np.int32),
        }

    def _labels(self, random: np.random.Generator, size: int) -> np.ndarray:
        if self.info.labels == "class":
            return random.integers(0, self.info.num_classes, size, np.int32)
        return random.integers(0, 2, (size, self.info.num_classes)).astype(np.float32)

    def forward(self, take: Callable[[Outputs], Any], size: int) -> Program:
        """One pass over images that are on the device; `take` says what of it is wanted."""

        def forward(variables: Any, images: Any) -> Any:
            return take(predict(self.model, variables, normalise(images, self.info)))

        return partial(over_rows(forward), self._weights, self._images(size))

    def plain_head(self) -> "Programs":
        """The same backbone without attention."""
        config = self.config.copy_and_resolve_references()
        config.model.head = "plain"
        return Programs(config)

    def draw(self, name: str, size: int) -> Program:
        """One method's maps of the predicted classes.

        Raises:
          UserError: if the network cannot give them.
        """

        def draw(variables: Any, images: Any) -> Any:
            images = normalise(images, self.info)
            return maps_of(name, self.model, variables, images, key=jax.random.key(0))

        drawn, images = over_rows(draw), self._images(size)
        jax.eval_shape(drawn, self._weights, images)
        return partial(drawn, self._weights, images)

    def measure(self, groups: list[str], name: str, size: int) -> Program:
        """One method's maps and what `lficam faithfulness` measures of them."""
        measure = Measurement(self.model, self.info, groups, "mean", STEPS)
        rows, columns = self.info.size
        mask = np.zeros((size, rows, columns), bool)
        mask[:, : rows // 2, : columns // 2] = True
        seen = measure.see(self._weights, self.batch(size))
        return partial(measure.rows, name, self._weights, seen, mask)

    @cached_property
    def step(self) -> Program:
        """One optimiser step; the batch is copied from the host, as in a run."""
        batch = self.batch(self.config.train.batch_size)
        return self._stepper(self._load, {}, lambda: batch)

    def lowered_step(self) -> Any:
        """Traces and lowers one device's share of the step."""
        step, state = self._step(self._load)
        body = jax.shard_map(
            partial(step, axis_name=AXIS), mesh=Mesh(np.array(jax.devices()[:1]), (AXIS,)),
            in_specs=(PartitionSpec(), PartitionSpec(), PartitionSpec(AXIS)),
            out_specs=PartitionSpec(), check_vma=False,
        )  # fmt: skip
        batch = self.batch(self.config.train.batch_size // jax.device_count())
        return jax.jit(body, donate_argnums=0).lower(state, {}, batch)

    def lowered_forward(self) -> Any:
        """Traces and lowers the logits of one image."""
        forward = jax.jit(lambda v, x: predict(self.model, v, normalise(x, self.info)).logits)
        return forward.lower(self._weights, self.batch(1)["image"])

    def loading(self) -> tuple[dict[str, Program], list[float]]:
        """Opens the training split.

        Returns:
          The programs `data alone` (read, decode, copy, augment and normalise a batch) and `data
          and step`; and the list to which the second adds the seconds that it waited for a batch.

        Raises:
          UserError: if the data are not there. ImportError: if what reads them is not.
        """
        config, mode = self.config, self.config.parallel.mode
        pipeline = open_pipeline(
            config.data, "train", batch_size=config.train.batch_size, train=True, seed=config.seed
        )
        resident = replicate(dict(pipeline.resident), mode)
        waited: list[float] = []
        alone, mapped = pipeline.batches(0), spmd(_loaded(pipeline), mode)
        step = self._stepper(pipeline.load, resident, _timed(pipeline, waited))
        load = lambda: mapped({}, resident, next(alone))  # noqa: E731
        return {"data alone": load, "data and step": step}, waited

    def _images(self, size: int) -> jax.Array:
        images: jax.Array = jax.device_put(self.batch(size)["image"])
        return images

    def _load(self, resident: Any, batch: Mapping[str, jax.Array], key: Any) -> Batch:
        return {**batch, "image": normalise(batch["image"], self.info)}

    def _step(self, load: Load) -> tuple[Callable[..., Any], Any]:
        recipe = make_recipe(self.config, STEPS_PER_EPOCH)
        return recipe.step(self.model, load, seed=0), recipe.state(self._weights)

    def _stepper(self, load: Load, resident: Any, batch: Callable[[], Any]) -> Program:
        mode = self.config.parallel.mode
        step, state = self._step(load)
        mapped, held = spmd(step, mode, donate_state=True), [replicate(state, mode)]

        def program() -> Any:
            held[0], sums = mapped(held[0], resident, batch())
            return sums

        return program


def _loaded(pipeline: Pipeline) -> Callable[..., jax.Array]:
    def load(state: Any, resident: Any, batch: Any, *, axis_name: str) -> jax.Array:
        images = pipeline.load(resident, batch, jax.random.key(0))["image"]
        # every pixel is needed, none is kept
        total: jax.Array = jax.lax.psum(jnp.sum(images), axis_name)
        return total

    return load


def _timed(pipeline: Pipeline, waited: list[float]) -> Callable[[], Mapping[str, Any]]:
    batches = pipeline.batches(0)

    def batch() -> Mapping[str, Any]:
        start = time.perf_counter()
        rows = next(batches)
        waited.append(time.perf_counter() - start)
        return rows

    return batch
