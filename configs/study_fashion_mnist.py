"""The paper's comparison on Fashion-MNIST: real photographs, small enough for a CPU.

    lficam prepare fashion_mnist
    lficam study --config study_fashion_mnist --workdir runs/fashion_mnist

ResNet-8 on the first 12,000 training images, so that all runs fit into an evening of two CPU cores.
Seen on 2026-11-23, jax 0.10.2, one shared AMD EPYC core for 2 h 10: test accuracy in
percent, mean ± sd over the five settings: plain 82.28 ± 1.33, abn 82.82 ± 0.68, abn_one_loss 83.00
± 1.06, lfi 83.45 ± 1.03, uniform 83.40 ± 0.97. All else, with intervals:
docs/results/first_edition.md.
"""

from ml_collections import ConfigDict

from lficam_jax.config import options
from lficam_jax.config_file import load_config
from lficam_jax.study.plan import default_study, finish_study


def get_config(arg: str = "") -> ConfigDict:
    _, smoke = options(arg)
    study = default_study(load_config("fashion_mnist:depth=8"))
    study.base.data.train_examples = 12_000
    study.settings = {
        "a": {"seed": 0},
        "b": {"seed": 1, "optim": {"lr": 0.05}},
        "c": {"seed": 2, "optim": {"lr": 0.2}},
        "d": {"seed": 3, "train": {"batch_size": 128}},
        "e": {"seed": 4, "optim": {"weight_decay": 1e-4}},
    }
    study.ablation_settings = ("a", "b")
    # the data do not know the object's pixels
    study.measure.measures = ("confidence", "deletion", "insertion", "adcc", "sparseness")
    return finish_study(study, smoke)
