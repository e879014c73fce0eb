"""What a backbone is: a trunk and a last stage, so that attention can come before or after it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flax.linen as nn

from lficam_jax.errors import UserError


@dataclass(frozen=True)
class Backbone:
    """Unbound modules, and how to make more of the last stage.

    Attributes:
      trunk: `trunk(images, train=...) -> [b h w d']`, all stages but the last.
      last_stage: `last_stage(stride) -> module`; the module maps `[b h w d'] -> [b h/s w/s d]`.
        ABN's attention branch is a second last stage at stride 1.
      stride: of the last stage on the way to the classifier.
      final: BN and ReLU that end a pre-activation network, or None.
      final_before_head: whether `final` belongs to the features that the head attends to (wide
        ResNet) or stands between the attention and the pooling (DenseNet).
      flattens: whether `final` leaves no map, so that no class can be read off a place in it.
      relu_every: of the FIN that the released code gives this family.
    """

    trunk: nn.Module
    last_stage: Callable[[int], nn.Module]
    stride: int
    final: nn.Module | None = None
    final_before_head: bool = False
    flattens: bool = False
    relu_every: int = 2


def is_default(option: Any) -> bool:
    """Tells whether an option is left to the family: None, 0, False or `auto`."""
    return option is None or (isinstance(option, int | str) and option in (0, "auto"))


def blocks_per_stage(family: str, depth: int, *, per_block: int, extra: int) -> int:
    """Returns n of `depth = per_block * n + extra`.

    Raises:
      UserError: if no n >= 1 gives this depth; it names the nearest depths.
    """
    n, rest = divmod(depth - extra, per_block)
    if n >= 1 and rest == 0:
        return n
    nearest = [per_block * max(1, m) + extra for m in (n, n + 1)]
    raise UserError(
        f"{family} has no depth {depth}; it needs {per_block}n + {extra}, nearest: "
        + ", ".join(str(d) for d in sorted(set(nearest)))
    )
