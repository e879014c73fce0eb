"""What a network is cut by: as ours tell it themselves, or at a layer of any other."""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array

from lficam_jax.errors import UserError, brief
from lficam_jax.explaining.look import Ours, Source
from lficam_jax.interop.networks import name_of, network_of
from lficam_jax.interop.networks.cut import Cut
from lficam_jax.models.classifier import Classifier, predict
from lficam_jax.structs import Outputs


def source_of(
    network: Any, beside: tuple[Any, ...], image_shape: tuple[int, ...], *, layer: Any = None,
    reshape: Callable[[Array], Array] | None = None,
    attentions: Callable[[Array], Sequence[Array]] | None = None, layout: str = "",
) -> tuple[Source, Any]:  # fmt: skip
    """Returns a network, cut, and its weights; the arguments are those of `explain`.

    Raises:
      UserError: for what is no network, or a layer that is none of its layers or has no map.
    """
    for what, given in (("reshape", reshape), ("attentions", attentions)):
        if given is not None and not callable(given):
            raise UserError(f"{what} must be a function, not {brief(given)}")
    whole = layer is None and reshape is None and attentions is None and not layout
    if whole and _is_ours(network, beside, image_shape):
        return Ours(network), beside[0]
    found, weights = network_of(network, beside, image_shape, layout)
    several = layer if isinstance(layer, list | tuple) else () if layer is None else (layer,)
    layers = tuple(dict.fromkeys(name_of(network, one) for one in several))
    cut = Cut(found, layers, reshape, attentions)
    cut.check(weights, image_shape)
    return cut, weights


def _is_ours(network: Any, beside: tuple[Any, ...], image_shape: tuple[int, ...]) -> bool:
    """Tells networks that say themselves what their classifier takes, in `structs.Outputs`."""
    if isinstance(network, Classifier):
        return len(beside) == 1
    if not isinstance(network, nn.Module) or len(beside) != 1:
        return False
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    try:
        answers = jax.eval_shape(lambda v, x: predict(network, v, x), beside[0], images)
    except Exception:  # whatever it says to train=False, or to these variables
        return False
    return isinstance(answers, Outputs)
