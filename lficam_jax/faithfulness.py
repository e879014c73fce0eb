"""`--mode faithfulness`: every map beside every other on the same network, measured, streaming."""

import shutil
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from ml_collections import ConfigDict

from lficam_jax.config import nearest
from lficam_jax.data import normalise
from lficam_jax.data.sample import Sample
from lficam_jax.errors import UserError
from lficam_jax.methods import TRIVIAL, check, maps_of
from lficam_jax.metrics import faithfulness as measures
from lficam_jax.metrics import localisation, sanity, sparseness
from lficam_jax.metrics.road import PERCENTAGES, road
from lficam_jax.parallel import over_rows
from lficam_jax.scoreboard import GROUPS, Rows, summarise, table, write_csv
from lficam_jax.steps import predict
from lficam_jax.structs import Variables
from lficam_jax.writer import Pace, write_result

COSTLY = ("sensitivity",)  # draws each map ten times more; only when asked for
TOP = (50, 15)  # percent of the pixels kept
STEPS = 16
BATCH = 64


def chosen(names: Sequence[str], has_mask: bool) -> tuple[list[str], str]:
    """Returns the groups to measure and a note about what is left out.

    Raises:
      UserError: for an unknown group, or `localisation` on data that do not know the object.
    """
    for name in names:
        if name not in GROUPS:
            raise UserError(f"measure {name!r} is unknown{nearest(name, tuple(GROUPS))}")
    if has_mask or not names:
        groups = list(names) or [name for name in GROUPS if name not in COSTLY]
        if has_mask:
            return groups, ""
        groups.remove("localisation")
        return groups, "localisation is left out: this data set does not know the object's pixels"
    if "localisation" in names:
        raise UserError(
            "--measures localisation needs data that know the object's pixels, for example "
            "cluttered_digits; leave it out"
        )
    return list(names), ""


def run(
    config: ConfigDict, workdir: str | Path, *, model: nn.Module, variables: Variables, step: int,
    split: str, limit: int, methods: Sequence[str] = (), groups: Sequence[str] = (),
    baseline: str = "mean", steps: int = STEPS, batch_size: int = BATCH,
) -> int:  # fmt: skip
    """Measures the maps of a network, prints one table, writes `results/faithfulness.{json,csv}`.

    Args:
      config: of the run.
      workdir: of the run.
      model: the network.
      variables: its weights, as of `step`.
      step: the checkpoint's.
      split: whose examples are measured.
      limit: how many of them, spread evenly.
      methods: keys of `methods.METHODS`; the trivial rows are always added.
      groups: keys of `GROUPS`; default: all but the costly.
      baseline: what a masked pixel shows, of `metrics.faithfulness.BASELINES`.
      steps: of the insertion and deletion curves.
      batch_size: images at once, over all devices.

    Raises:
      UserError: for an unknown method or measure, one that the model or the data cannot give.
    """
    own = ["own"] if config.model.head != "plain" else []
    names = list(dict.fromkeys([*(methods or [*own, "grad_cam", "score_cam"]), *TRIVIAL]))
    check(*names)
    if jax.process_count() > 1:
        raise UserError("--mode faithfulness runs in one process, on all devices of one machine")
    sample, start = Sample(config.data, split, limit), time.monotonic()
    groups, note = chosen(groups, sample.info.has_mask)
    _announce(len(sample), names, groups, steps)
    measure = Measurement(model, sample.info, groups, baseline, steps)
    rows = stream(measure, variables, sample, names, batch_size)
    found = summarise(rows, groups)
    result = {
        "split": split, "step": step, "images": len(sample), "class": "predicted, then frozen",
        "baseline": baseline, "steps": steps, "left_out": note,
        "seconds": round(time.monotonic() - start), "methods": found,
    }  # fmt: skip
    written = write_result(workdir, "faithfulness", result)
    write_csv(written.with_suffix(".csv"), found)
    terminal = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    print(table(found, terminal))
    print("\n".join(filter(None, [note, f"{result['seconds']} seconds; {written}, .csv"])))
    return 0


