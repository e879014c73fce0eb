"""Checkpoints: orbax behind one thin class, with checksums of our own.

A step holds three items apart: `model` (what evaluation reads, and nothing else is read for it),
`train` (what resuming needs besides) and `meta` (configuration, metrics, checksums). orbax writes
a step under another name and renames it when it is whole, so a killed save leaves no half step; but
it does not notice a flipped bit, which the checksums do.
"""

import contextlib
import gc
import itertools
import logging
import os
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from lficam_jax.data.files import plain_file
from lficam_jax.errors import DivergedError, UserError
from lficam_jax.structs import TrainState, Variables
from lficam_jax.workdir.damage import cause, in_a_line, refused
from lficam_jax.workdir.measured import Manager, checksum, goodness
from lficam_jax.workdir.results import plain, teaching

log = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of one workdir: the latest few, and the best on the validation split.

    Args:
      workdir: of the run.
      config: of the run, to be kept beside every step.
      keep_latest: how many are kept beside the best.
      read_only: leave everything as it is; the run may be training and saving right now.

    With several processes, process 0 alone reads and writes: to save is nothing elsewhere, and what
    it read is for `distributed.first` to spread.
    """

    def __init__(
        self, workdir: Path | str, config: Mapping[str, Any] | None = None, *,
        keep_latest: int = 2, read_only: bool = False,
    ) -> None:  # fmt: skip
        self.directory = Path(os.path.realpath(workdir)) / "checkpoints"
        self._config, self._keep_latest = dict(config or {}), keep_latest
        self._ours = jax.process_index() == 0
        if not self._ours:
            return
        if self.directory.exists() and not self.directory.is_dir():
            raise UserError(f"{self.directory} is a file, and should be the folder of checkpoints")
        if not read_only:
            with teaching(self.directory):
                self.directory.mkdir(parents=True, exist_ok=True)
        with _without_advice():
            self.manager = _manager(self.directory, keep_latest, read_only)

    def __enter__(self) -> "Checkpoints":
        # A save that fails in the background is told in a line, not in pages of orbax's.
        self._silence = contextlib.ExitStack()
        self._silence.enter_context(_without_advice(logging.CRITICAL))
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self._silence:
            self._close(kind)

    def _close(self, kind: type[BaseException] | None) -> None:
        if not self._ours:
            return
        if kind is None:
            self.manager.close()
            return
        # A failed save would be raised once more and hide the error that is on its way.
        with _quiet():
            with contextlib.suppress(Exception):
                self.manager.close()
            del self.manager
            gc.collect()  # here what orbax abandoned ends

    def save(self, state: TrainState) -> None:
        """Copies the state to the host and writes it in the background, as not measured yet.

        Every process looks at its copy, so that all end alike; process 0 writes.

        Raises:
          DivergedError: if a number of it is not finite: nothing is written.
          UserError: if this checkpoint, or the one before it, cannot be written.
        """
        host = jax.device_get(state)
        check_finite(host)
        if not self._ours:
            return
        model, train = _split(host)
        meta = {
            "config": plain(self._config), "metrics": {},
            "checksums": {
                "model": checksums(model), "train": checksums(train), "metrics": checksum({}),
            },
        }  # fmt: skip
        arguments = ocp.args.Composite(
            model=ocp.args.StandardSave(model), train=ocp.args.StandardSave(train),
            meta=ocp.args.JsonSave(meta),
        )  # fmt: skip
        with self._writing(), _without_advice():  # raises what went wrong with the save before, too
            self._check_writable()
            self.manager.save(int(host.step), args=arguments, force=True)

    def note(self, step: int, metrics: Mapping[str, float]) -> None:
        """Notes what was measured of a step that was saved; a best that it beats is kept no longer.

        Raises:
          UserError: if that step, or its metrics, cannot be written.
        """
        self.wait()
        if not self._ours or not metrics:
            return
        before = self.manager.best_step()
        self.manager.note(step, {name: float(value) for name, value in metrics.items()})
        kept = {*sorted(self.manager.all_steps())[-self._keep_latest :], self.manager.best_step()}
        if before is not None and before not in kept:
            self.manager.delete(before)

    def is_measured(self, step: int) -> bool:
        """Tells whether a step on disk was measured; for process 0, which reads."""
        return self.manager.metrics(step) is not None

    def remove(self, step: int) -> None:
        """Removes a step that was saved before it turned out to have diverged."""
        self.wait()
        if self._ours:
            self.manager.delete(step)

    def _check_writable(self) -> None:
        """Raises OSError at once, where orbax would wait minutes for a folder that cannot be."""
        probe = self.directory / ".writable"
        probe.touch()
        probe.unlink()

    def wait(self) -> None:
        """Returns when everything saved so far is on disk.

        Raises:
          UserError: if it could not be written.
        """
        if not self._ours:
            return
        with self._writing():
            self.manager.wait_until_finished()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        problem = ""
        with _quiet():
            try:
                yield
            except Exception as error:  # OSError, or tensorstore's ValueError with its words
                problem = f"{cause(str(error))} The ones before it are intact. ({in_a_line(error)})"
            if problem:
                gc.collect()
        if problem:
            raise UserError(f"a checkpoint in {self.directory} cannot be written; {problem}")

    def restore_latest(self, like: TrainState) -> TrainState | None:
        """Returns the newest undamaged state as host arrays, or None where nothing was saved.

        A damaged step is named in one line and renamed to `STEP.damaged`, and the step before it
        is tried. Damaged means that a part is gone, or a checksum or its form is wrong.

        Raises:
          UserError: if there are checkpoints and all are damaged, or the system refuses to read
            one; then all stay as they are.
        """
        damaged: list[int] = []
        model, train = _split(jax.device_get(like))
        for step in sorted(self.manager.all_steps(), reverse=True):
            items = self._try(step, {"model": model, "train": train})
            if isinstance(items, str):
                log.warning("checkpoint %d is damaged (%s); trying the one before", step, items)
                damaged.append(step)
                continue
            self._set_aside(damaged)
            return _join(like, items["model"], items["train"])
        if damaged:
            raise UserError(
                f"all checkpoints in {self.directory} are damaged; "
                "start again in an empty --workdir"
            )
        return None

    def _set_aside(self, steps: Sequence[int]) -> None:
        """Frees the places of damaged steps, which the run is about to save again."""
        for step in steps:
            names = (f"{step}.damaged{f'-{n}' * (n > 1)}" for n in itertools.count(1))
            kept = next(p for name in names if not (p := self.directory / name).exists())
            with self._writing():
                (self.directory / str(step)).rename(kept)
            log.warning("checkpoint %d is kept as %s", step, kept)
        if steps:
            self.manager.reload()

    def restore_model(self, like: Variables | None, step: int) -> Variables:
        """Reads the model item of one step alone, as host arrays; `like=None`: of any network."""
        items = self._try(step, {"model": like and jax.device_get(dict(like))})
        if isinstance(items, str):
            raise UserError(f"checkpoint {step} in {self.directory} cannot be read: {items}")
        model: Variables = items["model"]
        return model

    def best_step(self) -> int:
        """Returns the step with the best validation metric; the latest if none was evaluated.

        Raises:
          UserError: if there is no checkpoint.
        """
        steps = self.manager.all_steps()
        if not steps:
            raise UserError(
                f"no checkpoint in {self.directory}; train first, "
                "with lficam train and the same --config and --workdir"
            )
        best = self.manager.best_step()
        return int(max(steps) if best is None else best)

    def _try(self, step: int, like: Mapping[str, Any]) -> dict[str, Any] | str:
        """Returns the items of a step, or in one line how it is damaged.

        Raises:
          UserError: if the system refuses to read it, which says nothing of the step.
        """
        with _quiet():
            try:
                return self._read(step, like)
            except Exception as error:  # whatever a damaged file makes orbax or tensorstore raise
                words, why = in_a_line(error), refused(error, self.directory / str(step))
            gc.collect()
        if why:
            raise UserError(
                f"checkpoint {step} in {self.directory} cannot be read now ({why}); nothing is "
                "changed: see to that, then give the same command again"
            )
        return words

    def _read(self, step: int, like: Mapping[str, Any]) -> dict[str, Any]:
        for here, _, names in os.walk(self.directory / str(step)):
            for name in names:
                plain_file(Path(here, name))  # orbax would wait for a pipe
        wanted = {name: ocp.args.StandardRestore(tree) for name, tree in like.items()}
        items = self.manager.restore(
            step, args=ocp.args.Composite(meta=ocp.args.JsonRestore(), **wanted)
        )
        for name in like:
            expected = items["meta"]["checksums"][name]
            found = checksums(items[name])
            changed = [path for path in expected if found.get(path) != expected[path]]
            if changed:
                raise ValueError(f"the checksum of {changed[0]} does not match")
        return dict(items)


def _manager(directory: Path, keep_latest: int, read_only: bool) -> ocp.CheckpointManager:
    best = policies.BestN(
        get_metric_fn=goodness, reverse=False, n=1, keep_checkpoints_without_metrics=False
    )
    latest = policies.LatestN(keep_latest)
    options = ocp.CheckpointManagerOptions(
        best_fn=goodness,  # without it, best_step() would silently be the latest
        best_mode="max",
        preservation_policy=policies.AnyPreservationPolicy([latest, best]),
        cleanup_tmp_directories=not read_only,
        create=False,  # orbax refuses to where it must not wait for the other processes
        read_only=read_only,
        multiprocessing_options=ocp.options.MultiprocessingOptions(active_processes={0}),
    )
    return Manager(directory, options=options)


def check_finite(state: TrainState) -> None:
    """Checks a state on the host; a second or so for a gigabyte.

    Raises:
      DivergedError: naming the first array that holds NaN or infinity.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(state):
        if jnp.issubdtype(leaf.dtype, jnp.floating) and not np.isfinite(leaf).all():
            raise DivergedError(
                f"training diverged at step {int(state.step)}: {jax.tree_util.keystr(path)} is not "
                "finite, so this step is not saved. Checkpoints before it are intact. Lower "
                "--config.optim.lr, warm up longer or set --config.optim.clip_norm"
            )


