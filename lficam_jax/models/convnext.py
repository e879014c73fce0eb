"""ConvNeXt (Liu et al., "A ConvNet for the 2020s", CVPR 2022)."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from lficam_jax.errors import UserError
from lficam_jax.models.backbone import Backbone
from lficam_jax.models.layers import CONV_INIT, DENSE_INIT, Layers

COUNTS = {18: (3, 3, 9, 3), 36: (3, 3, 27, 3)}  # ConvNeXt-T and S
FILTERS = (96, 192, 384, 768)
SCALE = 1e-6  # what each block's output is multiplied with at first


class ConvNeXtBlock(nn.Module):
    """7x7 depthwise, LayerNorm, two linear layers with a GELU between, scaled and added."""

    layers: Layers

    @nn.compact
    def __call__(self, x: Float[Array, "b h w d"], *, train: bool) -> Float[Array, "b h w d"]:
        width, dtype = x.shape[-1], self.layers.dtype
        y = self.layers.conv(width, 7, groups=width, bias=True, name="depthwise")(x)
        y = _norm(self.layers, "norm")(y)
        y = nn.Dense(4 * width, dtype=dtype, kernel_init=DENSE_INIT, name="fc1")(y)
        y = nn.gelu(y, approximate=False)
        y = nn.Dense(width, dtype=dtype, kernel_init=DENSE_INIT, name="fc2")(y)
        scale = self.param("layer_scale", nn.initializers.constant(SCALE), (width,))
        return x + y * scale.astype(dtype)[None, None, None]


class ConvNeXtStage(nn.Module):
    """LayerNorm and a 2x2 convolution that halves the map, unless it is the first; then blocks."""

    filters: int
    count: int
    stride: int
    layers: Layers

    @nn.compact
    def __call__(self, x: Float[Array, "b h w e"], *, train: bool) -> Float[Array, "b h w d"]:
        if x.shape[-1] != self.filters:
            x = _norm(self.layers, "down_norm")(x)
            x = _patches(self.filters, 2, self.stride, self.layers, "down")(x)
        for i in range(self.count):
            x = self.layers.block(ConvNeXtBlock(self.layers, name=f"block{i}"), x, train=train)
        return x


class ConvNeXtTrunk(nn.Module):
    """4x4 patches, LayerNorm, and all stages but the last."""

    filters: tuple[int, ...]
    counts: tuple[int, ...]
    layers: Layers

    @nn.compact
    def __call__(self, x: Float[Array, "b y x c"], *, train: bool) -> Float[Array, "b h w d"]:
        x = _patches(self.filters[0], 4, 4, self.layers, "stem")(x)
        x = _norm(self.layers, "stem_norm")(x)
        for i, (filters, count) in enumerate(zip(self.filters, self.counts, strict=True)):
            x = ConvNeXtStage(filters, count, 2, self.layers, name=f"stage{i + 1}")(x, train=train)
        return x


class PoolNorm(nn.Module):
    """The mean over space, and LayerNorm."""

    layers: Layers

    @nn.compact
    def __call__(self, x: Float[Array, "b h w d"], *, train: bool) -> Float[Array, "b 1 1 d"]:
        pooled = jnp.mean(x.astype(jnp.float32), axis=(1, 2), keepdims=True)
        normed: Array = _norm(self.layers, "norm")(pooled)
        return normed


def _norm(layers: Layers, name: str) -> nn.LayerNorm:
    return nn.LayerNorm(epsilon=1e-6, dtype=layers.dtype, name=name)


def _patches(filters: int, kernel: int, stride: int, layers: Layers, name: str) -> nn.Conv:
    """A convolution without overlap; at stride 1 (an attention branch) the map keeps its size."""
    padding = "VALID" if stride == kernel else "SAME"
    return nn.Conv(
        filters, (kernel, kernel), (stride, stride), padding, dtype=layers.dtype,
        kernel_init=CONV_INIT, name=name,
    )  # fmt: skip


def convnext(depth: int, *, layers: Layers) -> Backbone:
    """Builds ConvNeXt-T or S: four stages, total stride 32, 768 features.

    Stochastic depth, which its authors train with, is left out.

    Args:
      depth: blocks: 18 (T) or 36 (S).
      layers: conventions of the network.

    Raises:
      UserError: if the family has no such depth.
    """
    if depth not in COUNTS:
        raise UserError(f"convnext has no depth {depth}; it has 18 (T) and 36 (S) blocks")
    counts = COUNTS[depth]
    return Backbone(
        trunk=ConvNeXtTrunk(FILTERS[:-1], counts[:-1], layers),
        last_stage=lambda stride: ConvNeXtStage(FILTERS[-1], counts[-1], stride, layers),
        stride=2, final=PoolNorm(layers), flattens=True, relu_every=1,
    )  # fmt: skip
