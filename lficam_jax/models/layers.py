"""Conventions of convolution, normalisation and initialisation, stated once."""

from dataclasses import dataclass
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

# N(0, sqrt(2 / (kernel * kernel * out))), as in the released networks.
CONV_INIT = nn.initializers.variance_scaling(2.0, "fan_out", "normal")
# U(-1/sqrt(in), 1/sqrt(in)): what torch gives a linear layer.
DENSE_INIT = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


@dataclass(frozen=True)
class Layers:
    """Makes the layers of one network, which share dtype and BatchNorm's axis.

    Attributes:
      dtype: of activations. Parameters and running statistics are float32 whatever it is.
      axis_name: mapped axis over which BatchNorm averages its statistics; None: per device.
      remat: whether training keeps only what goes into each block, and computes the rest again.
      padding: of convolutions. `centred` is kernel // 2 on every side, as in torch. `same` is
        TensorFlow's, which differs at stride 2: of the one or two pixels that it adds, the odd one
        lies to the lower right.
      epsilon: of BatchNorm.
    """

    dtype: Any = jnp.float32
    axis_name: str | None = None
    remat: bool = False
    padding: str = "centred"
    epsilon: float = 1e-5

    def block(self, block: nn.Module, x: Float[Array, "b h w e"], *, train: bool) -> Array:
        """Calls a block of a stage."""

        def call(block: nn.Module, x: Array) -> Array:
            features: Array = block(x, train=train)
            return features

        # A function instead of the class: the block keeps its name, and `train` stays a constant.
        features: Array = (nn.remat(call) if train and self.remat else call)(block, x)
        return features

    def conv(
        self, features: int, kernel: int = 3, stride: int = 1, *, groups: int = 1,
        bias: bool = False, name: str | None = None,
    ) -> nn.Conv:  # fmt: skip
        """A convolution; a map of n pixels comes out with n / stride, rounded up."""
        padding = "SAME" if self.padding == "same" else kernel // 2
        return nn.Conv(
            features, (kernel, kernel), (stride, stride), padding, feature_group_count=groups,
            use_bias=bias, dtype=self.dtype, kernel_init=CONV_INIT, name=name,
        )  # fmt: skip

    def norm(self, *, train: bool, name: str | None = None) -> nn.BatchNorm:
        """BatchNorm: momentum 0.9 (which torch calls 0.1), scale 1, bias 0."""
        return nn.BatchNorm(
            use_running_average=not train, axis_name=self.axis_name, momentum=0.9,
            epsilon=self.epsilon, dtype=self.dtype, name=name,
        )  # fmt: skip

    def dense(self, features: int, *, name: str | None = None) -> nn.Dense:
        """The linear classifier, in float32 whatever `dtype` is."""
        return nn.Dense(features, dtype=jnp.float32, kernel_init=DENSE_INIT, name=name)
