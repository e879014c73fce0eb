"""STL-10 after the paper: 96x96 pictures enlarged to 224, ResNet-18, 300 epochs.

    python -m lficam_jax.prepare stl10
    python -m lficam_jax.main --config configs/stl10.py --workdir runs/stl10

Options: head=lfi | abn | plain, backbone=resnet18 or another of imagenet.py, depth=n.

Not measured yet.
"""

from ml_collections import ConfigDict

from lficam_jax import paper
from lficam_jax.config import default_config, finish, options


def get_config(arg: str = "") -> ConfigDict:
    chosen, smoke = options(arg, backbone="resnet18", depth=0, head="lfi")
    config = default_config()
    config.data.name = "stl10"
    config.data.image_size = 224
    config.data.augment = "resized_crop_flip"
    paper.set_network(config, paper.IMAGENET, **chosen)
    paper.set_sgd(config, batch_size=256, total_epochs=300, drops=(150, 225))
    return finish(config, smoke)
