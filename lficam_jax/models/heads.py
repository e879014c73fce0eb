"""Heads: each is the wiring from images and trunk features to `Outputs`, readable top to bottom."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lficam_jax.models.fin import FeatureImportanceNetwork
from lficam_jax.models.layers import Layers
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
      normalise_features: scale each channel to [0, 1] before it masks the grey image.
      mask_image: False shows FIN the channels themselves, not the grey image that they mask.
    """

    fin: FeatureImportanceNetwork | None
    normalise_features: bool = True
    mask_image: bool = True

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
        if self.mask_image:
            channel_maps = channel_maps * maps.grey(images, size)[..., None]
        return self.fin(channel_maps, train=train)


class ABNHead(nn.Module):
    """Attention Branch Network (Fukui et al., CVPR 2019): a second last stage draws the map.

    The attention branch classifies, too; its map gates the trunk's features on their way to the
    last stage and the classifier (the perception branch).

    Attributes:
      attention_stage: the last stage again, at stride 1, with weights of its own.
      num_classes: number of logits of either branch.
      layers: conventions of the network.
      loss: `both` trains both branches, as the paper. `perception` and `attention` are the
        baselines with one loss: the named branch gives `logits`, and `attention_logits` is None.
    """

    attention_stage: nn.Module
    num_classes: int
    layers: Layers
    loss: str = "both"

    LOSSES = ("both", "perception", "attention")

    @nn.compact
    def __call__(
        self, images: Float[Array, "b y x 3"], trunk_features: Float[Array, "b h w e"],
        last_stage: LastStage, classify: Classify, *, train: bool,
    ) -> Outputs:  # fmt: skip
        """Returns logits of both branches, the last stage's features and the map."""
        attention_logits, attention = self._branch(trunk_features, train=train)
        features = last_stage(maps.attend(trunk_features, attention))
        perception_logits = classify(features)
        return Outputs(
            logits=attention_logits if self.loss == "attention" else perception_logits,
            features=features, attended=features, attention=attention,
            attention_logits=attention_logits if self.loss == "both" else None,
        )  # fmt: skip

    def _branch(
        self, x: Float[Array, "b h w e"], *, train: bool
    ) -> tuple[Float[Array, "b k"], Float[Array, "b h w"]]:
        conv, norm, k = self.layers.conv, self.layers.norm, self.num_classes
        x = norm(train=train, name="bn")(self.attention_stage(x, train=train))
        responses = nn.relu(
            norm(train=train, name="bn_classes")(conv(k, 1, name="conv_classes")(x))
        )
        score = norm(train=train, name="bn_map")(conv(1, 3, name="conv_map")(responses))
        logits = conv(k, 1, name="conv_logits")(responses).astype(jnp.float32)
        return jnp.mean(logits, axis=(1, 2)), jax.nn.sigmoid(score[..., 0].astype(jnp.float32))
