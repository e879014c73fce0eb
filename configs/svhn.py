"""SVHN, house numbers cropped to 32x32: the CIFAR recipe, shorter and without mirroring.

    python -m lficam_jax.prepare svhn_cropped
    python -m lficam_jax.main --config configs/svhn.py --workdir runs/svhn

Options as in cifar10.py: backbone=resnet110 | densenet | resnext29 | wrn-28-10,
head=lfi | abn | plain, depth=n.

Not measured yet.
"""

from ml_collections import ConfigDict

from lficam_jax import paper
from lficam_jax.config import default_config, finish, options


def get_config(arg: str = "") -> ConfigDict:
    chosen, smoke = options(arg, backbone="resnet110", depth=0, head="lfi")
    config = default_config()
    config.data.name = "svhn_cropped"
    config.data.augment = "crop"  # a mirrored digit is none
    config.data.crop_padding = 4
    paper.set_network(config, paper.CIFAR, **chosen)
    paper.set_sgd(config, batch_size=128, total_epochs=80, drops=(40, 60))
    return finish(config, smoke)
