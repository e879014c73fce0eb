"""STL-10 after the paper: 96x96 pictures enlarged to 224, ResNet-18, 300 epochs.

    lficam prepare stl10
    lficam train --config stl10 --workdir runs/stl10

Options: head=lfi | abn | plain | classwise, backbone=resnet18 or another of imagenet.py, depth=n.

Not measured yet.
"""

from ml_collections import ConfigDict

from lficam_jax.config import finish
from lficam_jax.training import paper


def get_config(arg: str = "") -> ConfigDict:
    return finish(*paper.at_224_pixels("stl10", arg))
