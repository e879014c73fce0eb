"""What MobileNetV2 and EfficientNet-Lite are made of: inverted residuals with ReLU6.

A block widens its input, filters each channel by itself and projects back without a non-linearity
(Sandler et al., "MobileNetV2", CVPR 2018). Dropout and stochastic depth, which some trainings use,
are left out: they do nothing where a network is evaluated.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import flax.linen as nn
from jaxtyping import Array, Float

from lficam_jax.models.backbone import Backbone
from lficam_jax.models.layers import Layers
from lficam_jax.models.residual import Stage


class Row(NamedTuple):
    """A stage: `blocks` of `filters` channels, the first with the stride.

    Attributes:
      expand: the inside of a block is as many times as wide as its input.
      filters: channels that a block puts out.
      blocks: how many.
      stride: of the first.
      kernel: of the depthwise convolution.
    """

    expand: int
    filters: int
    blocks: int
    stride: int
    kernel: int = 3


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise convolution, 1x1 projection; plus the input where shapes agree."""

    filters: int
    stride: int
    layers: Layers
    expand: int
    kernel: int = 3

    @nn.compact
    def __call__(self, x: Float[Array, "b h w e"], *, train: bool) -> Float[Array, "b h w d"]:
        conv, norm, width = self.layers.conv, self.layers.norm, self.expand * x.shape[-1]
        y = x
        if self.expand != 1:
            y = nn.relu6(norm(train=train, name="expand_bn")(conv(width, 1, name="expand")(y)))
        y = conv(width, self.kernel, self.stride, groups=width, name="depthwise")(y)
        y = nn.relu6(norm(train=train, name="depthwise_bn")(y))
        y = norm(train=train, name="project_bn")(conv(self.filters, 1, name="project")(y))
        out: Array = x + y if x.shape == y.shape else y
        return out


class ConvNormReLU6(nn.Module):
    """The first layer and the last."""

    filters: int
    kernel: int
    stride: int
    layers: Layers

    @nn.compact
    def __call__(self, x: Float[Array, "b y x c"], *, train: bool) -> Float[Array, "b h w d"]:
        x = self.layers.conv(self.filters, self.kernel, self.stride, name="conv")(x)
        return nn.relu6(self.layers.norm(train=train, name="bn")(x))


class InvertedTrunk(nn.Module):
    """A 3x3 stem of stride 2 and the stages of `rows`."""

    stem: int
    rows: tuple[Row, ...]
    layers: Layers

    @nn.compact
    def __call__(self, x: Float[Array, "b y x c"], *, train: bool) -> Float[Array, "b h w d"]:
        x = ConvNormReLU6(self.stem, 3, 2, self.layers, name="stem")(x, train=train)
        for i, row in enumerate(self.rows):
            x = _stage(row, row.stride, self.layers, f"stage{i + 1}")(x, train=train)
        return x


class InvertedEnd(nn.Module):
    """The last stages, and the 1x1 convolution whose features are classified.

    Attributes:
      rows: the stages; `stride` replaces that of the first.
      first: its number among all stages.
      width: of the features.
      stride: of the whole.
      layers: conventions of the network.
    """

    rows: tuple[Row, ...]
    first: int
    width: int
    stride: int
    layers: Layers

    @nn.compact
    def __call__(self, x: Float[Array, "b h w e"], *, train: bool) -> Float[Array, "b h w d"]:
        for i, row in enumerate(self.rows):
            stride = row.stride if i else self.stride
            x = _stage(row, stride, self.layers, f"stage{self.first + i}")(x, train=train)
        features: Array = ConvNormReLU6(self.width, 1, 1, self.layers, name="features")(
            x, train=train
        )
        return features


def _stage(row: Row, stride: int, layers: Layers, name: str) -> Stage:
    block = partial(InvertedResidual, expand=row.expand, kernel=row.kernel)
    return Stage(block, row.filters, row.blocks, stride, layers, name=name)


def inverted_backbone(stem: int, rows: Sequence[Row], width: int, layers: Layers) -> Backbone:
    """Joins a stem and stages; the last part begins with the last stage of stride 2."""
    last = max(i for i, row in enumerate(rows) if row.stride == 2)
    return Backbone(
        trunk=InvertedTrunk(stem, tuple(rows[:last]), layers),
        last_stage=lambda stride: InvertedEnd(tuple(rows[last:]), last + 1, width, stride, layers),
        stride=2,
        relu_every=1,
    )
