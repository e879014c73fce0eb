"""SVHN, house numbers cropped to 32x32: the CIFAR recipe, shorter and without mirroring.

    lficam prepare svhn_cropped
    lficam train --config svhn --workdir runs/svhn

Options as in cifar10.py: backbone=resnet110 | densenet | resnext29 | wrn-28-10,
head=lfi | abn | plain | classwise, depth=n.

Not measured yet.
"""

from ml_collections import ConfigDict

from lficam_jax.config import finish
from lficam_jax.training import paper


def get_config(arg: str = "") -> ConfigDict:
    config, smoke = paper.at_32_pixels("svhn_cropped", arg)
    config.data.augment = "crop"  # a mirrored digit is none
    config.train.total_epochs = 80.0
    config.optim.milestones_epochs = (40, 60)
    return finish(config, smoke)
