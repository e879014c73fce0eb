"""The layers of a network that a map can be drawn at: a table that people choose from."""

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any, NamedTuple, overload

import jax
import jax.numpy as jnp

from lficam_jax.data import Dataset, Preprocess
from lficam_jax.explaining.inputs import beside_and_images, read_inputs
from lficam_jax.interop.networks import network_of
from lficam_jax.interop.networks.cut import default
from lficam_jax.interop.networks.grids import grids, told
from lficam_jax.workdir.table import aligned


class Row(NamedTuple):
    """A layer.

    Attributes:
      name: what `layer=` takes.
      kind: its class.
      output: the shape of what it puts out.
      map: rows and columns of its map; None if it has none of more than one cell.
      default: whether the network is cut here unless told.
    """

    name: str
    kind: str
    output: tuple[int, ...]
    map: tuple[int, int] | None
    default: bool


class Layers(Sequence[Row]):
    """The layers that have a map of more than one cell; it prints as a table.

    Attributes:
      all: these, and those without a map.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self.all = tuple(rows)
        self._rows = tuple(row for row in rows if row.map is not None)

    @property
    def names(self) -> list[str]:
        """What `layer=` takes."""
        return [row.name for row in self]

    @property
    def default(self) -> str | None:
        """Where the network is cut unless told; None if no layer has a map."""
        return next((row.name for row in self if row.default), None)

    @overload
    def __getitem__(self, place: int) -> Row: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Row]: ...

    def __getitem__(self, place: int | slice) -> Row | Sequence[Row]:
        return self._rows[place]

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows)

    def _cells(self) -> list[list[str]]:
        head = ["layer", "kind", "puts out", "map", ""]
        return [head] + [
            [row.name, row.kind, told(row.output), "×".join(map(str, row.map or ())),
             "← default" if row.default else ""]
            for row in self
        ]  # fmt: skip

    def __repr__(self) -> str:
        without = len(self.all) - len(self)
        lines = aligned(self._cells()).splitlines()
        return "\n".join([line.rstrip() for line in lines] + [f"and {without} without a map"])

    def _repr_html_(self) -> str:
        head, *rows = self._cells()
        top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
        )
        without = len(self.all) - len(self)
        return f"<table><tr>{top}</tr>{body}</table><p>and {without} without a map</p>"


def layers(
    network: Any,
    *inputs: Any,
    layout: str = "",
    preprocess: Dataset | Preprocess | None = None,
    normalised: bool = False,
) -> Layers:
    """Lists where a network can be cut, in the order in which its layers finish.

    Args:
      network: as for `explain`.
      *inputs: likewise; the network is traced for the size of these images, and not run.
      layout: likewise.
      preprocess: likewise.
      normalised: likewise.

    Raises:
      UserError: as `explain` does.

    Example:
      >>> import jax, numpy as np, lficam_jax as lfi
      >>> model = lfi.create_model("cifar_resnet", 8, head="plain", num_classes=10)
      >>> images = np.zeros((1, 16, 16, 3), np.float32)
      >>> variables = jax.jit(model.init)(jax.random.key(0), images)
      >>> found = lfi.layers(model, variables, images, normalised=True)
      >>> found.names[-2:], found.default
      (['last_stage/block0', 'last_stage'], 'last_stage')
    """
    beside, images = beside_and_images("layers", inputs)
    shape = read_inputs(images, preprocess, normalised=normalised).images.shape[1:]
    found, weights = network_of(network, beside, shape, layout)
    program = found.program(weights, jax.ShapeDtypeStruct((1, *shape), jnp.float32))
    known = {
        name: grid
        for name, grid in grids(program, channels_first=found.channels_first).items()
        if grid.cells > 1
    }
    chosen = default(program, known) if known else None
    sizes = {name: (grid.shape[0], grid.shape[1]) for name, grid in known.items()}
    return Layers(
        [
            Row(name, one.kind, one.shape, sizes.get(name), name == chosen)
            for name, one in program.layers.items()
        ]
    )
