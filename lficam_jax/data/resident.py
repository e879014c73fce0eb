"""Splits that live on the device as uint8; gathering and augmenting is part of the jitted step."""

from collections.abc import Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from lficam_jax.data.datasets import Dataset
from lficam_jax.data.examples import Example, Source, as_label, where
from lficam_jax.data.pipeline import HostBatch, Pipeline
from lficam_jax.data.sampling import Sampling
from lficam_jax.data.transforms import crop_flip, fit_box, normalise, resample, resample_image
from lficam_jax.errors import UserError
from lficam_jax.structs import Batch, Key

MAX_BYTES = 10**9  # of the images; `auto` streams a split that is larger
AUGMENTS = ("none", "crop", "crop_flip")  # random resized crops need the pictures' own sizes
CHUNK = 1024  # examples read at once


def fits(dataset: Dataset, examples: int, augment: str) -> bool:
    """Whether `auto` keeps a split on the device: of one picture size, and not too large."""
    rows, columns = dataset.size
    size = examples * rows * columns * dataset.channels
    return dataset.stored_size > 0 and size <= MAX_BYTES and augment in AUGMENTS


def pipeline(
    source: Source, dataset: Dataset, sampling: Sampling, *, augment: str, crop_padding: int
) -> Pipeline:
    """Reads the whole split and returns its pipeline.

    Args:
      source: the split.
      dataset: size and normalisation.
      sampling: which examples make up which batch.
      augment: 'none', 'crop' or 'crop_flip'.
      crop_padding: pixels added on each side before the crop.

    Raises:
      UserError: for another augmentation.
    """
    if augment not in AUGMENTS:
        raise UserError(
            f"data.augment={augment} needs data.pipeline=streaming (or auto); "
            f"resident offers {', '.join(AUGMENTS)}"
        )
    arrays = read(source, dataset)

    def batches(start_step: int = 0) -> Iterator[HostBatch]:
        step = start_step
        while sampling.train or step < sampling.steps_per_epoch:
            index, valid = sampling.batch(step)
            yield {"index": index, "valid": valid}
            step += 1

    def load(resident: Mapping[str, jax.Array], batch: Mapping[str, jax.Array], key: Key) -> Batch:
        index = batch["index"]
        pixels = {name: resident[name] for name in ("image", "mask") if name in resident}
        if augment == "none":
            pixels = {name: array[index] for name, array in pixels.items()}
        else:
            window = _windows(key, index, crop_padding, mirror=augment == "crop_flip")
            pixels = {n: crop_flip(a, index, *window, crop_padding) for n, a in pixels.items()}
        known = ("label", "id", "asked") if dataset.asks else ("label", "id")
        loaded = {name: resident[name][index] for name in known}
        loaded |= {"image": normalise(pixels["image"], dataset), "valid": batch["valid"]}
        if "mask" in pixels:
            loaded |= where(pixels["mask"][..., 0], dataset.asks)
        return loaded

    return Pipeline(
        dataset=dataset,
        resident=arrays,
        batches=batches,
        load=load,
        examples=len(source),
        steps_per_epoch=sampling.steps_per_epoch,
        classes=source.classes,
        has_mask="mask" in arrays,
    )


def read(source: Source, dataset: Dataset) -> dict[str, np.ndarray]:
    """Returns image uint8 [n y x c], id int32 [n], label (`as_label`), mask and asked, if known."""
    arrays: dict[str, np.ndarray] = {}
    for start in range(0, len(source), CHUNK):
        for i, example in enumerate(source.read(start, start + CHUNK), start):
            for name, value in _fitted(example, dataset).items():
                if i == 0:
                    kind = {"label": as_label(example["label"]).dtype, "id": np.dtype(np.int32)}
                    kind["asked"] = kind["id"]
                    shape = len(source), *np.shape(value)
                    arrays[name] = np.empty(shape, kind.get(name, np.uint8))
                arrays[name][i] = value
    return arrays


def _fitted(example: Example, dataset: Dataset) -> Example:
    height, width = example["image"].shape[:2]
    box = fit_box(height, width, dataset)
    pixels = {"image": resample_image(example["image"], box, dataset)}
    if "mask" in example:
        pixels["mask"] = resample(example["mask"], box, dataset.size, "nearest")
    return example | pixels


def _windows(
    key: Key, index: jax.Array, padding: int, *, mirror: bool
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Draws each example's crop from the key and its own number, whatever its row or device."""

    def draw(i: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        place, side = jax.random.split(jax.random.fold_in(key, i))
        top, left = jax.random.randint(place, (2,), 0, 2 * padding + 1)
        return top, left, jnp.logical_and(jax.random.bernoulli(side), mirror)

    return jax.vmap(draw)(index)