class Measurement:
    """The programs of one network, compiled once: clean pass, maps by each method, measures."""

    def __init__(
        self, model: nn.Module, info: Any, groups: Sequence[str], baseline: str, steps: int
    ) -> None:
        self._model, self._groups, self._baseline, self._steps = model, groups, baseline, steps
        mean, std = np.asarray(info.mean), np.asarray(info.std)
        self._black = (-mean / std).astype(np.float32)
        self._maps: dict[tuple[str, bool], Callable[..., Array]] = {}
        self._clean = over_rows(partial(self._see, info))
        self._rows = over_rows(self._measure)

    def see(self, variables: Variables, batch: Rows) -> dict[str, Array]:
        """Returns normalised images, the predicted classes, their confidence and random keys."""
        return self._clean(variables, {"image": batch["image"], "id": batch["id"]})

    def rows(
        self, name: str, variables: Variables, seen: dict[str, Array], mask: np.ndarray | None
    ) -> Rows:
        """Returns everything about one method's maps, one row per image."""
        raw = self._draw(name)(variables, seen)
        finite = np.isfinite(raw).all(axis=(1, 2))
        maps = jnp.nan_to_num(raw)
        found = dict(self._rows(variables, seen | {"map": maps}))
        if "adcc" in self._groups:
            again = self._draw(name)(variables, seen | {"image": found.pop("masked")})
            same = measures.coherency(maps, jnp.nan_to_num(again))
            found["adcc"] = measures.adcc(same, found["complexity"], found["average_drop"])
        if "sensitivity" in self._groups:
            found["max_sensitivity"] = self._draw(name, sensitivity=True)(variables, seen)
        if "localisation" in self._groups:
            objects = mask.any(axis=(1, 2))
            hits = localisation.pointing_hit(maps, mask), localisation.energy(maps, mask)
            found |= {
                k: np.where(objects, v, np.nan)
                for k, v in zip(("pointing_game", "energy"), hits, strict=True)
            }
            found["max_box_acc"] = localisation.box_overlaps(np.asarray(maps), mask)
        rows = {k: np.array(v, np.float64) for k, v in found.items()}
        for row in rows.values():
            row[~finite] = np.nan  # a map that is not finite has no measure; it is counted
        constant = np.asarray(localisation.constant(maps)) & finite
        return rows | {"constant": constant, "not_finite": ~finite}

    def _see(self, info: Any, variables: Variables, batch: Any) -> dict[str, Array]:
        images = normalise(batch["image"], info)
        share = jax.nn.softmax(predict(self._model, variables, images).logits.astype(jnp.float32))
        keys = jax.vmap(partial(jax.random.fold_in, jax.random.key(0)))(batch["id"])
        return {
            "image": images, "class": jnp.argmax(share, axis=1), "before": share.max(axis=1),
            "key": keys,
        }  # fmt: skip

    def _draw(self, name: str, sensitivity: bool = False) -> Callable[..., Array]:
        def draw(variables: Variables, seen: Any) -> Array:
            asked = {"class_index": seen["class"], "key": seen["key"]}
            explain = lambda x: maps_of(name, self._model, variables, x, **asked)  # noqa: E731
            if sensitivity:
                return sanity.max_sensitivity(explain, seen["image"], seen["key"])
            return explain(seen["image"])

        if (name, sensitivity) not in self._maps:
            self._maps[name, sensitivity] = over_rows(draw)
        return self._maps[name, sensitivity]

    def _measure(self, variables: Variables, seen: Any) -> dict[str, Array]:
        images, classes, before = seen["image"], seen["class"], seen["before"]
        maps = localisation.on_image(seen["map"], images.shape[1:3])
        ground = measures.baseline(images, self._baseline, self._black)

        def confidence(x: Array, classes: Array) -> Array:
            share = jax.nn.softmax(predict(self._model, variables, x).logits.astype(jnp.float32))
            return jnp.take_along_axis(share, classes[:, None], axis=1)[:, 0]

        masked = measures.masked(images, maps, ground)
        after = confidence(masked, classes)
        found = {"after": after, "average_drop": measures.average_drop(before, after)}
        if "confidence" in self._groups:
            found["increase"] = measures.increase_in_confidence(before, after)
            found["average_gain"] = measures.average_gain(before, after)
            for percent in TOP:
                kept = measures.keep_top(maps, percent / 100)
                after = confidence(measures.masked(images, kept, ground), classes)
                found[f"average_drop_{percent}"] = measures.average_drop(before, after)
                found[f"increase_{percent}"] = measures.increase_in_confidence(before, after)
        asked = confidence, images, classes, maps
        if "deletion" in self._groups:
            pair = measures.deletion(*asked, ground, steps=self._steps)
            found["deletion"], found["deletion_curve"] = pair
        if "insertion" in self._groups:
            pair = measures.insertion(*asked, steps=self._steps)
            found["insertion"], found["insertion_curve"] = pair
        if "road" in self._groups:
            found |= road(*asked, seen["key"])
        if "adcc" in self._groups:
            found |= {"masked": masked, "complexity": jnp.mean(maps, axis=(1, 2))}
        if "sparseness" in self._groups:
            found |= {"gini": sparseness.gini(maps), "entropy": sparseness.entropy(maps)}
        return found


def stream(
    measure: Measurement, variables: Variables, sample: Sample, names: Sequence[str], size: int
) -> dict[str, Rows]:
    """Measures a sample batch by batch; returns each method's rows, one per image."""
    devices = jax.device_count()
    size = -(-min(size, len(sample)) // devices) * devices
    parts: dict[str, list[Rows]] = {name: [] for name in names}
    pace = Pace(-(-len(sample) // size) * len(names))
    for batch in sample.batches(size):
        seen = measure.see(variables, batch)
        for name in names:
            rows = measure.rows(name, variables, seen, batch.get("mask"))
            parts[name].append({k: v[batch["valid"]] for k, v in rows.items()})
            pace.tick(name)
    return {
        name: {k: np.concatenate([p[k] for p in part]) for k in part[0]}
        for name, part in parts.items()
    }


def _announce(count: int, names: Sequence[str], groups: Sequence[str], steps: int) -> None:
    passes = 1 + len(TOP) * ("confidence" in groups)
    passes += (steps + 1) * (("deletion" in groups) + ("insertion" in groups))
    passes += 2 * len(PERCENTAGES) * ("road" in groups)
    print(
        f"{count} images x {len(names)} methods x {passes} forward passes = "
        f"{count * len(names) * passes:,}, and those that draw the maps",
        flush=True,
    )
