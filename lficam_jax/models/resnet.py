"""Residual networks (He et al., CVPR 2016), post-activation, and what was put on top of them.

Wider bottlenecks (Zagoruyko and Komodakis, BMVC 2016), grouped ones (ResNeXt, Xie et al., CVPR
2017), squeeze-and-excitation (Hu et al., CVPR 2018).
"""

from collections.abc import Callable
from functools import partial

import flax.linen as nn

from lficam_jax.config import CHOICES
from lficam_jax.errors import UserError, check_word
from lficam_jax.models.backbone import Backbone, blocks_per_stage
from lficam_jax.models.layers import Layers
from lficam_jax.models.residual import BasicBlock, Bottleneck, Stem, residual_backbone

COUNTS = {
    18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3),
}  # fmt: skip
SQUEEZE = 16  # channels per hidden unit of the gate


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
    count = blocks_per_stage("cifar_resnet", depth, per_block=6, extra=2)
    check_word("block", block, CHOICES["model.block"])
    bottleneck = block == "bottleneck" or (block == "auto" and depth >= 44)
    kind = Bottleneck if bottleneck else BasicBlock
    return residual_backbone(Stem(16, layers), kind, (16, 32, 64), (count,) * 3, layers)


def resnet(
    depth: int, *, stem_stride: int = 2, cardinality: int = 1, widen: int = 1, layers: Layers
) -> Backbone:
    """Builds the ResNet for 224-pixel images: four stages of 64 to 512 (x4) channels.

    ResNeXt-50 32x4d is depth 50, cardinality 32 and widen 2; ResNeXt-101 32x8d is 101, 32 and 4;
    Wide-ResNet-50-2 is 50, 1 and 2.

    Args:
      depth: 18, 34 (basic blocks), 50, 101 or 152 (bottlenecks).
      stem_stride: of the 7x7 stem. 2 is the usual network, total stride 32; 1 is LFI-CAM's, whose
        map of a 224-pixel image is 14x14.
      cardinality: groups of the 3x3 convolution of a bottleneck.
      widen: the inside of a bottleneck is so many times as wide as usual.
      layers: conventions of the network.

    Raises:
      UserError: if the family has no such depth or stride, or a basic block should be widened.
    """
    if depth < 50 and (cardinality, widen) != (1, 1):
        raise UserError(
            f"resnet of depth {depth} has basic blocks; cardinality and widen are for depth 50 on"
        )
    bottleneck = partial(Bottleneck, cardinality=cardinality, inside=widen)
    kind = BasicBlock if depth < 50 else bottleneck
    return _image_resnet("resnet", depth, tuple(COUNTS), kind, stem_stride, layers)


def se_resnet(depth: int, *, stem_stride: int = 2, layers: Layers) -> Backbone:
    """Builds the SE-ResNet (Hu et al., CVPR 2018): `resnet` of depth 50, 101 or 152 with gates."""
    kind = partial(Bottleneck, squeeze=SQUEEZE)
    return _image_resnet("se_resnet", depth, (50, 101, 152), kind, stem_stride, layers)


def _image_resnet(
    family: str, depth: int, depths: tuple[int, ...], block: Callable[..., nn.Module],
    stem_stride: int, layers: Layers,
) -> Backbone:  # fmt: skip
    if depth not in depths:
        close = sorted(sorted(depths, key=lambda d: abs(d - depth))[:2])
        raise UserError(
            f"{family} has no depth {depth}; nearest: {', '.join(map(str, close))} "
            f"(of {', '.join(map(str, depths))})"
        )
    if stem_stride not in (1, 2):
        raise UserError(f"model.stem_stride={stem_stride} must be 1 or 2 (0 = the head's own)")
    stem = Stem(64, layers, kernel=7, stride=stem_stride, pool=True)
    return residual_backbone(stem, block, (64, 128, 256, 512), COUNTS[depth], layers, relu_every=1)
