"""Pictures in a grid whose rows and columns have names."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from lficam_jax.errors import UserError
from lficam_jax.explaining.render import Picture


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
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    size = (0.9 + 1.15 * len(columns), 0.5 + 1.25 * len(rows))
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)  # needs no screen, whatever backend the user has set
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
    try:
        figure.savefig(path, dpi=130)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error
