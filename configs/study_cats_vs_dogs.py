"""The paper's comparison on cats and dogs.

    tfds build cats_vs_dogs --file_format array_record
    lficam study --config study_cats_vs_dogs --workdir runs/study_pets

ResNet-18 at 224 pixels, 300 epochs, 49 runs: for accelerators. The settings
are `paper_study`'s, in lficam_jax/study/plan.py.

Not measured yet.
"""

from ml_collections import ConfigDict

from lficam_jax.config_file import load_config
from lficam_jax.study.plan import paper_study


def get_config(arg: str = "") -> ConfigDict:
    return paper_study(load_config("cats_vs_dogs"), arg)
