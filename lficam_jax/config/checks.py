"""What each key may be, and the checks that say so."""

import re
from collections.abc import Callable, Collection
from typing import Any

from ml_collections import ConfigDict

from lficam_jax.config.size import is_size
from lficam_jax.errors import UserError, nearest

CHOICES = {
    "data.pipeline": ("auto", "resident", "streaming"),
    "data.augment": ("none", "crop", "crop_flip", "resized_crop_flip"),
    "data.fit": ("", "crop", "pad", "stretch"),
    "data.labels": ("", "class", "several", "number"),
    "data.background": ("", "white", "grey", "black"),
    "data.interpolation": ("", "bilinear", "bicubic", "lanczos", "hamming", "box", "nearest"),
    "model.backbone": tuple(
        "cifar_resnet cifar_densenet cifar_resnext wide_resnet resnet se_resnet densenet vgg "
        "mobilenet efficientnet_lite convnext".split()
    ),
    "model.block": ("auto", "basic", "bottleneck"),
    "model.head": ("plain", "lfi", "abn", "classwise"),
    "model.loss": ("softmax", "sigmoid", "regression"),
    "model.dtype": ("float32", "bfloat16"),
    "model.fin.kind": ("learned", "uniform", "tied", "prior"),
    "model.abn.loss": ("both", "perception", "attention"),
    "model.classwise.look": ("relu", "leaky", "softmax"),
    "optim.name": ("sgd", "adamw"),
    "optim.schedule": ("constant", "cosine", "multistep"),
    "optim.weight_decay_on": ("all", "kernels"),
    "explain.align": ("centres", "half_pixel"),
    "explain.blend": ("fade", "mix"),
    "parallel.mode": ("pmap", "shard_map"),
    "parallel.platform": ("auto", "cpu", "gpu", "tpu"),
}

# What each numeric key is, a whole number (int) or any, and from where to where; of a list, each.
_MANY = 2**31 - 1
_SPANS = {
    (int, -_MANY, _MANY): "seed", (int, 0, 3): "data.channels", (int, 0, 2): "model.stem_stride",
    (int, 0, _MANY): "data.train_examples data.max_corrupt optim.warmup_steps train.total_steps "
    "train.checkpoint_every_steps eval.every_steps",
    (int, 1, _MANY): "explain.limit train.log_every_steps train.keep_latest train.batch_size "
    "eval.batch_size optim.accumulate parallel.connect_seconds parallel.heartbeat_seconds",
    (int, 0, 9999): "data.crop_padding data.threads model.growth model.widen "
    "model.cardinality model.depth model.fin.width model.fin.relu_every",
    (int, 1, 9999): "model.fin.depth model.fin.kernel",
    (float, 0, 1): "data.mean data.crop_share",
    (float, 0, 0.999999): "optim.momentum optim.b2 optim.label_smoothing optim.ema_decay",
    (float, 0, 1e30): "optim.lr optim.weight_decay optim.clip_norm",
    (float, 0, 1e6): "optim.milestones_epochs optim.factor optim.warmup_epochs train.total_epochs "
    "train.watchdog_seconds eval.every_epochs",
    (float, -1e30, 1e30): "data.number",
    (float, 1e-6, 1e6): "data.std model.fin.temperature model.plain.scale "
    "model.classwise.temperature",
}  # fmt: skip
NUMBERS = {key: span for span, keys in _SPANS.items() for key in keys.split()}

DURATIONS = ("optim.warmup", "train.total", "eval.every")  # …_epochs or …_steps; the other is 0


def validate(config: ConfigDict) -> None:
    """Raises one UserError that lists everything that is wrong with `config`."""
    data = config.data
    if problems := _without_value(config):  # the other checks need one
        raise UserError(f"the config is not valid: {'; '.join(problems)}")
    numbers = _bad_numbers(config)
    problems = [*_bad_choices(config), *_bad_durations(config), *numbers]
    problems += _bad_data(data, told={line.partition("=")[0] for line in numbers})
    if data.labels_file and data.name != "folder":
        problems.append(
            f"data.labels_file is of pictures in a folder (--config folder), not of {data.name}"
        )
    if data.name == "folder" and not (data.folder or data.synthetic or data.classes):
        problems.append("data.folder is empty; say --config.data.folder=DIR with CLASS/*.jpg")
    problems += _bad_patterns(config.optim)
    if problems:
        gap = "\n  " if len(problems) > 1 else " "
        raise UserError(gap.join(["the config is not valid:", *problems]))


