"""The records that cross module borders. Letters: b batch, h w map, y x image, c image channels,
d feature channels, k classes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flax.linen as nn
import flax.struct
from jaxtyping import Array, Float
from ml_collections import ConfigDict

# A batch inside a jitted step. Keys (all present unless marked):
#   image  float32 [b y x c]  normalised by the data set's mean and standard deviation
#   label  int32   [b]        the class; float32 [b k]: labels, 0, 1 or NaN (unknown), or a number
#   valid  bool    [b]        False where the row only pads the last batch of an evaluation
#   id     int32   [b]        names the example for ever, whatever the batch or device count
#   mask   bool    [b y x]    the object's pixels; only for data sets that know them
#   asked, other_mask         only for data sets that ask about one of an example's labels: which,
#                             int32 [b], and the pixels of what is not asked about, bool [b y x]
Batch = dict[str, Array]

# Sums over examples, added up over batches and devices and divided once, by `count`, at the end.
Sums = dict[str, Array]

Key = Any  # a typed PRNG key, as made by jax.random.key
Variables = Mapping[str, Any]  # {"params": tree, "batch_stats": tree}


@flax.struct.dataclass
class Outputs:
    """Everything that one forward pass gives.

    Attributes:
      logits: class scores before the softmax, label scores before the sigmoid, or numbers
        (models/answers.py).
      features: what the last stage put out, before the attention multiplied it.
      attended: the features that the classifier pooled, after the attention.
      attention: the model's own map, in [0, 1], but for a constant one, which keeps its value, and
        for `classwise.look=softmax`, where its mean is 1; None for a head that draws none. Of the
        predicted class, if each class has one (`classwise`).
      importance: weight of each feature channel in the map: FIN's are positive and sum to 1, those
        that are the classifier's (`fin.kind` tied and prior, head `classwise`) may be negative and
        have no fixed sum; None for other heads.
      attention_logits: `logits` of the attention branch (ABN only).
    """

    logits: Float[Array, "b k"]
    features: Float[Array, "b h w d"]
    attended: Float[Array, "b h w d"]
    attention: Float[Array, "b h w"] | None = None
    importance: Float[Array, "b d"] | None = None
    attention_logits: Float[Array, "b k"] | None = None


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


@dataclass(frozen=True, eq=False)  # arrays have no one answer to ==
class Run:
    """A trained network and where it comes from. A run equals itself alone, and can be hashed.

    Attributes:
      workdir: folder of the run; None: of a pretrained network, which has none.
      config: what it was trained with.
      model: the network.
      variables: its weights and statistics, as of `step`.
      step: the checkpoint's; 0 of a pretrained network.
      name: of a pretrained network.
    """

    workdir: Path | None
    config: ConfigDict
    model: nn.Module
    variables: Variables
    step: int
    name: str = ""

    @property
    def slug(self) -> str:
        """What its folder is called, where no run has one: `torchvision:vgg16` `torchvision_vgg16`.

        Of a file of weights its name without the ending.
        """
        return re.sub(r"\W+", "_", Path(self.name).stem)

    @property
    def title(self) -> str:
        """Names the network for people: `cifar_resnet-8 with lfi head`."""
        model = self.config.model
        if self.name:
            return f"{self.name}, pretrained"
        return f"{model.backbone}-{model.depth} with {model.head} head"
