"""What a backbone is: a trunk and a last stage, so that a head can put its attention before or after."""

from collections.abc import Callable
from dataclasses import dataclass

import flax.linen as nn


@dataclass(frozen=True)
class Backbone:
    """Two unbound modules and how to make more of the second.

    Attributes:
      trunk: `trunk(images, train=...) -> [b h w d']`, all stages but the last.
      last_stage: `last_stage(stride) -> module`; the module maps `[b h w d'] -> [b h/s w/s d]`. ABN's
        attention branch is a second last stage at stride 1.
      stride: of the last stage on the way to the classifier.
      final: a module between the attention and the pooling (DenseNet's BN and ReLU), or None.
    """

    trunk: nn.Module
    last_stage: Callable[[int], nn.Module]
    stride: int
    final: nn.Module | None = None
