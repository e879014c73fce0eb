"""STL-10 after the paper: 96×96 pictures enlarged to 224, ResNet-18, 300 epochs.

    python -m lficam_jax.prepare stl10
    python -m lficam_jax.main --config configs/stl10.py --workdir runs/stl10

Not measured yet.
"""

from ml_collections import ConfigDict

from lficam_jax.config import default_config, finish, options


def get_config(arg: str = "") -> ConfigDict:
    chosen, smoke = options(arg, head="lfi", depth=18)
    config = default_config()
    config.data.name = "stl10"
    config.data.image_size = 224
    config.data.augment = "resized_crop_flip"
    config.model.backbone = "resnet"
    config.model.depth = chosen.depth
    config.model.head = chosen.head

    config.optim.lr = 0.1
    config.optim.momentum = 0.9
    config.optim.weight_decay = 1e-4
    config.optim.schedule = "multistep"
    config.optim.milestones_epochs = (150, 225)

    config.train.batch_size = 256
    config.train.total_epochs = 300.0
    return finish(config, smoke)
