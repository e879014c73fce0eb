"""Densely connected networks for CIFAR (Huang et al., CVPR 2017), the BC form."""

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from lficam_jax.errors import UserError
from lficam_jax.models.backbone import Backbone, blocks_per_stage
from lficam_jax.models.layers import Layers
from lficam_jax.models.residual import NormReLU, Stem


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
    """A 3x3 stem and two dense stages, each followed by a transition that halves the map."""

    growth: int
    count: int
    layers: Layers

    @nn.compact
    def __call__(self, x: Float[Array, "b y x c"], *, train: bool) -> Float[Array, "b h w d"]:
        x = Stem(2 * self.growth, self.layers, activate=False, name="stem")(x, train=train)
        for i in (1, 2):
            x = DenseStage(self.growth, self.count, self.layers, name=f"stage{i}")(x, train=train)
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
        trunk=DenseTrunk(growth, count, layers),
        last_stage=lambda stride: DenseStage(growth, count, layers),
        stride=1,
        final=NormReLU(layers),
    )
