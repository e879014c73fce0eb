"""What is kept of the single images while a sample is measured: some to look at, all as numbers."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import numpy as np

from lficam_jax.data.sample import Sample
from lficam_jax.explaining.answer import Answer
from lficam_jax.explaining.explanation import Explanation
from lficam_jax.measure.scoreboard import COLUMNS, PERCENT, Rows
from lficam_jax.methods import asks, place_of
from lficam_jax.models.answers import kind_of
from lficam_jax.models.geometry import Places
from lficam_jax.workdir.results import replace_text, teaching
from lficam_jax.workdir.table import csv_text

SHOWN = 24  # images whose maps are on the page
COUNTED = ("constant", "not_finite")


# Takes each batch while it is measured: its images, what the network says of them, and the rows of
# each method, `map` among them.
Watcher = Callable[[Rows, Mapping[str, Any], Mapping[str, Rows]], None]


class Gallery:
    """Keeps some of the measured images, spread evenly, with the maps that were drawn of them.

    Args:
      sample: the images.
      places: where maps lie on them.
      model: the network.
      size: how many are kept.

    Attributes:
      explanations: those of one image follow one another, in the order of the methods.
    """

    def __init__(
        self, sample: Sample, places: Places, model: nn.Module, size: int = SHOWN
    ) -> None:  # fmt: skip
        count = min(size, len(sample))
        self._places, self._seen = np.arange(count) * len(sample) // count, 0
        self._classes, self._lie, self._model = tuple(sample.classes), places, model
        self.explanations: list[Explanation] = []

    def add(self, batch: Rows, seen: Mapping[str, Any], found: Mapping[str, Rows]) -> None:
        """Takes what is to be shown of the next batch; `found` are the rows of each method."""
        share, asked, first = np.asarray(seen["share"]), np.asarray(seen["class"]), self._seen
        self._seen += int(batch["valid"].sum())
        here = self._places[(first <= self._places) & (self._places < self._seen)] - first
        self.explanations += [
            Explanation(
                id=str(batch["id"][i]), name=str(batch["name"][i]), picture=batch["image"][i],
                map=rows["map"][i], probabilities=share[i], classes=self._classes,
                label=batch["label"][i], kind=kind_of(self._model),
                mask=batch["mask"][i] if "mask" in batch else None,
                method=name, class_index=int(asked[i]) if asks(name, self._model) else None,
                place=place_of(name, rows["map"].shape[1:], self._lie),
            )
            for i in here for name, rows in found.items()
        ]  # fmt: skip


class Table:
    """Keeps the measures of every image, one row for each image and method.

    `win`, which compares methods, and `max_box_acc`, which chooses one threshold for all images,
    are of no single image.

    Args:
      classes: class names, in label order.
      kind: what the network answers, of `models.answers.kind_of`.
    """

    def __init__(self, classes: tuple[str, ...], kind: str = "class") -> None:
        self._classes, self._kind = classes, kind
        self._rows: list[dict[str, Any]] = []

    def add(self, batch: Rows, seen: Mapping[str, Any], found: Mapping[str, Rows]) -> None:
        """Takes the numbers of the next batch."""
        share, asked = np.asarray(seen["share"]), np.asarray(seen["class"])
        for i in np.flatnonzero(batch["valid"]):
            said = Answer(share[i], self._classes, self._kind, batch["label"][i])
            about = {
                "id": int(batch["id"][i]),
                "name": str(batch["name"][i]),
                "label": said.true,
                "predicted": said.text,
                "class": self._classes[asked[i]],
                "probability": float(share[i, asked[i]]),
            }
            for name, rows in found.items():
                scalars = {
                    c: rows[c][i] * (100 if c in PERCENT else 1)
                    for c in COLUMNS
                    if c in rows and rows[c].ndim == 1
                }
                counts = {c: int(rows[c][i]) for c in COUNTED}
                self._rows.append(about | {"method": name} | scalars | counts)

    def write(self, path: Path) -> Path:
        """Writes a CSV file; a measure that does not exist for an image is empty."""
        rows = [["" if v != v else v for v in row.values()] for row in self._rows]  # NaN
        with teaching(path):
            replace_text(path, csv_text([list(self._rows[0]), *rows]))
        return path
