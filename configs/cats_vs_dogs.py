"""Cats and dogs after the paper: 224 pixels, ResNet-18, 300 epochs.

TFDS prepares the pictures, once, and needs TensorFlow for it (pip install '.[prepare]' from the
repository):

    tfds build cats_vs_dogs --file_format array_record
    python -m lficam_jax.main --config configs/cats_vs_dogs.py --workdir runs/cats_vs_dogs

Options: head=lfi | abn | plain, backbone=resnet18 or another of imagenet.py, depth=n.

Not measured yet.
"""

from ml_collections import ConfigDict

from lficam_jax import paper
from lficam_jax.config import default_config, finish, options


def get_config(arg: str = "") -> ConfigDict:
    chosen, smoke = options(arg, backbone="resnet18", depth=0, head="lfi")
    config = default_config()
    config.data.name = "cats_vs_dogs"
    config.data.image_size = 224
    config.data.augment = "resized_crop_flip"
    paper.set_network(config, paper.IMAGENET, **chosen)
    paper.set_sgd(config, batch_size=256, total_epochs=300, drops=(150, 225))
    return finish(config, smoke)
