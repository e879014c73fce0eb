"""Training over the few damaged pictures that a large data set holds."""

import sys
import threading
from collections.abc import Mapping

import numpy as np

from lficam_jax.data.examples import Example, Source
from lficam_jax.data.images import DamagedImage
from lficam_jax.data.sampling import generator
from lficam_jax.errors import UserError

_SHOWN = 5  # names in the message that stops the run


class Mended:
    """Another source, whose damaged examples are replaced by readable ones of the same split.

    Example i is always replaced by the same other one, found by a walk that the seed and i alone
    decide: so a batch stays a pure function of the seed and the step, whatever threads or processes
    read it and in whatever order.

    Attributes:
      damaged: position of each damaged example met so far -> its name.
    """

    def __init__(self, source: Source, *, seed: int, limit: int):
        """Wraps `source`; the example after `limit` damaged ones stops the run."""
        self._source, self._seed, self._limit = source, seed, limit
        self._damaged: dict[int, str] = {}
        self._lock = threading.Lock()
        self.classes = source.classes

    @property
    def damaged(self) -> Mapping[int, str]:
        """Position -> name of the damaged examples that this process met so far."""
        return self._damaged

    @property
    def labels(self) -> np.ndarray | None:
        """Of all examples, those that turn out to be damaged included."""
        return self._source.labels

    def __len__(self) -> int:
        return len(self._source)

    def name(self, i: int) -> str:
        """Returns what people call example i, damaged or not."""
        return self._source.name(i)

    def __getitem__(self, i: int) -> Example:
        example = self._readable(i)
        if example is None:
            walk = generator(self._seed, i)
            while example is None:
                self._check_some_left()  # another thread may have met the last one
                example = self._readable(int(walk.integers(len(self))))
        return example

    def read(self, start: int, stop: int) -> list[Example]:
        """Returns consecutive examples; one by one only where some are damaged."""
        try:
            return self._source.read(start, stop)
        except DamagedImage:
            return [self[i] for i in range(start, min(stop, len(self)))]

    def _readable(self, i: int) -> Example | None:
        if i in self._damaged:
            return None
        try:
            return self._source[i]
        except DamagedImage as error:
            self._count(i, error)
            return None

    def _count(self, i: int, error: DamagedImage) -> None:
        with self._lock:
            if i in self._damaged:
                return
            self._damaged[i] = error.name
            met = len(self._damaged)
        if met > self._limit:
            raise self._too_many(error) from error
        self._check_some_left()
        print(f"warning: {error}; trained without it ({met} of {self._limit})", file=sys.stderr)

    def _check_some_left(self) -> None:
        if len(self._damaged) == len(self):
            raise UserError(
                f"all {len(self)} pictures to train on are damaged: "
                f"{', '.join([*self._damaged.values()][:_SHOWN])}, …; replace them"
            )

    def _too_many(self, error: DamagedImage) -> UserError:
        if self._limit == 0:
            return UserError(f"{error}, or pass over a few with --config.data.max_corrupt=10")
        names = list(self._damaged.values())
        more = ", …" if len(names) > _SHOWN else ""
        return UserError(
            f"{len(names)} damaged pictures, more than data.max_corrupt={self._limit} allows: "
            f"{', '.join(names[-_SHOWN:])}{more}; replace or remove them, or raise the limit"
        )
