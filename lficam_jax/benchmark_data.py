"""What of `--mode benchmark` needs the data: the input pipeline, alone and with the step."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from lficam_jax.data import open_pipeline
from lficam_jax.parallel import replicate, spmd
from lficam_jax.structs import Pipeline


def loading(bench: Any) -> tuple[dict[str, Callable[[], Any]], list[float]]:
    """Opens the training split of a `benchmark.Bench`.

    Returns:
      The programs `data alone` (read, decode, copy, augment and normalise one batch) and `data and
      step`; and the list to which the second adds the seconds that it waited for each batch.

    Raises:
      UserError: if the data are not there. ImportError: if what reads them is not.
    """
    config, mode = bench.config, bench.config.parallel.mode
    pipeline = open_pipeline(
        config.data, "train", batch_size=config.train.batch_size, train=True, seed=config.seed
    )
    resident = replicate(dict(pipeline.resident), mode)
    alone, waited = pipeline.batches(0), []
    mapped = spmd(_loaded(pipeline), mode)
    step = bench.stepper(pipeline.load, resident, _timed(pipeline, waited))
    programs = {
        "data alone": lambda: mapped({}, resident, next(alone)),
        "data and step": step,
    }
    return programs, waited


def _loaded(pipeline: Pipeline) -> Callable[..., jax.Array]:
    def load(state: Any, resident: Any, batch: Any, *, axis_name: str) -> jax.Array:
        images = pipeline.load(resident, batch, jax.random.key(0))["image"]
        return jax.lax.psum(jnp.sum(images), axis_name)  # every pixel is needed, nothing is kept

    return load


def _timed(pipeline: Pipeline, waited: list[float]) -> Callable[[], Mapping[str, Any]]:
    batches = pipeline.batches(0)

    def batch() -> Mapping[str, Any]:
        start = time.perf_counter()
        rows = next(batches)
        waited.append(time.perf_counter() - start)
        return rows

    return batch
