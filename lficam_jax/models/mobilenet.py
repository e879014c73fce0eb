"""MobileNetV2 (Sandler et al., CVPR 2018)."""

from lficam_jax.errors import UserError
from lficam_jax.models.backbone import Backbone
from lficam_jax.models.inverted import Row, inverted_backbone
from lficam_jax.models.layers import Layers

ROWS = (
    Row(1, 16, 1, 1), Row(6, 24, 2, 2), Row(6, 32, 3, 2), Row(6, 64, 4, 2),
    Row(6, 96, 3, 1), Row(6, 160, 3, 2), Row(6, 320, 1, 1),
)  # fmt: skip


def mobilenet(depth: int, *, layers: Layers) -> Backbone:
    """Builds MobileNetV2: seven stages, total stride 32, 1280 features.

    Args:
      depth: 2, the version.
      layers: conventions of the network.

    Raises:
      UserError: for another version.
    """
    if depth != 2:
        raise UserError(f"mobilenet has no depth {depth}; it is 2, the version (MobileNetV2)")
    return inverted_backbone(32, ROWS, 1280, layers)
