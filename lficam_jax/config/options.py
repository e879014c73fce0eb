"""What config files are written with: options, `smoke`, and the one rule for durations."""

from typing import Any

from ml_collections import ConfigDict

from lficam_jax.config.size import as_size, sides
from lficam_jax.errors import UserError, nearest


def options(arg: str, **defaults: Any) -> tuple[ConfigDict, bool]:
    """Parses what follows the colon in `--config file.py:arg`.

    Args:
      arg: `name=value` pairs and the word `smoke`, between commas or colons, for example
        `depth=110,head=plain:smoke`.
      **defaults: the options that this config file knows; a value keeps its default's type.

    Returns:
      The options, and whether `smoke` was among the words.

    Raises:
      UserError: for a word that is neither.
    """
    parsed, smoke_wanted = dict(defaults), False
    for word in filter(None, arg.replace(":", ",").split(",")):
        name, _, value = word.partition("=")
        if word == "smoke":
            smoke_wanted = True
        elif name in defaults and value:
            kind = type(defaults[name])
            try:
                parsed[name] = kind(value)
            except ValueError as error:
                raise UserError(f"config option {word} is not of type {kind.__name__}") from error
        else:
            known = ["smoke", *(f"{n}=…" for n in defaults)]
            raise UserError(f"config option {word!r} is unknown here{nearest(name, known)}")
    return ConfigDict(parsed), smoke_wanted


_SMALL: dict[str, dict[str, Any]] = {
    "cifar_resnet": {"depth": 8}, "cifar_densenet": {"depth": 10}, "se_resnet": {"depth": 50},
    "cifar_resnext": {"depth": 11, "cardinality": 2, "widen": 1}, "densenet": {"depth": 121},
    "wide_resnet": {"depth": 10, "widen": 1}, "efficientnet_lite": {"depth": 0}, "resnet": {},
    "vgg": {"depth": 11}, "mobilenet": {"depth": 2}, "convnext": {"depth": 18},
}  # fmt: skip


def smoke(config: ConfigDict) -> ConfigDict:
    """Shrinks any config to seconds: the whole program runs, nothing is learnt.

    Pictures are drawn unless `data.dir` or `data.folder` says where real ones lie; they are small,
    and the network is the least of its family.
    """
    model = config.model
    if model.backbone == "cifar_resnet" and model.block == "auto" and model.depth >= 44:
        model.block = "bottleneck"  # of the depth that it had
    model.update(_SMALL[model.backbone])
    if model.backbone == "resnet":
        model.depth = 18 if model.depth < 50 else 50
    if not model.backbone.startswith(("cifar_", "wide_")):
        model.fin.width = 32
    if config.model.loss != "softmax" and config.data.name == "folder":
        config.data.labels = "number" if config.model.loss == "regression" else "several"
    config.data.synthetic, config.data.train_examples = True, 64
    rows, columns = sides(config.data.image_size)
    config.data.image_size = as_size((min(rows, 48), min(columns, 48)))
    config.train.batch_size, config.eval.batch_size = 16, 16
    config.train.total_epochs, config.train.total_steps = 0.0, 4
    config.train.log_every_steps, config.explain.limit = 1, 8
    config.optim.warmup_epochs, config.optim.warmup_steps = 0.0, 1
    config.eval.every_epochs, config.eval.every_steps = 0.0, 2
    return config


def finish(config: ConfigDict, smoke_wanted: bool) -> ConfigDict:
    """Ends every config file: applies `smoke` last."""
    return smoke(config) if smoke_wanted else config


def duration(group: ConfigDict, name: str, steps_per_epoch: int) -> int:
    """Returns the duration `name` in steps, given as `{name}_epochs` or `{name}_steps`."""
    steps: int = group[f"{name}_steps"]
    return steps or round(group[f"{name}_epochs"] * steps_per_epoch)
