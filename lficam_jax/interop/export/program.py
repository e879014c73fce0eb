"""The function that is exported: pictures in; logits, probabilities and a map out."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, UInt8

from lficam_jax import methods, structs
from lficam_jax.data import Dataset, dataset_info, normalise
from lficam_jax.errors import UserError
from lficam_jax.interop.export import pixels
from lficam_jax.methods.split import split_model
from lficam_jax.models.answers import kind_of, told
from lficam_jax.models.geometry import places

OUTPUTS = ("logits", "probabilities", "map")


@dataclass(frozen=True)
class Program:
    """What an export computes.

    Attributes:
      call: uint8 pictures `[b y x 3]` of one size to `{"logits": [b k], "probabilities": [b k],
        "map": [b h w]}`, float32; b, y and x may be symbolic.
      method: the map's name.
      about: what a reader needs beside it, as JSON: classes, what the network sees of a picture,
        where the map's cells lie.
    """

    call: Callable[[UInt8[Array, "b y x 3"]], dict[str, Array]]
    method: str
    about: dict[str, Any]


def program(run: structs.Run) -> Program:
    """Returns what `run` computes of pictures, with how they are fed to it.

    The map is the network's own; of a network without one it is Grad-CAM's of the predicted class.

    Raises:
      UserError: if pictures are scaled by a filter that cannot be exported; of a predicted number.
    """
    info, kind = dataset_info(run.config.data), kind_of(run.model)
    if kind == "number":
        raise UserError("a network that predicts a number (model.loss=regression) is not exported")
    method = "grad_cam" if run.config.model.head == "plain" else "own"

    def call(images: UInt8[Array, "b y x 3"]) -> dict[str, Array]:
        fed = normalise(pixels.fit(images, info), info)
        split = split_model(run.model, run.variables, fed)
        logits = jnp.asarray(split.logits, jnp.float32)
        drawn = methods.draw(method, split)
        return {"logits": logits, "probabilities": told(kind, logits), "map": drawn}

    return Program(call, method, _about(run, info, method))


def _about(run: structs.Run, info: Dataset, method: str) -> dict[str, Any]:
    lie = places(run.model, info.size, run.config.explain.align)
    shapes = jax.eval_shape(
        lambda x: split_model(run.model, run.variables, x).unattended,
        jax.ShapeDtypeStruct((1, *info.size, 3), jnp.float32),
    )
    place = methods.place_of(method, shapes.shape[1:3], lie)
    return {
        "network": run.title, "step": run.step, "classes": list(info.classes), "method": method,
        "image_size": list(info.size), "fit": info.fit, "crop_share": info.crop_share,
        "place": None if place is None else [list(axis) for axis in place],
    }  # fmt: skip