def multipliers(text: str) -> list[tuple[str, float]]:
    """Parses `optim.multipliers`: pairs of a pattern of parameters and a factor.

    >>> multipliers("head/fin/.*=30 classifier/.*=0.1")
    [('head/fin/.*', 30.0), ('classifier/.*', 0.1)]

    Raises:
      UserError: for words that are no such pairs.
    """
    pairs = []
    for word in text.split():
        pattern, _, factor = word.rpartition("=")
        try:
            pairs.append((pattern, float(factor)))
        except ValueError:
            pairs.append(("", 0.0))
        if not (pattern and 0 < pairs[-1][1] < 1e6):
            raise UserError(
                f"optim.multipliers: {word!r} must be PATTERN=FACTOR with a positive factor, as "
                "'head/fin/.*=30'"
            )
    return pairs


def _bad_patterns(optim: ConfigDict) -> list[str]:
    patterns = [("freeze", optim.freeze), ("no_decay", optim.no_decay)]
    try:
        patterns += [("multipliers", pattern) for pattern, _ in multipliers(optim.multipliers)]
    except UserError as error:
        return [str(error)]
    problems = []
    for key, pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            problems.append(f"optim.{key}={pattern!r} is no regular expression: {error}")
    return problems


def _without_value(config: ConfigDict, prefix: str = "") -> list[str]:
    problems = []
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            problems += _without_value(value, f"{prefix}{name}.")
        elif value is None:
            problems.append(f"{prefix}{name} is None, which no key may be; leave it out")
    return problems


def _bad_choices(config: ConfigDict) -> list[str]:
    asked = {path: _at(config, path) for path in CHOICES}
    return [
        f"{path}={word!r} is unknown{nearest(str(word), CHOICES[path])}"
        for path, word in asked.items() if word not in CHOICES[path]
    ]  # fmt: skip


def _bad_durations(config: ConfigDict) -> list[str]:
    problems = []
    for path in DURATIONS:
        group, name = path.split(".")
        epochs, steps = config[group][f"{name}_epochs"], config[group][f"{name}_steps"]
        if epochs and steps:
            problems.append(
                f"{path}_epochs={epochs:g} and {path}_steps={steps} give one duration twice; "
                f"set one of them to 0"
            )
        if not (epochs or steps) and name != "warmup":
            problems.append(f"{path}_epochs and {path}_steps are both 0; set one of them")
    return problems


def _bad_numbers(config: ConfigDict) -> list[str]:
    problems = []
    for path, (kind, low, high) in NUMBERS.items():
        value = _at(config, path)
        several, known = isinstance(value, tuple | list), int if kind is int else int | float
        each = value if several else [value]
        if not all(isinstance(v, known) and v is not True and low <= v <= high for v in each):
            what = ("hold " if several else "be a ") + "whole " * (kind is int)
            span = f"from {low:,g} to {high:,g}" if kind is float else f"from {low:,d} to {high:,d}"
            problems.append(f"{path}={value} must {what}number{'s' * several} {span}")
    if config.model.fin.kernel % 2 == 0:
        problems.append(f"model.fin.kernel={config.model.fin.kernel} must be odd")
    return problems


def _bad_data(data: ConfigDict, told: Collection[str]) -> list[str]:
    """Says what else is wrong with the data's keys, once: not of those that were told of."""
    rules: dict[str, tuple[Callable[[Any], bool], str]] = {
        "image_size": (is_size, "be a whole number to 9,999, or two: rows, columns"),
        "mean": (lambda mean: len(mean) in (0, 3), "hold three numbers, or none"),
        "std": (lambda std: len(std) in (0, 3), "hold three positive numbers, or none"),
        "number": (lambda pair: len(pair) == 0 or (len(pair) == 2 and pair[1] > 0),
                   "hold a mean and a positive deviation, or none"),
        "channels": (lambda count: count in (0, 1, 3), "be 1 or 3, or 0 for the data set's own"),
        "classes": (_are_names, "hold different names, or none"),
    }  # fmt: skip
    return [
        f"data.{key}={data[key]} must {how}" for key, (fits, how) in rules.items()
        if f"data.{key}" not in told and not fits(data[key])
    ]  # fmt: skip


def _are_names(classes: Any) -> bool:
    return all(isinstance(name, str) for name in classes) and len({*classes}) == len(classes)


def _at(config: ConfigDict, path: str) -> Any:
    for name in path.split("."):
        config = config[name]
    return config
