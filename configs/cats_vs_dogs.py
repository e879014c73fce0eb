"""Cats and dogs after the paper: 224 pixels, ResNet-18, 300 epochs.

TFDS prepares the pictures, once, and needs TensorFlow for it (pip install '.[prepare]' from the
repository):

    tfds build cats_vs_dogs --file_format array_record
    lficam train --config cats_vs_dogs --workdir runs/cats_vs_dogs

Options: head=lfi | abn | plain | classwise, backbone=resnet18 or another of imagenet.py, depth=n.

Not measured yet.
"""

from ml_collections import ConfigDict

from lficam_jax.config import finish
from lficam_jax.training import paper


def get_config(arg: str = "") -> ConfigDict:
    return finish(*paper.at_224_pixels("cats_vs_dogs", arg))
