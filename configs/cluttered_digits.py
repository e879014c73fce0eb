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

    config.optim.lr = 0.1
    config.optim.nesterov = True
    config.optim.weight_decay = 5e-4
    config.optim.schedule = "cosine"
    config.optim.warmup_epochs = 0.5

    config.train.batch_size = 32  # a CPU is no faster with more, and learns more from more steps
    config.train.total_epochs = 3.0
    return finish(config, smoke)
