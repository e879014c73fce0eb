"""Fashion-MNIST, greyscale 28×28: real photographs on which a CPU learns in minutes.

    lficam prepare fashion_mnist
    lficam train --config fashion_mnist --workdir runs/fashion_mnist

Reached 91.69 % on the 10,000 test images (92.62 % on validation) with seed 0, after 3 epochs: 14.5
minutes on two cores of a shared AMD EPYC virtual machine, 2026-11-22, python 3.11, jax 0.10.2. FIN
used 62.8 effective channels of 64, and its map correlated 0.995 with the mean activation.
"""

from ml_collections import ConfigDict

from lficam_jax.config import default_config, finish, options


def get_config(arg: str = "") -> ConfigDict:
    chosen, smoke = options(arg, head="lfi", depth=20)
    config = default_config()
    config.data.name = "fashion_mnist"
    config.data.augment = "crop_flip"
    config.data.crop_padding = 2
    config.model.depth = chosen.depth
    config.model.head = chosen.head

    config.optim.lr = 0.1
    config.optim.nesterov = True
    config.optim.weight_decay = 5e-4
    config.optim.schedule = "cosine"
    config.optim.warmup_epochs = 0.5

    config.train.batch_size = 64
    config.train.total_epochs = 3.0
    return finish(config, smoke)
