"""Which networks a study trains, under which settings, and what is measured of each."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from ml_collections import ConfigDict

from lficam_jax.config import options, smoke, validate
from lficam_jax.data import check_split, dataset_info, has_mask, open_source
from lficam_jax.errors import UserError, check_whole, nearest
from lficam_jax.measure.faithfulness import chosen as chosen_measures
from lficam_jax.methods import METHODS
from lficam_jax.methods.wrappers import parts
from lficam_jax.training.experiment import make_model

# Changes to the base config. The names stand in tables and folders.
MODELS: Mapping[str, Any] = {
    "plain": {"model": {"head": "plain"}},
    "abn": {"model": {"head": "abn", "abn": {"loss": "both"}}},
    "abn_one_loss": {"model": {"head": "abn", "abn": {"loss": "perception"}}},
    "lfi": {"model": {"head": "lfi"}},
}
# The same and what else can stand in FIN's place, with the controls that the first edition lacked.
HEADS: Mapping[str, Any] = {
    **MODELS,
    "plain_x2": {"model": {"head": "plain", "plain": {"scale": 2.0}}},
    "lfi_trained": {
        "model": {"head": "lfi", "fin": {"standardise": True}},
        "optim": {"multipliers": "head/fin/.*=30", "no_decay": "head/fin/bn.*"},
    },
    "tied": {"model": {"head": "lfi", "fin": {"kind": "tied"}}},
    "prior": {"model": {"head": "lfi", "fin": {"kind": "prior"}}},
    "classwise": {"model": {"head": "classwise"}},
}
# How else a class's map can follow from its evidence (docs/method.md); to stand beside `HEADS`.
VARIANTS: Mapping[str, Any] = {
    f"classwise_{name}": {"model": {"head": "classwise", "classwise": change}}
    for name, change in {
        "leaky": {"look": "leaky"},
        "softmax": {"look": "softmax"},
        "softmax_4": {"look": "softmax", "temperature": 4.0},
        "detached": {"detach": True},
    }.items()
}
# Changes to `lfi`: what does each part of FIN do?
ABLATIONS: Mapping[str, Any] = {
    "uniform": {"model": {"fin": {"kind": "uniform"}}},  # the attention without FIN
    "narrow": {"model": {"fin": {"width": 16}}},
    "shallow": {"model": {"fin": {"depth": 2}}},
    "kernel_1": {"model": {"fin": {"kernel": 1}}},
    "kernel_5": {"model": {"fin": {"kernel": 5}}},
    "no_softmax": {"model": {"fin": {"softmax": False}}},
    "temperature_0.1": {"model": {"fin": {"temperature": 0.1}}},
    "learned_temperature": {"model": {"fin": {"learn_temperature": True}}},
    "no_mask_image": {"model": {"fin": {"mask_image": False}}},
}
BASELINE, OURS = "plain", "lfi"  # what accuracies are compared with; what the ablations change
REFERENCE = "classwise"  # the head that the others are set beside, where a study has it
CONTROL = "uniform"  # of the ablations: what FIN adds to it is asked under every setting


@dataclass(frozen=True)
class Run:
    """One training of the study.

    Attributes:
      model: a key of `models` or `ablations`.
      setting: a key of `settings`.
      config: complete, as `main` takes it.
    """

    model: str
    setting: str
    config: ConfigDict

    @property
    def name(self) -> str:
        """Names the run's folder."""
        return f"{self.model}/{self.setting}"


def default_study(base: ConfigDict) -> ConfigDict:
    """Returns every key of a study with its default, around the config that all runs share."""
    study = ConfigDict(convert_dict=False)
    study.base = base
    study.models = MODELS
    study.ablations = ABLATIONS
    study.settings = {f"seed{seed}": {"seed": seed} for seed in range(5)}
    study.ablation_settings = ()  # of `settings`; () = all, as it always is for the control
    study.measure = measure = ConfigDict()
    measure.split = "test"
    measure.limit = 256  # images whose maps are measured, spread evenly over the split
    measure.methods = ("own", "cam", "grad_cam", "grad_cam_pp", "score_cam")  # of each model
    measure.method_limits = ConfigDict()  # slow methods see fewer of them: {"score_cam": 64}
    measure.ablation_methods = ("own", "mean_features")
    measure.measures = ("confidence", "deletion", "insertion", "adcc", "sparseness", "localisation")
    measure.steps = 8  # of the insertion and deletion curves
    measure.stability_methods = ("own", "grad_cam", "mean_features")
    study.pictures = 5  # test images in the grid of maps, each of another class; 0: no grid
    return study


