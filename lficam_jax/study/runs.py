"""Trains and measures one run of a study, and reads what that left behind."""

import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from lficam_jax.config import as_json
from lficam_jax.data.builders import sources
from lficam_jax.errors import DivergedError, UserError, shortened
from lficam_jax.explaining.session import Session
from lficam_jax.measure.faithfulness import Measurement, measurement, stream, target_of
from lficam_jax.measure.scoreboard import Rows
from lficam_jax.methods import TRIVIAL
from lficam_jax.methods import place_of as placed
from lficam_jax.metrics.answers import PRESENT
from lficam_jax.models.answers import kind_of
from lficam_jax.ops.maps import Axis, Place
from lficam_jax.study.plan import Run
from lficam_jax.training import train
from lficam_jax.training.experiment import load_run
from lficam_jax.workdir.damage import ABSENT
from lficam_jax.workdir.results import (
    Unreadable,
    read_object,
    replacing,
    set_aside,
    teaching,
    understood,
    write_result,
)

Arrays = dict[str, np.ndarray]


def folder(workdir: Path, run: Run) -> Path:
    """Returns the workdir of one run; `main` opens it like any other."""
    return workdir / "runs" / run.model / run.setting


def train_run(run: Run, here: Path) -> None:
    """Trains a run, or goes on with it.

    Raises:
      DivergedError: naming the setting to change.
      Interrupted, UserError: as `train` raises them.
    """
    damaged = here / "results" / "train.json"
    if damaged.exists():  # its run ended, so what it says is measured again from its checkpoints
        print(f"{damaged} is kept as {set_aside(damaged)}", flush=True)
    try:
        train.train(run.config, here)
    except DivergedError as error:
        raise DivergedError(
            f"run {run.name}: {error}. In a study: change setting {run.setting!r} in its config "
            f"and delete {here}; the other runs keep their results"
        ) from None


def result_of(here: Path) -> dict[str, Any]:
    """Returns what training left behind.

    Raises:
      Unreadable: if it is damaged, or of another version.
    """
    result = read_object(path := here / "results" / "train.json")
    with understood(path):
        test, validation = result["test"], result["validation"]
        numbers = accuracy_of(test), test["loss"], accuracy_of(validation), result["seconds"]
        _ = [float(n) for n in (*numbers, result["best_step"], result["step"])]
    return result


def origin_of(here: Path) -> dict[str, Any]:
    """Returns the `date`, `hardware` and `versions` of a run's training.

    And the `command` of its measuring, the last that the study did with it: a training may be older
    than what the study asks for now.

    Raises:
      Unreadable: if they are damaged, or of another version.
    """
    found: dict[str, Any] = {}
    for name, keys in (("train", ("date", "hardware", "versions")), ("measures", ("command",))):
        with understood(path := here / "results" / f"{name}.json"):
            made_by = read_object(path)["made_by"]
            found |= {key: made_by[key] for key in keys}
    return found


def late_change(here: Path) -> float | None:
    """Returns by how much the accuracy on validation rose in the last quarter of the training.

    In points. None if it was not measured within a tenth of the training of that quarter's start.
    """
    try:
        lines = [json.loads(line) for line in (here / "metrics.jsonl").read_text().splitlines()]
        seen = [
            (float(row["step"]), accuracy_of(told)) for row in lines if (told := _validation(row))
        ]
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None  # it is a file to look at, not a result
    if not seen:
        return None
    last, now = seen[-1]
    step, before = min(seen, key=lambda measured: abs(measured[0] - 0.75 * last))
    return 100 * (now - before) if abs(step - 0.75 * last) <= 0.1 * last else None


def _validation(row: Mapping[str, Any]) -> dict[str, Any]:
    found = {name.removeprefix("validation/"): value for name, value in row.items()}
    return found if "validation/loss" in row else {}


def accuracy_of(measures: Mapping[str, Any]) -> float:
    """Returns the share of pictures that are named rightly: of several labels, all of them."""
    return float(measures["accuracy" if "accuracy" in measures else "exact_match"])


def asked_of(here: Path) -> dict[str, Any]:
    """Returns what was measured of a run, and in how many `seconds`.

    Raises:
      Unreadable: if it is damaged, or of another version.
    """
    result = read_object(path := here / "results" / "measures.json")
    with understood(path):
        float(result["seconds"])
        dict(result["asked"])
    return result


def arrays_of(here: Path) -> Arrays:
    """Returns the measures of a run, one row per image.

    Keys: `correct` (over the whole split) and `correct_cluster`, `id`, `cluster`,
    `METHOD/MEASURE`, `rows/METHOD`: which of the images, if it saw fewer, `map/METHOD` `[n h w]`,
    and `place/METHOD` `[2 2]`: where its cells lie (`ops.maps.Place`); absent for half-pixels.
    Clusters name the source that an image was made of
    (`data.builders.sources`); absent where each has its own.

    Raises:
      Unreadable: if it is damaged.
      UserError: if the system refuses to read it.
    """
    path = here / "results" / "measures.npz"
    try:
        with np.load(path) as stored:
            arrays = dict(stored)
            len(arrays["correct"]), len(arrays["id"])
    except Exception as error:  # whatever a damaged archive makes zipfile and numpy raise
        if isinstance(error, OSError) and error.errno not in (None, *ABSENT):
            raise UserError(f"cannot read {path}: {error.strerror}") from error
        raise Unreadable(f"{path} is damaged ({shortened(str(error))})") from error
    return arrays


