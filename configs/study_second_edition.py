r"""The second edition of the study on cluttered digits: networks trained to the end, all heads.

    lficam prepare cluttered_digits
    lficam study --config study_second_edition --workdir runs/seeds
    lficam study --config study_second_edition:vary=settings --workdir runs/settings

The first varies the seed alone, under one setting; the second the hyper-parameters alone, at one
seed: in the first edition they changed together. Beside the models of that edition there are
`plain_x2` (features times 2: is a gate more than that?), `lfi_trained` (a FIN with a learning rate
and a spread of its own), `tied`, `prior` and `classwise` (docs/method.md). Score-CAM, which would
take most of the time, is left out. A study goes on where it was stopped, so it can be carried out
in pieces of any length.

Not measured yet.
"""

from ml_collections import ConfigDict

from lficam_jax.config import options
from lficam_jax.config_file import load_config
from lficam_jax.errors import UserError, nearest
from lficam_jax.study.plan import HEADS, default_study, finish_study

VARIED = {
    "seeds": {f"seed{seed}": {"seed": seed} for seed in range(5)},
    "settings": {
        "a": {},
        "b": {"optim": {"lr": 0.05}},
        "c": {"optim": {"lr": 0.2}},
        "d": {"train": {"batch_size": 64}},
        "e": {"optim": {"weight_decay": 1e-4}},
    },
}


def get_config(arg: str = "") -> ConfigDict:
    chosen, smoke = options(arg, vary="seeds")
    if chosen.vary not in VARIED:
        raise UserError(f"vary={chosen.vary!r} is unknown{nearest(chosen.vary, tuple(VARIED))}")
    study = default_study(load_config("cluttered_digits"))
    study.base.train.total_epochs = 20.0  # of all 6,000 images
    study.models = HEADS
    study.ablations = {"uniform": study.ablations["uniform"]}
    study.settings = VARIED[chosen.vary]
    study.measure.limit = 512
    study.measure.methods = ("own", "cam", "grad_cam", "grad_cam_pp")
    return finish_study(study, smoke)
