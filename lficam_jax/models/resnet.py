"""Residual networks (He et al., CVPR 2016), post-activation, in the layout of the released code."""

import flax.linen as nn
from jaxtyping import Array, Float

from lficam_jax.errors import UserError
from lficam_jax.models.backbone import Backbone
from lficam_jax.models.layers import Layers


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    filters: int
    stride: int
    layers: Layers
    expansion = 1

    @nn.compact
    def __call__(self, x: Float[Array, "b h w e"], *, train: bool) -> Float[Array, "b h w d"]:
        conv, norm = self.layers.conv, self.layers.norm
        y = conv(self.filters, 3, self.stride, name="conv1")(x)
        y = nn.relu(norm(train=train, name="bn1")(y))
        y = conv(self.filters, 3, name="conv2")(y)
        y = norm(train=train, name="bn2")(y)
        return nn.relu(y + shortcut(x, y.shape[-1], self.stride, self.layers, train=train))


class Bottleneck(nn.Module):
    """1x1 reduction, 3x3 (which carries the stride), 1x1 expansion by four, and a shortcut."""

    filters: int
    stride: int
    layers: Layers
    expansion = 4

    @nn.compact
    def __call__(self, x: Float[Array, "b h w e"], *, train: bool) -> Float[Array, "b h w d"]:
        conv, norm = self.layers.conv, self.layers.norm
        y = nn.relu(norm(train=train, name="bn1")(conv(self.filters, 1, name="conv1")(x)))
        y = conv(self.filters, 3, self.stride, name="conv2")(y)
        y = nn.relu(norm(train=train, name="bn2")(y))
        y = conv(self.expansion * self.filters, 1, name="conv3")(y)
        y = norm(train=train, name="bn3")(y)
        return nn.relu(y + shortcut(x, y.shape[-1], self.stride, self.layers, train=train))


def shortcut(
    x: Float[Array, "b h w e"], features: int, stride: int, layers: Layers, *, train: bool
) -> Float[Array, "b h w d"]:
    """The identity where the shape stays, else a 1x1 projection. Called inside a block."""
    if stride == 1 and x.shape[-1] == features:
        return x
    x = layers.conv(features, 1, stride, name="shortcut_conv")(x)
    return layers.norm(train=train, name="shortcut_bn")(x)


class Stage(nn.Module):
    """`count` blocks; the first carries the stride."""

    block: type[nn.Module]
    filters: int
    count: int
    stride: int
    layers: Layers

    @nn.compact
    def __call__(self, x: Float[Array, "b h w e"], *, train: bool) -> Float[Array, "b h w d"]:
        for i in range(self.count):
            stride = self.stride if i == 0 else 1
            x = self.block(self.filters, stride, self.layers, name=f"block{i}")(x, train=train)
        return x


class CifarTrunk(nn.Module):
    """A 3x3 stem and the first two of three stages."""

    block: type[nn.Module]
    count: int
    layers: Layers

    @nn.compact
    def __call__(self, x: Float[Array, "b y x c"], *, train: bool) -> Float[Array, "b h w d"]:
        x = self.layers.conv(16, 3, name="conv")(x)
        x = nn.relu(self.layers.norm(train=train, name="bn")(x))
        x = Stage(self.block, 16, self.count, 1, self.layers, name="stage1")(x, train=train)
        return Stage(self.block, 32, self.count, 2, self.layers, name="stage2")(x, train=train)


def cifar_resnet(depth: int, *, block: str = "auto", layers: Layers) -> Backbone:
    """Builds the CIFAR ResNet: three stages of 16, 32 and 64 channels, total stride 4.

    Args:
      depth: 6n + 2, for both blocks. With bottlenecks that name is the released code's: its
        "ResNet-110" has 164 layers, 18 bottlenecks a stage and 256 output channels.
      block: `basic`, `bottleneck`, or `auto` (bottleneck from depth 44, as the released code).
      layers: conventions of the network.

    Raises:
      UserError: if depth is not 6n + 2 or the block is unknown.
    """
    if depth < 8 or (depth - 2) % 6:
        n = max(1, (depth - 2) // 6)
        raise UserError(
            f"cifar_resnet has no depth {depth}; it needs 6n + 2, nearest: {6 * n + 2}, {6 * n + 8}"
        )
    if block not in ("auto", "basic", "bottleneck"):
        raise UserError(f"model.block={block!r} is unknown; known: auto, basic, bottleneck")
    bottleneck = block == "bottleneck" or (block == "auto" and depth >= 44)
    kind, count = Bottleneck if bottleneck else BasicBlock, (depth - 2) // 6
    return Backbone(
        trunk=CifarTrunk(kind, count, layers),
        last_stage=lambda stride: Stage(kind, 64, count, stride, layers),
        stride=2,
    )
