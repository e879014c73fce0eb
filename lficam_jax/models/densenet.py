"""Densely connected networks (Huang et al., CVPR 2017), the BC form."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from lficam_jax.errors import UserError
from lficam_jax.models.backbone import Backbone, blocks_per_stage
from lficam_jax.models.layers import Layers
from lficam_jax.models.residual import NormReLU, Stem

COUNTS = {121: (6, 12, 24, 16), 169: (6, 12, 32, 32), 201: (6, 12, 48, 32)}
GROWTH = 32


class DenseLayer(nn.Module):
    """BN-ReLU-1x1 (four times the growth), BN-ReLU-3x3, appended to the input."""

    growth: int
    layers: Layers

    @nn.compact
    def __call__(self, x: Float[Array, "b h w e"], *, train: bool) -> Float[Array, "b h w d"]:
        conv, norm = self.layers.conv, self.layers.norm
        y = nn.relu(norm(train=train, name="bn1")(x))
        y = conv(4 * self.growth, 1, name="conv1")(y)
        y = nn.relu(norm(train=train, name="bn2")(y))
        return jnp.concatenate([x, conv(self.growth, 3, name="conv2")(y)], axis=-1)


class DenseStage(nn.Module):
    """`count` layers, each of which sees all before it. The map keeps its size."""

    growth: int
    count: int
    layers: Layers

    @nn.compact
    def __call__(self, x: Float[Array, "b h w e"], *, train: bool) -> Float[Array, "b h w d"]:
        for i in range(self.count):
            layer = DenseLayer(self.growth, self.layers, name=f"block{i}")
            x = self.layers.block(layer, x, train=train)
        return x


class Transition(nn.Module):
    """BN-ReLU-1x1 to half the channels, then the mean over 2x2."""

    layers: Layers

    @nn.compact
    def __call__(self, x: Float[Array, "b h w e"], *, train: bool) -> Float[Array, "b h w d"]:
        x = nn.relu(self.layers.norm(train=train, name="bn")(x))
        x = self.layers.conv(x.shape[-1] // 2, 1, name="conv")(x)
        pooled: Array = nn.avg_pool(x, (2, 2), (2, 2))
        return pooled


class DenseTrunk(nn.Module):
    """The stem and all dense stages but the last, each followed by one that halves the map."""

    stem: nn.Module
    growth: int
    counts: tuple[int, ...]
    layers: Layers

    @nn.compact
    def __call__(self, x: Float[Array, "b y x c"], *, train: bool) -> Float[Array, "b h w d"]:
        x = self.stem(x, train=train)
        for i, count in enumerate(self.counts, 1):
            x = DenseStage(self.growth, count, self.layers, name=f"stage{i}")(x, train=train)
            x = Transition(self.layers, name=f"transition{i}")(x, train=train)
        return x


def cifar_densenet(depth: int, *, growth: int = 12, layers: Layers) -> Backbone:
    """Builds DenseNet-BC with three dense stages, total stride 4.

    The features are the raw output of the third stage, which can be negative; BN and ReLU come
    after the attention. The stage has stride 1, so ABN's two branches see maps of one size.

    Args:
      depth: 6n + 4; the paper's is 100.
      growth: channels that each layer adds.
      layers: conventions of the network.

    Raises:
      UserError: if depth is not 6n + 4 or growth is below 1.
    """
    count = blocks_per_stage("cifar_densenet", depth, per_block=6, extra=4)
    if growth < 1:
        raise UserError(f"model.growth={growth} must be at least 1")
    return Backbone(
        trunk=DenseTrunk(Stem(2 * growth, layers, activate=False), growth, (count,) * 2, layers),
        last_stage=lambda stride: DenseStage(growth, count, layers),
        stride=1,
        final=NormReLU(layers),
    )


def densenet(depth: int, *, layers: Layers) -> Backbone:
    """Builds DenseNet-121, 169 or 201 for 224-pixel images: total stride 32.

    The features are what BN and ReLU at the end make of the last stage's output, so CAM exists. The
    last stage has stride 1, so ABN's two branches see maps of one size.

    Args:
      depth: layers with weights.
      layers: conventions of the network.

    Raises:
      UserError: if the family has no such depth.
    """
    if depth not in COUNTS:
        raise UserError(f"densenet has no depth {depth}; it has {', '.join(map(str, COUNTS))}")
    counts, stem = COUNTS[depth], Stem(2 * GROWTH, layers, kernel=7, stride=2, pool=True)
    return Backbone(
        trunk=DenseTrunk(stem, GROWTH, counts[:-1], layers),
        last_stage=lambda stride: DenseStage(GROWTH, counts[-1], layers),
        stride=1, final=NormReLU(layers), final_before_head=True, relu_every=1,
    )  # fmt: skip
