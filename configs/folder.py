"""Your own pictures, in `DIR/CLASS/` or `DIR/{train,validation,test}/CLASS/`: ResNet-18 at 224.

    lficam train --config folder --workdir runs/mine \\
        --config.data.folder=DIR

A few pictures need a network that has seen others: `backbone=efficientnet-lite0` with
`--config.init_from=efficientnet_lite0`, or `--config.init_from=RUN`; or a small one: see
"Few pictures" in docs/usage.md.
Options: backbone=resnet18 | resnet50 | resnet101 | resnet152 | se-resnet50 |
efficientnet-lite0 | efficientnet-lite1 | efficientnet-lite2,
head=lfi | abn | plain | classwise, depth=n, loss=softmax | sigmoid | regression. Several labels, or
a number to predict, come from a CSV: `--config.data.labels_file`, see docs/datasets.md.

Not measured: it depends on the pictures. Small ones train like CIFAR's, with
`--config.data.image_size=32 --config.data.augment=crop_flip
--config.model.backbone=cifar_resnet --config.model.depth=20`.
"""

from ml_collections import ConfigDict

from lficam_jax.config import finish
from lficam_jax.training import paper


def get_config(arg: str = "") -> ConfigDict:
    config, smoke = paper.at_224_pixels("folder", arg)
    config.optim.nesterov = True
    config.optim.schedule = "cosine"
    config.optim.warmup_epochs = 5.0

    config.train.batch_size = 64
    config.train.total_epochs = 100.0
    return finish(config, smoke)
