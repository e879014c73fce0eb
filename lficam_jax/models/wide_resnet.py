"""Wide residual networks (Zagoruyko and Komodakis, BMVC 2016)."""

from lficam_jax.errors import UserError
from lficam_jax.models.backbone import Backbone, blocks_per_stage
from lficam_jax.models.layers import Layers
from lficam_jax.models.residual import NormReLU, PreActivationBlock, Stem, residual_backbone


def wide_resnet(depth: int, *, widen: int = 10, layers: Layers) -> Backbone:
    """Builds the pre-activation WRN: stages of 16, 32 and 64 times `widen` channels, stride 4.

    Args:
      depth: 6n + 4; the paper's is 28.
      widen: the widening factor k.
      layers: conventions of the network.

    Raises:
      UserError: if depth is not 6n + 4 or widen is below 1.
    """
    count = blocks_per_stage("wide_resnet", depth, per_block=6, extra=4)
    if widen < 1:
        raise UserError(f"model.widen={widen} must be at least 1")
    return residual_backbone(
        Stem(16, layers, activate=False), PreActivationBlock,
        (16 * widen, 32 * widen, 64 * widen), (count,) * 3, layers,
        final=NormReLU(layers), final_before_head=True,
    )  # fmt: skip
