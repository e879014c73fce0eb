"""The Feature Importance Network (LFI-CAM, section 3.2): how much each feature channel counts."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lficam_jax.models.layers import Layers


class FeatureImportanceNetwork(nn.Module):
    """Convolutions over the masked features, pooled over space to one weight per channel.

    Attributes:
      layers: conventions of the network.
      width: channels inside; 0 means as many as the features have (the paper). Another width puts a
        1x1 convolution before and after.
      depth: number of convolutions.
      kernel: their size.
      relu_every: a ReLU after every n-th convolution; 2 in CIFAR networks, 1 in 224-pixel ones.
      standardise: bring the pooled values to mean 0 and variance 1 over the channels, times a gain
        that is learnt from 1: as they are they hardly differ, and the softmax is flat.
      softmax: False divides the pooled values by their sum instead.
      temperature: of the softmax; low values sharpen it.
      learn_temperature: start from `temperature` and train its logarithm.
    """

    layers: Layers
    width: int = 0
    depth: int = 4
    kernel: int = 3
    relu_every: int = 2
    standardise: bool = False
    softmax: bool = True
    temperature: float = 1.0
    learn_temperature: bool = False

    @nn.compact
    def __call__(self, masks: Float[Array, "b h w d"], *, train: bool) -> Float[Array, "b d"]:
        """Returns the importance of each channel, in float32, summing to 1."""
        channels = masks.shape[-1]
        width = self.width or channels
        x = masks.astype(self.layers.dtype)
        if width != channels:
            x = self.layers.conv(width, 1, name="reduce")(x)
        for i in range(self.depth):
            x = self.layers.conv(width, self.kernel, name=f"conv{i}")(x)
            x = self.layers.norm(train=train, name=f"bn{i}")(x)
            if (i + 1) % self.relu_every == 0:
                x = nn.relu(x)
        if width != channels:
            x = nn.relu(self.layers.conv(channels, 1, name="expand")(x))
        pooled = jnp.mean(x.astype(jnp.float32), axis=(1, 2))
        if self.standardise:
            pooled = self.param("gain", nn.initializers.ones, ()) * self._standardised(pooled)
        return self._weigh(pooled)

    def _standardised(self, pooled: Float[Array, "b d"]) -> Float[Array, "b d"]:
        apart = pooled - jnp.mean(pooled, axis=-1, keepdims=True)
        variance = jnp.mean(jnp.square(apart), axis=-1, keepdims=True)
        return apart * jax.lax.rsqrt(variance + self.layers.epsilon)

    def _weigh(self, pooled: Float[Array, "b d"]) -> Float[Array, "b d"]:
        if not self.softmax:
            pooled = nn.relu(pooled)  # weights of a sum must not cancel; a last ReLU did it already
            total = jnp.sum(pooled, axis=-1, keepdims=True)
            empty = total == 0
            return jnp.where(empty, 1 / pooled.shape[-1], pooled / jnp.where(empty, 1, total))
        temperature = jnp.float32(self.temperature)
        if self.learn_temperature:
            start = nn.initializers.constant(jnp.log(temperature))
            temperature = jnp.exp(self.param("log_temperature", start, ()))
        return jax.nn.softmax(pooled / temperature)
