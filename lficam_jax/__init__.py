"""LFI-CAM and its rivals in JAX: classifiers that show where they looked.

import lficam_jax as lfi

run = lfi.load("runs/quickstart")
run.explain("photo.jpg")
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lficam_jax.data import Preprocess
    from lficam_jax.errors import UserError
    from lficam_jax.explaining.explain import explain
    from lficam_jax.explaining.explanation import Explanation
    from lficam_jax.explaining.explanations import Explanations
    from lficam_jax.explaining.layers import layers
    from lficam_jax.explaining.tiles import explain_tiled
    from lficam_jax.explaining.video import explain_video
    from lficam_jax.interop.listing import list_models
    from lficam_jax.measure.measures import Measures
    from lficam_jax.methods import maps_of, targets
    from lficam_jax.models import create_model
    from lficam_jax.run import Predictions, Run, load
    from lficam_jax.training.train import train
    from lficam_jax.workdir.watch import progress

try:
    __version__ = version("lficam_jax")
except PackageNotFoundError:  # a tree that was not installed
    __version__ = "0+unknown"
__all__ = [
    "Explanation",
    "Explanations",
    "Measures",
    "Predictions",
    "Preprocess",
    "Run",
    "UserError",
    "create_model",
    "explain",
    "explain_tiled",
    "explain_video",
    "layers",
    "list_models",
    "load",
    "maps_of",
    "progress",
    "targets",
    "train",
]

# Where each public name lives: it is imported when it is first used, for jax takes a second.
_PLACES = {
    "Explanation": "explaining.explanation",
    "Explanations": "explaining.explanations",
    "Measures": "measure.measures",
    "Predictions": "run",
    "Preprocess": "data.transforms",
    "Run": "run",
    "UserError": "errors",
    "create_model": "models",
    "explain": "explaining.explain",
    "explain_tiled": "explaining.tiles",
    "explain_video": "explaining.video",
    "layers": "explaining.layers",
    "list_models": "interop.listing",
    "load": "run",
    "maps_of": "methods",
    "progress": "workdir.watch",
    "targets": "methods",
    "train": "training.train",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name != "UserError":
        import_module(f"{__name__}.errors").check_platform()
    value = getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
