"""Builders that write TFDS data sets without TensorFlow; TFDS's stock reader reads the result."""

import importlib
from typing import Any

import numpy as np

# Data set -> module and class. Imported on demand: they need tensorflow_datasets.
BUILDERS = {
    "cluttered_digits": "cluttered_digits.Builder",
    "two_digits": "cluttered_digits.TwoDigits",
    "fashion_mnist": "fashion_mnist.Builder",
    "cifar10": "cifar.Cifar10",
    "cifar100": "cifar.Cifar100",
    "svhn_cropped": "svhn_cropped.Builder",
    "stl10": "stl10.Builder",
    "elpv": "elpv.Builder",
}


def builder_class(name: str) -> Any:
    """Returns the builder of a data set; its `FILES` are the original archives that it reads.

    One whose originals are no archives has `bring(folder or None)`, which finds and checks them.
    """
    module, attribute = BUILDERS[name].split(".")
    return getattr(importlib.import_module(f"{__name__}.{module}"), attribute)


def sources(name: str, split: str) -> np.ndarray | None:
    """Returns which source each example of a split was made of, int `[n]`, by its id.

    None for data sets whose examples are of one source each. Examples of one source are clustered:
    their errors come together, and intervals that take them for independent are too narrow.
    """
    if name not in BUILDERS:
        return None
    module = importlib.import_module(f"{__name__}.{BUILDERS[name].split('.')[0]}")
    found: np.ndarray | None = module.sources(name, split) if hasattr(module, "sources") else None
    return found
