"""Splits too large for the device: host threads decode, crop and batch; the step normalises."""

import sys
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from lficam_jax.data.datasets import Dataset
from lficam_jax.data.sampling import Sampling, generator
from lficam_jax.data.sources import Example, Source
from lficam_jax.data.transforms import crop_flip, fit_box, normalise, random_box, resample
from lficam_jax.structs import Batch, Key, Pipeline

READ_AHEAD = 2  # batches decoded before they are asked for


class Rows:
    """All rows of all batches from `start_step` on, in order, for grain to read at random.

    Row r of step s is a pure function of (seed, s, r): threads may fetch rows in any order, and a
    run resumes exactly at any step with any number of threads or processes.
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

    def __len__(self) -> int:
        steps = sys.maxsize // self._sampling.batch_size
        steps = steps if self._sampling.train else self._sampling.steps_per_epoch
        return max(steps - self._start, 0) * self._sampling.rows

    def __getitem__(self, i: int) -> dict[str, Any]:
        ahead, row = divmod(int(i), self._sampling.rows)
        step = self._start + ahead
        index, valid = self._sampling.batch(step)
        example = self._source[int(index[row])]
        pixels = self._augmented(example, self._random(step, row))
        label, id_ = np.int32(example["label"]), np.int32(example["id"])
        return {**pixels, "label": label, "id": id_, "valid": valid[row]}

    def _random(self, step: int, row: int) -> np.random.Generator:
        plan = self._sampling
        place = step * plan.batch_size + plan.process_index * plan.rows + row
        return generator(plan.seed, place)

    def _augmented(self, example: Example, random: np.random.Generator) -> dict[str, Any]:
        height, width = example["image"].shape[:2]
        resized = self._augment == "resized_crop_flip"
        box = (
            random_box(random, height, width) if resized else fit_box(height, width, self._dataset)
        )
        padding = self._padding if self._augment in ("crop", "crop_flip") else 0
        top, left = random.integers(0, 2 * padding + 1, (2, 1))
        flip = np.array([self._augment.endswith("flip") and random.random() < 0.5])
        pixels = {}
        for name in ("image", "mask"):
            if name in example:
                size = self._dataset.image_size
                fitted = resample(example[name], box, size, nearest=name == "mask")
                pixels[name] = crop_flip(fitted[None], np.array([0]), top, left, flip, padding)[0]
        return pixels


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
    options = {"augment": augment, "crop_padding": crop_padding}

    def batches(start_step: int = 0) -> Iterator[Mapping[str, np.ndarray]]:
        import grain

        rows = Rows(source, dataset, sampling, start_step=start_step, **options)
        ahead = READ_AHEAD * sampling.rows
        reading = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead)
        yield from grain.MapDataset.source(rows).to_iter_dataset(reading).batch(sampling.rows)

    def load(resident: Mapping[str, Any], batch: Mapping[str, Any], key: Key) -> Batch:
        loaded = {name: batch[name] for name in ("label", "id", "valid")}
        loaded["image"] = normalise(batch["image"], dataset)
        if "mask" in batch:
            loaded["mask"] = batch["mask"][..., 0] > 0
        return loaded

    return Pipeline(
        resident={},
        batches=batches,
        load=load,
        examples=len(source),
        steps_per_epoch=sampling.steps_per_epoch,
        classes=source.classes,
        has_mask=dataset.has_mask,
    )
