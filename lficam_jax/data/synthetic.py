"""Pictures drawn on the spot, to see that everything runs where no data are: what `:smoke` uses."""

import colorsys
import zlib
from dataclasses import replace

import numpy as np

from lficam_jax.data.datasets import Dataset
from lficam_jax.data.examples import Example, read_each
from lficam_jax.data.sampling import generator

EXAMPLES = {"train": 64, "validation": 32, "test": 32}


def synthetic(like: Dataset) -> Dataset:
    """Describes pictures of the shape and the classes of a data set, under the name `synthetic`."""
    names = like.classes or tuple(f"class {i}" for i in range(like.num_classes))
    return replace(
        like, name="synthetic", tfds_name="", classes=names, examples=EXAMPLES, splits={},
        stored_size=like.stored_size or max(like.size), prepared_by="", citation="", licence="",
    )  # fmt: skip


def as_turns(dataset: Dataset, turns: np.ndarray) -> np.ndarray:
    """Returns labels of whose turn it is: that class, that label alone, or the number itself."""
    if dataset.labels == "several":
        alone: np.ndarray = np.eye(len(dataset.classes), dtype=np.float32)[turns]
        return alone
    return turns[:, None].astype(np.float32) if dataset.labels == "number" else turns


class SyntheticSource:
    """A split of noise with a square, the object, whose colour tells the class.

    Every example is a pure function of its split and number. Classes take turns.
    """

    def __init__(self, dataset: Dataset, split: str):
        self.classes, self._split, self._dataset = dataset.classes, split, dataset
        self._turns = len(self.classes) if dataset.labels != "number" else 7
        self.labels = as_turns(dataset, np.arange(len(self), dtype=np.int32) % self._turns)

    def __len__(self) -> int:
        return EXAMPLES[self._split]

    def __getitem__(self, i: int) -> Example:
        (rows, columns), count = self._dataset.size, self._turns
        random = generator(zlib.crc32(self._split.encode()), i)
        label = i % count
        image = random.integers(0, 128, (rows, columns, 3), np.uint8)
        side = max(1, int(min(rows, columns) * random.uniform(0.3, 0.6)))
        top, left = random.integers(0, (rows - side + 1, columns - side + 1))
        inside = np.s_[top : top + side, left : left + side]
        colour = colorsys.hsv_to_rgb(label / count, 1, (1 + label / count) / 2)
        image[inside] = np.round(np.multiply(colour, 255))
        if self._dataset.channels == 1:
            image = image.mean(axis=2, keepdims=True).astype(np.uint8)
        example: Example = {"image": image, "label": self.labels[i], "id": i}
        if self._dataset.asks:
            example["asked"] = label
        if self._dataset.has_mask:
            example["mask"] = np.zeros((rows, columns, 1), np.uint8)
            example["mask"][inside] = 1
        return example

    def name(self, i: int) -> str:
        """Returns what people call example i."""
        return f"{self._split} {i}"

    def read(self, start: int, stop: int) -> list[Example]:
        """Returns consecutive examples."""
        return read_each(self, start, stop)
