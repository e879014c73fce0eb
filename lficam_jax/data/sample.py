"""Examples spread evenly over a split, decoded a batch at a time, to be explained or measured."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from lficam_jax.data import dataset_info, fit_image, has_mask, open_source
from lficam_jax.data.examples import as_label, where
from lficam_jax.data.folder import FolderSource
from lficam_jax.data.transforms import fit_box, resample


class Sample:
    """Up to `limit` examples of a split, spread evenly: a folder's split is sorted by class.

    Attributes:
      info: the data set.
      classes: class names, in label order.
      has_mask: whether the object's pixels are known, of some of the examples at least.
    """

    def __init__(self, data: ConfigDict, split: str, limit: int) -> None:
        self.info = dataset_info(data)
        self._source = open_source(data, split)
        self.has_mask = has_mask(self._source, self.info)
        total = len(self._source)
        self._places = np.arange(min(limit, total)) * total // min(limit, total)
        self.classes = self._source.classes

    def __len__(self) -> int:
        return len(self._places)

    def batches(self, size: int) -> Iterator[dict[str, np.ndarray]]:
        """Yields `image` uint8 [size y x 3], `label`, `id`, `valid`, and `mask` where known.

        Of data that ask about one label of each example (`info.asks`) also `asked`, its number, and
        `other_mask`.

        `name` is what people call each example: a file, or the split and the id. `notes` says line
        by line how its file was read, `box` which part `image` shows (`fit_box`). The last batch is
        padded with its first example; `valid` is False there.
        """
        for start in range(0, len(self), size):
            rows = [self._fitted(int(i)) for i in self._places[start : start + size]]
            valid = np.arange(size) < len(rows)
            rows += rows[:1] * (size - len(rows))
            batch = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
            yield batch | {"valid": valid}

    def _fitted(self, i: int) -> dict[str, Any]:
        example = self._source[i]
        height, width = example["image"].shape[:2]
        box = fit_box(height, width, self.info)
        noted = self._source.noted if isinstance(self._source, FolderSource) else {}
        fitted: dict[str, Any] = {
            "image": fit_image(example["image"], self.info),
            "label": as_label(example["label"]),
            "id": np.int32(example["id"]),
            "name": np.str_(self._source.name(i)),
            "notes": np.str_("\n".join(noted.get(i, ()))),
            "box": np.array(box, float),
        }
        if self.has_mask:
            mask = resample(example["mask"], box, self.info.size, "nearest")
            fitted |= where(mask[..., 0], self.info.asks)
        if self.info.asks:
            fitted["asked"] = np.int32(example["asked"])
        return fitted
