"""CIFAR-100 after the paper: 32x32 pixels, 300 epochs.

    lficam prepare cifar100
    lficam train --config cifar100 --workdir runs/cifar100

Options: backbone=resnet110 (bottlenecks) | densenet | resnext29 | wrn-28-10,
head=lfi | abn | plain | classwise, depth=n (another of the family):

    --config cifar100:backbone=resnext29,head=abn

Not measured yet.
"""

from ml_collections import ConfigDict

from lficam_jax.config import finish
from lficam_jax.training import paper


def get_config(arg: str = "") -> ConfigDict:
    return finish(*paper.at_32_pixels("cifar100", arg))
