"""A backbone of the user's own: any flax module from images to a feature map."""

import inspect
from typing import Any

import flax.linen as nn
from jaxtyping import Array, Float

from lficam_jax.errors import UserError, brief
from lficam_jax.models.backbone import Backbone, is_default


class OwnTrunk(nn.Module):
    """Calls the user's module, with `train` if it takes that, and checks what comes back."""

    module: nn.Module

    @nn.compact
    def __call__(self, images: Float[Array, "b y x c"], *, train: bool) -> Float[Array, "b h w d"]:
        takes_train = "train" in inspect.signature(type(self.module).__call__).parameters
        features: Array = self.module(images, **({"train": train} if takes_train else {}))
        shape = getattr(features, "shape", None)
        if shape is None or len(shape) != 4:
            what = f"shape {list(shape)}" if shape is not None else f"a {type(features).__name__}"
            raise UserError(
                f"the backbone {type(self.module).__name__} returned {what}; a head needs a "
                f"feature map [b h w d]: return it before pooling and without logits"
            )
        return features


class Identity(nn.Module):
    """The last stage of a backbone that is in one piece."""

    def __call__(self, x: Float[Array, "b h w d"], *, train: bool) -> Float[Array, "b h w d"]:
        """Returns x."""
        return x


def own_backbone(
    module: nn.Module, depth: int | None, head: str, options: dict[str, Any]
) -> Backbone:
    """Wraps a module that maps images to features; it has no last stage of its own.

    Raises:
      UserError: if `module` is not a flax module, or something is asked of it that only a
        registered family has.
    """
    if not isinstance(module, nn.Module):
        raise UserError(
            f"backbone must be a name ('resnet', say) or a flax.linen module, not {brief(module)}"
        )
    if head == "abn":
        raise UserError(
            "head 'abn' needs a backbone in two pieces (it copies the last stage), and a module of "
            "your own is in one; use head 'lfi' or 'plain', or return a models.backbone.Backbone "
            "from a function in models.BACKBONES"
        )
    given = [name for name, value in {"depth": depth, **options}.items() if not is_default(value)]
    if given:
        raise UserError(f"a backbone of your own takes no {', '.join(given)}; set it in the module")
    return Backbone(trunk=OwnTrunk(module), last_stage=lambda stride: Identity(), stride=1)
