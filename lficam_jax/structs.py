"""The records that cross module borders. Letters: b batch, h w map, y x image, c image channels,
d feature channels, k classes."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import flax.struct
import numpy as np
from jaxtyping import Array, Float

# A batch inside a jitted step. Keys (all present unless marked):
#   image  float32 [b y x c]  normalised by the data set's mean and standard deviation
#   label  int32   [b]
#   valid  bool    [b]        False where the row only pads the last batch of an evaluation
#   id     int32   [b]        names the example for ever, whatever the batch or device count
#   mask   bool    [b y x]    the object's pixels; only for data sets that know them
Batch = dict[str, Array]

# Sums over examples, added up over batches and devices and divided once, by `count`, at the end.
Sums = dict[str, Array]

Key = Any  # a typed PRNG key, as made by jax.random.key
Variables = Mapping[str, Any]  # {"params": tree, "batch_stats": tree}


@flax.struct.dataclass
class Outputs:
    """Everything that one forward pass gives.

    Attributes:
      logits: class scores before the softmax.
      features: what the last stage put out, before the attention multiplied it.
      attended: the features that the classifier pooled, after the attention.
      attention: the model's own map, in [0, 1]; None for a head that draws none.
      importance: FIN's weight of each feature channel, summing to 1 (LFI only).
      attention_logits: class scores of the attention branch (ABN only).
    """

    logits: Float[Array, "b k"]
    features: Float[Array, "b h w d"]
    attended: Float[Array, "b h w d"]
    attention: Float[Array, "b h w"] | None = None
    importance: Float[Array, "b d"] | None = None
    attention_logits: Float[Array, "b k"] | None = None


@dataclass(frozen=True)
class Pipeline:
    """One split of a data set, ready to feed a step.

    Attributes:
      resident: arrays that live on every device (uint8 images and their labels); empty if the
        images are streamed. They are an argument of the step: as a closure XLA would copy them
        into the program as constants.
      batches: `batches(start_step)` yields host batches from that step on, forever in training,
        once over the split in evaluation. Row r of step s is a pure function of (seed, s, r).
      load: `load(resident, batch, key) -> Batch`, traced inside the step: gather, augment,
        normalise. `key` is the step's; each row folds its own example into it, so that the result
        does not depend on how many devices share the batch.
      examples: number of examples in the split.
      steps_per_epoch: batches in one pass (training drops the incomplete last one).
      classes: class names, in label order.
      has_mask: whether batches carry `mask`.
      damaged: position -> name of the pictures that could not be decoded and were replaced, filled
        while training reads.
    """

    resident: Mapping[str, np.ndarray]
    batches: Callable[[int], Iterator[Mapping[str, np.ndarray]]]
    load: Callable[[Mapping[str, Array], Mapping[str, Array], Key], Batch]
    examples: int
    steps_per_epoch: int
    classes: tuple[str, ...]
    has_mask: bool = False
    damaged: Mapping[int, str] = field(default_factory=dict)


@flax.struct.dataclass
class TrainState:
    """What training carries from step to step, and everything that a checkpoint must hold.

    All randomness follows from the seed and `step`.

    Attributes:
      step: optimiser steps taken, int32.
      params: trainable parameters.
      batch_stats: BatchNorm's running statistics.
      opt_state: of the optax chain.
      ema: running mean of {"params", "batch_stats"}, or None when it is off.
    """

    step: Array
    params: Any
    batch_stats: Any
    opt_state: Any
    ema: Any = None

    @property
    def variables(self) -> Variables:
        """What evaluation uses: the running mean where there is one, else the weights."""
        return self.ema or {"params": self.params, "batch_stats": self.batch_stats}
