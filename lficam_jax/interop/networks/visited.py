"""Modules whose calls are marked, for frameworks that have no interception of their own."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

from lficam_jax.interop.networks.program import Marker

_marker: ContextVar[Marker | None] = ContextVar("marker", default=None)


@contextmanager
def visiting(mark: Marker) -> Iterator[None]:
    """Lets the calls of visited modules be marked within."""
    token = _marker.set(mark)
    try:
        yield
    finally:
        _marker.reset(token)


def marked(path: str, kind: str, output: Any) -> Any:
    """Marks a layer's output, within `visiting`."""
    mark = _marker.get()
    return output if mark is None else mark(path, kind, output)


@lru_cache(maxsize=4096)  # made once for each layer: jax keeps a list of all such classes
def visited(kind: type, path: str) -> type:
    """Returns a subclass whose calls are marked as those of the layer at `path`."""

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return marked(path, kind.__name__, kind.__call__(self, *args, **kwargs))

    return type(kind)(kind.__name__, (kind,), {"__call__": call, "__module__": kind.__module__})
