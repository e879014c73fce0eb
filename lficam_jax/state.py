"""What training carries from step to step."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from lficam_jax.structs import Key, Variables


@flax.struct.dataclass
class TrainState:
    """Everything that a checkpoint must hold; all randomness follows from the seed and `step`.

    Attributes:
      step: optimiser steps taken, int32.
      params: trainable parameters.
      batch_stats: BatchNorm's running statistics.
      opt_state: of the optax chain.
      ema: running mean of {"params", "batch_stats"}, or None when it is off.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: optax.OptState
    ema: Any = None

    @property
    def variables(self) -> Variables:
        """What evaluation uses: the running mean where there is one, else the weights."""
        return self.ema or {"params": self.params, "batch_stats": self.batch_stats}


def init_variables(model: nn.Module, image_shape: tuple[int, int, int], seed: int) -> Variables:
    """Draws the initial weights. Jitted: eager Linen initialisation is several times slower."""
    init = jax.jit(lambda key: model.init(key, jnp.zeros((1, *image_shape)), train=False))
    variables = init(jax.random.key(seed))
    return {"params": variables["params"], "batch_stats": variables.get("batch_stats", {})}


def create_state(
    variables: Variables, tx: optax.GradientTransformation, *, ema: bool = False
) -> TrainState:
    """Returns the state before the first step."""
    return TrainState(
        step=jnp.zeros((), jnp.int32), params=variables["params"],
        batch_stats=variables["batch_stats"], opt_state=tx.init(variables["params"]),
        ema=jax.tree.map(jnp.copy, dict(variables)) if ema else None,
    )  # fmt: skip


def step_key(seed: int, step: jax.Array) -> Key:
    """Returns the key of one step's augmentation: stateless, so a resumed run draws the same."""
    return jax.random.fold_in(jax.random.key(seed), step)
