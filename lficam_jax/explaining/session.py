"""How explaining and measuring begin and end: a run, examples of its data, a result."""

import time
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lficam_jax.data import Dataset, dataset_info, open_source
from lficam_jax.data.sample import Sample
from lficam_jax.errors import UserError
from lficam_jax.methods import TRIVIAL, check
from lficam_jax.models.geometry import Places, check_alignment, places
from lficam_jax.structs import Run, Variables
from lficam_jax.workdir.origin import told_origin
from lficam_jax.workdir.progress import Pace
from lficam_jax.workdir.results import write_result

BATCH = 64


class Session:
    """A run's network looks at examples of its data; only `write` leaves a file.

    Args:
      run: whose network.
      split: whose examples; None: images from elsewhere.
      limit: how many of them, spread evenly.
      methods: keys of `methods.METHODS`; none: the default of what is measured.
      batch_size: images at once, over all devices.
      align: where maps lie on the image (`models.geometry.places`); '': as the run's config says.

    Raises:
      UserError: for an unknown method or alignment, or in one of several processes.

    Attributes:
      run: as given.
      split: as given.
      align: where maps lie.
    """

    def __init__(
        self, run: Run, split: str | None = "test", limit: int = 1000,
        methods: Sequence[str] = (), *, batch_size: int = BATCH, align: str = "",
    ) -> None:  # fmt: skip
        check(*methods)
        if jax.process_count() > 1:
            raise UserError(
                "maps are drawn and measured in one process, on all devices of one machine; "
                "leave out --distributed"
            )
        self.run, self.split = run, split
        self.align = align or run.config.explain.align
        check_alignment(self.align)
        self._limit, self._methods, self._batch_size = limit, methods, batch_size
        self._start = time.monotonic()

    @cached_property
    def info(self) -> Dataset:
        """The data set's."""
        return dataset_info(self.run.config.data)

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The class names; () where only the prepared files know them and are absent."""
        if self.info.classes:
            return self.info.classes
        try:
            data = self.run.config.data
            return tuple(open_source(data, self.split or "test").classes)
        except UserError:
            return ()

    @cached_property
    def sample(self) -> Sample:
        """The examples."""
        return self.few(self._limit)

    @cached_property
    def variables(self) -> Variables:
        """The network's, on the device."""
        placed: Variables = jax.device_put(dict(self.run.variables))
        return placed

    @cached_property
    def places(self) -> Places:
        """Where the maps lie on an image of the data set, by their grid."""
        return places(self.run.model, self.info.size, self.align)

    @property
    def size(self) -> int:
        """Of a batch: no more than there are examples, as the next multiple of the devices."""
        devices = jax.device_count()
        return -(-min(self._batch_size, len(self.sample)) // devices) * devices

    @property
    def details(self) -> dict[str, Any]:
        """What a page says of its maps: model, data, step, and what made them when."""
        data = f"{self.info.name}, {self.split} split" if self.split else "images of your own"
        step = {} if self.run.name else {"step": self.run.step}
        about = {"model": self.run.title, "data": data, **step, "align": self.align}
        return about | {"made": told_origin()}

    def methods(self, *default: str) -> list[str]:
        """Returns the methods that were asked for, each once.

        Args:
          *default: those when none was; `own` is left out where the network draws no map.
        """
        plain = self.run.config.model.head == "plain"
        usual = [name for name in default if not (plain and name == "own")]
        return list(dict.fromkeys(self._methods or usual))

    def with_trivial(self, *default: str) -> list[str]:
        """Returns `methods` and the trivial maps, which every measurement must show."""
        return list(dict.fromkeys([*self.methods(*default), *TRIVIAL]))

    def few(self, limit: int) -> Sample:
        """Returns another sample of the split."""
        assert self.split is not None, "a session without a split has no sample"
        try:
            return Sample(self.run.config.data, self.split, limit)
        except UserError as error:
            if not self.run.name or self.run.config.data.folder:
                raise
            raise UserError(
                f"{error}\nor look at pictures of your own: data.folder=DIR "
                "(--config.data.folder=DIR), whose folders have the names of its classes"
            ) from error

    def batches(self) -> Iterator[dict[str, np.ndarray]]:
        """Yields `Sample.batches` with `rows`: places in the sample, 0 for rows that only pad."""
        size, count = self.size, len(self.sample)
        for start, batch in zip(range(0, count, size), self.sample.batches(size), strict=True):
            yield batch | {"rows": np.where(batch["valid"], start + np.arange(size), 0)}

    def pace(self, looks: int = 1) -> Pace:
        """Returns what tells the time left; it wants `looks` ticks for each batch."""
        return Pace(looks * -(-len(self.sample) // self.size))

    def result(self, found: Mapping[str, Any]) -> dict[str, Any]:
        """Returns `found` behind what it was found on: data, step and the like, and seconds."""
        sample = {} if self.split is None else {
            "data": self.info.name, "split": self.split, "images": len(self.sample)
        }  # fmt: skip
        seconds = round(time.monotonic() - self._start)
        return {
            **sample, "step": self.run.step, "align": self.align, "seconds": seconds, **found,
        }  # fmt: skip

    def write(self, mode: str, result: Mapping[str, Any]) -> Path:
        """Writes `results/<mode>.json` of the run and returns its path.

        Raises:
          UserError: if it cannot be written, or a pretrained network was given no folder for it.
        """
        if self.run.workdir is None:
            raise UserError(f"{mode} leaves results; say --workdir DIR, where they should go")
        return write_result(self.run.workdir, mode, result, self.run.config)


def closing(result: Mapping[str, Any], written: Path, *beside: str) -> str:
    """Returns the last line of a mode: how long it took, and the files it left.

    >>> closing({"seconds": 7}, Path("run/results/sanity.json"), ".csv", ".png")
    '7 seconds; run/results/sanity.json, .csv, .png'
    """
    return f"{result['seconds']} seconds; {', '.join([str(written), *beside])}"
