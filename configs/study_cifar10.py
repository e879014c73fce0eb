"""The paper's comparison on CIFAR-10.

    lficam prepare cifar10
    lficam study --config study_cifar10 --workdir runs/study_cifar10

ResNet-110 of bottlenecks, 300 epochs, 49 runs: for accelerators. The settings
are `paper_study`'s, in lficam_jax/study/plan.py.

Not measured yet.
"""

from ml_collections import ConfigDict

from lficam_jax.config_file import load_config
from lficam_jax.study.plan import paper_study


def get_config(arg: str = "") -> ConfigDict:
    return paper_study(load_config("cifar10"), arg)
