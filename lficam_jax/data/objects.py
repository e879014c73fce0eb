"""Where the object is in the pictures of a folder: a mask beside each, or one table of boxes."""

import math
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from lficam_jax.data.files import read_csv, read_file
from lficam_jax.data.images import read_raw
from lficam_jax.data.listing import MASK, SUFFIXES, Listing, told, walk
from lficam_jax.errors import UserError, nearest

BOXES = "boxes.csv"
COLUMNS = ["file", "x0", "y0", "x1", "y1"]

Box = tuple[float, float, float, float]  # x0, y0, x1, y1: pixels of the picture, as it is shown


class Objects:
    """The objects of some pictures of a folder; false if none of them has one.

    `x.mask.png` beside `x.jpg` is of its size, and not 0 on the object. `boxes.csv` in the folder
    has the columns `file,x0,y0,x1,y1`, several rows for a picture of several objects; the object
    is all that lies inside: columns x0 to x1, rows y0 to y1, the ends of the picture being 0 and
    its width and height.

    Args:
      folder: of the data set.
      pictures: their paths below it.
      masks: paths of the masks below it.

    Raises:
      UserError: for masks and boxes in one folder, or a table that is none.
    """

    def __init__(self, folder: Path, pictures: Sequence[str], masks: Collection[str]):
        self._folder, table = folder, folder / BOXES
        if masks and table.is_file():
            raise UserError(f"{folder} has {table.name} and masks ({min(masks)}); keep one of them")
        self._masks = {p: mask for p in pictures if (mask := mask_of(p)) in masks}
        boxes = _read(table) if table.is_file() else {}
        self._boxes = {p: boxes[p] for p in pictures if p in boxes}

    def __len__(self) -> int:
        return len(self._masks) + len(self._boxes)

    def mask(self, picture: str, height: int, width: int) -> np.ndarray:
        """Returns uint8 [y x 1], 1 on the object of a picture; 0 throughout where none is known.

        Raises:
          UserError: for a mask that cannot be read or is of another size, or a box that lies
            outside the picture.
        """
        size, found = (height, width), np.zeros((height, width, 1), np.uint8)
        if picture in self._masks:
            path = self._folder / self._masks[picture]
            inside = read_raw(read_file(path), str(path)) != 0
            if inside.shape[:2] != size:
                rows, columns = inside.shape[:2]
                raise UserError(
                    f"{path} is {columns} x {rows} pixels, but {picture} {width} x {height}; a "
                    "mask is of its picture's size"
                )
            found[..., 0] = inside.any(axis=2)
        for line, (x0, y0, x1, y1) in self._boxes.get(picture, ()):
            if x0 < 0 or y0 < 0 or x1 > width or y1 > height:
                raise UserError(
                    f"{self._folder / BOXES}, line {line}: the box {x0:g},{y0:g},{x1:g},{y1:g} "
                    f"lies outside {picture}, which is {width} x {height} pixels"
                )
            found[math.floor(y0) : math.ceil(y1), math.floor(x0) : math.ceil(x1)] = 1
        return found


def mask_of(picture: str) -> str:
    """Returns what the mask of a picture is called.

    >>> mask_of("cat/a.b.jpg")
    'cat/a.b.mask.png'
    """
    return picture.removesuffix(Path(picture).suffix) + MASK


def check_masks(below: Listing, folder: Path) -> None:
    """Raises a UserError for masks without a picture beside them."""
    wanted = {mask_of(path.as_posix()) for path in below.files}
    if lone := [path for path in below.masks if path.as_posix() not in wanted]:
        raise UserError(
            f"{folder}: no picture beside {told(lone, folder)}; the mask of x.jpg is x{MASK}"
        )


def _read(table: Path) -> dict[str, list[tuple[int, Box]]]:
    """Returns the boxes of each picture, each with its line."""
    header, *rows = read_csv(table)
    if [cell.strip() for cell in header] != COLUMNS:
        raise UserError(f"{table} must begin with the line {','.join(COLUMNS)}")
    found: dict[str, list[tuple[int, Box]]] = {}
    for line, cells in enumerate(rows, 2):
        if cells:
            found.setdefault(cells[0], []).append((line, _box(cells, f"{table}, line {line}")))
    for name, ((line, _), *_) in found.items():
        if not (table.parent / name).is_file() or Path(name).suffix.lower() not in SUFFIXES:
            known = [path.relative_to(table.parent).as_posix() for path in walk(table.parent).files]
            raise UserError(
                f"{table}, line {line}: {name!r} is no picture of {table.parent}"
                f"{nearest(name, known)}; say its path from there, as in {min(known, default='')!r}"
            )
    return found


def _box(cells: Sequence[str], where: str) -> Box:
    try:
        x0, y0, x1, y1 = map(float, cells[1:])
    except ValueError:
        x0 = y0 = x1 = y1 = math.nan
    if not (math.isfinite(x0 + y0 + x1 + y1) and x0 < x1 and y0 < y1):
        raise UserError(
            f"{where}: {','.join(cells)!r} is no {','.join(COLUMNS)} with x0 < x1 and y0 < y1"
        )
    return x0, y0, x1, y1