def place_of(arrays: Arrays, method: str) -> Place | None:
    """Returns where the maps of a method lie on the image; None: by half-pixels."""
    if (key := f"place/{method}") not in arrays:
        return None
    rows, columns = arrays[key].tolist()
    return Place(Axis(*rows), Axis(*columns))


def methods_of(study: ConfigDict, run: Run) -> list[str]:
    """Returns whose maps of a run are measured; of a model also the trivial ones."""
    if run.model in study.ablations:
        return [*study.measure.ablation_methods]
    plain = run.config.model.head == "plain"  # has no map of its own
    return [m for m in study.measure.methods if not (plain and m == "own")] + [*TRIVIAL]


def _asked(study: ConfigDict, run: Run) -> dict[str, Any]:
    measure = as_json(study.measure)
    del measure["ablation_methods"]  # the run's own methods stand below
    if not measure["method_limits"]:
        del measure["method_limits"]  # as before there were any
    return measure | {"methods": methods_of(study, run), "align": run.config.explain.align}


def trained(here: Path) -> bool:
    """Tells whether a run's training is finished."""
    return (here / "results" / "train.json").exists() and _whole(result_of, here) is not None


def measured(here: Path, study: ConfigDict, run: Run) -> bool:
    """Tells whether a run was measured as the study asks for it now."""
    if not all((here / "results" / f"measures.{kind}").exists() for kind in ("json", "npz")):
        return False
    # what was measured under another plan is measured again; that is minutes, not a training
    found = _whole(asked_of, here)
    asked = found is not None and found["asked"] == _asked(study, run)
    return asked and _whole(arrays_of, here) is not None


def _whole(read: Callable[[Path], dict[str, Any]], here: Path) -> dict[str, Any] | None:
    """Returns a file of a run; None if it is damaged, which costs that run alone."""
    try:
        return read(here)
    except Unreadable as error:
        print(f"warning: {error}; it counts as not there", file=sys.stderr, flush=True)
        return None


def measure_run(study: ConfigDict, run: Run, here: Path) -> None:
    """Measures a run's network and its maps, and writes them down.

    Raises:
      UserError: if the run or its data cannot be read, or the result not be written.
    """
    started, asked = time.monotonic(), study.measure
    loaded, few = load_run(run.config, here), limits(asked)
    session = Session(loaded, asked.split, asked.limit, methods_of(study, run))
    measure = measurement(
        loaded.model, session.info, asked.measures, "mean", asked.steps, target_of(session.info),
        session.align,
    )  # fmt: skip
    maps: dict[str, list[np.ndarray]] = {"id": []}

    def keep(batch: Rows, seen: Mapping[str, Any], found: Mapping[str, Rows]) -> None:
        maps["id"].append(batch["id"][batch["valid"]])
        for name in asked.stability_methods:
            if name in found:
                maps.setdefault(f"map/{name}", []).append(found[name]["map"][batch["valid"]])

    whole = [m for m in session.methods() if m not in few]
    rows = stream(measure, session, whole, [keep])
    arrays: Arrays = {name: np.concatenate(parts) for name, parts in maps.items()}
    for name in (m for m in session.methods() if m in few):
        fewer = Session(loaded, asked.split, few[name], [name])
        rows |= stream(measure, fewer, [name])
        ids = np.concatenate([b["id"][b["valid"]] for b in fewer.batches()])
        arrays[f"rows/{name}"] = np.flatnonzero(np.isin(arrays["id"], ids))
    arrays |= {f"{m}/{name}": row for m, each in rows.items() for name, row in each.items()}
    arrays |= _places(session, arrays)
    arrays["correct"], everybody = _correct(session, measure)
    if (
        not run.config.data.synthetic
        and (made_of := sources(run.config.data.name, asked.split)) is not None
    ):
        arrays |= {"correct_cluster": made_of[everybody], "cluster": made_of[arrays["id"]]}
    path = here / "results" / "measures.npz"
    with teaching(path), replacing(path) as scratch:
        np.savez_compressed(scratch, **arrays)  # type: ignore[arg-type]  # its flags are keywords
    done = {
        "asked": _asked(study, run),
        "step": loaded.step,
        "seconds": time.monotonic() - started,
    }
    write_result(here, "measures", done, run.config)  # last: it says that all is there


def limits(measure: ConfigDict) -> dict[str, int]:
    """Returns on how many images the methods are measured that see fewer than the others."""
    return {m: n for m, n in measure.method_limits.items() if n < measure.limit}


def _places(session: Session, arrays: Arrays) -> Arrays:
    """Returns where the maps that are kept lie, those by half-pixels left out."""
    found = {
        m: placed(m, arrays[f"map/{m}"].shape[1:], session.places)
        for m in session.methods()
        if f"map/{m}" in arrays
    }
    return {f"place/{m}": np.array(place) for m, place in found.items() if place}


def _correct(session: Session, measure: Measurement) -> tuple[np.ndarray, np.ndarray]:
    """Returns for each example of the whole split whether the prediction is right, and its id.

    Of several labels all have to be: those present have a probability of at least 0.5, the others
    less (`metrics.answers.of_labels`, exact_match).
    """
    everything = session.few(np.iinfo(np.int64).max)
    several = kind_of(session.run.model) == "several"
    hits, ids = [], []
    for batch in everything.batches(session.size):
        share = np.asarray(measure.see(session.variables, batch)["share"])
        if several:
            right = ((share >= PRESENT) == (batch["label"] > PRESENT)).all(axis=1)
        else:
            right = share.argmax(axis=1) == batch["label"]
        hits.append(right[batch["valid"]])
        ids.append(batch["id"][batch["valid"]])
    return np.concatenate(hits), np.concatenate(ids)
