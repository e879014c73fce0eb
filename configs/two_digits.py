"""Two handwritten digits of two classes among clutter: does a map know which is asked for?

    lficam prepare two_digits
    lficam train --config two_digits --workdir runs/two

Each picture has two labels and asks for one of them: its pixels are where a map of that class has
to lie, and the other digit's are where it has not. What two heads reach: docs/datasets.md.
"""

from ml_collections import ConfigDict

from lficam_jax.config import finish, options
from lficam_jax.config_file import load_config


def get_config(arg: str = "") -> ConfigDict:
    chosen, smoke = options(arg, head="lfi", depth=8)
    config = load_config(f"cluttered_digits:head={chosen.head},depth={chosen.depth}")
    config.data.name = "two_digits"
    config.model.loss = "sigmoid"
    config.optim.lr = 0.4  # the loss is a mean over ten labels, and its gradient as much smaller
    config.train.total_epochs = 10.0
    return finish(config, smoke)
