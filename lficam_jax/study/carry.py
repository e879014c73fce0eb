"""Carries out the runs of a study, alone or beside other processes with the same command."""

import copy
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from lficam_jax.config import as_json
from lficam_jax.errors import DivergedError, UserError
from lficam_jax.study.plan import CONTROL, Run
from lficam_jax.study.runs import (
    accuracy_of,
    asked_of,
    folder,
    measure_run,
    measured,
    result_of,
    train_run,
    trained,
)
from lficam_jax.workdir.folder import check
from lficam_jax.workdir.lock import Busy, Lock
from lficam_jax.workdir.progress import duration_text

LOCK = ".study.lock"  # of a run's folder: held by the process that carries the run out


def carry_out(study: ConfigDict, runs: Sequence[Run], workdir: Path) -> int:
    """Trains and measures the runs that are not done and that no other process works on.

    A run that diverges costs that run alone. After each it says what it gave and how long the rest
    takes.

    Returns:
      How many runs others still work on; whoever gets 0 is the last, and may compare them all.

    Raises:
      UserError: if runs of `workdir` were trained under another config, before any is trained; or
        as `train` raises it: the runs before it keep their results.
      DivergedError: that of the first run that diverged, once nothing else is left.
      Interrupted: after SIGTERM or SIGINT in a training; the same call continues.
    """
    check_runs(runs, workdir)
    told = {run.name: f"[{place}/{len(runs)}] {run.name}" for place, run in enumerate(runs, 1)}
    left = _not_done(study, runs, workdir)
    if len(left) < len(runs):
        print(f"{len(runs) - len(left)} of {len(runs)} runs are done", flush=True)
    taken: dict[str, list[float]] = {}
    failed: list[DivergedError] = []
    last = ""
    while left:
        run = _one(study, _order(left, last), workdir, told, failed)
        if run is None:
            break
        left = _not_done(study, [r for r in left if r is not run], workdir)
        last, here = run.model, folder(workdir, run)
        if _done(study, run, here):
            result = result_of(here)
            taken.setdefault(last, []).append(result["seconds"] + asked_of(here)["seconds"])
            others = sum((folder(workdir, later) / LOCK).exists() for later in left)
            seconds = sum(_expected(study, taken, later.model) for later in left) / (1 + others)
            accuracy = f"{100 * accuracy_of(result['test']):.2f} % of the test split right"
            print(f"{told[run.name]}: {accuracy}{_rest(seconds, others)}", flush=True)
    if failed:
        raise failed[0]
    return len(left)


def _one(
    study: ConfigDict, wanted: Sequence[Run], workdir: Path, told: Mapping[str, str],
    failed: list[DivergedError],
) -> Run | None:  # fmt: skip
    """Carries out the first run that nobody holds and returns it; None if others hold all.

    A run that diverges is added to `failed`.
    """
    for run in wanted:
        here = folder(workdir, run)
        try:
            with Lock(here / LOCK, here):
                if not trained(here):
                    print(f"{told[run.name]}: training", flush=True)
                    train_run(run, here)
                if not measured(here, study, run):
                    print(f"{told[run.name]}: measuring", flush=True)
                    measure_run(study, run, here)
        except Busy:
            continue
        except DivergedError as error:
            print(f"{told[run.name]}: {error}", flush=True)
            failed.append(error)
        return run
    return None


def _order(left: Sequence[Run], last: str) -> list[Run]:
    """Returns the runs as planned; under each setting first the model that is compiled here."""
    settings = groupby(left, key=lambda run: run.setting)
    return [r for _, group in settings for r in sorted(group, key=lambda run: run.model != last)]


def _done(study: ConfigDict, run: Run, here: Path) -> bool:
    return trained(here) and measured(here, study, run)


def _not_done(study: ConfigDict, runs: Sequence[Run], workdir: Path) -> list[Run]:
    return [run for run in runs if not _done(study, run, folder(workdir, run))]


def check_runs(runs: Sequence[Run], workdir: Path) -> None:
    """Raises a UserError if runs of `workdir` were trained under another config."""
    for run in runs:
        check(folder(workdir, run), as_json(run.config))


def so_far(study: ConfigDict, runs: Sequence[Run], workdir: Path) -> tuple[ConfigDict, list[Run]]:
    """Returns the part of a study that can be compared already: its config, and its runs.

    Settings under which a model or the control is missing are left out.

    Raises:
      UserError: if fewer than two settings are done, or runs were trained under another config.
    """
    check_runs(runs, workdir)
    done = [run for run in runs if _done(study, run, folder(workdir, run))]
    names = {run.name for run in done}
    everywhere = [*study.models, *({CONTROL} & {*study.ablations})]
    whole = [s for s in study.settings if all(f"{m}/{s}" in names for m in everywhere)]
    if len(whole) < 2:
        here = sum(trained(folder(workdir, run)) for run in runs)
        raise UserError(
            f"of {len(runs)} runs {here} are trained, and {len(done)} of these measured as this "
            f"config asks; {len(whole)} settings have all models, and two can be compared. The "
            "same command without --so_far does what is missing"
        )
    found = [run for run in done if run.setting in whole]
    part = copy.deepcopy(study)
    part.settings = {s: study.settings[s] for s in whole}
    there = {run.model for run in found}
    part.ablations = {n: change for n, change in study.ablations.items() if n in there}
    return part, found


def _rest(seconds: float, others: int) -> str:
    """Says how long the study still takes, shared with other processes.

    >>> _rest(60, 0), _rest(60, 1), _rest(0, 1)
    ('; about 1m 00s left of the study', '; about 1m 00s left of the study, shared by 2', '')
    """
    shared = f", shared by {1 + others}" if others else ""
    return f"; about {duration_text(seconds)} left of the study{shared}" if seconds else ""


def _expected(study: ConfigDict, taken: Mapping[str, Sequence[float]], model: str) -> float:
    """Returns the seconds that a run may take: as its model's did, or its kin's, or any."""
    kin = study.ablations if model in study.ablations else study.models
    for names in ([model], kin, taken):
        if seen := [seconds for name in names for seconds in taken.get(name, ())]:
            return float(np.mean(seen))
    raise ValueError("nothing was timed yet")
