"""A backbone and a head, joined: one forward pass gives the logits and the map."""

from functools import partial
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lficam_jax.models.answers import as_logits
from lficam_jax.models.heads import ClasswiseHead
from lficam_jax.models.layers import Layers
from lficam_jax.structs import Outputs, Variables

MAY_START_FRESH = ("head", "classifier")  # where another network's weights are put into this one


def group(path: str) -> str:
    """Returns the part of the model that a path is in.

    >>> group("params/trunk/stem/conv/kernel"), group("head/fin/conv0")
    ('trunk', 'head')
    """
    parts = path.split("/")
    return parts[1] if parts[0] in ("params", "batch_stats") else parts[0]


class Classifier(nn.Module):
    """Trunk, last stage, head and linear classifier.

    The groups of parameters are `trunk`, `last_stage` and `final` (the backbone), `head` and
    `classifier`.

    Attributes:
      trunk: images to features, all stages but the last.
      last_stage: the last stage at the stride of the classifier's path.
      head: decides where attention enters (models/heads.py).
      num_classes: columns of the linear layer.
      layers: conventions of the network.
      final: BN and ReLU of a pre-activation network, or None.
      final_before_head: whether `final` ends the last stage or stands between attention and
        pooling.
      loss: what it is trained by, softmax, sigmoid or regression, which says what its outputs mean.
      number: mean and deviation of the numbers that it learns (regression).
    """

    trunk: nn.Module
    last_stage: nn.Module
    head: nn.Module
    num_classes: int
    layers: Layers
    final: nn.Module | None = None
    final_before_head: bool = False
    loss: str = "softmax"
    number: tuple[float, float] = (0.0, 1.0)

    def setup(self) -> None:  # noqa: D102
        self.classifier = self.layers.dense(self.num_classes)

    @property
    def pools_linearly(self) -> bool:
        """Whether `classify` is mean pooling and one linear layer, which CAM needs."""
        return self.final is None or self.final_before_head

    def __call__(self, images: Float[Array, "b y x c"], *, train: bool = False) -> Outputs:
        """Classifies normalised images; a single grey channel is repeated to three.

        Args:
          images: float, as the data set's mean and standard deviation normalise them.
          train: whether BatchNorm uses (and updates) the statistics of this batch.
        """
        if images.shape[-1] == 1:
            images = jnp.repeat(images, 3, axis=-1)
        trunk_features = self.trunk(images.astype(self.layers.dtype), train=train)
        outputs: Outputs = self.head(
            images, trunk_features, partial(self.features, train=train),
            partial(self.classify, train=train), self.linear, train=train,
        )  # fmt: skip
        return outputs

    @property
    def classwise(self) -> bool:
        """Whether each class looks through a map of its own."""
        return isinstance(self.head, ClasswiseHead)

    def features(self, trunk_features: Float[Array, "b h w e"], *, train: bool = False) -> Array:
        """Returns what the last stage makes of the trunk's features, `[b h w d]`."""
        features: Array = self.last_stage(trunk_features, train=train)
        if self.final is not None and self.final_before_head:
            features = self.final(features, train=train)
        return features

    def classify(self, features: Float[Array, "b h w d"], *, train: bool = False) -> Array:
        """Returns logits `[b k]` of features, pooled over space in float32."""
        if self.final is not None and not self.final_before_head:
            features = self.final(features, train=train)
        outputs = self.classifier(jnp.mean(features.astype(jnp.float32), axis=(1, 2)))
        return as_logits(self.loss, outputs, self.number)

    def linear(self, channels: int) -> tuple[Array, Array]:
        """Returns kernel `[d k]` and bias `[k]` of the logits; so many channels are classified."""
        self.classifier(jnp.zeros((1, channels), jnp.float32))  # flax makes its parameters here
        params = self.classifier.variables["params"]
        kernel = as_logits(self.loss, params["kernel"], (0.0, self.number[1]))
        return kernel, as_logits(self.loss, params["bias"][None], self.number)[0]


def init_variables(
    model: nn.Module, image_shape: tuple[int, int, int], seed: int
) -> dict[str, Any]:
    """Draws the initial weights. Jitted: eager Linen initialisation is several times slower."""
    # a function of its own each time: whoever intercepts the modules' calls sees them traced
    init = jax.jit(lambda key: model.init(key, jnp.zeros((1, *image_shape)), train=False))
    variables = init(jax.random.key(seed))
    return {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}


def predict(model: nn.Module, variables: Variables, images: Array) -> Outputs:
    """Runs the model as evaluation does: running statistics, nothing updated."""
    # apply gives a tuple only where it is told that something may change
    return cast(Outputs, model.apply(dict(variables), images, train=False))
