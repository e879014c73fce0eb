"""VGG networks (Simonyan and Zisserman, ICLR 2015), without BatchNorm.

Their classifier has two hidden layers on the flattened map, so what CAM needs is not there. Dropout
between them is left out: it does nothing where a network is evaluated.
"""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from lficam_jax.errors import UserError
from lficam_jax.models.backbone import Backbone
from lficam_jax.models.layers import Layers
from lficam_jax.ops.pool import max_pool

COUNTS = {
    11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4),
}  # fmt: skip
FILTERS = (64, 128, 256, 512, 512)
HIDDEN = 4096
GRID = 7  # cells per side that the hidden layers see, whatever the size of the picture


class VGGStage(nn.Module):
    """3x3 convolutions, each followed by a ReLU."""

    filters: int
    count: int
    layers: Layers

    @nn.compact
    def __call__(self, x: Float[Array, "b h w e"], *, train: bool) -> Float[Array, "b h w d"]:
        for i in range(self.count):
            x = nn.relu(self.layers.conv(self.filters, bias=True, name=f"conv{i}")(x))
        return x


class VGGTrunk(nn.Module):
    """All stages but the last, each followed by the maximum over 2x2."""

    filters: tuple[int, ...]
    counts: tuple[int, ...]
    layers: Layers

    @nn.compact
    def __call__(self, x: Float[Array, "b y x c"], *, train: bool) -> Float[Array, "b h w d"]:
        for i, (filters, count) in enumerate(zip(self.filters, self.counts, strict=True)):
            x = VGGStage(filters, count, self.layers, name=f"stage{i + 1}")(x, train=train)
            x = max_pool(x, (2, 2), (2, 2))
        return x


class HiddenLayers(nn.Module):
    """The maximum over 2x2, the mean over 7x7 windows that cover the map, two hidden layers."""

    layers: Layers

    @nn.compact
    def __call__(self, x: Float[Array, "b h w d"], *, train: bool) -> Float[Array, "b 1 1 e"]:
        x = max_pool(x, (2, 2), (2, 2)).astype(jnp.float32)
        rows, columns = (jnp.asarray(windows(size, GRID)) for size in x.shape[1:3])
        x = jnp.einsum("bhwd,ih,jw->bdij", x, rows, columns, precision="highest")
        x = x.reshape(x.shape[0], -1)  # channels first, as the published weights have it
        for name in ("fc1", "fc2"):
            x = nn.relu(self.layers.dense(HIDDEN, name=name)(x))
        return x[:, None, None, :]


def windows(size: int, cells: int) -> Float[np.ndarray, "cells size"]:
    """Returns the means that bring `size` values to `cells`, in windows that may overlap.

    >>> windows(3, 2)
    array([[0.5, 0.5, 0. ],
           [0. , 0.5, 0.5]], dtype=float32)
    """
    mean = np.zeros((cells, size), np.float32)
    for i in range(cells):
        start, stop = i * size // cells, -(-(i + 1) * size // cells)
        mean[i, start:stop] = 1 / (stop - start)
    return mean


def vgg(depth: int, *, layers: Layers) -> Backbone:
    """Builds VGG-11, 13, 16 or 19: five stages, 512 features at stride 16.

    Args:
      depth: layers with weights.
      layers: conventions of the network.

    Raises:
      UserError: if the family has no such depth.
    """
    if depth not in COUNTS:
        raise UserError(f"vgg has no depth {depth}; it has {', '.join(map(str, COUNTS))}")
    counts = COUNTS[depth]
    return Backbone(
        trunk=VGGTrunk(FILTERS[:-1], counts[:-1], layers),
        last_stage=lambda stride: VGGStage(FILTERS[-1], counts[-1], layers),
        stride=1, final=HiddenLayers(layers), flattens=True, relu_every=1,
    )  # fmt: skip
