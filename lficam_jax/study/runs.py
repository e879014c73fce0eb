"""Trains and measures every run of a study; what is done already is not done again."""

import copy
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from lficam_jax.config import as_json
from lficam_jax.data import normalise
from lficam_jax.data.builders import sources
from lficam_jax.errors import DivergedError, UserError, shortened
from lficam_jax.explaining.session import BATCH, Session
from lficam_jax.measure.faithfulness import Measurement, stream, target_of
from lficam_jax.methods import TRIVIAL, maps_of
from lficam_jax.methods import place_of as placed
from lficam_jax.models.answers import kind_of
from lficam_jax.models.classifier import predict
from lficam_jax.ops.maps import Axis, Place
from lficam_jax.structs import Variables
from lficam_jax.study.plan import CONTROL, Run
from lficam_jax.training import train
from lficam_jax.training.experiment import load_run
from lficam_jax.workdir.damage import ABSENT
from lficam_jax.workdir.folder import check
from lficam_jax.workdir.progress import duration_text
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


def carry_out(study: ConfigDict, runs: Sequence[Run], workdir: Path) -> None:
    """Trains and measures all runs, saying after each what it gave and how long the rest takes.

    Raises:
      Interrupted: after SIGTERM or SIGINT; the same call continues.
      UserError: if runs of `workdir` were trained under another config, before any is trained.
      UserError, DivergedError: as `train` raises them; the runs before it keep their results.
    """
    _check(runs, workdir)
    taken: dict[str, list[float]] = {}
    for place, run in enumerate(runs, 1):
        here = folder(workdir, run)
        told = f"[{place}/{len(runs)}] {run.name}"
        if not _trained(here):
            print(f"{told}: training", flush=True)
            _train(run, here)
        if not _measured(here, study, run):
            print(f"{told}: measuring", flush=True)
            _measure(study, run, here)
        result = result_of(here)
        taken.setdefault(run.model, []).append(result["seconds"] + asked_of(here)["seconds"])
        left = duration_text(sum(_expected(study, taken, later.model) for later in runs[place:]))
        accuracy = f"{100 * accuracy_of(result['test']):.2f} % of the test split right"
        print(f"{told}: {accuracy}; about {left} left of the study", flush=True)


def _check(runs: Sequence[Run], workdir: Path) -> None:
    for run in runs:
        check(folder(workdir, run), as_json(run.config))


def _train(run: Run, here: Path) -> None:
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


def so_far(study: ConfigDict, runs: Sequence[Run], workdir: Path) -> tuple[ConfigDict, list[Run]]:
    """Returns the part of a study that can be compared already: its config, and its runs.

    Settings under which a model or the control is missing are left out.

    Raises:
      UserError: if fewer than two settings are done, or runs were trained under another config.
    """
    _check(runs, workdir)
    places = {run.name: folder(workdir, run) for run in runs}
    done = [r for r in runs if _trained(places[r.name]) and _measured(places[r.name], study, r)]
    names = {run.name for run in done}
    everywhere = [*study.models, *({CONTROL} & {*study.ablations})]
    whole = [s for s in study.settings if all(f"{m}/{s}" in names for m in everywhere)]
    if len(whole) < 2:
        raise UserError(
            f"{len(done)} of {len(runs)} runs are done, {len(whole)} settings with all models; "
            "two can be compared"
        )
    found = [run for run in done if run.setting in whole]
    part = copy.deepcopy(study)
    part.settings = {s: study.settings[s] for s in whole}
    there = {run.model for run in found}
    part.ablations = {n: change for n, change in study.ablations.items() if n in there}
    return part, found


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
    `METHOD/MEASURE`, `map/METHOD` `[n h w]`, and `place/METHOD` `[2 2]`: where its cells lie
    (`ops.maps.Place`); absent for half-pixels. Clusters name the source that an image was made of
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


def _expected(study: ConfigDict, taken: Mapping[str, Sequence[float]], model: str) -> float:
    """Returns the seconds that a run may take: as its model's did, or its kin's, or any."""
    kin = study.ablations if model in study.ablations else study.models
    for names in ([model], kin, taken):
        if seen := [seconds for name in names for seconds in taken.get(name, ())]:
            return float(np.mean(seen))
    raise ValueError("nothing was timed yet")


