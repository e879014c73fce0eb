"""Data: from a name in the config to batches on the device."""

import copy
import zlib
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from lficam_jax.config.size import as_size
from lficam_jax.data import resident, streaming
from lficam_jax.data.damaged import Mended
from lficam_jax.data.datasets import (
    DATASETS,
    IMAGENET_MEAN,
    IMAGENET_STD,
    RECORDED,
    SPLITS,
    Dataset,
)
from lficam_jax.data.division import ALL, digest, from_csv
from lficam_jax.data.examples import Blank, First, Source
from lficam_jax.data.files import local_path
from lficam_jax.data.folder import Folder, FolderSource, folder_dataset
from lficam_jax.data.images import DamagedImage, Picture, read_image
from lficam_jax.data.labels import LabelledFolder
from lficam_jax.data.listing import find_images
from lficam_jax.data.pipeline import Pipeline
from lficam_jax.data.sampling import covering, fitting, sampling
from lficam_jax.data.sources import TfdsSource, data_directory, tfds_dataset
from lficam_jax.data.synthetic import SyntheticSource, synthetic
from lficam_jax.data.transforms import Preprocess, denormalise, fit_box, fit_image, normalise
from lficam_jax.errors import UserError, check_path, nearest

__all__ = [
    "ALL",
    "DATASETS",
    "RECORDED",
    "SPLITS",
    "Dataset",
    "Picture",
    "Pipeline",
    "Preprocess",
    "check_split",
    "dataset_info",
    "denormalise",
    "find_images",
    "fit_box",
    "fit_image",
    "has_mask",
    "is_synthetic",
    "normalise",
    "open_pipeline",
    "open_source",
    "read_image",
    "resolved",
    "split_table",
    "split_table_fits",
    "train_examples",
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
    chosen = data.labels_file and row.classes  # of its columns, by data.classes
    classes = row.classes if chosen else tuple(data.classes) or row.classes
    labels = data.labels or row.labels
    return replace(
        row,
        classes=classes,
        num_classes=len(classes) or row.num_classes,
        image_size=as_size(data.image_size) or row.image_size,
        channels=data.channels or row.channels,
        mean=tuple(data.mean) or row.mean,
        std=tuple(data.std) or row.std,
        fit=data.fit or row.fit,
        crop_share=data.crop_share or (_CENTRE if data.augment == "resized_crop_flip" else 1.0),
        interpolation=data.interpolation or row.interpolation,
        background=data.background or row.background,
        labels=labels,
        asks=row.asks and labels == "several",
        number=tuple(data.number) or row.number,
    )


def is_synthetic(data: ConfigDict) -> bool:
    """Tells whether pictures are drawn: `data.synthetic`, and no place of real ones is given."""
    return bool(data.synthetic and not (data.dir or data.folder))


def resolved(data: ConfigDict, dataset: Dataset) -> ConfigDict:
    """Returns a copy of `config.data` with what it leaves to be derived filled in.

    Args:
      data: the group `config.data`.
      dataset: what it came to: of an open pipeline, or of `dataset_info` as far as that knows.
    """
    filled = copy.deepcopy(data)
    for key in RECORDED:
        filled[key] = getattr(dataset, key)
    filled.synthetic = is_synthetic(data)
    filled.split_file = ""  # a run keeps its own
    return filled


def open_source(data: ConfigDict, split: str) -> Source:
    """Opens a split for random access; `data.train_examples` shortens `train`."""
    return _open(dataset_info(data), data, split)


def check_split(split: str) -> None:
    """Raises a UserError for a split that no data set has."""
    if split not in SPLITS:
        raise UserError(f"split {split!r} is unknown{nearest(split, SPLITS)}")


def has_mask(source: Source, dataset: Dataset) -> bool:
    """Tells whether examples of a source have the pixels of their object as `mask`.

    Of a folder with masks or boxes some may lack one: their `mask` is empty.
    """
    return bool(source.objects) if isinstance(source, FolderSource) else dataset.has_mask


def train_examples(data: ConfigDict) -> int:
    """Returns how many examples there are to train on; of a table's row without its files."""
    count = dataset_info(data).examples.get("train") or len(open_source(data, "train"))
    return min(count, data.train_examples or count)


def split_table(data: ConfigDict) -> str:
    """Returns, as CSV, the split of every picture of a folder; '' where the folder itself says it.

    A run keeps it, and continues with it, whatever comes into the folder later.
    """
    return _folder(data).table() if data.name == "folder" and data.folder else ""


def split_table_fits(data: ConfigDict, file: Path, before: str) -> bool:
    """Tells whether `data.folder` is the folder of a split file, moved or copied.

    Args:
      data: the group `config.data`.
      file: the split file: most of its pictures must be there.
      before: the folder as the run knew it. If it is still there, pictures of one name must be the
        same: `cat/1.jpg` is in many folders.
    """
    folder, former = local_path(data.folder), check_path("data.folder", before or ".")
    paths = [path for rows in from_csv(file).values() for path, _ in rows]
    both = [path for path in paths if (folder / path).is_file()]
    some = [p for p in both[:: len(both) // 8 + 1] if before and (former / p).is_file()]
    same = all(digest(folder / path) == digest(former / path) for path in some)
    return same and 2 * len(both) > len(paths)


def open_pipeline(
    data: ConfigDict, split: str, *, batch_size: int, train: bool, seed: int = 0, parts: int = 0,
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
      parts: devices and microbatches that divide a batch, which a smaller split then shrinks; 0:
        it does not.
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
        if data.split_file == ALL:
            raise UserError("data.split_file='*' is for measuring: who trains needs other splits")
        _check_classes(files)
    if parts:
        batch_size = (fitting if train else covering)(batch_size, len(files), parts)
    if train:
        if isinstance(files, FolderSource):
            files.objects = None  # training looks at none
        source = mended = Mended(files, seed=seed, limit=data.max_corrupt)
        damaged = mended.damaged
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
        batch_size=batch_size, has_mask=has_mask(files, dataset),
        labels=opened.resident.get("label", source.labels),
        notes=files.folder.notes() if isinstance(files, FolderSource) else (),
    )  # fmt: skip


def _row(data: ConfigDict) -> Dataset:
    """Returns what the data set itself says, or a stand-in where `data` says everything."""
    if is_synthetic(data):
        return synthetic(_imitated(data))
    if data.name in DATASETS:
        return DATASETS[data.name]
    if all(data[key] for key in ("classes", "image_size", "mean", "std")):
        return Dataset(
            name=data.name, tfds_name="", num_classes=len(data.classes),
            image_size=as_size(data.image_size), mean=data.mean, std=data.std,
            splits={}, examples={},
        )  # fmt: skip
    return _look(data)


def _imitated(data: ConfigDict) -> Dataset:
    """Returns the row that synthetic pictures imitate; of a folder nothing is known."""
    if data.name in DATASETS:
        return DATASETS[data.name]
    if data.name == "folder" or data.classes:
        names = ("number",) if data.labels == "number" else ("a", "b", "c")
        return Dataset(
            name=data.name, tfds_name="", num_classes=len(names), classes=names, image_size=224,
            mean=IMAGENET_MEAN, std=IMAGENET_STD, splits={}, examples={}, labels=data.labels,
        )  # fmt: skip
    raise UserError(
        f"data set {data.name!r} is unknown, so pictures like its own cannot be drawn; say its "
        f"--config.data.classes, or where it lies{nearest(data.name, [*DATASETS, 'folder'])}"
    )


def _look(data: ConfigDict) -> Dataset:
    """Looks into the files of a data set outside the table."""
    if data.name == "folder":
        return folder_dataset(_folder(data))
    return tfds_dataset(data.name, data_directory(data.dir))


def _open(dataset: Dataset, data: ConfigDict, split: str, blank: bool = False) -> Source:
    check_split(split)
    classes, limit = tuple(data.classes), data.train_examples if split == "train" else 0
    if blank:
        count = dataset.examples.get(split) or len(_open(dataset, data, split))
        source: Source = Blank(dataset, count)
    elif is_synthetic(data):
        source = SyntheticSource(dataset, split)
    elif data.name == "folder":
        named = () if data.labels_file else classes
        return FolderSource(_folder(data), split, named, dataset, limit)
    else:
        row = dataset if dataset.splits else _look(data)
        row = replace(row, channels=dataset.channels)
        source = TfdsSource(row, data_directory(data.dir), split, classes)
    return First(source, limit) if limit else source


def _folder(data: ConfigDict) -> Folder:
    if data.labels_file:
        asked = tuple(data.classes), data.labels
        return LabelledFolder(local_path(data.folder), data.labels_file, data.split_file, *asked)
    return Folder(local_path(data.folder), data.split_file)


def _check_classes(source: Source) -> None:
    if isinstance(source, FolderSource) and source.missing:
        raise UserError(
            f"{source.folder.path} has no picture to train of {', '.join(source.missing)}; add "
            "some, or remove the class"
        )


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
    names = source.names if isinstance(source, FolderSource) else source.classes
    crc = zlib.crc32("\n".join(names).encode(errors="replace"), crc)
    return f"{len(source)} examples, CRC {crc:08x}"
