"""A split as examples that can be asked for by number, and the plainest kinds of them."""

from typing import Any, Protocol

import numpy as np

from lficam_jax.config.size import sides
from lficam_jax.data.datasets import Dataset

# image uint8 [y x c], label int or [k], id int. Where they are known: mask uint8 [y x 1], 1 on the
# object and 2 on another that is not asked about; asked int, the label that is
Example = dict[str, Any]


class Source(Protocol):
    """A split whose examples are numbered from 0.

    Attributes:
      classes: names, in label order.
    """

    classes: tuple[str, ...]

    @property
    def labels(self) -> np.ndarray | None:
        """Of all examples; None where only reading them would tell."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, i: int) -> Example: ...

    def name(self, i: int) -> str:
        """Returns what people call example i: a file's path, or the split and the id."""
        ...

    def read(self, start: int, stop: int) -> list[Example]:
        """Returns consecutive examples, faster than one by one where the files allow it."""
        ...


def as_label(label: Any) -> np.ndarray:
    """Returns a class as int32, several labels or a number as float32 `[k]`."""
    return np.asarray(label, np.float32 if np.ndim(label) else np.int32)


def where(mask: Any, asks: bool) -> dict[str, Any]:
    """Returns what a batch says of where things are, of its rows' `mask` `[b y x]`.

    Args:
      mask: as examples hold it.
      asks: whether they ask about one of their labels (`Dataset.asks`).

    Returns:
      `mask`, the object's pixels, and, if they ask, `other_mask`: those of what is not asked about.
    """
    return {"mask": mask == 1} | ({"other_mask": mask == 2} if asks else {})


def read_each(source: Source, start: int, stop: int) -> list[Example]:
    """Returns consecutive examples of a source that reads one as fast as many."""
    return [source[i] for i in range(start, min(stop, len(source)))]


class Blank:
    """Black pictures, as many and as large as a data set has: for who asks only for shapes."""

    labels: np.ndarray | None = None

    def __init__(self, dataset: Dataset, count: int):
        self._count, self.classes = count, dataset.classes
        self._label = 0 if dataset.labels == "class" else np.zeros(len(dataset.classes))
        size = sides(dataset.stored_size or dataset.image_size)
        self._example: Example = {"image": np.zeros((*size, dataset.channels), np.uint8)}
        if dataset.asks:
            self._example["asked"] = 0
        if dataset.has_mask:
            self._example["mask"] = np.zeros((*size, 1), np.uint8)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, i: int) -> Example:
        return self._example | {"label": self._label, "id": i}

    def name(self, i: int) -> str:
        """Returns the number."""
        return str(i)

    def read(self, start: int, stop: int) -> list[Example]:
        """Returns consecutive examples."""
        return read_each(self, start, stop)


class First:
    """The first `count` examples of another source."""

    def __init__(self, source: Source, count: int):
        self._source, self._count, self.classes = source, min(count, len(source)), source.classes

    @property
    def labels(self) -> np.ndarray | None:
        """Of all examples, where they are known."""
        known = self._source.labels
        return None if known is None else known[: self._count]

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, i: int) -> Example:
        return self._source[i]

    def name(self, i: int) -> str:
        """Returns what people call example i."""
        return self._source.name(i)

    def read(self, start: int, stop: int) -> list[Example]:
        """Returns consecutive examples."""
        return self._source.read(start, min(stop, self._count))
