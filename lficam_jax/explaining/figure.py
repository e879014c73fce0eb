"""Pictures in a grid whose rows and columns have names; squares of numbers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lficam_jax.explaining.render import Picture
from lficam_jax.workdir.results import replacing, teaching

NUMBERED = 8  # things up to which the squares of pairs carry their numbers


def labelled_grid(
    pictures: Sequence[Sequence[Picture]],
    rows: Sequence[str],
    columns: Sequence[str],
    notes: Mapping[tuple[int, int], tuple[str, bool]],
    path: str | Path,
) -> None:
    """Draws a grid of pictures as a PNG.

    Args:
      pictures: by row, then by column.
      rows: their names, on the left.
      columns: their names, above.
      notes: (row, column) -> text below that picture, and whether all is well; else it is red.
      path: the file to write.

    Raises:
      UserError: if it cannot be written.
    """
    figure = _figure(0.9 + 1.15 * len(columns), 0.5 + 1.25 * len(rows))
    grid = figure.subplots(len(rows), len(columns), squeeze=False)
    for y, row in enumerate(pictures):
        for x, picture in enumerate(row):
            axes = grid[y, x]
            axes.imshow(picture, interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
            if y == 0:
                axes.set_title(columns[x].replace(" ", "\n"), fontsize=8, parse_math=False)
            text, well = notes.get((y, x), ("", True))
            colour = "black" if well else "#c00000"
            axes.set_xlabel(text, fontsize=7, color=colour, labelpad=2, parse_math=False)
        grid[y, 0].set_ylabel(rows[y], fontsize=8, parse_math=False)
    _write(figure, path)


def pair_squares(
    statistics: Sequence[Mapping[str, Any]], names: Sequence[str], path: str | Path
) -> None:
    """Draws how well each two of several things agree: one square for each statistic, as a PNG.

    Args:
      statistics: each with its `name` and `squares`: rows of cells, whose `adjusted` is 1 for
        equals and 0 for what chance gives; None for a thing and itself.
      names: of the things.
      path: the file to write.

    Raises:
      UserError: if it cannot be written.
    """
    side = max(2.2, 0.55 * len(names) + 0.6)
    wide = min(3, len(statistics))
    high = -(-len(statistics) // wide)
    figure = _figure(1.2 + wide * side, 0.4 + high * side)
    grid = figure.subplots(high, wide, squeeze=False, sharex=True, sharey=True)
    for axes, found in zip(grid.flat, statistics, strict=False):
        values = np.array(
            [[np.nan if cell is None else cell["adjusted"] for cell in row]
             for row in found["squares"]], float,
        )  # fmt: skip
        drawn = axes.imshow(values, vmin=0, vmax=1, cmap="viridis")
        axes.set_title(found["name"], fontsize=9, parse_math=False)
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=7)
        axes.set_yticks(range(len(names)), names, fontsize=7)
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        for (y, x), value in np.ndenumerate(values) if len(names) <= NUMBERED else ():
            if np.isfinite(value):
                colour = "black" if value > 0.6 else "white"
                axes.text(x, y, f"{value:.2f}", ha="center", va="center", fontsize=7, color=colour)
    for axes in grid.flat[len(statistics) :]:
        axes.set_visible(False)
    bar = figure.colorbar(drawn, ax=grid, shrink=0.6)
    bar.set_label("agreement: 0 chance, 1 equal", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    _write(figure, path)


def _figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)  # needs no screen, whatever backend the user has set
    return figure


def _write(figure: Any, path: str | Path) -> None:
    with teaching(Path(path)), replacing(path) as scratch:
        figure.savefig(scratch, dpi=130)
