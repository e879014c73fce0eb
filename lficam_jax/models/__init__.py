"""The one registry of networks."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from lficam_jax.config import nearest
from lficam_jax.errors import UserError
from lficam_jax.models.backbone import Backbone
from lficam_jax.models.classifier import Classifier
from lficam_jax.models.fin import FeatureImportanceNetwork
from lficam_jax.models.heads import LFIHead, PlainHead
from lficam_jax.models.layers import Layers
from lficam_jax.models.resnet import cifar_resnet

BACKBONES: dict[str, Callable[..., Backbone]] = {"cifar_resnet": cifar_resnet}
HEADS = ("plain", "lfi")


def create_model(
    backbone: str, depth: int, head: str = "lfi", *, num_classes: int, dtype: str = "float32",
    axis_name: str | None = None, fin: Mapping[str, Any] | None = None, **options: Any,
) -> Classifier:  # fmt: skip
    """Builds a classifier; calling it gives `structs.Outputs`.

    Args:
      backbone: a key of `BACKBONES`.
      depth: layers of the backbone, in its family's count.
      head: `lfi` (draws its own map) or `plain`.
      num_classes: number of logits.
      dtype: of activations, `float32` or `bfloat16`.
      axis_name: mapped axis over which BatchNorm is synchronised; None: per device.
      fin: options of `FeatureImportanceNetwork`, and `kind` (`learned` or `uniform`) and
        `normalise_features` of the head around it; the paper's are the defaults.
      **options: options of the backbone, for example `block="bottleneck"`.

    Raises:
      UserError: for a name, depth or option that does not exist; it names the nearest.

    Example:
      >>> model = create_model("cifar_resnet", 8, num_classes=10)
      >>> variables = model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
      >>> outputs = model.apply(variables, jnp.ones((2, 32, 32, 3)))
      >>> outputs.logits.shape, outputs.attention.shape, outputs.importance.shape
      ((2, 10), (2, 8, 8), (2, 64))
    """
    if backbone not in BACKBONES:
        raise UserError(f"backbone {backbone!r} is unknown{nearest(backbone, tuple(BACKBONES))}")
    if head not in HEADS:
        raise UserError(f"head {head!r} is unknown{nearest(head, HEADS)}")
    layers = Layers(jnp.dtype(dtype), axis_name)
    parts = BACKBONES[backbone](depth, layers=layers, **options)
    return Classifier(
        trunk=parts.trunk, last_stage=parts.last_stage(parts.stride), final=parts.final,
        head=PlainHead() if head == "plain" else _lfi_head(layers, fin or {}),
        num_classes=num_classes, layers=layers,
    )  # fmt: skip


def _lfi_head(layers: Layers, fin: Mapping[str, Any]) -> LFIHead:
    options = dict(fin)
    kind = options.pop("kind", "learned")
    normalise = options.pop("normalise_features", True)
    network = FeatureImportanceNetwork(layers, **options) if kind == "learned" else None
    return LFIHead(network, normalise_features=normalise)
