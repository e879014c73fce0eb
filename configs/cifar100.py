"""CIFAR-100 after the paper: bottleneck ResNet-110, 300 epochs.

    python -m lficam_jax.prepare cifar100
    python -m lficam_jax.main --config configs/cifar100.py --workdir runs/cifar100

Not measured yet.
"""

from ml_collections import ConfigDict

from lficam_jax.config import default_config, finish, options


def get_config(arg: str = "") -> ConfigDict:
    chosen, smoke = options(arg, head="lfi", depth=110)
    config = default_config()
    config.data.name = "cifar100"
    config.data.augment = "crop_flip"
    config.data.crop_padding = 4
    config.model.depth = chosen.depth
    config.model.block = "auto"  # bottleneck from depth 44, as in the paper's experiment
    config.model.head = chosen.head

    config.optim.lr = 0.1
    config.optim.momentum = 0.9
    config.optim.weight_decay = 1e-4
    config.optim.schedule = "multistep"
    config.optim.milestones_epochs = (150, 225)

    config.train.batch_size = 128
    config.train.total_epochs = 300.0
    return finish(config, smoke)
