"""Heads: each is the wiring from images and trunk features to `Outputs`, readable top to bottom."""

from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from lficam_jax.models.fin import FeatureImportanceNetwork
from lficam_jax.ops import maps
from lficam_jax.structs import Outputs

LastStage = Callable[[Float[Array, "b h w e"]], Float[Array, "b h w d"]]
Classify = Callable[[Float[Array, "b h w d"]], Float[Array, "b k"]]


class PlainHead(nn.Module):
    """No attention: features are pooled and classified. CAM and Grad-CAM are computed on it."""

    def __call__(
        self, images: Float[Array, "b y x 3"], trunk_features: Float[Array, "b h w e"],
        last_stage: LastStage, classify: Classify, *, train: bool,
    ) -> Outputs:  # fmt: skip
        """Returns logits and features."""
        features = last_stage(trunk_features)
        return Outputs(logits=classify(features), features=features, attended=features)


class LFIHead(nn.Module):
    """LFI-CAM: FIN weighs the channels, their weighted sum is the map, the map gates the features.

    The map is not detached: gradients of the loss flow through it into FIN and backbone. It is
    class-agnostic: one map per image.

    Attributes:
      fin: None gives every channel the same importance (`fin.kind=uniform`).
      normalise_features: scale each channel to [0, 1] before it is masked with the grey image.
    """

    fin: FeatureImportanceNetwork | None
    normalise_features: bool = True

    @nn.compact
    def __call__(
        self, images: Float[Array, "b y x 3"], trunk_features: Float[Array, "b h w e"],
        last_stage: LastStage, classify: Classify, *, train: bool,
    ) -> Outputs:  # fmt: skip
        """Returns logits, features, the map and the importance of the channels."""
        features = last_stage(trunk_features)
        importance = self._importance(images, features, train=train)
        attention = maps.min_max(maps.weighted_map(features, importance))
        attended = maps.attend(features, attention)
        return Outputs(
            logits=classify(attended), features=features, attended=attended,
            attention=attention, importance=importance,
        )  # fmt: skip

    def _importance(
        self, images: Float[Array, "b y x 3"], features: Float[Array, "b h w d"], *, train: bool
    ) -> Float[Array, "b d"]:
        batch, *size, channels = features.shape
        if self.fin is None:
            return jnp.full((batch, channels), 1 / channels, jnp.float32)
        channel_maps = maps.normalise_features(features) if self.normalise_features else features
        masks = channel_maps * maps.grey(images, tuple(size))[..., None]
        return self.fin(masks, train=train)
