"""The contract between the data and the steps."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Array

from lficam_jax.data.datasets import Dataset
from lficam_jax.structs import Batch, Key

HostBatch = Mapping[str, np.ndarray]
Load = Callable[[Mapping[str, Array], Mapping[str, Array], Key], Batch]


@dataclass(frozen=True)
class Pipeline:
    """One split of a data set, ready to feed a step.

    Attributes:
      dataset: what is known of the whole data set.
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
      batch_size: rows of a batch, over all processes; of a small training split fewer than asked.
      labels: of all examples, where they are known without reading the pictures.
      notes: what is to be said of the files, line by line.
      fingerprint: tells one content of the split from another, for processes to compare.
    """

    dataset: Dataset
    resident: Mapping[str, np.ndarray]
    batches: Callable[[int], Iterator[HostBatch]]
    load: Load
    examples: int
    steps_per_epoch: int
    classes: tuple[str, ...]
    has_mask: bool = False
    damaged: Mapping[int, str] = field(default_factory=dict)
    batch_size: int = 0
    labels: np.ndarray | None = None
    notes: Sequence[str] = ()
    fingerprint: Callable[[], str] = str
