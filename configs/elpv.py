"""elpv."""

from ml_collections import ConfigDict

from lficam_jax.config import default_config, finish, options


def get_config(arg: str = "") -> ConfigDict:
    chosen, smoke = options(arg, head="lfi", depth=8)
    config = default_config()
    config.data.name = "elpv"
    config.data.image_size = 64
    config.data.augment = "crop_flip"
    config.data.crop_padding = 4
    config.model.depth = chosen.depth
    config.model.head = chosen.head

    config.optim.lr = 0.05
    config.optim.nesterov = True
    config.optim.weight_decay = 5e-4
    config.optim.schedule = "cosine"
    config.optim.warmup_epochs = 0.5

    config.train.batch_size = 16
    config.train.total_epochs = 8.0
    return finish(config, smoke)
