r"""The second edition of the study: longer trainings, all heads, harder data.

    lficam prepare cluttered_digits
    lficam study --config study_second_edition --workdir runs/seeds
    lficam study --config study_second_edition:vary=settings --workdir runs/settings
    lficam study --config study_second_edition:data=two_digits --workdir runs/two_digits

Options: data=cluttered_digits | two_digits | fashion_mnist | elpv,
vary=seeds | settings | variants.

seeds varies the seed alone, under one setting; settings the hyper-parameters alone, at one seed: in
the first edition they changed together. variants sets the variants of `classwise` beside `plain`,
`lfi` and itself, under three seeds. Beside the models of the first edition there are `plain_x2`
(features times 2: is a gate more than that?), `lfi_trained` (a FIN with a learning rate and a
spread of its own), `tied`, `prior` and `classwise` (docs/method.md). All of them are trained on the
cluttered digits under five seeds; elsewhere the five that the claims are about, and other data
under three seeds.

Maps are measured on 512 test images, Score-CAM's and the blind ones on 128 of them. A run is
evaluated and saved four times; the record says by how much the accuracy on validation still rose in
the last quarter. A study goes on where it was stopped, and several processes share its runs
(docs/results.md).

Measured: all of these (docs/results.md), vary=variants with short trainings alone
(docs/results/variants.md).
"""

from ml_collections import ConfigDict

from lficam_jax.config import options
from lficam_jax.config_file import load_config
from lficam_jax.data import dataset_info
from lficam_jax.errors import UserError, nearest
from lficam_jax.study.plan import HEADS, VARIANTS, default_study, finish_study

# Of each data set: its config, and the epochs and pictures (0: all) that a network is trained with.
DATA = {
    "cluttered_digits": ("cluttered_digits", 8.0, 0),
    "two_digits": ("two_digits", 8.0, 0),
    "fashion_mnist": ("fashion_mnist:depth=8", 12.0, 12_000),
    "elpv": ("elpv", 20.0, 0),
}
SEEDS = {f"seed{seed}": {"seed": seed} for seed in range(5)}
VARIED = ("seeds", "settings", "variants")
FEWER = ("score_cam", "gaussian", "random", "fakecam")  # measured on 128 pictures
CLAIMED = ("plain", "abn", "lfi", "classwise")  # the claims are about these, and `uniform`


def get_config(arg: str = "") -> ConfigDict:
    chosen, smoke = options(arg, data="cluttered_digits", vary="seeds")
    for key, known in (("data", tuple(DATA)), ("vary", VARIED)):
        if chosen[key] not in known:
            raise UserError(f"{key}={chosen[key]!r} is unknown{nearest(chosen[key], known)}")
    name, epochs, pictures = DATA[chosen.data]
    study = default_study(load_config(name))
    study.base.train.total_epochs, study.base.eval.every_epochs = epochs, epochs / 4
    study.base.data.train_examples = pictures
    if not dataset_info(study.base.data).has_mask:
        study.measure.measures = tuple(m for m in study.measure.measures if m != "localisation")
    study.models = {n: change for n, change in HEADS.items() if n != "abn_one_loss"}
    study.settings = SEEDS
    study.ablations = {"uniform": study.ablations["uniform"]}
    if chosen.vary != "seeds" or chosen.data != "cluttered_digits":
        study.models = {n: HEADS[n] for n in CLAIMED}
        study.settings = {n: SEEDS[n] for n in [*SEEDS][:3]}
    if chosen.vary == "settings":
        study.settings = _settings(study.base)
    if chosen.vary == "variants":
        study.models = {n: HEADS[n] for n in CLAIMED if n != "abn"} | VARIANTS
    study.measure.limit = 512
    study.measure.methods = ("own", "cam", "grad_cam", "score_cam")
    study.measure.method_limits = ConfigDict(dict.fromkeys(FEWER, 128))
    return finish_study(study, smoke)


def _settings(base: ConfigDict) -> dict[str, dict[str, dict[str, float]]]:
    """Changes one thing at a time; a is the base's own setting."""
    return {
        "a": {},
        "b": {"optim": {"lr": base.optim.lr / 2}},
        "c": {"optim": {"lr": base.optim.lr * 2}},
        "d": {"train": {"batch_size": base.train.batch_size * 2}},
        "e": {"optim": {"weight_decay": base.optim.weight_decay / 5}},
    }
