"""CIFAR-100 after the paper: 32x32 pixels, 300 epochs.

    python -m lficam_jax.prepare cifar100
    python -m lficam_jax.main --config configs/cifar100.py --workdir runs/cifar100

Options: backbone=resnet110 (bottlenecks) | densenet | resnext29 | wrn-28-10,
head=lfi | abn | plain, depth=n (another of the family):

    --config configs/cifar100.py:backbone=resnext29,head=abn

Not measured yet.
"""

from ml_collections import ConfigDict

from lficam_jax import paper
from lficam_jax.config import default_config, finish, options


def get_config(arg: str = "") -> ConfigDict:
    chosen, smoke = options(arg, backbone="resnet110", depth=0, head="lfi")
    config = default_config()
    config.data.name = "cifar100"
    config.data.augment = "crop_flip"
    config.data.crop_padding = 4
    paper.set_network(config, paper.CIFAR, **chosen)
    paper.set_sgd(config, batch_size=128, total_epochs=300, drops=(150, 225))
    return finish(config, smoke)
