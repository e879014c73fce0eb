"""`--mode sanity`: does a map change when what the network learnt is taken away, layer by layer?"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from ml_collections import ConfigDict

from lficam_jax.data.sample import Sample
from lficam_jax.measure.observe import (
    BATCH,
    HostBatch,
    Observer,
    Seen,
    asked_methods,
    batches_of,
    whole_batch,
)
from lficam_jax.measure.resemblance import Found, picture, summarise, table, write_csv
from lficam_jax.metrics.sanity import cascade, parameter_randomisation
from lficam_jax.models.classifier import init_variables
from lficam_jax.structs import Variables
from lficam_jax.workdir.progress import Pace
from lficam_jax.workdir.results import write_result

STATISTICS = ("spearman", "ssim")
EXAMPLES = 3  # on the picture


def run(
    config: ConfigDict, workdir: str | Path, *, model: nn.Module, variables: Variables, step: int,
    split: str, limit: int, methods: Sequence[str] = (), batch_size: int = BATCH,
) -> int:  # fmt: skip
    """Randomises the network from the top down, compares the maps, writes `results/sanity.*`.

    Args:
      config: of the run; the fresh weights are drawn with its seed plus 1.
      workdir: of the run.
      model: the network.
      variables: its weights, as of `step`.
      step: the checkpoint's.
      split: whose examples are explained.
      limit: how many of them, spread evenly.
      methods: keys of `methods.METHODS`; the trivial rows are always added.
      batch_size: images at once, over all devices.

    Raises:
      UserError: for an unknown method, or one that the model cannot give.
    """
    asked, names = asked_methods(methods, config.model.head, "sanity")
    sample, start = Sample(config.data, split, limit), time.monotonic()
    observer, variables = Observer(model, sample.info, names), dict(variables)
    shape = sample.info.image_size, sample.info.image_size, 3
    fresh = dict(init_variables(model, shape, config.seed + 1))
    size = whole_batch(batch_size, len(sample))
    found = measure(observer, variables, fresh, sample, size)
    result = {
        "split": split, "step": step, "images": len(sample), "class": "predicted, then frozen",
        "seconds": round(time.monotonic() - start), "stages": found,
    }  # fmt: skip
    written = write_result(workdir, "sanity", result)
    write_csv(written.with_suffix(".csv"), found)
    few = Sample(config.data, split, EXAMPLES)
    looks = gallery(observer, variables, fresh, next(batches_of(few, size)))
    path = written.with_suffix(".png")
    picture(path, looks, sample.info, asked, sample.classes, len(few), over=False)
    print(told(found), f"{result['seconds']} seconds; {written}, .csv, .png", sep="\n")
    return 0


def measure(
    observer: Observer, trained: Variables, fresh: Variables, sample: Sample, size: int
) -> Found:
    """Compares the maps of each stage of the cascade with the trained network's.

    `size`, a multiple of the devices, is how many images are explained together.
    """
    pace, parts = Pace(-(-len(sample) // size)), []
    for batch in batches_of(sample, size):
        classes = np.asarray(observer.look(trained, batch)["class"])

        def explain(variables: Variables, _: Any, batch=batch, classes=classes) -> Any:  # noqa: ANN001
            return observer.look(variables, batch, classes)["maps"]

        rows = jax.device_get(parameter_randomisation(explain, trained, fresh, batch["image"]))
        parts.append(jax.tree.map(lambda v, keep=batch["valid"]: v[keep], rows))
        pace.tick("sanity")
    rows = jax.tree.map(lambda *values: np.concatenate(values), *parts)
    return {
        stage: {"network": {}, "methods": {m: _summary(rows[stage][m]) for m in observer.methods}}
        for stage, _ in cascade(trained, fresh)  # jax sorts the keys of a dictionary
    }


def gallery(
    observer: Observer, trained: Variables, fresh: Variables, batch: HostBatch
) -> dict[str, Seen]:
    """Explains a batch by the trained network and by each stage of the cascade."""
    first = jax.device_get(observer.look(trained, batch))
    return {"trained": first} | {
        stage: jax.device_get(observer.look(variables, batch, first["class"]))
        for stage, variables in cascade(trained, fresh)
    }


def told(found: Found) -> str:
    """Writes the tables of `found` and what their numbers are."""
    return (
        f"\n{table(found, STATISTICS)}\n"
        "value ± half of the 95 % bootstrap interval over images; to the map of the trained "
        "network, for the class that it predicts.\n"
        "head: what draws the attention (FIN) alone is fresh; the other rows: fresh from the "
        "classifier down to the row's name,\nthe head as trained. A map that stays near 1 down to "
        "the stem shows the picture, not what was learnt. (in brackets: maps that know nothing)"
    )


def _summary(rows: dict[str, np.ndarray]) -> dict[str, Any]:
    return {
        "constant": int(rows["constant"].sum()),
        "not_finite": int((~np.isfinite(rows["ssim"])).sum()),
        "statistics": summarise({statistic: rows[statistic] for statistic in STATISTICS}),
    }
