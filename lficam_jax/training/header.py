"""What a run is, told before its first step: one aligned line each, as soon as it is known."""

from collections.abc import Mapping
from pathlib import Path

import jax
from ml_collections import ConfigDict

from lficam_jax.data import Pipeline, counts
from lficam_jax.structs import Variables
from lficam_jax.workdir.origin import told_hardware, told_versions
from lficam_jax.workdir.progress import say


def tell_place(config: ConfigDict, workdir: Path | str) -> None:
    """Says where the run is, and what it runs on."""
    _line("workdir", str(workdir))
    _line("versions", told_versions())
    _line("devices", f"{told_hardware()}; {config.parallel.mode}")


def tell_data(config: ConfigDict, splits: Mapping[str, Pipeline]) -> None:
    """Says what is trained on, and how much of it there is."""
    data = splits["train"]
    place = "on the devices" if data.resident else "read as they are needed"
    size = data.dataset.image_size
    text = f"{data.dataset.name}, {len(data.classes)} classes at {size}x{size}"
    _line("data", f"{text}, {place}")
    for line in counts.told(splits, config.train.batch_size):
        _line("", line)


def tell_network(
    config: ConfigDict, variables: Variables, total_steps: int, data: Pipeline
) -> None:  # fmt: skip
    """Says what is trained, for how long, and how."""
    model, optim = config.model, config.optim
    count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    kind = f"{model.backbone}-{model.depth}, {model.head} head, {model.dtype}"
    _line("network", f"{kind}; {count:,} parameters")
    epochs = round(total_steps / data.steps_per_epoch, 2)
    passes = f"{epochs:,g} epoch{'s' * (epochs != 1)}"
    length = f"{total_steps:,} steps of {data.batch_size} images ({passes})"
    _line("training", f"{length}; {optim.name}, learning rate {optim.lr:g}, {optim.schedule}")


def _line(name: str, text: str) -> None:
    say(f"{name:<9} {text}")
