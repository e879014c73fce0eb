"""A backbone and a head, joined: one forward pass gives the logits and the map."""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from lficam_jax.models.layers import Layers
from lficam_jax.structs import Outputs


class Classifier(nn.Module):
    """Trunk, last stage, head and linear classifier.

    The groups of parameters are `trunk`, `last_stage`, `final` (the backbone), `head` and `classifier`.

    Attributes:
      trunk: images to features, all stages but the last.
      last_stage: the last stage at the stride of the classifier's path.
      head: decides where attention enters (models/heads.py).
      num_classes: number of logits.
      layers: conventions of the network.
      final: a module between attention and pooling, or None.
    """

    trunk: nn.Module
    last_stage: nn.Module
    head: nn.Module
    num_classes: int
    layers: Layers
    final: nn.Module | None = None

    def setup(self) -> None:  # noqa: D102
        self.classifier = self.layers.dense(self.num_classes)

    def __call__(self, images: Float[Array, "b y x c"], *, train: bool = False) -> Outputs:
        """Classifies normalised images; a single grey channel is repeated to three.

        Args:
          images: float, as the data set's mean and standard deviation normalise them.
          train: whether BatchNorm uses (and updates) the statistics of this batch.
        """
        if images.shape[-1] == 1:
            images = jnp.repeat(images, 3, axis=-1)
        trunk_features = self.trunk(images.astype(self.layers.dtype), train=train)
        return self.head(
            images, trunk_features, partial(self.last_stage, train=train),
            partial(self.classify, train=train), train=train,
        )  # fmt: skip

    def classify(self, features: Float[Array, "b h w d"], *, train: bool = False) -> Array:
        """Returns logits `[b k]` of features, pooled over space in float32."""
        if self.final is not None:
            features = self.final(features, train=train)
        return self.classifier(jnp.mean(features.astype(jnp.float32), axis=(1, 2)))
