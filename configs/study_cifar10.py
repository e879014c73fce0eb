"""The paper's comparison on CIFAR-10.

    python -m lficam_jax.prepare cifar10
    python -m lficam_jax.study --config configs/study_cifar10.py --workdir runs/study_cifar10

ResNet-110 of bottlenecks, 300 epochs, 47 runs: for accelerators. The settings
follow the paper's stability experiment in kind: it changed hyper-parameters and compared the maps;
which values it used is not published.

Not measured yet.
"""

from ml_collections import ConfigDict

from configs.cifar10 import get_config as recipe
from lficam_jax.config import options
from lficam_jax.study.plan import default_study, finish_study


def get_config(arg: str = "") -> ConfigDict:
    _, smoke = options(arg)
    study = default_study(recipe())
    study.settings = {
        "a": {"seed": 0},
        "b": {"seed": 1, "optim": {"lr": 0.05}},
        "c": {"seed": 2, "optim": {"lr": 0.01}},
        "d": {"seed": 3, "train": {"batch_size": 256}},
        "e": {"seed": 4, "optim": {"weight_decay": 5e-4}},
    }
    study.ablation_settings = ("a", "b", "d")
    # the data do not know the object's pixels
    study.measure.measures = ("confidence", "deletion", "insertion", "road", "adcc", "sparseness")
    study.measure.limit, study.measure.steps = 1000, 16
    return finish_study(study, smoke)
