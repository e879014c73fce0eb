"""Splits too large for the device: host threads decode, crop and batch; the step normalises."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from lficam_jax.data.datasets import Dataset
from lficam_jax.data.examples import Example, Source, as_label, where
from lficam_jax.data.pipeline import HostBatch, Pipeline
from lficam_jax.data.sampling import Sampling, generator
from lficam_jax.data.transforms import (
    crop_flip,
    crop_scale,
    fit_box,
    mirror,
    normalise,
    random_box,
    resample,
    resample_image,
)
from lficam_jax.structs import Batch, Key

READ_AHEAD = 2  # batches decoded before they are asked for
AT_ONCE = 16  # rows at most that a thread decodes before it hands them on


class Rows:
    """All rows of all batches from `start_step` on, in order, a few at a time.

    Row r of step s is a pure function of (seed, s, r): threads may fetch rows in any order, and a
    run resumes exactly at any step with any number of threads or processes.

    Attributes:
      parts: elements that make up a batch. One holds several rows, for handing an element from
        thread to thread costs about as much as scaling a picture.
    """

    def __init__(
        self,
        source: Source,
        dataset: Dataset,
        sampling: Sampling,
        *,
        start_step: int,
        augment: str,
        crop_padding: int,
    ):
        self._source, self._dataset, self._sampling = source, dataset, sampling
        self._start, self._augment, self._padding = start_step, augment, crop_padding
        self.parts = next(n for n in range(1, sampling.rows + 1)
                          if sampling.rows % n == 0 and sampling.rows // n <= AT_ONCE)  # fmt: skip

    def __len__(self) -> int:
        steps = sys.maxsize // self._sampling.batch_size
        steps = steps if self._sampling.train else self._sampling.steps_per_epoch
        return max(steps - self._start, 0) * self.parts

    def __getitem__(self, i: int) -> dict[str, np.ndarray]:
        ahead, part = divmod(int(i), self.parts)
        step, count = self._start + ahead, self._sampling.rows // self.parts
        index, valid = self._sampling.batch(step)
        here = range(part * count, (part + 1) * count)
        rows = [self._row(self._source[int(index[row])], self._random(step, row)) for row in here]
        stacked = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
        return stacked | {"valid": valid[here.start : here.stop]}

    def _row(self, example: Example, random: np.random.Generator) -> dict[str, Any]:
        known: dict[str, Any] = {
            name: np.int32(example[name]) for name in ("id", "asked") if name in example
        }
        label = as_label(example["label"])
        return {**self._augmented(example, random), "label": label, **known}

    def _random(self, step: int, row: int) -> np.random.Generator:
        plan = self._sampling
        place = step * plan.batch_size + plan.process_index * plan.rows + row
        return generator(plan.seed, place)

    def _augmented(self, example: Example, random: np.random.Generator) -> dict[str, np.ndarray]:
        height, width = example["image"].shape[:2]
        resized, size = self._augment == "resized_crop_flip", self._dataset.size
        crop = random_box(random, height, width, size[1] / size[0]) if resized else None
        box = crop or fit_box(height, width, self._dataset)
        padding = self._padding if self._augment in ("crop", "crop_flip") else 0
        top, left = random.integers(0, 2 * padding + 1, (2, 1))
        flip = self._augment.endswith("flip") and random.random() < 0.5
        pixels: dict[str, np.ndarray] = {}
        for name in ("image", "mask"):
            if name not in example:
                continue
            if crop and name == "image":
                fitted = crop_scale(example[name], crop, size)
            elif name == "image":
                fitted = resample_image(example[name], box, self._dataset)
            else:
                fitted = resample(example[name], box, size, "nearest")
            if padding:
                place = (np.array([0]), top, left, np.array([flip]), padding)
                pixels[name] = crop_flip(fitted[None], *place)[0]
            else:
                pixels[name] = mirror(fitted) if flip else fitted
        return pixels


def _joined(parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def default_threads() -> int:
    """Returns one thread for each core that this process may use, as many as SLURM allots it."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def pipeline(
    source: Source,
    dataset: Dataset,
    sampling: Sampling,
    *,
    augment: str,
    crop_padding: int,
    threads: int,
) -> Pipeline:
    """Returns the pipeline of a split that is decoded as it is needed.

    Args:
      source: the split.
      dataset: size and normalisation.
      sampling: which examples make up which batch.
      augment: 'none', 'crop', 'crop_flip' or 'resized_crop_flip'.
      crop_padding: pixels added on each side before the plain crop.
      threads: that read and decode.
    """

    def batches(start_step: int = 0) -> Iterator[HostBatch]:
        import grain

        rows = Rows(
            source, dataset, sampling,
            start_step=start_step, augment=augment, crop_padding=crop_padding,
        )  # fmt: skip
        ahead = READ_AHEAD * rows.parts
        reading = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=max(ahead, threads))
        parts = grain.MapDataset.source(rows).to_iter_dataset(reading)
        yield from parts.batch(rows.parts, batch_fn=_joined)

    def load(resident: Mapping[str, Any], batch: Mapping[str, Any], key: Key) -> Batch:
        kept = ("label", "id", "valid", "asked")
        loaded = {name: batch[name] for name in kept if name in batch}
        loaded["image"] = normalise(batch["image"], dataset)
        if "mask" in batch:
            loaded |= where(batch["mask"][..., 0], dataset.asks)
        return loaded

    return Pipeline(
        dataset=dataset,
        resident={},
        batches=batches,
        load=load,
        examples=len(source),
        steps_per_epoch=sampling.steps_per_epoch,
        classes=source.classes,
        has_mask=dataset.has_mask,
    )
