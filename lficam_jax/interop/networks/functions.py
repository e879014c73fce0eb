"""A network as two functions: images to features, and features to answers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from jaxtyping import Array

from lficam_jax.interop.networks.program import Marker


@dataclass(frozen=True)
class Functions:
    """Two functions of batches; the layer between them is called `features`."""

    features: Callable[[Array], Array]
    classify: Callable[[Array], Any]
    layouts: ClassVar[tuple[str, ...]] = ("NHWC", "NCHW")

    def __call__(self, weights: Any, images: Array, mark: Marker) -> Any:
        """Returns what the network answers, every layer marked."""
        return self.classify(mark("features", "function", self.features(images)))
