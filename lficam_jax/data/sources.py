"""Random access to the splits that TensorFlow Datasets prepared, without TensorFlow."""

import contextlib
import os
import threading
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from lficam_jax.data.classes import places
from lficam_jax.data.datasets import DATASETS, IMAGENET_MEAN, IMAGENET_STD, SPLITS, Dataset
from lficam_jax.data.examples import Example
from lficam_jax.data.imagenet import in_words
from lficam_jax.data.images import decode
from lficam_jax.data.inside import inside
from lficam_jax.errors import UserError, check_path, nearest, shortened

_MASKS = ("mask", "segmentation_mask")  # what data sets call it
_OTHER = "other_mask"  # of the digit that is not asked for
_PATCHING = threading.Lock()
_TRIMAP_GROUND = 2  # in segmentation_mask: 1 is the object, 2 the ground, 3 the object's rim


class TfdsSource:
    """A slice of a prepared split.

    `id` is the builder's own integer feature of that name, else the position in the whole TFDS
    split: so `train[45000:]` keeps the numbers that its examples have in `train`.
    """

    labels: np.ndarray | None = None

    def __init__(
        self, dataset: Dataset, directory: Path, split: str, classes: tuple[str, ...] = ()
    ):
        """Opens the split; labels count the names in `classes`, or () for the files' own order."""
        builder = open_builder(dataset.tfds_name, directory)
        self._name, self._path, self._channels = dataset.name, builder.data_path, dataset.channels
        self._ours = split
        self._split, self._start, self._stop = _slice(builder, dataset.splits[split], dataset.name)
        self._records = _records(builder, self._split)
        features = builder.info.features
        names = in_words(_label_names(builder, dataset.name))  # ImageNet's are WordNet ids
        self.classes = classes or names
        self._label = places(names, in_words(self.classes), f"{dataset.name} in {directory}")
        self._asks = dataset.asks
        self._own_id = "id" in features and np.issubdtype(features["id"].np_dtype, np.integer)
        self._mask = next((m for m in _MASKS if m in features), None) if dataset.has_mask else None

    def __len__(self) -> int:
        return self._stop - self._start

    def __getitem__(self, i: int) -> Example:
        if not 0 <= i < len(self):
            raise IndexError(i)
        return self.read(int(i), int(i) + 1)[0]

    def name(self, i: int) -> str:
        """Returns the split and the id."""
        id_ = self[i]["id"] if self._own_id else self._start + i
        return f"{self._ours} {id_}"

    def read(self, start: int, stop: int) -> list[Example]:
        """Returns consecutive examples in one read of the file.

        Raises:
          UserError: if the file is damaged (it carries its own check sums) or gone.
        """
        places = range(self._start + start, min(self._start + stop, self._stop))
        with _whole(self._name, self._path):
            records = self._records.__getitems__(places)
            return [self._example(i, r) for i, r in zip(places, records, strict=True)]

    def _example(self, place: int, record: dict[str, Any]) -> Example:
        name = f"example {place} of {self._name} {self._split}"
        label = self._number(record["label"], name)
        example: Example = {
            "image": decode(record["image"], channels=self._channels, name=name).pixels,
            "label": label,
            "id": int(record["id"]) if self._own_id else place,
        }
        if self._mask:
            example["mask"] = self._inside(record, self._mask, name).astype(np.uint8)
        if self._asks:
            both = [label, self._number(record["other_label"], name)]
            example |= {"asked": label, "label": np.isin(np.arange(len(self.classes)), both)}
            example["mask"] += 2 * self._inside(record, _OTHER, name).astype(np.uint8)
        return example

    def _number(self, theirs: Any, name: str) -> int:
        """Returns our number of a class of the files."""
        if not 0 <= int(theirs) < len(self._label):
            raise UserError(
                f"{name} has the label {theirs}, and {self._path} names {len(self._label)} "
                "classes; remove that example, or prepare the data set again"
            )
        return self._label[int(theirs)]

    def _inside(self, record: dict[str, Any], feature: str, name: str) -> np.ndarray:
        mask = decode(record[feature], channels=1, name=f"the mask of {name}").pixels
        inside: np.ndarray = mask != _TRIMAP_GROUND if feature == _MASKS[1] else mask > 0
        return inside


