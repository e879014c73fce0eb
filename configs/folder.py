"""Your own pictures, in `DIR/{train,validation,test}/CLASS/`: ResNet-18 at 224 pixels.

    python -m lficam_jax.main --config configs/folder.py --workdir runs/mine \\
        --config.data.folder=DIR

Not measured: it depends on the pictures. Small ones train like CIFAR's, with
`--config.data.image_size=32 --config.data.augment=crop_flip
--config.model.backbone=cifar_resnet --config.model.depth=20`.
"""

from ml_collections import ConfigDict

from lficam_jax.config import default_config, finish, options


def get_config(arg: str = "") -> ConfigDict:
    chosen, smoke = options(arg, head="lfi", depth=18)
    config = default_config()
    config.data.name = "folder"
    config.data.image_size = 224
    config.data.augment = "resized_crop_flip"
    config.model.backbone = "resnet"
    config.model.depth = chosen.depth
    config.model.head = chosen.head

    config.optim.lr = 0.1
    config.optim.nesterov = True
    config.optim.weight_decay = 1e-4
    config.optim.schedule = "cosine"
    config.optim.warmup_epochs = 5.0

    config.train.batch_size = 64
    config.train.total_epochs = 100.0
    return finish(config, smoke)
