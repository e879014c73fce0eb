"""The one registry of networks."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from lficam_jax.config import CHOICES
from lficam_jax.errors import (
    UserError,
    brief,
    check_flag,
    check_whole,
    check_word,
    is_number,
    nearest,
)
from lficam_jax.models.answers import check_answers
from lficam_jax.models.backbone import Backbone, is_default
from lficam_jax.models.classifier import Classifier
from lficam_jax.models.convnext import convnext
from lficam_jax.models.densenet import cifar_densenet, densenet
from lficam_jax.models.efficientnet_lite import efficientnet_lite
from lficam_jax.models.fin import FeatureImportanceNetwork
from lficam_jax.models.heads import TIED, ABNHead, ClasswiseHead, LFIHead, PlainHead
from lficam_jax.models.layers import Layers
from lficam_jax.models.mobilenet import mobilenet
from lficam_jax.models.own import own_backbone
from lficam_jax.models.resnet import cifar_resnet, resnet, se_resnet
from lficam_jax.models.resnext import cifar_resnext
from lficam_jax.models.vgg import vgg
from lficam_jax.models.wide_resnet import wide_resnet

BACKBONES: dict[str, Callable[..., Backbone]] = {
    "cifar_resnet": cifar_resnet,
    "cifar_densenet": cifar_densenet,
    "cifar_resnext": cifar_resnext,
    "wide_resnet": wide_resnet,
    "resnet": resnet,
    "se_resnet": se_resnet,
    "densenet": densenet,
    "vgg": vgg,
    "mobilenet": mobilenet,
    "efficientnet_lite": efficientnet_lite,
    "convnext": convnext,
}
FIN_DEFAULTS = {"kind": "learned", "normalise_features": True, "mask_image": True}


def create_model(
    backbone: str | nn.Module, depth: int | None = None, head: str = "lfi", *, num_classes: int,
    loss: str = "softmax", number: tuple[float, float] = (0.0, 1.0), dtype: str = "float32",
    axis_name: str | None = None, remat: bool = False, fin: Mapping[str, Any] | None = None,
    abn: Mapping[str, Any] | None = None, plain: Mapping[str, Any] | None = None,
    classwise: Mapping[str, Any] | None = None, **options: Any,
) -> Classifier:  # fmt: skip
    """Builds a classifier; calling it gives `structs.Outputs`.

    Args:
      backbone: a key of `BACKBONES`, or any flax module that maps images to features `[b h w d]`
        (called with `train=` if it takes that argument); it is in one piece, so head `abn` is out.
      depth: layers of the backbone, in its family's count.
      head: `lfi` (draws its map), `classwise` (one of each class), `abn` (a branch) or `plain`.
      num_classes: outputs of the linear classifier.
      loss: what they mean: `softmax`, one class; `sigmoid`, labels, or of one output one class of
        two; `regression`, numbers, whose mean and deviation are `number`.
      dtype: of activations, `float32` or `bfloat16`.
      axis_name: mapped axis over which BatchNorm is synchronised; None: per device.
      remat: the gradient computes the inside of blocks again: less memory, a third more work.
      fin: options of `FeatureImportanceNetwork`, and `kind` (`CHOICES["model.fin.kind"]`),
        `normalise_features`, `mask_image` of the head; `relu_every=0` is the backbone's own.
      abn, plain, classwise: options of `ABNHead`, `loss`, of `PlainHead`, `scale`, and of
        `ClasswiseHead`, `look`, `temperature` and `detach`.
      **options: of the backbone, `block="bottleneck"` say; 0, None, `auto`: the family's default.

    Raises:
      UserError: for a name, depth or option that does not exist; it names the nearest.

    Example:
      >>> import jax
      >>> model = create_model("cifar_resnet", 8, num_classes=10)
      >>> variables = model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
      >>> outputs = model.apply(variables, jnp.ones((2, 32, 32, 3)))
      >>> outputs.logits.shape, outputs.attention.shape, outputs.importance.shape
      ((2, 10), (2, 8, 8), (2, 64))
    """
    num_classes = check_whole("num_classes", num_classes)
    check_word("head", head, CHOICES["model.head"])
    check_word("dtype", str(dtype), CHOICES["model.dtype"])
    number = check_answers(loss, number)
    check_flag("remat", remat)
    if not isinstance(axis_name, str | None):
        raise UserError(f"axis_name must be the name of a mapped axis, not {brief(axis_name)}")
    layers = Layers(jnp.dtype(dtype), axis_name, remat)
    if isinstance(backbone, str):
        parts = _registered(backbone, depth, head, layers, options)
    else:
        parts = own_backbone(backbone, depth, head, {"remat": remat, **options})
    if reads := _reads_classifier(head, fin := _options("fin", fin)):
        _check_reading(reads, backbone, parts.flattens, head, loss)
    return Classifier(
        trunk=parts.trunk, last_stage=parts.last_stage(parts.stride), final=parts.final,
        head=_head(head, parts, layers, num_classes, fin=fin, abn=_options("abn", abn),
                   plain=_options("plain", plain), classwise=_options("classwise", classwise),
                   says=(loss, number)),
        num_classes=num_classes, layers=layers, loss=loss, number=number,
        final_before_head=parts.final_before_head or bool(reads),
    )  # fmt: skip


def _check_reading(reads: str, backbone: Any, flattens: bool, head: str, loss: str) -> None:
    """Raises a UserError where the classifier's weights cannot weigh the channels."""
    if flattens:
        raise UserError(
            f"{reads} reads its map off a linear classifier, and {backbone} has more between its "
            "features and its classes than pooling; use head 'plain', head 'lfi' with "
            "fin.kind='learned' or 'uniform', or another backbone"
        )
    if head == "lfi" and loss == "regression":
        raise UserError(
            f"{reads} weighs channels by how likely each class is, and loss='regression' has none; "
            "use fin: kind='learned', or head 'classwise'"
        )


