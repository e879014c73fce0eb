"""Fashion-MNIST, greyscale 28×28: real photographs on which a CPU learns in minutes.

    python -m lficam_jax.prepare fashion_mnist
    python -m lficam_jax.main --config configs/fashion_mnist.py --workdir runs/fashion_mnist

Not measured yet.
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

    config.optim.lr = 0.2
    config.optim.nesterov = True
    config.optim.weight_decay = 5e-4
    config.optim.schedule = "cosine"
    config.optim.warmup_epochs = 0.5

    config.train.batch_size = 128
    config.train.total_epochs = 5.0
    return finish(config, smoke)
