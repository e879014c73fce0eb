"""The paper's comparison on STL-10.

    lficam prepare stl10
    lficam study --config study_stl10 --workdir runs/study_stl10

ResNet-18 at 224 pixels, 300 epochs, 49 runs: for accelerators. The settings
are `paper_study`'s, in lficam_jax/study/plan.py.

Not measured yet.
"""

from ml_collections import ConfigDict

from lficam_jax.config_file import load_config
from lficam_jax.study.plan import paper_study


def get_config(arg: str = "") -> ConfigDict:
    return paper_study(load_config("stl10"), arg)