def checksums(tree: Any) -> dict[str, int]:
    """Returns the CRC-32 of every array of a pytree, by its path."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        jax.tree_util.keystr(path): zlib.crc32(np.ascontiguousarray(leaf).tobytes())
        for path, leaf in leaves
    }


def _split(state: TrainState) -> tuple[dict[str, Any], dict[str, Any]]:
    """Cuts a state into what evaluation reads and what only training needs."""
    train = {"step": state.step, "opt_state": state.opt_state}
    if state.ema is not None:
        train |= {"params": state.params, "batch_stats": state.batch_stats}
    return dict(state.variables), train


def _join(like: TrainState, model: Any, train: Any) -> TrainState:
    live = train if like.ema is not None else model
    return replace(
        like, step=train["step"], opt_state=train["opt_state"], params=live["params"],
        batch_stats=live["batch_stats"], ema=model if like.ema is not None else None,
    )  # fmt: skip


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silences the reads that orbax abandons when one beside them fails: pages on stderr.

    They end when Python's garbage is collected, so who saw a failure collects it in here.
    """
    before, sys.unraisablehook = sys.unraisablehook, lambda report: None
    try:
        yield
    finally:
        sys.unraisablehook = before


@contextlib.contextmanager
def _without_advice(level: int = logging.ERROR) -> Iterator[None]:
    """Silences orbax's warnings of what `read_only` or no metrics mean, advice to programmers."""
    logger = logging.getLogger("absl")
    before = logger.level
    logger.setLevel(max(level, before))
    try:
        yield
    finally:
        logger.setLevel(before)
