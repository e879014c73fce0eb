"""ImageNet after the paper: 224 pixels, 300 epochs; ABN's 90 epochs for head=abn.

TFDS prepares the pictures, once, from the archives that you download after registering; it needs
TensorFlow for it (pip install '.[prepare]' from the repository):

    tfds build imagenet2012 --manual_dir DIR --file_format array_record
    lficam train --config imagenet:backbone=resnet50 --workdir runs/imagenet

Options: backbone=resnet18 | resnet50 | resnet101 | resnet152 | se-resnet50 |
efficientnet-lite0 | efficientnet-lite1 | efficientnet-lite2,
head=lfi | abn | plain | classwise, depth=n (another of the family).

The official validation split is the test split here; ours is a slice of train. Not measured yet.
"""

from ml_collections import ConfigDict

from lficam_jax.config import finish
from lficam_jax.training import paper


def get_config(arg: str = "") -> ConfigDict:
    config, smoke = paper.at_224_pixels("imagenet2012", arg)
    if config.model.head == "abn":  # as Fukui et al. trained it
        config.train.total_epochs = 90.0
        config.optim.milestones_epochs = (31, 61)
    return finish(config, smoke)
