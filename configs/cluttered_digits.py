"""Handwritten digits among clutter: the quickstart. Real handwriting whose true place is known.

Not measured yet.
"""

from ml_collections import ConfigDict

from lficam_jax.config import default_config, finish, options


def get_config(arg: str = "") -> ConfigDict:
    chosen, smoke = options(arg, head="lfi", depth=8)
    config = default_config()
    config.data.name = "cluttered_digits"
    config.model.depth = chosen.depth
    config.model.head = chosen.head

    config.optim.lr = 0.2
    config.optim.nesterov = True
    config.optim.weight_decay = 5e-4
    config.optim.schedule = "cosine"
    config.optim.warmup_epochs = 1.0

    config.train.batch_size = 128
    config.train.total_epochs = 8.0
    return finish(config, smoke)
