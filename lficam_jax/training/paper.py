"""What the paper's experiments share: the backbones by the names it uses, and its two recipes.

Lee, Park, Oh and Kwak, LFI-CAM, ICCV 2021 (arXiv 2105.00937). Files in `configs/` call the recipes
and change what is their own.
"""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from lficam_jax.config import default_config, options
from lficam_jax.errors import UserError, nearest

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
    # Not the paper's, but pretrained: to be tuned with --config.init_from=efficientnet_lite0.
    "efficientnet-lite0": {"backbone": "efficientnet_lite", "depth": 0},
    "efficientnet-lite1": {"backbone": "efficientnet_lite", "depth": 1},
    "efficientnet-lite2": {"backbone": "efficientnet_lite", "depth": 2},
}


def at_32_pixels(data: str, arg: str) -> tuple[ConfigDict, bool]:
    """Returns the recipe for CIFAR's small pictures: 300 epochs, shifted and mirrored.

    Args:
      data: name of the data set.
      arg: what follows the colon of `--config`: `backbone` (of `CIFAR`), `head`, `loss`, `depth`,
        `smoke`.

    Returns:
      The config, and whether `smoke` was asked for: what `config.finish` takes.

    Raises:
      UserError: for an option or a backbone that is unknown.
    """
    config, smoke = _recipe(data, arg, CIFAR, "resnet110", batch_size=128)
    config.data.augment = "crop_flip"
    config.data.crop_padding = 4
    return config, smoke


def at_224_pixels(data: str, arg: str) -> tuple[ConfigDict, bool]:
    """Returns the recipe for photographs: 300 epochs, cut out at random and mirrored.

    Args:
      data: name of the data set.
      arg: as for `at_32_pixels`; `backbone` is one of `IMAGENET`.

    Returns:
      The config, and whether `smoke` was asked for.

    Raises:
      UserError: for an option or a backbone that is unknown.
    """
    config, smoke = _recipe(data, arg, IMAGENET, "resnet18", batch_size=256)
    config.data.image_size = 224
    config.data.augment = "resized_crop_flip"
    return config, smoke


def _recipe(
    data: str, arg: str, known: Mapping[str, Mapping[str, Any]], backbone: str, batch_size: int
) -> tuple[ConfigDict, bool]:
    """Sets network, and SGD with weight decay on all parameters and lr x0.1 at two epochs."""
    chosen, smoke = options(arg, backbone=backbone, depth=0, head="lfi", loss="softmax")
    if chosen.backbone not in known:
        meant = nearest(chosen.backbone, [*known])
        raise UserError(f"option backbone={chosen.backbone!r} is unknown{meant}")
    config = default_config()
    config.data.name = data
    config.model.update(known[chosen.backbone], head=chosen.head, loss=chosen.loss)
    if chosen.depth:
        config.model.depth = chosen.depth  # another of the backbone's family

    config.optim.name = "sgd"
    config.optim.lr = 0.1
    config.optim.momentum = 0.9
    config.optim.weight_decay = 1e-4
    config.optim.schedule = "multistep"
    config.optim.milestones_epochs = (150, 225)
    config.optim.factor = 0.1
    config.train.batch_size = batch_size
    config.train.total_epochs = 300.0
    return config, smoke
