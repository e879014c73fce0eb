"""A CSV of what each picture of a folder shows: several labels, one label, or a number."""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

from lficam_jax.data.files import plain_file
from lficam_jax.data.folder import NAMES
from lficam_jax.errors import UserError, nearest

_WORDS = {"true": "1", "false": "0"}  # as pandas writes them
UNKNOWN = "nan"  # what an empty cell becomes
_SPLIT = {word: split for split, words in NAMES.items() for word in words}


@dataclass(frozen=True)
class Labelled:
    """One line of the file.

    Attributes:
      line: its number, from 1.
      path: of the picture, below the folder, with /.
      cells: text of the columns, in the order of `Table.columns`; `UNKNOWN` where there is none.
      split: train, validation or test; '' where the file has no column `split`.
    """

    line: int
    path: str
    cells: tuple[str, ...]
    split: str


@dataclass(frozen=True)
class Table:
    """What a labels file says.

    Attributes:
      file: where it is.
      columns: names of the labels, or of the number.
      rows: one for each picture.
    """

    file: Path
    columns: tuple[str, ...]
    rows: tuple[Labelled, ...]

    def present(self) -> bool:
        """Tells whether every known cell is 0 or 1, which says whether a label is present."""
        return self._other() is None

    def check_known(self) -> None:
        """Raises a UserError for the first cell that is empty."""
        for row in self.rows:
            for name, cell in zip(self.columns, row.cells, strict=True):
                if cell == UNKNOWN:
                    raise UserError(
                        f"{self.file}, line {row.line}: {name} is empty, and the class of each "
                        "picture must be known; fill it in, or take the line out"
                    )

    def check_present(self) -> None:
        """Raises a UserError for the first cell that is neither 0 nor 1."""
        if found := self._other():
            row, name, text = found
            raise UserError(
                f"{self.file}, line {row.line}: {name}={text!r} is neither 0 nor 1; of several "
                "columns each is a label, present (1), not (0), or unknown (empty). To learn a "
                "number, choose its "
                f"""column: --config.data.classes="('{name}',)" --config.model.loss=regression"""
            )

    def _other(self) -> tuple[Labelled, str, str] | None:
        cells = ((r, n, c) for r in self.rows for n, c in zip(self.columns, r.cells, strict=True))
        known = (found for found in cells if found[2] != UNKNOWN)
        return next((found for found in known if float(found[2]) not in (0, 1)), None)


def read_table(file: Path, columns: Sequence[str] = ()) -> Table:
    """Reads a labels file: a line `path,LABEL,…` and one line for each picture.

    Args:
      file: CSV in UTF-8. A column `split` is not a label: it says who is in which split. An empty
        cell is unknown.
      columns: the only ones to look at; (): all.

    Raises:
      UserError: for a file that cannot be read or says something else, naming the line.
    """
    try:
        about = plain_file(file).stat()
    except OSError as error:
        raise UserError(f"cannot read data.labels_file={file}: {error.strerror}") from error
    stamp = about.st_ino, about.st_size, about.st_mtime_ns
    return _read(file.absolute(), file, tuple(columns), stamp)


@lru_cache(maxsize=2)  # whatever asks something of a folder reads it: nine times in a training
def _read(place: Path, file: Path, columns: tuple[str, ...], stamp: tuple[int, ...]) -> Table:
    """Reads a labels file, once until it changes."""
    try:
        with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
            reader = csv.reader(lines, skipinitialspace=True)
            header = [name.strip() for name in next(reader, [])]
            found = [(reader.line_num, row) for row in reader if any(c.strip() for c in row)]
    except (OSError, csv.Error) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"cannot read data.labels_file={file}: {why}") from error
    names = _columns(file, header)
    if not found:
        raise UserError(f"{file} names no picture: it has no line below its first")
    rows, lines_of = [], dict[str, int]()
    for line, cells in found:
        if len(cells) != len(header):
            raise UserError(
                f"{file}, line {line} has {len(cells)} cells, and the first line {len(header)}"
            )
        row = _row(file, line, dict(zip(header, cells, strict=True)), columns or names)
        if (before := lines_of.setdefault(row.path, line)) != line:
            raise UserError(f"{file}, line {line}: {row.path} is in line {before} already")
        rows.append(row)
    return Table(file, tuple(columns or names), tuple(rows))


def _columns(file: Path, header: list[str]) -> list[str]:
    """Returns the names of the labels."""
    names = [name for name in header[1:] if name != "split"]
    if header[:1] != ["path"] or not names:
        semicolons = " (save it with commas, not semicolons)" if ";" in "".join(header) else ""
        raise UserError(
            f"{file} must begin with a line like path,LABEL,… and begins with "
            f"{','.join(header)[:80]!r}{semicolons}"
        )
    twice = [name for name in header if header.count(name) > 1]
    if "" in names or twice:
        what = f"{twice[0]!r} twice" if twice else "a column without a name"
        raise UserError(f"{file} has {what} in its first line; name each column once")
    return names


def _row(file: Path, line: int, cells: dict[str, str], names: Sequence[str]) -> Labelled:
    where, path = f"{file}, line {line}", cells["path"].strip()
    below = PurePosixPath(path)
    if not path or below.is_absolute() or ".." in below.parts:
        raise UserError(f"{where}: {path!r} is no path of a picture below data.folder")
    split = cells.get("split", "").strip().lower()
    if "split" in cells and split not in _SPLIT:
        raise UserError(f"{where}: the split is {split!r}; splits are {', '.join(NAMES)}")
    values = []
    for name in names:
        if name not in cells:
            raise UserError(f"{file} has no column {name!r}{nearest(name, _known(cells))}")
        text = cells[name].strip()
        known = _WORDS.get(text.lower(), text)
        values.append(_number(where, name, known) if text else UNKNOWN)
    return Labelled(line, str(below), tuple(values), _SPLIT.get(split, ""))


def _known(cells: dict[str, str]) -> list[str]:
    return [name for name in cells if name not in ("path", "split")]


def _number(where: str, name: str, text: str) -> str:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or abs(value) > 1e30:
        raise UserError(
            f"{where}: {name}={text[:40]!r} is no number; give 0 or 1, or a number, or leave the "
            "cell empty if it is not known"
        )
    return f"{value:.9g}"  # as much as float32 holds
