"""Data: from a name in the config to batches on the device."""

import copy
import zlib
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np
from ml_collections import ConfigDict

from lficam_jax.config import RECORDED, nearest
from lficam_jax.data import resident, streaming
from lficam_jax.data.damaged import Mended
from lficam_jax.data.datasets import DATASETS, SPLITS, Dataset
from lficam_jax.data.folder import FolderSource, folder_dataset, local_path
from lficam_jax.data.images import DamagedImage, find_images, read_image
from lficam_jax.data.pipeline import Pipeline
from lficam_jax.data.sampling import sampling
from lficam_jax.data.sources import (
    Blank,
    First,
    Source,
    TfdsSource,
    data_directory,
    tfds_dataset,
)
from lficam_jax.data.transforms import Preprocess, denormalise, fit_box, fit_image, normalise
from lficam_jax.errors import UserError

__all__ = [
    "DATASETS",
    "Dataset",
    "Pipeline",
    "Preprocess",
    "dataset_info",
    "denormalise",
    "find_images",
    "fit_box",
    "fit_image",
    "normalise",
    "open_pipeline",
    "open_source",
    "read_image",
    "resolved",
]

_CENTRE = 224 / 256  # evaluation after random resized crops: resize to 256, centre 224


def dataset_info(data: ConfigDict) -> Dataset:
    """Returns what is known of the configured data set before its files are read.

    A run's config holds all that is needed to use its network: then no file is looked at.

    Args:
      data: the group `config.data`.

    Raises:
      UserError: for an unknown name (the nearest is shown), a folder without the three splits, or a
        TFDS name outside the table that is not prepared.
    """
    row = _row(data)
    classes = tuple(data.classes) or row.classes
    return replace(
        row,
        classes=classes,
        num_classes=len(classes) or row.num_classes,
        image_size=data.image_size or row.image_size,
        channels=data.channels or row.channels,
        mean=tuple(data.mean) or row.mean,
        std=tuple(data.std) or row.std,
        crop_share=data.crop_share or (_CENTRE if data.augment == "resized_crop_flip" else 1.0),
        interpolation=data.interpolation or row.interpolation,
    )


def resolved(data: ConfigDict, dataset: Dataset) -> ConfigDict:
    """Returns a copy of `config.data` with what it leaves to be derived filled in.

    Args:
      data: the group `config.data`.
      dataset: what it came to: of an open pipeline, or of `dataset_info` as far as that knows.
    """
    filled = copy.deepcopy(data)
    for key in RECORDED:
        filled[key] = getattr(dataset, key)
    return filled


def open_source(data: ConfigDict, split: str) -> Source:
    """Opens a split for random access; `data.train_examples` shortens `train`."""
    return _open(dataset_info(data), data, split)


def open_pipeline(
    data: ConfigDict, split: str, *, batch_size: int, train: bool, seed: int = 0,
    blank: bool = False,
) -> Pipeline:  # fmt: skip
    """Opens a split to feed a step.

    Args:
      data: the group `config.data`.
      split: 'train', 'validation' or 'test'.
      batch_size: rows of a batch, over all processes.
      train: shuffle, augment, repeat for ever and drop the incomplete last batch; otherwise read
        once, in order, and pad the last batch.
      seed: of the order and, when streaming, of the augmentation.
      blank: black pictures instead of the data set's, which need not be there; all shapes are its.

    Raises:
      UserError: if the data are not prepared, damaged or do not fit the request. Training passes
        over `data.max_corrupt` damaged pictures and counts them in `damaged`; an evaluation takes
        every picture or stops, for its number would mean something else.
    """
    dataset = dataset_info(data)
    source = files = _open(dataset, data, split, blank)
    damaged: Mapping[int, str] = {}
    if train:
        source = Mended(source, seed=seed, limit=data.max_corrupt)
        damaged = source.damaged
    order = sampling(len(source), batch_size, train=train, seed=seed)
    options = {"augment": data.augment if train else "none", "crop_padding": data.crop_padding}
    kind = data.pipeline
    if kind == "auto":
        kind = (
            "resident" if resident.fits(dataset, len(source), options["augment"]) else "streaming"
        )
    if kind == "resident":
        opened = resident.pipeline(source, dataset, order, **options)
    else:
        threads = data.threads or streaming.default_threads()
        opened = streaming.pipeline(source, dataset, order, **options, threads=threads)
    return replace(
        opened, dataset=replace(dataset, classes=source.classes),
        damaged=damaged, fingerprint=partial(_fingerprint, files),
    )  # fmt: skip


def _row(data: ConfigDict) -> Dataset:
    """Returns what the data set itself says, or a stand-in where `data` says everything."""
    if data.name in DATASETS:
        return DATASETS[data.name]
    if all(data[key] for key in RECORDED):
        return Dataset(
            name=data.name, tfds_name="", num_classes=len(data.classes), image_size=data.image_size,
            mean=data.mean, std=data.std, splits={}, examples={},
        )  # fmt: skip
    return _look(data)


def _look(data: ConfigDict) -> Dataset:
    """Looks into the files of a data set outside the table."""
    if data.name == "folder":
        return folder_dataset(local_path(data.folder))
    return tfds_dataset(data.name, data_directory(data.dir))


def _open(dataset: Dataset, data: ConfigDict, split: str, blank: bool = False) -> Source:
    if split not in SPLITS:
        raise UserError(f"split {split!r} is unknown{nearest(split, SPLITS)}")
    classes = tuple(data.classes)
    if blank:
        source: Source = Blank(dataset, split)
    elif data.name == "folder":
        source = FolderSource(local_path(data.folder), split, classes, dataset.channels)
    else:
        row = dataset if dataset.splits else _look(data)
        row = replace(row, channels=dataset.channels)
        source = TfdsSource(row, data_directory(data.dir), split, classes)
    limited = split == "train" and data.train_examples
    return First(source, data.train_examples) if limited else source


def _fingerprint(source: Source) -> str:
    """Tells one content of a split from another, by its size and its first and last example."""
    crc = 0
    for place in (0, len(source) - 1):
        try:
            example = source[place]
        except DamagedImage as error:  # whether that may be is for the pipeline to say
            example = {"damaged": np.frombuffer(error.name.encode(), np.uint8)}
        for name in sorted(example):
            crc = zlib.crc32(np.ascontiguousarray(example[name]).tobytes(), crc)
    return f"{len(source)} examples, CRC {crc:08x}"
