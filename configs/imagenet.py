"""ImageNet after the paper: 224 pixels, 300 epochs; ABN's 90 epochs for head=abn.

TFDS prepares the pictures, once, from the archives that you download after registering; it needs
TensorFlow for it (pip install '.[prepare]' from the repository):

    tfds build imagenet2012 --manual_dir DIR --file_format array_record
    python -m lficam_jax.main --config configs/imagenet.py:backbone=resnet50 --workdir runs/imagenet

Options: backbone=resnet18 | resnet50 | resnet101 | resnet152 | se-resnet50,
head=lfi | abn | plain, depth=n (another of the family).

The official validation split is the test split here; ours is a slice of train. Not measured yet.
"""

from ml_collections import ConfigDict

from lficam_jax import paper
from lficam_jax.config import default_config, finish, options


def get_config(arg: str = "") -> ConfigDict:
    chosen, smoke = options(arg, backbone="resnet18", depth=0, head="lfi")
    config = default_config()
    config.data.name = "imagenet2012"
    config.data.image_size = 224
    config.data.augment = "resized_crop_flip"
    paper.set_network(config, paper.IMAGENET, **chosen)
    if chosen.head == "abn":  # as Fukui et al. trained it
        paper.set_sgd(config, batch_size=256, total_epochs=90, drops=(31, 61))
    else:
        paper.set_sgd(config, batch_size=256, total_epochs=300, drops=(150, 225))
    return finish(config, smoke)
