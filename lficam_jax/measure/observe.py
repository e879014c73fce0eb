"""One network, looking at pictures as they are and perturbed, while several methods explain it."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from lficam_jax.data import Dataset, normalise
from lficam_jax.devices.parallel import over_rows
from lficam_jax.errors import UserError, nearest
from lficam_jax.explaining.session import Session
from lficam_jax.methods import draw
from lficam_jax.methods.split import split_model
from lficam_jax.metrics import corruptions
from lficam_jax.metrics.robustness import fgsm
from lficam_jax.models.answers import told
from lficam_jax.models.classifier import predict
from lficam_jax.structs import Variables

METHODS = ("own", "grad_cam")  # unless others are asked for
PERTURBATIONS = ("fgsm", *corruptions.CORRUPTIONS)

HostBatch = Mapping[str, np.ndarray]
# Of each image: `image` (normalised), `class` (asked about), `predicted`, its `confidence`, and
# `maps`: by method, [b h w].
Seen = dict[str, Any]


@dataclass(frozen=True)
class Perturbation:
    """What is done to a picture.

    Attributes:
      name: `fgsm`, or a key of `metrics.corruptions.CORRUPTIONS`.
      level: the corruption's severity, or FGSM's epsilon in 255ths.
    """

    name: str
    level: int

    def __str__(self) -> str:
        return f"{self.name} {self.level}{'/255' * (self.name == 'fgsm')}"


def planned(
    names: Sequence[str], severities: Sequence[int], epsilons: Sequence[int]
) -> list[Perturbation]:
    """Returns every perturbation at every level; no names: all.

    Raises:
      UserError: for a name, severity or epsilon that does not exist.
    """
    plan = []
    for name in dict.fromkeys(names or PERTURBATIONS):
        if name not in PERTURBATIONS:
            raise UserError(f"perturbation {name!r} is unknown{nearest(name, PERTURBATIONS)}")
        levels = sorted(set(epsilons if name == "fgsm" else severities))
        for level in levels:
            if name != "fgsm":
                corruptions.check(name, level)
            elif not 0 < level <= 255:
                raise UserError(f"epsilon {level} is no 255th of a pixel's range; give 1 to 255")
        plan += [Perturbation(name, level) for level in levels]
    return plan


class Observer:
    """Perturbs, predicts and draws all the maps of a batch, on all devices; compiled once.

    Args:
      model: the network.
      info: its data set.
      methods: keys of `methods.METHODS`.

    Attributes:
      methods: as given.
    """

    def __init__(self, model: nn.Module, info: Dataset, methods: Sequence[str]) -> None:
        self._info, self.methods = info, tuple(methods)
        self._normalise = over_rows(lambda _, batch: normalise(batch["image"], info))
        self._attack = over_rows(partial(_attacked, model, info))
        self._see = over_rows(partial(_seen, model, self.methods))

    @classmethod
    def of(cls, session: Session) -> Self:
        """Returns the observer of a session: its network, its methods and the trivial ones."""
        return cls(session.run.model, session.info, session.with_trivial(*METHODS))

    def look(
        self,
        variables: Variables,
        batch: HostBatch,
        classes: Int[np.ndarray, " b"] | None = None,
        perturbation: Perturbation | None = None,
    ) -> Seen:
        """Looks at a batch of `Sample.batches`, after it was perturbed.

        Args:
          variables: of the network.
          batch: its size is a multiple of the devices.
          classes: to explain; default: the predicted ones.
          perturbation: what happens to the pictures first. FGSM raises the loss of the true label;
            grey pictures stay grey.

        Returns:
          See `Seen`. The map of method `random` is drawn afresh for every perturbation.
        """
        pixels = batch["image"]
        if perturbation is not None and perturbation.name != "fgsm":
            pixels = self._corrupted(pixels, batch["id"], perturbation)
        images = self._normalise({}, {"image": pixels})
        if perturbation is not None and perturbation.name == "fgsm":
            epsilons = np.full(len(pixels), perturbation.level / 255, np.float32)
            asked = {"image": images, "label": batch["label"], "epsilon": epsilons}
            images = self._attack(variables, asked)
        each = np.full(len(pixels), zlib.crc32(str(perturbation).encode()) >> 1, np.int32)
        asked = {
            "image": images, "id": batch["id"], "perturbation": each,
            "class": np.full(len(pixels), -1, np.int32) if classes is None else classes,
        }  # fmt: skip
        return dict(self._see(variables, asked)) | {"image": images}

    def _corrupted(self, pixels: np.ndarray, ids: np.ndarray, what: Perturbation) -> np.ndarray:
        channels = self._info.channels  # fitted pictures have three, also if the data are grey
        found = [
            corruptions.corrupt(one[..., :channels], what.name, what.level, example=int(i))
            for one, i in zip(pixels, ids, strict=True)
        ]
        return np.broadcast_to(found, pixels.shape)


def _attacked(model: nn.Module, info: Dataset, variables: Variables, asked: Any) -> Array:
    def loss(images: Array, labels: Array) -> Array:
        logs = jax.nn.log_softmax(predict(model, variables, images).logits.astype(jnp.float32))
        return -jnp.take_along_axis(logs, labels[:, None], axis=1)[:, 0]

    return fgsm(
        loss, asked["image"], asked["label"], mean=info.mean, std=info.std,
        epsilon=asked["epsilon"], grey=info.channels == 1,
    )  # fmt: skip


def _seen(model: nn.Module, names: Sequence[str], variables: Variables, asked: Any) -> Seen:
    split = split_model(model, variables, asked["image"])
    share = told(split.kind, split.answers())
    predicted = jnp.argmax(share, axis=1)
    chosen = jnp.where(asked["class"] < 0, predicted, asked["class"])
    seeds = jax.vmap(partial(jax.random.fold_in, jax.random.key(0)))(asked["id"])
    keys = jax.vmap(jax.random.fold_in)(seeds, asked["perturbation"])
    return {
        "class": chosen, "predicted": predicted, "confidence": share.max(axis=1),
        "maps": {name: draw(name, split, chosen, key=keys) for name in names},
    }  # fmt: skip
