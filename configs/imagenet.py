"""ImageNet after the paper: 224 pixels, ResNet-18 (or deeper), 300 epochs.

TFDS prepares the pictures, once, from the archives that you download after registering; it needs
TensorFlow for it (pip install 'lficam_jax[prepare]'):

    tfds build imagenet2012 --manual_dir DIR --file_format array_record
    python -m lficam_jax.main --config configs/imagenet.py:depth=50 --workdir runs/imagenet

The official validation split is the test split here; ours is a slice of train. Not measured yet.
"""

from ml_collections import ConfigDict

from lficam_jax.config import default_config, finish, options


def get_config(arg: str = "") -> ConfigDict:
    chosen, smoke = options(arg, head="lfi", depth=18)
    config = default_config()
    config.data.name = "imagenet2012"
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
