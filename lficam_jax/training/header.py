"""What a run is, told before its first step: one aligned line each, as soon as it is known."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import jax
from ml_collections import ConfigDict

from lficam_jax.config import duration
from lficam_jax.config.size import told
from lficam_jax.data import Pipeline, counts
from lficam_jax.structs import Variables
from lficam_jax.training.experiment import Recipe
from lficam_jax.training.optim import WARMUP_SHARE
from lficam_jax.workdir.origin import told_hardware, told_versions
from lficam_jax.workdir.progress import say

FEW_PICTURES, FEW_STEPS, ENOUGH_STEPS = 1000, 200, 1000  # of a training from first weights


def tell_place(config: ConfigDict, workdir: Path | str) -> None:
    """Says where the run is, and what it runs on."""
    _line("workdir", str(workdir))
    _line("versions", told_versions())
    _line("devices", f"{told_hardware()}; {config.parallel.mode}")


def tell_data(config: ConfigDict, splits: Mapping[str, Pipeline]) -> None:
    """Says what is trained on, and how much of it there is."""
    data = splits["train"]
    place = "on the devices" if data.resident else "read as they are needed"
    size = told(data.dataset.image_size)
    text = f"{data.dataset.name}, {counts.answers(data.dataset)} at {size}"
    _line("data", f"{text}, {place}")
    for line in counts.told(splits, config.train.batch_size):
        _line("", line)


def tell_network(
    config: ConfigDict, variables: Variables, recipe: Recipe, data: Pipeline
) -> None:  # fmt: skip
    """Says what is trained, for how long, and how; and what speaks against its learning much."""
    model, optim = config.model, config.optim
    count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    loss = f"{model.loss} loss, " if model.loss != "softmax" else ""
    kind = f"{model.backbone}-{model.depth}, {model.head} head, {loss}{model.dtype}"
    _line("network", f"{kind}; {count:,} parameters")
    epochs = round(recipe.total_steps / data.steps_per_epoch, 2)
    passes = f"{epochs:,g} epoch{'s' * (epochs != 1)}"
    length = f"{recipe.total_steps:,} steps of {data.batch_size} images ({passes})"
    _line("training", f"{length}; {optim.name}, learning rate {optim.lr:g}, {optim.schedule}")
    for line in [*_warm_up(optim, recipe, data.steps_per_epoch), *_doubts(config, recipe, data)]:
        _line("", line)


def _warm_up(optim: ConfigDict, recipe: Recipe, steps_per_epoch: int) -> Iterator[str]:
    asked = duration(optim, "warmup", steps_per_epoch)
    if recipe.warmup_steps < asked:
        yield (
            f"the warm-up takes {recipe.warmup_steps} steps instead of {asked}: at most "
            f"{WARMUP_SHARE:.0%} of all"
        )


def _doubts(config: ConfigDict, recipe: Recipe, data: Pipeline) -> Iterator[str]:
    """Says what makes a training from first weights end with nothing learnt, and what to do."""
    if config.init_from or data.dataset.name == "synthetic":
        return
    if data.examples < FEW_PICTURES:
        yield (
            f"{data.examples} pictures are few to train a network from scratch: start from "
            "a run trained on more, --config.init_from=RUN with a lower --config.optim.lr, or take "
            "a small network (docs/usage.md: Few pictures)"
        )
    if recipe.total_steps < FEW_STEPS:
        enough = -(-ENOUGH_STEPS // data.steps_per_epoch)
        yield (
            f"{recipe.total_steps} steps are too few to learn much: for about {ENOUGH_STEPS:,}, "
            f"say --config.train.total_epochs={enough}; smaller batches make more of an epoch"
        )


def _line(name: str, text: str) -> None:
    say(f"{name:<9} {text}")
