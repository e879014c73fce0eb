"""Networks of any framework, cut at any layer: Flax Linen and NNX, Equinox, a pair of functions."""

import sys
from typing import Any

import flax.linen as nn
from flax import nnx

from lficam_jax.errors import UserError, brief
from lficam_jax.interop.networks import flax_linen, flax_nnx
from lficam_jax.interop.networks.functions import Functions
from lficam_jax.interop.networks.network import Framework, Network, fitted

__all__ = ["Network", "name_of", "network_of"]


def network_of(
    network: Any, beside: tuple[Any, ...], image_shape: tuple[int, ...], layout: str = ""
) -> tuple[Network, Any]:
    """Returns a network as what is compiled, and its weights as what that is called with.

    Args:
      network: a Linen, NNX or Equinox module, or two functions `(features, classify)`.
      beside: what the framework keeps beside the module: Linen's variables, Equinox's state.
      image_shape: y, x and c of what it is fed.
      layout: how it takes images: `NHWC`, `NCHW`, or `HWC`, `CHW` one at a time; default: as it
        can.

    Raises:
      UserError: for anything else, or a network that cannot be fed so.
    """
    framework, weights = _framework(network, beside)
    return fitted(framework, weights, image_shape, layout), weights


def name_of(network: Any, layer: Any) -> str:
    """Returns the name of a layer that was given as `a/0/b`, `a[0].b` or the submodule itself.

    Raises:
      UserError: for what is neither a name nor one of the network's own submodules.
    """
    if isinstance(layer, str):
        return layer.replace("[", "/").replace("]", "").replace(".", "/").strip("/")
    if isinstance(network, nn.Module):
        found = flax_linen.name_of(network, layer)
    elif isinstance(network, nnx.Module):
        found = flax_nnx.name_of(network, layer)
    elif (equinox := _equinox()) is not None and isinstance(network, equinox.Module):
        from lficam_jax.interop.networks.equinox_module import name_of

        found = name_of(network, layer)
    else:
        found = None
    if not found:
        raise UserError(
            f"layer must be a name, or a submodule of the network itself, not {brief(layer)}"
        )
    return found


def _framework(network: Any, beside: tuple[Any, ...]) -> tuple[Framework, Any]:
    if isinstance(network, nn.Module):
        if len(beside) != 1:
            raise UserError(
                "Flax Linen keeps the weights beside the module: give (model, variables, images)"
            )
        return flax_linen.Linen.of(network, beside[0])
    equinox = _equinox()
    if equinox is not None and isinstance(network, equinox.Module):
        from lficam_jax.interop.networks.equinox_module import Equinox

        return Equinox.of(network, beside)
    pair = isinstance(network, tuple | list) and len(network) == 2 and all(map(callable, network))
    if not pair and not isinstance(network, nnx.Module):
        raise UserError(
            "network must be a module of Flax Linen (with its variables), Flax NNX or Equinox, or "
            f"two functions (features, classify), not {brief(network)}"
        )
    if beside:
        raise UserError(
            "give (network, images): only networks of Flax Linen have variables beside them, and "
            f"this is {'a pair of functions' if pair else 'one of NNX'}"
        )
    return (Functions(*network), ()) if pair else flax_nnx.NNX.of(network)


def _equinox() -> Any:
    """Returns the package, if whoever made a network with it has imported it."""
    return sys.modules.get("equinox")
