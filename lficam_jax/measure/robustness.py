"""`--mode robustness`: attacked or corrupted, does the class hold, and does the map?"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int
from ml_collections import ConfigDict

from lficam_jax.data.sample import Sample
from lficam_jax.devices.parallel import over_rows
from lficam_jax.measure.observe import (
    BATCH,
    HostBatch,
    Observer,
    Perturbation,
    Seen,
    asked_methods,
    batches_of,
    planned,
    whole_batch,
)
from lficam_jax.measure.resemblance import Found, picture, summarise, table, write_csv
from lficam_jax.metrics import stability
from lficam_jax.metrics.bootstrap import summary
from lficam_jax.metrics.localisation import constant, on_image
from lficam_jax.structs import Variables
from lficam_jax.workdir.progress import Pace
from lficam_jax.workdir.results import write_result

STATISTICS = ("iou", "iou_equal_area", "spearman")
EPSILONS = (1, 2, 4, 8)  # of FGSM, in 255ths
SEVERITIES = (1, 3, 5)
EXAMPLES = 2  # on the picture
WIDEST = 13  # columns of the picture

Values = dict[str, np.ndarray]  # statistic -> one value per image


def run(
    config: ConfigDict, workdir: str | Path, *, model: nn.Module, variables: Variables, step: int,
    split: str, limit: int, methods: Sequence[str] = (), perturbations: Sequence[str] = (),
    severities: Sequence[int] = SEVERITIES, epsilons: Sequence[int] = EPSILONS,
    batch_size: int = BATCH,
) -> int:  # fmt: skip
    """Perturbs pictures, prints how accuracy and maps hold, writes `results/robustness.*`.

    Args:
      config: of the run.
      workdir: of the run.
      model: the network.
      variables: its weights, as of `step`.
      step: the checkpoint's.
      split: whose examples are perturbed.
      limit: how many of them, spread evenly.
      methods: keys of `methods.METHODS`; the trivial rows are always added.
      perturbations: of `observe.PERTURBATIONS`; default: all.
      severities: of the corruptions, 1 to 5.
      epsilons: of FGSM, in 255ths of a pixel's range.
      batch_size: images at once, over all devices.

    Raises:
      UserError: for an unknown method, perturbation or level, or a method that the model cannot
        give.
    """
    plan = planned(perturbations, severities, epsilons)
    asked, names = asked_methods(methods, config.model.head, "robustness")
    sample, start = Sample(config.data, split, limit), time.monotonic()
    print(f"{len(sample)} images x {1 + len(plan)} looks, {len(names)} methods", flush=True)
    observer, variables = Observer(model, sample.info, names), jax.device_put(dict(variables))
    size = whole_batch(batch_size, len(sample))
    found = measure(observer, variables, sample, plan, size)
    result = {
        "split": split, "step": step, "images": len(sample), "class": "predicted, then frozen",
        "seconds": round(time.monotonic() - start), "perturbations": found,
    }  # fmt: skip
    written = write_result(workdir, "robustness", result)
    write_csv(written.with_suffix(".csv"), found)
    few = Sample(config.data, split, EXAMPLES)
    looks = gallery(observer, variables, next(batches_of(few, size)), plan)
    path = written.with_suffix(".png")
    picture(path, looks, sample.info, asked, sample.classes, len(few), over=True)
    print(told(found), f"{result['seconds']} seconds; {written}, .csv, .png", sep="\n")
    return 0


def measure(
    observer: Observer, variables: Variables, sample: Sample, plan: Sequence[Perturbation],
    size: int,
) -> Found:  # fmt: skip
    """Compares each perturbed look at the sample with the clean one, which is the first row.

    Only maps at their own grid and predictions are kept; the pictures stream through once for each
    perturbation. Chance: each image's map beside the perturbed map of another image. `size`, a
    multiple of the devices, is how many images are looked at together.
    """
    pace = Pace((1 + len(plan)) * -(-len(sample) // size))
    alike = _comparison(sample.info.image_size, size)
    others = stability.shuffled(len(sample), np.random.default_rng(0))
    clean = _observed(observer, variables, sample, size, pace)
    everything: dict[str, Any] = {"clean": None} | {str(one): one for one in plan}
    found: Found = {}
    for what, perturbation in everything.items():
        seen = clean
        if perturbation is not None:
            asked = clean["class"], perturbation
            seen = _observed(observer, variables, sample, size, pace, *asked)
        methods = {}
        for name in observer.methods:
            maps, first = seen["maps"][name], clean["maps"][name]
            if found and np.array_equal(maps, first):  # it looks at no picture
                methods[name] = found["clean"]["methods"][name]
                continue
            finite = np.isfinite(maps).all(axis=(1, 2))
            values, chance = alike(first, maps, first[others])
            methods[name] = {
                "constant": int((np.asarray(constant(maps)) & finite).sum()),
                "not_finite": int((~finite).sum()), "statistics": summarise(values, chance),
            }  # fmt: skip
        network = {
            "accuracy": summary(seen["predicted"] == clean["label"]),
            "changed": summary(seen["predicted"] != clean["predicted"]),
        }
        found[what] = {"network": network, "methods": methods}
    return found


def gallery(
    observer: Observer, variables: Variables, batch: HostBatch, plan: Sequence[Perturbation]
) -> dict[str, Seen]:
    """Looks at a batch, clean and perturbed; if there are many levels, at the highest of each."""
    looks = {"clean": jax.device_get(observer.look(variables, batch))}
    if len(plan) >= WIDEST:
        plan = list({one.name: one for one in plan}.values())  # the last level of each
    for one in plan:
        seen = observer.look(variables, batch, looks["clean"]["class"], one)
        looks[str(one)] = jax.device_get(seen)
    return looks


def told(found: Found) -> str:
    """Writes the tables of `found` and what their numbers are."""
    return (
        f"\n{table(found, STATISTICS)}\n"
        "value ± half of the 95 % bootstrap interval over images (chance: the perturbed map of "
        "another image);\nthe map of the clean image and that of the perturbed one, for the class "
        "predicted on the clean image.\n"
        "(in brackets: maps that know nothing) gaussian and fakecam never change and random always "
        "does: a map that holds\nis worth something only if it told something, see --mode "
        "faithfulness."
    )


def _observed(
    observer: Observer, variables: Variables, sample: Sample, size: int, pace: Pace,
    classes: Int[np.ndarray, " n"] | None = None, perturbation: Perturbation | None = None,
) -> dict[str, Any]:  # fmt: skip
    parts = []
    for batch in batches_of(sample, size):
        asked = None if classes is None else classes[batch["rows"]]
        seen = observer.look(variables, batch, asked, perturbation)
        del seen["image"]
        seen["label"] = batch["label"]
        parts.append(jax.tree.map(lambda v, keep=batch["valid"]: np.asarray(v)[keep], seen))
        pace.tick(str(perturbation or "clean"))
    return jax.tree.map(lambda *rows: np.concatenate(rows), *parts)


def _comparison(size: int, rows: int) -> Callable[..., tuple[Values, Values]]:
    """Returns the function that compares maps [n h w] row by row with two others.

    Args:
      size: of the image, to which the maps are brought.
      rows: compared at once, over all devices.
    """

    def statistics(_: Any, maps: Mapping[str, Array]) -> tuple[Values, Values]:
        finite = {k: jnp.isfinite(v).all(axis=(1, 2)) for k, v in maps.items()}
        drawn = {k: on_image(v, (size, size)) for k, v in maps.items()}

        def against(key: str) -> dict[str, Array]:
            exists = finite[key] & finite["maps"]
            both = drawn[key], drawn["maps"]  # sorted once: one program asks both times
            found = {name: stability.STATISTICS[name](*both) for name in STATISTICS}
            return {name: jnp.where(exists, value, jnp.nan) for name, value in found.items()}

        return against("first"), against("other")

    program = over_rows(statistics)

    def compare(first: np.ndarray, maps: np.ndarray, other: np.ndarray) -> tuple[Values, Values]:
        count, parts = len(maps), []
        asked = {"first": first, "maps": maps, "other": other}
        for start in range(0, count, rows):
            at = np.arange(start, start + rows) % count
            parts.append(jax.device_get(program({}, {k: v[at] for k, v in asked.items()})))
        return jax.tree.map(lambda *values: np.concatenate(values)[:count], *parts)

    return compare
