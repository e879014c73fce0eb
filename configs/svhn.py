"""SVHN, house numbers cropped to 32×32: the CIFAR recipe, shorter and without mirroring.

    python -m lficam_jax.prepare svhn_cropped
    python -m lficam_jax.main --config configs/svhn.py --workdir runs/svhn

Not measured yet.
"""

from ml_collections import ConfigDict

from lficam_jax.config import default_config, finish, options


def get_config(arg: str = "") -> ConfigDict:
    chosen, smoke = options(arg, head="lfi", depth=110)
    config = default_config()
    config.data.name = "svhn_cropped"
    config.data.augment = "crop"  # a mirrored digit is none
    config.data.crop_padding = 4
    config.model.depth = chosen.depth
    config.model.block = "auto"  # bottleneck from depth 44
    config.model.head = chosen.head

    config.optim.lr = 0.1
    config.optim.momentum = 0.9
    config.optim.weight_decay = 1e-4
    config.optim.schedule = "multistep"
    config.optim.milestones_epochs = (40, 60)

    config.train.batch_size = 128
    config.train.total_epochs = 80.0
    return finish(config, smoke)
