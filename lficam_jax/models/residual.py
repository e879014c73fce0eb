"""What residual networks are made of: stem, blocks and stages, joined by each family."""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from lficam_jax.models.backbone import Backbone
from lficam_jax.models.layers import Layers
from lficam_jax.ops.pool import max_pool


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    filters: int
    stride: int
    layers: Layers

    @nn.compact
    def __call__(self, x: Float[Array, "b h w e"], *, train: bool) -> Float[Array, "b h w d"]:
        conv, norm = self.layers.conv, self.layers.norm
        y = conv(self.filters, 3, self.stride, name="conv1")(x)
        y = nn.relu(norm(train=train, name="bn1")(y))
        y = conv(self.filters, 3, name="conv2")(y)
        y = norm(train=train, name="bn2")(y)
        return nn.relu(y + shortcut(x, y.shape[-1], self.stride, self.layers, train=train))


class Bottleneck(nn.Module):
    """1x1 reduction, 3x3 (which carries the stride), 1x1 expansion to 4 x `filters`, shortcut.

    Attributes:
      cardinality: groups of the 3x3 convolution (ResNeXt); 1 is the ordinary bottleneck.
      inside: how many times as wide as `filters` the 3x3 convolution is.
      squeeze: reduction of a squeeze-and-excitation before the sum; 0 = none.
    """

    filters: int
    stride: int
    layers: Layers
    cardinality: int = 1
    inside: float = 1
    squeeze: int = 0

    @nn.compact
    def __call__(self, x: Float[Array, "b h w e"], *, train: bool) -> Float[Array, "b h w d"]:
        conv, norm, out = self.layers.conv, self.layers.norm, 4 * self.filters
        width = round(self.inside * self.filters)
        y = nn.relu(norm(train=train, name="bn1")(conv(width, 1, name="conv1")(x)))
        y = conv(width, 3, self.stride, groups=self.cardinality, name="conv2")(y)
        y = nn.relu(norm(train=train, name="bn2")(y))
        y = norm(train=train, name="bn3")(conv(out, 1, name="conv3")(y))
        if self.squeeze:
            y = SqueezeExcite(self.squeeze, self.layers, name="se")(y)
        return nn.relu(y + shortcut(x, out, self.stride, self.layers, train=train))


class SqueezeExcite(nn.Module):
    """Scales each channel by a gate computed from all pooled channels (Hu et al., CVPR 2018)."""

    reduction: int
    layers: Layers

    @nn.compact
    def __call__(self, x: Float[Array, "b h w d"]) -> Float[Array, "b h w d"]:
        channels, dense = x.shape[-1], self.layers.dense
        gate = jnp.mean(x.astype(jnp.float32), axis=(1, 2), keepdims=True)
        gate = nn.relu(dense(channels // self.reduction, name="fc1")(gate))
        return x * nn.sigmoid(dense(channels, name="fc2")(gate)).astype(x.dtype)


class PreActivationBlock(nn.Module):
    """BN and ReLU before each of two 3x3 convolutions; a projection sees the activated input."""

    filters: int
    stride: int
    layers: Layers

    @nn.compact
    def __call__(self, x: Float[Array, "b h w e"], *, train: bool) -> Float[Array, "b h w d"]:
        conv, norm = self.layers.conv, self.layers.norm
        y = nn.relu(norm(train=train, name="bn1")(x))
        if x.shape[-1] != self.filters:
            x = conv(self.filters, 1, self.stride, name="shortcut_conv")(y)
        y = conv(self.filters, 3, self.stride, name="conv1")(y)
        y = nn.relu(norm(train=train, name="bn2")(y))
        return x + conv(self.filters, 3, name="conv2")(y)


def shortcut(
    x: Float[Array, "b h w e"], features: int, stride: int, layers: Layers, *, train: bool
) -> Float[Array, "b h w d"]:
    """The identity where the shape stays, else a 1x1 projection. Called inside a block."""
    if stride == 1 and x.shape[-1] == features:
        return x
    projected = layers.conv(features, 1, stride, name="shortcut_conv")(x)
    normed: Array = layers.norm(train=train, name="shortcut_bn")(projected)
    return normed


class Stage(nn.Module):
    """`count` blocks; the first carries the stride."""

    block: Callable[..., nn.Module]
    filters: int
    count: int
    stride: int
    layers: Layers

    @nn.compact
    def __call__(self, x: Float[Array, "b h w e"], *, train: bool) -> Float[Array, "b h w d"]:
        for i in range(self.count):
            stride = self.stride if i == 0 else 1
            block = self.block(self.filters, stride, self.layers, name=f"block{i}")
            x = self.layers.block(block, x, train=train)
        return x


class Stem(nn.Module):
    """The first convolution, and what follows it before the first stage."""

    filters: int
    layers: Layers
    kernel: int = 3
    stride: int = 1
    activate: bool = True  # False: a pre-activation network; its blocks start with BN and ReLU
    pool: bool = False  # 3x3 maximum at stride 2

    @nn.compact
    def __call__(self, x: Float[Array, "b y x c"], *, train: bool) -> Float[Array, "b h w d"]:
        x = self.layers.conv(self.filters, self.kernel, self.stride, name="conv")(x)
        if self.activate:
            x = nn.relu(self.layers.norm(train=train, name="bn")(x))
        return max_pool(x, (3, 3), (2, 2), 1) if self.pool else x


class Trunk(nn.Module):
    """The stem and all stages but the last; every stage after the first halves the map."""

    stem: nn.Module
    block: Callable[..., nn.Module]
    filters: tuple[int, ...]
    counts: tuple[int, ...]
    layers: Layers

    @nn.compact
    def __call__(self, x: Float[Array, "b y x c"], *, train: bool) -> Float[Array, "b h w d"]:
        x = self.stem(x, train=train)
        for i, (filters, count) in enumerate(zip(self.filters, self.counts, strict=True)):
            stage = Stage(
                self.block, filters, count, 1 if i == 0 else 2, self.layers, name=f"stage{i + 1}"
            )
            x = stage(x, train=train)
        return x


class NormReLU(nn.Module):
    """The BN and ReLU that end a pre-activation network."""

    layers: Layers

    @nn.compact
    def __call__(self, x: Float[Array, "b h w d"], *, train: bool) -> Float[Array, "b h w d"]:
        return nn.relu(self.layers.norm(train=train, name="bn")(x))


def residual_backbone(
    stem: Stem, block: Callable[..., nn.Module], filters: Sequence[int], counts: Sequence[int],
    layers: Layers, **backbone: Any,
) -> Backbone:  # fmt: skip
    """Joins a stem and stages of `block`; the last stage halves the map and can be made again."""
    return Backbone(
        trunk=Trunk(stem, block, tuple(filters[:-1]), tuple(counts[:-1]), layers),
        last_stage=lambda stride: Stage(block, filters[-1], counts[-1], stride, layers),
        stride=2, **backbone,
    )  # fmt: skip
