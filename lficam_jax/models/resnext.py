"""ResNeXt for CIFAR (Xie et al., CVPR 2017)."""

from functools import partial

from lficam_jax.errors import UserError
from lficam_jax.models.backbone import Backbone, blocks_per_stage
from lficam_jax.models.layers import Layers
from lficam_jax.models.residual import Bottleneck, Stem, residual_backbone


def cifar_resnext(depth: int, *, cardinality: int = 8, widen: int = 4, layers: Layers) -> Backbone:
    """Builds the CIFAR ResNeXt: three stages of 64, 128 and 256 times `widen` channels, stride 4.

    Args:
      depth: 9n + 2; the paper's is 29.
      cardinality: groups of each 3x3 convolution.
      widen: output channels per 64; the inside of a block is 64 times `cardinality` wide
        in the first stage, so that 8 and 4 make the "8x64d" network.
      layers: conventions of the network.

    Raises:
      UserError: if depth is not 9n + 2, or cardinality or widen is below 1.
    """
    count = blocks_per_stage("cifar_resnext", depth, per_block=9, extra=2)
    if cardinality < 1 or widen < 1:
        raise UserError(f"cardinality={cardinality} and widen={widen} must be at least 1")
    block = partial(Bottleneck, cardinality=cardinality, inside=4 * cardinality / widen)
    filters = [16 * widen * 2**i for i in range(3)]  # a bottleneck puts out four times as many
    return residual_backbone(Stem(64, layers), block, filters, (count,) * 3, layers)