def _asked(study: ConfigDict, run: Run) -> dict[str, Any]:
    measure = as_json(study.measure)
    del measure["ablation_methods"]  # the run's own methods stand below
    return measure | {"methods": methods_of(study, run), "align": run.config.explain.align}


def _trained(here: Path) -> bool:
    return (here / "results" / "train.json").exists() and _is_whole(result_of, here)


def _measured(here: Path, study: ConfigDict, run: Run) -> bool:
    if not all((here / "results" / f"measures.{kind}").exists() for kind in ("json", "npz")):
        return False
    if not (_is_whole(asked_of, here) and _is_whole(arrays_of, here)):
        return False
    # what was measured under another plan is measured again; that is minutes, not a training
    return bool(asked_of(here)["asked"] == _asked(study, run))


def _is_whole(read: Callable[[Path], Any], here: Path) -> bool:
    """Tells whether a file of a run can be read; a damaged one costs that run alone."""
    try:
        read(here)
    except Unreadable as error:
        print(f"warning: {error}; it counts as not there", file=sys.stderr, flush=True)
        return False
    return True


def _measure(study: ConfigDict, run: Run, here: Path) -> None:
    started, asked = time.monotonic(), study.measure
    trained = load_run(run.config, here)
    session = Session(trained, asked.split, asked.limit, methods_of(study, run))
    measurement = Measurement(
        trained.model, session.info, asked.measures, "mean", asked.steps, target_of(session.info),
        align=session.align,
    )  # fmt: skip
    rows = stream(measurement, session, session.methods())
    arrays: dict[str, Any] = {
        f"{m}/{name}": row for m, each in rows.items() for name, row in each.items()
    }
    arrays["correct"], everybody = _correct(session)
    arrays |= _maps([m for m in asked.stability_methods if m in session.methods()], session)
    arrays |= {
        f"place/{m}": np.array(place)
        for m in session.methods()
        if f"map/{m}" in arrays
        and (place := placed(m, arrays[f"map/{m}"].shape[1:], session.places))
    }
    if (
        not run.config.data.synthetic
        and (made_of := sources(run.config.data.name, asked.split)) is not None
    ):
        arrays |= {"correct_cluster": made_of[everybody], "cluster": made_of[arrays["id"]]}
    path = here / "results" / "measures.npz"
    with teaching(path), replacing(path) as scratch:
        np.savez_compressed(scratch, **arrays)
    done = {
        "asked": _asked(study, run),
        "step": trained.step,
        "seconds": time.monotonic() - started,
    }
    write_result(here, "measures", done, run.config)  # last: it says that all is there


def _correct(session: Session) -> tuple[np.ndarray, np.ndarray]:
    """Returns for each example of the whole split whether the prediction is right, and its id.

    Of several labels all have to be: those present have a probability of at least 0.5, the others
    less (`metrics.answers.of_labels`, exact_match).
    """
    everything, model = session.few(np.iinfo(np.int64).max), session.run.model
    several = kind_of(model) == "several"

    def hit(variables: Variables, pixels: Any, labels: Any) -> Any:
        logits = predict(model, variables, normalise(pixels, everything.info)).logits
        if several:
            return ((logits >= 0) == (labels > 0.5)).all(axis=1)
        return jnp.argmax(logits, axis=1) == labels

    hit, size = jax.jit(hit), session.run.config.eval.batch_size
    hits, ids = [], []
    for batch in everything.batches(size):
        right = np.asarray(hit(session.variables, batch["image"], batch["label"]))
        hits.append(right[batch["valid"]])
        ids.append(batch["id"][batch["valid"]])
    return np.concatenate(hits), np.concatenate(ids)


def _maps(names: Sequence[str], session: Session) -> Arrays:
    """Draws the maps that are compared between settings, and names their examples."""

    def draw(variables: Variables, pixels: Any, asked: Any) -> dict[str, Any]:
        images, model = normalise(pixels, session.info), session.run.model
        return {f"map/{n}": maps_of(n, model, variables, images, asked) for n in names}

    parts = list(_rows_of(jax.jit(draw), session))
    return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}


def _rows_of(draw: Any, session: Session) -> Iterator[Arrays]:
    for batch in session.sample.batches(BATCH):
        drawn = draw(session.variables, batch["image"], batch.get("asked"))
        found = jax.device_get(drawn) | {"id": batch["id"]}
        yield {key: rows[batch["valid"]] for key, rows in found.items()}
