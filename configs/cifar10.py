"""CIFAR-10 after the paper: 32x32 pixels, 300 epochs.

    lficam prepare cifar10
    lficam train --config cifar10 --workdir runs/cifar10

Options: backbone=resnet110 (bottlenecks) | densenet | resnext29 | wrn-28-10,
head=lfi | abn | plain | classwise, depth=n (another of the family):

    --config cifar10:backbone=resnext29,head=abn

Not measured yet.
"""

from ml_collections import ConfigDict

from lficam_jax.config import finish
from lficam_jax.training import paper


def get_config(arg: str = "") -> ConfigDict:
    return finish(*paper.at_32_pixels("cifar10", arg))
