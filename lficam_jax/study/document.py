"""Fills a document with the tables of studies, so that no number in it was copied by hand.

  python -m lficam_jax.study.document docs/results.md …

Between `<!-- RECORD.json TABLE -->` and `<!-- end -->` it writes that table of that record, the
`results/study.json` of a study; paths are relative to the document. TABLE is a name in
`results/tables`, or `answers`, `about` or `all`; `headline` lays the records that a path with a *
finds side by side, each under the name of its file. Everything else in the document stays as it is.
"""

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lficam_jax.errors import UserError, nearest
from lficam_jax.study import page
from lficam_jax.study.claims import answers
from lficam_jax.study.formats import markdown
from lficam_jax.study.headline import headline
from lficam_jax.study.tables import tables
from lficam_jax.workdir.results import Unreadable, read_object, replace_text, understood

PLACE = re.compile(r"(<!-- (\S+\.json) (\S+) -->).*?(<!-- end -->)", re.DOTALL)
MARK = re.compile(r"<!-- (?:(end)|\S+\.json \S+) -->")


def filled(text: str, folder: Path) -> str:
    """Returns the document with every table written anew.

    Args:
      text: Markdown with marked places.
      folder: where the document lies.

    Raises:
      UserError: for a record that cannot be read, a table that it does not give, or a place whose
        beginning or end is not marked: the text between would be lost.
    """
    _check_marks(text)
    return PLACE.sub(lambda m: f"{m[1]}\n\n{_written(folder, m[2], m[3])}\n{m[4]}", text)


def _check_marks(text: str) -> None:
    opened = ""
    for mark in MARK.finditer(text):
        line, ends = text.count("\n", 0, mark.start()) + 1, mark[1] is not None
        if ends != bool(opened):
            what = "ends no table" if ends else f"comes before the end of {opened}"
            raise UserError(
                f"line {line}: {mark[0]} {what}; write <!-- end --> behind each table, once"
            )
        opened = "" if ends else mark[0]
    if opened:
        raise UserError(f"{opened} has no <!-- end --> behind it")


def _written(folder: Path, pattern: str, name: str) -> str:
    if name == "headline":
        records = {path.stem: _read(path) for path in _found(folder, pattern)}
        with understood(folder / pattern):
            return markdown(headline(records))
    record = _read(folder / pattern)
    with understood(folder / pattern):
        if whole := {"about": page.about, "all": page.as_markdown}.get(name):
            return whole(record)
        found = {table.name: table for table in (answers(record), *tables(record))}
    if name not in found:
        meant = nearest(name, (*found, "about", "all", "headline"))
        raise UserError(f"{folder / pattern} gives no table {name!r}{meant}")
    return markdown(found[name])


def _found(folder: Path, pattern: str) -> list[Path]:
    if "*" not in pattern:
        return [folder / pattern]
    try:
        return sorted(folder.glob(pattern)) or [folder / pattern]
    except (NotImplementedError, ValueError) as error:
        raise UserError(f"{pattern} finds no files: {error}; as in results/*.json") from None


def _read(path: Path) -> Mapping[str, Any]:
    try:
        return read_object(path)
    except Unreadable as error:
        raise UserError(f"{error}; is it a study's study.json?") from None


def _filled(path: Path, text: str) -> str:
    try:
        return filled(text, path.parent)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def main(paths: Sequence[str]) -> int:
    """Fills the documents named on the command line; returns the exit code."""
    if not paths or {"-h", "--help"} & set(paths):
        print(__doc__)
        return 0 if paths else 2
    try:
        for path in map(Path, paths):
            text = path.read_text(encoding="utf-8")
            replace_text(path, _filled(path, text))
            print(f"{path}: {len(PLACE.findall(text))} tables")
    except (UserError, OSError, UnicodeDecodeError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
