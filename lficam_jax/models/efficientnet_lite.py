"""EfficientNet-Lite: EfficientNet (Tan and Le, ICML 2019) without squeeze-and-excitation and swish.

The variant that its authors published in 2020 for phones: ReLU6 for swish, a stem and a last layer
that do not grow with the network, TensorFlow's "SAME" padding, BatchNorm's epsilon 1e-3.
"""

import math
from dataclasses import replace

from lficam_jax.errors import UserError
from lficam_jax.models.backbone import Backbone
from lficam_jax.models.inverted import Row, inverted_backbone
from lficam_jax.models.layers import Layers

ROWS = (
    Row(1, 16, 1, 1, 3), Row(6, 24, 2, 2, 3), Row(6, 40, 2, 2, 5), Row(6, 80, 3, 2, 3),
    Row(6, 112, 3, 1, 5), Row(6, 192, 4, 2, 5), Row(6, 320, 1, 1, 3),
)  # fmt: skip
SCALES = {0: (1.0, 1.0), 1: (1.0, 1.1), 2: (1.1, 1.2)}  # of channels, of blocks


def efficientnet_lite(depth: int, *, layers: Layers) -> Backbone:
    """Builds EfficientNet-Lite0, 1 or 2: seven stages, total stride 32, 1280 features.

    Args:
      depth: the number of the variant.
      layers: conventions of the network, but for padding and epsilon, which are the family's.

    Raises:
      UserError: if the variant does not exist.
    """
    if depth not in SCALES:
        raise UserError(f"efficientnet_lite has no depth {depth}; its variants are 0, 1 and 2")
    widen, deepen = SCALES[depth]
    ends = (0, len(ROWS) - 1)  # which have one block in every variant
    rows = [
        row._replace(
            filters=_rounded(widen * row.filters),
            blocks=row.blocks if i in ends else math.ceil(deepen * row.blocks),
        )
        for i, row in enumerate(ROWS)
    ]
    return inverted_backbone(32, rows, 1280, replace(layers, padding="same", epsilon=1e-3))


def _rounded(channels: float, unit: int = 8) -> int:
    """Rounds to a multiple of eight, and not down by more than a tenth.

    >>> [_rounded(1.1 * channels) for channels in (16, 24, 40)]
    [16, 24, 48]
    """
    nearest = max(unit, int(channels + unit / 2) // unit * unit)
    return nearest if nearest >= 0.9 * channels else nearest + unit
