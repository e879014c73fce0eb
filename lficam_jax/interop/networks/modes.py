"""How a network is told that it is evaluated, not trained."""

import inspect
from typing import Any

# What networks call it, and what evaluation says.
EVALUATION = {
    "train": False, "training": False, "is_training": False, "deterministic": True,
    "inference": True, "use_running_average": True, "enable_dropout": False,
}  # fmt: skip


def evaluation(network: Any) -> dict[str, bool]:
    """Returns the arguments of a network's `__call__` that say so; `train=False`, as a rule."""
    taken = inspect.signature(type(network).__call__).parameters
    return {name: value for name, value in EVALUATION.items() if name in taken}
