"""What the paper's experiments share: the backbones by the names it uses, and its SGD.

Lee, Park, Oh and Kwak, LFI-CAM, ICCV 2021 (arXiv 2105.00937). Files in `configs/` call these.
"""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from lficam_jax.config import nearest
from lficam_jax.errors import UserError

CIFAR = {
    "resnet110": {"backbone": "cifar_resnet", "depth": 110},  # of bottlenecks: 164 layers
    "densenet": {"backbone": "cifar_densenet", "depth": 100, "growth": 12},
    "resnext29": {"backbone": "cifar_resnext", "depth": 29, "cardinality": 8, "widen": 4},
    "wrn-28-10": {"backbone": "wide_resnet", "depth": 28, "widen": 10},
}
IMAGENET = {
    "resnet18": {"backbone": "resnet", "depth": 18},
    "resnet50": {"backbone": "resnet", "depth": 50},
    "resnet101": {"backbone": "resnet", "depth": 101},
    "resnet152": {"backbone": "resnet", "depth": 152},
    "se-resnet50": {"backbone": "se_resnet", "depth": 50},
}


def set_network(
    config: ConfigDict, known: Mapping[str, Mapping[str, Any]], *,
    backbone: str, depth: int, head: str,
) -> None:  # fmt: skip
    """Sets the model of a config.

    Args:
      config: to change.
      known: `CIFAR` or `IMAGENET`.
      backbone: one of its names.
      depth: another depth of that backbone's family; 0 = its own.
      head: `plain`, `lfi` or `abn`.

    Raises:
      UserError: for a backbone that is unknown; it names the nearest.
    """
    if backbone not in known:
        raise UserError(f"option backbone={backbone!r} is unknown{nearest(backbone, [*known])}")
    config.model.update(known[backbone], head=head)
    if depth:
        config.model.depth = depth


def set_sgd(
    config: ConfigDict, *, batch_size: int, total_epochs: float, drops: tuple[int, ...]
) -> None:
    """Sets SGD with momentum, weight decay on all parameters, and lr x0.1 at the epochs `drops`."""
    config.optim.name = "sgd"
    config.optim.lr = 0.1
    config.optim.momentum = 0.9
    config.optim.weight_decay = 1e-4
    config.optim.schedule = "multistep"
    config.optim.milestones_epochs = drops
    config.optim.factor = 0.1
    config.train.batch_size = batch_size
    config.train.total_epochs = total_epochs
