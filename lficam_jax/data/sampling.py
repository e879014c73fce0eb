"""Which examples make up batch number `step`: a pure function of the seed and the step.

There is no iterator state to save, so a run resumes exactly at any step, with any number of host
threads, processes or devices that divides the batch.
"""

from dataclasses import dataclass
from functools import lru_cache

import jax
import numpy as np

from lficam_jax.errors import UserError

DROPPED = 0.1  # of the pictures to train on, at most, by an epoch's incomplete last batch


@dataclass(frozen=True)
class Sampling:
    """The order in which one process reads one split.

    Attributes:
      examples: number of examples in the split.
      batch_size: rows of a batch, over all processes.
      train: shuffle each epoch anew and drop the incomplete last batch; otherwise read in order and
        pad the last batch, so that every process gets equally many.
      seed: of the shuffling.
      process_index: which contiguous slice of each batch is this process's.
      process_count: into how many slices a batch is cut.
    """

    examples: int
    batch_size: int
    train: bool
    seed: int
    process_index: int
    process_count: int

    @property
    def rows(self) -> int:
        """Rows of a batch that this process reads."""
        return self.batch_size // self.process_count

    @property
    def steps_per_epoch(self) -> int:
        """Batches in one pass over the split."""
        whole = self.examples // self.batch_size
        return whole if self.train else -(-self.examples // self.batch_size)

    def batch(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns positions in the split, int32 [rows], and which rows are valid, bool [rows].

        Invalid rows pad the last batch of an evaluation; they repeat example 0.
        """
        epoch, step_in_epoch = divmod(step, self.steps_per_epoch) if self.train else (0, step)
        first = step_in_epoch * self.batch_size + self.process_index * self.rows
        place = np.arange(first, first + self.rows)
        valid = place < self.examples
        place = np.where(valid, place, 0)
        if self.train:
            place = _permutation(self.examples, self.seed, epoch)[place]
        return place.astype(np.int32), valid


def sampling(
    examples: int,
    batch_size: int,
    *,
    train: bool,
    seed: int,
    process_index: int | None = None,
    process_count: int | None = None,
) -> Sampling:
    """Makes the `Sampling` of this process, or of the process that the caller names.

    Raises:
      UserError: if the batch does not divide over the processes, or a training split is smaller
        than one batch.
    """
    index = jax.process_index() if process_index is None else process_index
    count = jax.process_count() if process_count is None else process_count
    if batch_size % count:
        lower = batch_size // count * count
        raise UserError(
            f"batch size {batch_size} is not divisible by {count} processes; "
            f"use {f'{lower} or ' if lower else ''}{lower + count}"
        )
    if train and examples < batch_size:
        raise UserError(
            f"the training split has {examples} examples, fewer than one batch of {batch_size}; "
            f"set train.batch_size to at most {examples}"
        )
    return Sampling(examples, batch_size, train, seed, index, count)


def fitting(batch_size: int, examples: int, parts: int) -> int:
    """Returns the size of a training batch: as asked, or less where that leaves out too much.

    An epoch drops its incomplete last batch. Where that is more than a tenth of the split, the
    batches become smaller, all of one size; a multiple of eight where it can be, so that machines
    of 1, 2, 4 and 8 devices agree.

    Args:
      batch_size: as asked.
      examples: of the training split.
      parts: devices and microbatches among which a batch is divided.

    >>> fitting(64, 48, 1), fitting(64, 100, 1), fitting(128, 100, 3), fitting(64, 1000, 1)
    (48, 48, 99, 64)

    Raises:
      UserError: for fewer examples than parts.
    """
    if examples < parts:
        raise UserError(
            f"the training split has {examples} examples, fewer than the {parts} parts into which "
            "devices and optim.accumulate divide a batch"
        )
    steps = -(-examples // batch_size)
    sizes = [examples // steps // unit * unit for unit in (8, 4, 2, parts) if unit % parts == 0]
    for size in (batch_size, *sizes):
        if size and examples % size <= DROPPED * examples and examples >= size:
            return size
    return min(batch_size, examples // parts * parts)


def covering(batch_size: int, examples: int, parts: int) -> int:
    """Returns the size of an evaluation's batch: as asked, or what holds all of a smaller split.

    The rows that pad the last batch cost as much as those that count.

    Args:
      batch_size: as asked.
      examples: of the split.
      parts: devices among which a batch is divided.

    >>> covering(256, 6, 1), covering(256, 6, 3), covering(256, 1000, 1)
    (8, 6, 256)
    """
    unit = 8 if 8 % parts == 0 else parts  # so that machines of 1, 2, 4 and 8 devices agree
    return min(batch_size, -(-examples // unit) * unit)


@lru_cache(maxsize=2)  # the epoch that is read, and its successor while threads read ahead
def _permutation(examples: int, seed: int, epoch: int) -> np.ndarray:
    return generator(seed, epoch).permutation(examples)


def generator(seed: int, number: int) -> np.random.Generator:
    """Returns the host's random generator number `number` of `seed`: any two are independent."""
    return np.random.Generator(np.random.Philox(key=np.array([seed % 2**64, number], np.uint64)))
