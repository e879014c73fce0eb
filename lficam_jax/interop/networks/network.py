"""A network of any framework, and how it takes images."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lficam_jax.errors import UserError, check_word, shortened
from lficam_jax.interop.networks.program import Marker, Program

LAYOUTS = ("NHWC", "NCHW", "HWC", "CHW")


class Framework(Protocol):
    """Calls a network of one framework, its weights apart. It can be hashed, as a rule."""

    @property
    def layouts(self) -> tuple[str, ...]:
        """How images may lie, the likeliest first; without N the network takes one at a time."""
        ...

    def __call__(self, weights: Any, images: Array, mark: Marker) -> Any:
        """Returns what the network answers, every layer marked."""
        ...


@dataclass(frozen=True)
class Network:
    """A network that takes batches `[b y x c]`, whatever its framework and layout.

    Attributes:
      framework: calls it.
      layout: one of `LAYOUTS`.
      grey: it takes one channel: the mean of the three.
    """

    framework: Framework
    layout: str
    grey: bool = False

    @property
    def channels_first(self) -> bool:
        """Whether channels lie before rows and columns."""
        return self.layout in ("NCHW", "CHW")

    def __call__(self, weights: Any, images: Float[Array, "b y x c"], mark: Marker) -> Any:
        """Returns what the network answers, every layer marked."""
        images = jnp.mean(images, axis=-1, keepdims=True) if self.grey else images
        images = jnp.moveaxis(images, -1, 1) if self.channels_first else images
        if self.layout in ("HWC", "CHW"):
            answers = jax.vmap(lambda image: self.framework(weights, image, mark))(images)
        else:
            answers = self.framework(weights, images, mark)
        return getattr(answers, "logits", answers)

    def program(self, weights: Any, images: Any) -> Program:
        """Returns the traced network; of the arguments only shapes count. It is traced once."""
        leaves, tree = jax.tree.flatten((weights, images))
        shapes = tuple((tuple(leaf.shape), leaf.dtype) for leaf in leaves)
        try:
            return _traced(self, tree, shapes)
        except TypeError as error:
            if "unhashable" not in str(error):
                raise
            return _traced.__wrapped__(self, tree, shapes)


@lru_cache(maxsize=32)
def _traced(network: Network, tree: Any, shapes: tuple[Any, ...]) -> Program:
    weights, images = jax.tree.unflatten(tree, [jax.ShapeDtypeStruct(*one) for one in shapes])
    return Program.of(network, weights, images)


def fitted(
    framework: Framework, weights: Any, image_shape: Sequence[int], layout: str = ""
) -> Network:
    """Finds out how a network takes images: as the first that it answers one row for each to.

    Raises:
      UserError: if there is no such way; with what the network says to the first.
    """
    if layout:
        check_word("layout", layout, LAYOUTS)
    told: list[str] = []
    images = jax.ShapeDtypeStruct((2, *image_shape), jnp.float32)
    for grey in (False, True):
        for one in (layout,) if layout else framework.layouts:
            network = Network(framework, one, grey)
            try:
                program = network.program(weights, images)
            except Exception as error:  # whatever a network says to images of another kind
                if isinstance(error, UserError) and not told:
                    raise
                told.append(f"{type(error).__name__}: {' '.join(str(error).split())}")
                continue
            answers = [aval.shape for aval in program.jaxpr.out_avals]
            if answers and all(shape[:1] == (2,) for shape in answers):
                return network
            told.append(f"it answers {answers} to two images")
    ways = layout or ", ".join(framework.layouts)
    raise UserError(
        f"the network cannot be fed two images [2 {' '.join(map(str, image_shape))}] (as {ways}): "
        + shortened(told[0], 300)
    )
