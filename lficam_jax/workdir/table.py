"""Tables for people, in aligned columns, and for programs, as CSV."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any


def aligned(rows: Sequence[Sequence[str]], width: int = 0) -> str:
    """Aligns the first column left and the others right.

    Args:
      rows: the cells, the header first.
      width: of the terminal; what does not fit goes below, under the first column again. 0: no end.

    >>> print(aligned([["method", "drop"], ["own", "7.5"]]))
    method  drop
    own      7.5
    """
    first, *columns = ([*column] for column in zip(*rows, strict=True))
    first = [cell.ljust(max(map(len, first))) for cell in first]
    block, blocks = first, []
    for column in columns:
        cells = [f"  {cell:>{max(map(len, column))}}" for cell in column]
        if width and len(block[0] + cells[0]) > width and block is not first:
            blocks.append(block)
            block = first
        block = [line + cell for line, cell in zip(block, cells, strict=True)]
    return "\n\n".join("\n".join(block) for block in [*blocks, block])


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    """Returns rows as CSV, in which no text is a formula: names of files may begin with anything.

    >>> csv_text([["image", "drop"], ["=1+1.png", -0.5], ["-0.5", None]])
    "image,drop\\n'=1+1.png,-0.5\\n-0.5,\\n"
    """
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([*map(_inert, row)] for row in rows)
    return stream.getvalue()


def _inert(cell: Any) -> Any:
    """Puts ' before what a spreadsheet would compute; numbers stay."""
    if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")):
        try:
            float(cell)
        except ValueError:
            return f"'{cell}"
        return cell.removeprefix("+")
    return cell
