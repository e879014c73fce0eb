"""Flax NNX: a module that holds its weights."""

from dataclasses import dataclass
from typing import Any, ClassVar

from flax import nnx
from jaxtyping import Array

from lficam_jax.interop.networks.attention import marking
from lficam_jax.interop.networks.modes import evaluation
from lficam_jax.interop.networks.program import Marker
from lficam_jax.interop.networks.visited import visited, visiting


@dataclass(frozen=True)
class NNX:
    """A module's graph. Each call merges a copy in evaluation mode; the user's own stays."""

    graph: Any
    layouts: ClassVar[tuple[str, ...]] = ("NHWC", "NCHW")

    @classmethod
    def of(cls, module: nnx.Module) -> tuple["NNX", Any]:
        """Returns the network and its weights."""
        graph, state = nnx.split(module)
        return cls(graph), state

    def __call__(self, weights: Any, images: Array, mark: Marker) -> Any:
        """Returns what the network answers, every layer marked."""
        module = nnx.merge(self.graph, weights)
        module.eval()
        for path, part in list(nnx.iter_modules(module)):
            name = "/".join(map(str, path))
            if isinstance(part, nnx.MultiHeadAttention):
                function = marking(part.attention_fn, name, mark)
                object.__setattr__(part, "attention_fn", function)
            if path and callable(part):
                object.__setattr__(part, "__class__", visited(type(part), name))
        with visiting(mark):
            return module(images, **evaluation(module))


def name_of(network: nnx.Module, layer: Any) -> str | None:
    """Returns the name of a submodule; None if it is none of the network's."""
    parts = nnx.iter_modules(network)
    return next(("/".join(map(str, path)) for path, part in parts if part is layer), None)