def paper_study(base: ConfigDict, arg: str = "") -> ConfigDict:
    """Returns the study of one of the paper's recipes, for accelerators.

    The paper's stability experiment changed hyper-parameters and compared the maps; which values it
    used is not published, so these are ours.

    Args:
      base: the recipe.
      arg: what follows the colon of `--config`: nothing, or `smoke`.
    """
    _, smoke_wanted = options(arg)
    study = default_study(base)
    study.settings = {
        "a": {"seed": 0},
        "b": {"seed": 1, "optim": {"lr": base.optim.lr / 2}},
        "c": {"seed": 2, "optim": {"lr": base.optim.lr / 10}},
        "d": {"seed": 3, "train": {"batch_size": base.train.batch_size // 2}},
        "e": {"seed": 4, "optim": {"weight_decay": 5 * base.optim.weight_decay}},
    }
    study.ablation_settings = ("a", "b", "d")
    # these data do not know the object's pixels
    study.measure.measures = ("confidence", "deletion", "insertion", "road", "adcc", "sparseness")
    study.measure.limit, study.measure.steps = 1000, 16
    return finish_study(study, smoke_wanted)


def finish_study(study: ConfigDict, smoke_wanted: bool) -> ConfigDict:
    """Ends every study's config file: `:smoke` shrinks it to a few short runs."""
    if smoke_wanted:
        smoke(study.base)
        study.settings = {name: study.settings[name] for name in [*study.settings][:2]}
        study.ablations = {name: study.ablations[name] for name in [*study.ablations][:1]}
        study.ablation_settings = ()
        study.measure.limit, study.measure.steps = 16, 2
        study.measure.method_limits = ConfigDict(dict.fromkeys(study.measure.method_limits, 8))
    return study


def plan(study: ConfigDict) -> list[Run]:
    """Lists all runs: a setting's models together, so that early results can be compared.

    Raises:
      UserError: for a setting, method, measure or config that does not exist or is not valid.
    """
    info = dataset_info(study.base.data)
    if info.labels != "class" and not info.asks:
        raise UserError(
            "a study compares accuracies and maps of a class, so its pictures need one class each, "
            "or ask about one of several labels as two_digits does; these have several labels or a "
            "number (data.labels_file): train each network, and use lficam stability"
        )
    settings = _settings(study)
    chosen = tuple(study.ablation_settings) or tuple(settings)
    _check_names("ablation_settings", chosen, settings)
    measure = study.measure
    for key in ("methods", "ablation_methods", "stability_methods"):
        _check_names(f"measure.{key}", [parts(name)[0] for name in measure[key]], METHODS)
    check_whole("study.pictures", study.pictures, 0)
    check_whole("study.measure.steps", measure.steps)
    check_split(measure.split)
    _check_limits(measure)
    try:
        chosen_measures(measure.measures, _has_mask(study.base.data, measure.split))
    except UserError as error:
        raise UserError(f"study.measure.measures: {error}") from None
    _check_there("models", study.models, BASELINE, OURS)
    _check_there("measure.methods", measure.methods, "own")
    ours = {n: _both(study.models[OURS], change) for n, change in study.ablations.items()}
    everywhere = dict(study.models) | {n: ours.pop(n) for n in [CONTROL] if n in ours}
    networks = [
        *((s, n, change) for s in settings for n, change in everywhere.items()),
        *((s, n, change) for s in chosen for n, change in ours.items()),
    ]
    found = [Run(n, s, _merged(settings[s], change)) for s, n, change in networks]
    for run in found:
        try:
            validate(run.config)
            same = run.config.data == study.base.data  # a folder is not read again for each run
            make_model(run.config, info if same else dataset_info(run.config.data))
        except UserError as error:
            raise UserError(f"run {run.name}: {error}") from None
    return found


def _settings(study: ConfigDict) -> dict[str, ConfigDict]:
    found = {name: _merged(study.base, change) for name, change in study.settings.items()}
    if len(found) < 2:
        raise UserError("a study compares settings: give at least two in `settings`")
    for one, other in combinations(found, 2):
        if found[one] == found[other]:
            raise UserError(f"study.settings: {one} and {other} are the same; leave one out")
    return found


def keys(change: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Lists the keys that a change sets.

    >>> keys({"seed": 1, "optim": {"lr": 0.1}})
    ['seed', 'optim.lr']
    """
    return [
        key
        for name, value in change.items()
        for key in (
            keys(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [f"{prefix}{name}"]
        )
    ]


def _has_mask(data: ConfigDict, split: str) -> bool:
    """Tells whether the object's pixels are known; of a folder, its files say."""
    info = dataset_info(data)
    return info.has_mask or (bool(data.folder) and has_mask(open_source(data, split), info))


def _check_there(key: str, names: Any, *needed: str) -> None:
    if missing := [name for name in needed if name not in names]:
        raise UserError(f"study.{key}: everything is compared with {' and '.join(missing)}; add it")


def _merged(config: ConfigDict, change: Mapping[str, Any]) -> ConfigDict:
    merged = copy.deepcopy(config).lock()
    try:
        merged.update(change)
    except (KeyError, AttributeError, TypeError) as error:
        raise UserError(f"a key that the base config has not: {error}") from None
    return merged


def _check_limits(measure: ConfigDict) -> None:
    check_whole("study.measure.limit", measure.limit)
    _check_names("measure.method_limits", measure.method_limits, METHODS)
    for name, limit in measure.method_limits.items():
        if limit < 1 or (limit < measure.limit and measure.limit % limit):
            raise UserError(
                f"study.measure.method_limits.{name}={limit} must divide measure.limit="
                f"{measure.limit}, so that its images are some of those of the other methods"
            )


def _both(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    both = dict(first)
    for key, value in second.items():
        nested = isinstance(value, Mapping) and isinstance(both.get(key), Mapping)
        both[key] = _both(both[key], value) if nested else value
    return both


def _check_names(key: str, names: Any, known: Mapping[str, Any]) -> None:
    for name in names:
        if name not in known:
            raise UserError(f"study.{key}: {name!r} is unknown{nearest(name, tuple(known))}")