def data_directory(configured: str) -> Path:
    """Returns where data sets are prepared: the config's, $TFDS_DATA_DIR, or TFDS's default."""
    return as_path(configured or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets")


def as_path(text: str) -> Path:
    """Returns a local path, or one that reads a bucket like a folder, for gs://.

    Raises:
      UserError: if the package that reads buckets is missing.
    """
    if "://" not in text:
        return check_path("data.dir", text)
    if not text.startswith("gs://"):
        raise UserError(f"{text}: of the addresses only gs:// is known; mount or copy the data")
    if find_spec("gcsfs") is None:
        raise UserError(f"{text} needs the package gcsfs: pip install '.[gcs]' from the repository")
    from etils import epath

    bucket: Path = epath.Path(text)  # not one by its type, but it does all that one does
    return bucket


def tfds_dataset(name: str, directory: Path) -> Dataset:
    """Describes a prepared TFDS data set that the table does not list.

    Splits that its publishers did not make are cut from their training split: a tenth each.
    """
    if name.split("/")[0] not in _tfds_names() and not (directory / name).is_dir():
        raise UserError(
            f"data set {name!r} is unknown{nearest(name, [*DATASETS, 'folder', *_tfds_names()])}"
        )
    builder = open_builder(name, directory)
    info, names = builder.info, _label_names(builder, name)
    height, width, channels = info.features["image"].shape
    square = height if height and height == width else 0
    splits = _three_splits(tuple(info.splits), name)
    return Dataset(
        name=name,
        tfds_name=name,
        num_classes=len(names),
        classes=names,
        image_size=square or 224,
        stored_size=square,
        channels=channels or 3,
        mean=IMAGENET_MEAN,
        std=IMAGENET_STD,
        splits=splits,
        examples={ours: info.splits[theirs].num_examples for ours, theirs in splits.items()},
    )


def open_builder(tfds_name: str, directory: Path) -> Any:
    """Opens what is prepared under `directory`, whatever its version, without its builder's code.

    Raises:
      UserError: if it is not prepared; the message holds the command that prepares it.
    """
    import tensorflow_datasets as tfds

    inside(directory, tfds_name, "data.name")
    with _whole(tfds_name, directory / tfds_name):
        try:
            with _features_of_tfds():
                builder = tfds.core.read_only_builder.builder_from_files(
                    tfds_name, data_dir=str(directory)
                )
        except tfds.core.registered.DatasetNotFoundError as error:
            raise UserError(not_prepared(tfds_name, directory)) from error
        except OSError as error:  # of a disk, or of a bucket's network
            raise UserError(f"cannot read data sets from {directory}: {error}") from error
        for split in builder.info.splits.values():
            for path in map(str, split.filepaths):
                inside(
                    directory, path.removeprefix(f"{builder.data_path}/"), str(builder.data_path)
                )
    return builder


@contextlib.contextmanager
def _whole(name: str, path: Path) -> Iterator[None]:
    """Around what reads prepared files and their metadata, which may say anything.

    Raises:
      UserError: for whatever TFDS and protobuf raise of what is damaged.
    """
    try:
        yield
    except UserError:
        raise
    except NotImplementedError as error:
        raise UserError(
            f"{path} is not in the format array_record; convert it once with\n"
            f"  tfds convert_format --dataset_version_dir {path} --out_file_format array_record"
        ) from error
    except Exception as error:
        why = shortened(" ".join(str(error).split()) or type(error).__name__)
        raise UserError(
            f"the prepared files of {name} are damaged ({why}); remove {path} and prepare {name} "
            "again"
        ) from error


def _label_names(builder: Any, name: str) -> tuple[str, ...]:
    """Returns the class names of a prepared set that has pictures and classes.

    Raises:
      UserError: for one that has not, or whose classes are not told apart.
    """
    import tensorflow_datasets as tfds

    with _whole(name, builder.data_path):
        features = dict(builder.info.features)
        kinds = {"image": tfds.features.Image, "label": tfds.features.ClassLabel}
        if not all(isinstance(features.get(key), kind) for key, kind in kinds.items()):
            raise UserError(
                f"{name} has the features {shortened(', '.join(features))}; `image` and `label` "
                "are needed, a picture and a class"
            )
        names: tuple[str, ...] = tuple(features["label"].names)
        if len({*names}) < len(names) or "" in names:
            raise ValueError("two classes have one name")
        if len(features["image"].shape) != 3:
            raise ValueError(f"the shape of a picture is {features['image'].shape}")
    return names


@contextlib.contextmanager
def _features_of_tfds() -> Iterator[None]:
    """Lets TFDS import its own modules alone, where it would import any that features.json names.

    Raises:
      UserError: for another.
    """
    from tensorflow_datasets.core.features.feature import FeatureConnector

    found = FeatureConnector.__dict__["cls_from_name"]

    def named(cls: Any, name: str) -> Any:
        if not name:
            raise ValueError("a feature has no type")
        if not name.startswith("tensorflow_datasets."):
            raise UserError(
                f"features.json names {name}, which is code that came with the data and is not "
                "run; prepare the data set again with features of tensorflow_datasets"
            )
        return found.__func__(cls, name)

    with _PATCHING:
        FeatureConnector.cls_from_name = classmethod(named)
        try:
            yield
        finally:
            FeatureConnector.cls_from_name = found


def not_prepared(tfds_name: str, directory: Path) -> str:
    """Returns the message that tells how to prepare a data set."""
    row = next((row for row in DATASETS.values() if row.tfds_name == tfds_name), None)
    if row and row.prepared_by != "tfds":
        command = f"lficam prepare {row.name} --data_dir {directory}"
    else:
        command = (
            f"pip install tensorflow-cpu && "
            f"tfds build {tfds_name} --data_dir {directory} --file_format array_record"
        )
    where = f"{tfds_name} is not prepared in {directory}"
    return f"{where}; prepare it once, with\n  {command}"


def _records(builder: Any, split: str) -> Any:
    import tensorflow_datasets as tfds

    skip = tfds.decode.SkipDecoding()
    decoders = {name: skip for name in ("image", *_MASKS, _OTHER) if name in builder.info.features}
    with _whole(builder.name, builder.data_path):
        return builder.as_data_source(split, decoders=decoders)


def _slice(builder: Any, expression: str, name: str) -> tuple[str, int, int]:
    import tensorflow_datasets as tfds

    try:
        instruction = tfds.core.ReadInstruction.from_spec(expression)
        (part,) = instruction.to_absolute(builder.info.splits)
    except (AssertionError, ValueError, KeyError) as error:
        held = ", ".join(f"{s} ({i.num_examples})" for s, i in builder.info.splits.items())
        raise UserError(
            f"{name} needs the split {expression}, but {builder.data_path} holds "
            f"{shortened(held) or 'none'}; "
            f"remove that folder and prepare {name} again"
        ) from error
    return part.splitname, part.from_ or 0, _stop(part, builder)


def _stop(part: Any, builder: Any) -> int:
    stop: int = builder.info.splits[part.splitname].num_examples if part.to is None else part.to
    return stop


def _three_splits(theirs: tuple[str, ...], name: str) -> dict[str, str]:
    if "train" not in theirs:
        raise UserError(f"{name} has no split `train`; it holds {shortened(', '.join(theirs))}")
    if {*SPLITS} <= {*theirs}:
        return {split: split for split in SPLITS}
    held_back = next((split for split in ("test", "validation") if split in theirs), None)
    if held_back:
        return {"train": "train[:90%]", "validation": "train[90%:]", "test": held_back}
    return {"train": "train[:80%]", "validation": "train[80%:90%]", "test": "train[90%:]"}


def _tfds_names() -> list[str]:
    import tensorflow_datasets as tfds

    names: list[str] = tfds.list_builders(with_community_datasets=False)
    return names
