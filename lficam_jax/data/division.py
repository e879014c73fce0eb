"""Which pictures of a folder are to train, to validate and to test, where nobody said."""

import csv
import hashlib
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from lficam_jax.data.datasets import SPLITS
from lficam_jax.data.files import read_csv, read_file
from lficam_jax.errors import UserError

COLUMNS = ["path", "class", "split"]
ALL = "*"  # instead of a split file: every split is all of the pictures
SHARE = 0.1  # of the pictures, for a split that is taken from those to train

Row = tuple[str, str]  # path below the folder, with /, and class


def divide(folder: Path, rows: Sequence[Row], wanted: Sequence[str]) -> dict[str, list[Row]]:
    """Takes splits from the pictures to train: a tenth of each class, one at least if it has it.

    Pictures of the same content come into the same split, also across classes. Which one follows
    from the contents alone, whatever the files are called and in whatever order they are listed.

    Args:
      folder: that the paths are below.
      rows: the pictures.
      wanted: the splits to take; what is left is `train`.

    Raises:
      UserError: if a file cannot be read.
    """
    content = {path: digest(folder / path) for path, _ in rows}
    taken: dict[str, str] = {}
    for name in sorted({name for _, name in rows}):
        ours = sorted({content[path] for path, one in rows if one == name})
        have = Counter(taken[digest] for digest in ours if digest in taken)
        free = iter(digest for digest in ours if digest not in taken)
        # With few, the test comes first: what is not tested is not known.
        chosen = [
            (split, digest)
            for place, split in enumerate(reversed(wanted), 2)
            for _, digest in zip(range(_quota(len(ours), place) - have[split]), free, strict=False)
        ]
        taken |= {digest: split for split, digest in chosen}
        taken |= dict.fromkeys(free, "train")
    return {s: [row for row in rows if taken[content[row[0]]] == s] for s in ("train", *wanted)}


def to_csv(splits: Mapping[str, Sequence[Row]]) -> str:
    """Writes who is in which split, as CSV."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for split, rows in splits.items():
        table.writerows([path, name, split] for path, name in rows)
    return text.getvalue()


def from_csv(file: Path) -> dict[str, list[Row]]:
    """Reads what `to_csv` wrote, or a person.

    Raises:
      UserError: if it cannot be read, or is something else.
    """
    splits: dict[str, list[Row]] = {split: [] for split in SPLITS}
    header, *table = read_csv(file)
    if header != COLUMNS:
        raise UserError(f"{file} must begin with the line {','.join(COLUMNS)}")
    for number, cells in enumerate(table, 2):
        if len(cells) != 3 or cells[2] not in SPLITS:
            raise UserError(
                f"{file}, line {number}: {','.join(cells)!r} is no {','.join(COLUMNS)}; splits are "
                f"{', '.join(SPLITS)}"
            )
        splits[cells[2]].append((cells[0], cells[1]))
    return splits


def _quota(count: int, at_least: int) -> int:
    return max(round(SHARE * count), 1) if count >= at_least else 0


def digest(path: Path) -> str:
    """Returns the SHA-256 of a file's content.

    Raises:
      UserError: if it cannot be read.
    """
    try:
        status = path.stat()
        return _digest(path, status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error


@lru_cache(maxsize=2**20)
def _digest(path: Path, size: int, changed: int) -> str:
    """Returns the SHA-256 of a file; each split of a run asks for it, so it is kept."""
    return hashlib.sha256(read_file(path)).hexdigest()
