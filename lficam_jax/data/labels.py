"""A folder of pictures, anywhere below it, and a CSV that says what they show."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from lficam_jax.data.datasets import SPLITS
from lficam_jax.data.division import Row, divide, to_csv
from lficam_jax.data.folder import NAMES, Folder
from lficam_jax.data.labels_file import UNKNOWN, Table, read_table
from lficam_jax.data.listing import told, walk
from lficam_jax.errors import UserError

_DIVIDED = "by the contents of its pictures"


class LabelledFolder(Folder):
    """A folder whose pictures a CSV labels, `labels_file.read_table`.

    Its rows hold, instead of a class, the values of the labels with blanks between: `0 1 nan`, nan
    if a label is unknown, or `36.6`; of one label that is present or not, the class: `no crack` or
    `crack`. Pictures of which nothing is known are left out. The file, or
    folders `{train,validation,test}/` around the pictures, say who is in which split; what they
    leave open is divided by content. A run keeps rows and splits in its split file, and goes on
    with these.

    Args:
      path: of the folder.
      labels_file: the CSV.
      split_file: as for `Folder`; the column `class` holds the values.
      classes: of a run that knows them, or the columns to take; (): all.
      kind: of a run that knows it: class, several or number; '': as the values say.

    Raises:
      UserError: as `Folder` and `read_table` do.
    """

    def __init__(
        self, path: Path, labels_file: str, split_file: str = "", classes: Sequence[str] = (),
        kind: str = "",
    ):  # fmt: skip
        super().__init__(path, split_file)
        self._labels_file = Path(labels_file).expanduser()
        known = kind == "class" and len(classes) == 2 and classes[0] == _absent(classes[1])
        self._asked = tuple(classes[1:]) if known else tuple(classes)
        self._kind = kind

    @cached_property
    def kind(self) -> str:  # type: ignore[override]  # of Folder it is always a class
        """What a picture has: `class` of two, `several` labels, or a `number`."""
        if self._kind and self._asked:
            if len(self._asked) > 1 and self._kind != "several":
                raise UserError(
                    f"data.labels={self._kind} takes one column of {self._labels_file}, and "
                    f"data.classes names {len(self._asked)}: {', '.join(self._asked)}"
                )
            one = len(self._asked) == 1 and self._kind == "several"
            return "class" if one else self._kind
        table = self._source
        if len(table.columns) > 1:
            table.check_present()
            return "several"
        number = self._kind == "number" or not table.present()
        return "number" if number else "class"

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The names of the labels, or of the number."""
        return self._asked or self._source.columns

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The columns; of one label, the two classes that it makes."""
        names = self.columns
        return (_absent(names[0]), names[0]) if self.kind == "class" else names

    def class_names(self, split: str) -> list[str]:
        """Returns the classes: every picture has a value for each."""
        return list(self.classes)

    def rows(self, split: str) -> list[Row]:
        """Returns the pictures of a split and their values, sorted by path."""
        return self._from_run[split] if self._file else self._splits[split]

    def labels(self, rows: Sequence[Row], classes: Sequence[str]) -> np.ndarray:
        """Returns the label of each of `rows`: int32, or float32 `[n k]` of several or a number.

        NaN is unknown.
        """
        if self.kind == "class":
            return super().labels(rows, classes)
        return np.array([text.split(" ") for _, text in rows], np.float32)

    def missing(self, rows: Sequence[Row], classes: Sequence[str]) -> list[str]:
        """Returns the classes, or labels, that none of `rows` has."""
        if self.kind != "several":
            return super().missing(rows, classes) if self.kind == "class" else []
        found = (self.labels(rows, classes) == 1).any(axis=0).tolist()
        return [name for name, present in zip(classes, found, strict=True) if not present]

    def number(self) -> tuple[float, float]:
        """Returns mean and deviation of the numbers to train on.

        Raises:
          UserError: if they are all the same.
        """
        if self.kind != "number" or self._all:
            return 0.0, 1.0
        values = self.labels(self.rows("train"), ()).astype(np.float64)
        if not len(values):
            return 0.0, 1.0  # whoever opens the split says why
        if not (deviation := float(values.std())) > 0:
            raise UserError(
                f"{self._labels_file}: {self.columns[0]} is {values[0, 0]:g} for every picture to "
                "train on; there is nothing to learn"
            )
        return float(values.mean()), deviation

    def place(self, split: str) -> str:
        """Returns what a message calls a split."""
        return f"{split} of {self._labels_file}"

    def why_empty(self, split: str) -> str:
        """Says why a split has no picture, and what to do about it."""
        return (
            f"{self._labels_file} has no picture for the split {split}; name more, or say the "
            "split of each in a column `split`"
        )

    def table(self) -> str:
        """Returns, as CSV, split and values of every picture: the file may change."""
        return to_csv({split: self.rows(split) for split in SPLITS})

    def notes(self) -> list[str]:
        """Says how the folder was understood, after its splits were opened."""
        if self._file:
            return [f"{self._file} says splits and labels of the pictures in {self.path}"]
        named = {row.path for row in self._source.rows}
        lines = [f"{self._labels_file} says what the pictures of {self.path} show"]
        if self._all:
            lines.append(f"{self._labels_file} is not the run's own, and not divided: all is taken")
        elif self._open:
            lines.append(f"{_told(self._open)} taken from train {_DIVIDED}")
        if unnamed := [self.path / path for path in self._everything if path not in named]:
            lines.append(f"left out, for {self._labels_file} has no line of them: "
                         f"{told(unnamed, self.path)}")  # fmt: skip
        if unknown := [self.path / row.path for row in self._source.rows if _unknown(row.cells)]:
            lines.append(f"left out, for {self._labels_file} says nothing of them: "
                         f"{told(unknown, self.path)}")  # fmt: skip
        return lines

    @cached_property
    def _source(self) -> Table:
        """The file, its pictures there."""
        table = read_table(self._labels_file, self._asked)
        gone = [self.path / r.path for r in table.rows if not (self.path / r.path).is_file()]
        if gone:
            raise UserError(
                f"{self._labels_file} names pictures that are not in {self.path}: "
                f"{told(gone, self.path)}; its paths begin below data.folder"
            )
        return table

    @cached_property
    def _open(self) -> list[str]:
        """The splits that nobody named."""
        return [] if self._all else [s for s in SPLITS[1:] if s not in self._named]

    @cached_property
    def _named(self) -> dict[str, list[Row]]:
        """Rows by the split that the file or the folders say; all are `train` where none does."""
        if self.kind == "class":
            self._source.check_known()
        rows = [row for row in self._source.rows if not _unknown(row.cells)]
        if not rows:
            raise UserError(
                f"{self._labels_file}: all cells of {', '.join(self.columns)} are empty; there is "
                "nothing to learn"
            )
        folders = {word: split for split, words in NAMES.items() for word in words}
        tops = [folders.get(row.path.split("/")[0].lower(), "") for row in rows]
        named = tops if all(tops) else ["train"] * len(rows)
        found: dict[str, list[Row]] = {}
        for row, split in zip(rows, named, strict=True):
            found.setdefault(row.split or split, []).append((row.path, self._text(row.cells)))
        return found

    @cached_property
    def _splits(self) -> dict[str, list[Row]]:
        if self._all and list(self._named) == ["train"]:
            return {split: sorted(self._named["train"]) for split in SPLITS}
        named = {split: self._named.get(split, []) for split in SPLITS}
        if self._open and not self._all:
            text = dict(named["train"])  # divided by class, or all alike
            alike = [(path, t if self.kind == "class" else "") for path, t in named["train"]]
            taken = divide(self.path, alike, self._open)
            named |= {s: [(path, text[path]) for path, _ in rows] for s, rows in taken.items()}
        return {split: sorted(rows) for split, rows in named.items()}

    @cached_property
    def _from_run(self) -> dict[str, list[Row]]:
        assert self._file is not None
        rows = [(path, text) for part in self._table.values() for path, text in part]
        for path, text in rows:
            fits = text in self.classes if self.kind == "class" else _fits(text, len(self.columns))
            if not fits:
                raise UserError(
                    f"{self._file}: {path} has {text!r}, which is no value of "
                    f"{', '.join(self.columns)}; leave data.split_file out, and say the splits in "
                    f"a column `split` of {self._labels_file}"
                )
        gone = [self.path / path for path, _ in rows if not (self.path / path).is_file()]
        if gone:
            raise UserError(
                f"{self._file} names pictures that are not in {self.path}: "
                f"{told(gone, self.path)}; put them back, or start in another --workdir"
            )
        return {split: sorted(part) for split, part in self._table.items()}

    @cached_property
    def _everything(self) -> dict[str, None]:
        """Every picture below the folder, named or not."""
        return {p.relative_to(self.path).as_posix(): None for p in walk(self.path).files}

    def _text(self, cells: Sequence[str]) -> str:
        return self.classes[cells[0] == "1"] if self.kind == "class" else " ".join(cells)

    def _find_parts(self) -> dict[str, Path]:
        return {}  # `_named` looks at the paths


def _absent(name: str) -> str:
    return f"no {name}"


def _told(splits: Sequence[str]) -> str:
    return " and ".join(splits) + (" is" if len(splits) == 1 else " are")


def _unknown(cells: Sequence[str]) -> bool:
    return {*cells} == {UNKNOWN}


def _fits(text: str, count: int) -> bool:
    cells = text.split(" ")
    try:
        return len([float(cell) for cell in cells]) == count and not _unknown(cells)
    except ValueError:
        return False
