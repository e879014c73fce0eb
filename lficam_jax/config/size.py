"""Pixels of what a network is fed: one number for a square, or two, rows and columns."""

import re
from typing import Any

Size = int | tuple[int, int]
MOST = 9999


def sides(size: Size) -> tuple[int, int]:
    """Returns rows and columns.

    >>> sides(32), sides((64, 96))
    ((32, 32), (64, 96))
    """
    rows, columns = size if isinstance(size, tuple | list) else (size, size)
    return rows, columns


def as_size(given: Any) -> Size:
    """Returns one number where both sides are equal, so that a size is written in one way.

    >>> as_size([64, 96]), as_size((32, 32)), as_size(32)
    ((64, 96), 32, 32)
    """
    rows, columns = sides(given)
    return rows if rows == columns else (rows, columns)


def told(size: Size) -> str:
    """Writes a size for people.

    >>> told(32), told((64, 96))
    ('32x32', '64x96')
    """
    return "{}x{}".format(*sides(size))


def parsed(text: str) -> Size:
    """Reads `32`, `64,96` or `(64, 96)`.

    Raises:
      ValueError: for anything else.
    """
    found = re.fullmatch(r"[(\[]?\s*(\d+)\s*(?:,\s*(\d+)\s*)?[)\]]?", text.strip())
    if not found:
        raise ValueError(text)
    return as_size((int(found[1]), int(found[2] or found[1])))


def is_size(value: Any) -> bool:
    """Tells whether a config may hold it; 0 means "the data set's own"."""
    if type(value) is int:
        return 0 <= value <= MOST
    pair = isinstance(value, tuple | list) and len(value) == 2
    return pair and all(type(side) is int and 1 <= side <= MOST for side in value)