def _reads_classifier(head: str, fin: Mapping[str, Any]) -> str:
    """Names what weighs the channels by the classifier's weights; '' if nothing does.

    The channels must then be those that the classifier pools: DenseNet's BN and ReLU come first.
    """
    if head == "lfi":
        return f"fin.kind={fin['kind']}" if fin.get("kind") in TIED else ""
    return "head 'classwise'" if head == "classwise" else ""


def _options(name: str, given: Any) -> Mapping[str, Any]:
    if given is not None and not isinstance(given, Mapping):
        raise UserError(f"{name} must be a dict of options, not {brief(given)}")
    return given or {}


def _registered(
    name: str, depth: int | None, head: str, layers: Layers, options: dict[str, Any]
) -> Backbone:
    check_word("backbone", name, BACKBONES)
    if depth is None:
        raise UserError(f"backbone {name!r} needs a depth, for example create_model({name!r}, 20)")
    depth, build = check_whole("depth", depth, 0), BACKBONES[name]
    known = dict(list(inspect.signature(build).parameters.items())[1:-1])  # all but depth, layers
    given = {k: v for k, v in options.items() if not is_default(v)}
    for foreign in [k for k in given if k not in known]:
        raise UserError(f"{name} has no option {foreign!r}{nearest(foreign, tuple(known))}")
    for option in given:
        if isinstance(known[option].default, int):
            given[option] = check_whole(option, given[option])
    if "stem_stride" in known and head in ("lfi", "classwise"):
        given.setdefault("stem_stride", 1)  # the released networks: a 14x14 map, not 7x7
    return build(depth, **given, layers=layers)


def _head(
    name: str, parts: Backbone, layers: Layers, num_classes: int, *,
    fin: Mapping[str, Any], abn: Mapping[str, Any], plain: Mapping[str, Any],
    classwise: Mapping[str, Any], says: tuple[str, tuple[float, float]],
) -> nn.Module:  # fmt: skip
    if name == "plain":
        for option in plain:
            check_word("plain: the option", option, ("scale",))
        scale = plain.get("scale", 1.0)
        if not is_number(scale) or scale <= 0:
            raise UserError(f"plain: scale={brief(scale)} must be a positive number")
        return PlainHead(float(scale))
    if name == "abn":
        for option in abn:
            check_word("abn: the option", option, ("loss",))
        loss = abn.get("loss", "both")
        check_word("abn: loss", loss, CHOICES["model.abn.loss"])
        return ABNHead(parts.last_stage(1), num_classes, layers, loss, *says)
    if name == "classwise":
        return _classwise_head(classwise)
    return _lfi_head(layers, parts.relu_every, fin)


def _lfi_head(layers: Layers, relu_every: int, fin: Mapping[str, Any]) -> LFIHead:
    fields = {f.name: f.default for f in dataclasses.fields(FeatureImportanceNetwork)}
    for foreign in ("layers", "parent", "name"):
        del fields[foreign]
    known = {**FIN_DEFAULTS, **fields}
    for name, value in fin.items():
        check_word("fin: the option", name, known)
        _check_fin(name, value, known[name])
    options = {**FIN_DEFAULTS, **fin}
    around = {name: options.pop(name) for name in FIN_DEFAULTS}
    kind = around["kind"]
    options["relu_every"] = options.get("relu_every") or relu_every
    network = FeatureImportanceNetwork(layers, **options) if kind == "learned" else None
    return LFIHead(network, **around)


def _classwise_head(given: Mapping[str, Any]) -> ClasswiseHead:
    options: dict[str, Any] = {"look": "relu", "temperature": 1.0, "detach": False} | dict(given)
    for name in given:
        check_word("classwise: the option", name, ("look", "temperature", "detach"))
    check_word("classwise: look", options["look"], CHOICES["model.classwise.look"])
    check_flag("classwise: detach", options["detach"])
    if not is_number(options["temperature"]) or options["temperature"] <= 0:
        raise UserError(
            f"classwise: temperature={brief(options['temperature'])} must be a positive number"
        )
    return ClasswiseHead(**options)


def _check_fin(name: str, value: Any, default: Any) -> None:
    """Raises a UserError for a value that the option of FIN cannot have."""
    what = f"fin: {name}"
    if isinstance(default, bool):
        check_flag(what, value)
    elif isinstance(default, int):
        check_whole(what, value, 0 if name in ("width", "relu_every") else 1)
        if name == "kernel" and value % 2 == 0:
            raise UserError(f"{what}={value} must be odd")
    elif isinstance(default, str):
        check_word(what, value, CHOICES["model.fin.kind"])
    elif not is_number(value) or value <= 0:
        raise UserError(f"{what}={brief(value)} must be a positive number")
