"""Writes the record of a study: what was found, and how and on what its runs were made."""

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from lficam_jax.data import dataset_info
from lficam_jax.data.sample import Sample
from lficam_jax.study.comparisons import correct
from lficam_jax.study.plan import BASELINE, Run, keys
from lficam_jax.study.plots import draw_grid
from lficam_jax.study.runs import (
    arrays_of,
    asked_of,
    folder,
    limits,
    origin_of,
    place_of,
    result_of,
)
from lficam_jax.study.summary import summarise
from lficam_jax.workdir.origin import told_hardware
from lficam_jax.workdir.progress import duration_text
from lficam_jax.workdir.results import write_result


def write_record(study: ConfigDict, runs: Sequence[Run], workdir: Path, planned: int) -> None:
    """Writes `results/study.json` and the grids of maps; needs no checkpoint.

    Args:
      study: its config.
      runs: trained and measured.
      workdir: of the study.
      planned: how many runs the whole study has.

    Raises:
      UserError: if the data are not there, or something cannot be written.
    """
    info = dataset_info(study.base.data)
    found = summarise(study, runs, workdir, info.size)
    correct(found)
    first = arrays_of(folder(workdir, runs[0]))
    about = {
        "name": info.name, "labels": info.labels,
        **_made([origin_of(folder(workdir, run)) for run in runs]),
        "time": duration_text(_seconds(workdir, runs)), "planned": planned,
        "settings": _settings(study, runs), "align": study.base.explain.align,
        "test_examples": len(first["correct"]), "images": len(first["id"]),
        "fewer_images": limits(study.measure),
    }  # fmt: skip
    write_result(workdir, "study", about | found, study)
    _draw_grids(study, workdir)


def _made(origins: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns how, when, on what and by which versions the runs were made, wherever that was."""
    days = sorted({origin["date"][:10] for origin in origins})
    machines = dict.fromkeys(told_hardware(origin["hardware"]) for origin in origins)
    versions: dict[str, dict[str, None]] = {}
    for origin in origins:
        for name, version in origin["versions"].items():
            versions.setdefault(name, {})[version] = None
    return {
        "command": "; ".join(dict.fromkeys(origin["command"] for origin in origins)),
        "date": " to ".join(dict.fromkeys([days[0], days[-1]])),
        "hardware": " and ".join(machines),
        "versions": {name: " and ".join(found) for name, found in versions.items()},
    }


def _seconds(workdir: Path, runs: Sequence[Run]) -> float:
    places = [folder(workdir, run) for run in runs]
    return float(sum(result_of(p)["seconds"] + asked_of(p)["seconds"] for p in places))


def _settings(study: ConfigDict, runs: Sequence[Run]) -> Mapping[str, Mapping[str, Any]]:
    """Returns for each setting the seed, and each key that any setting changes."""
    changed = dict.fromkeys(["seed", *(k for c in study.settings.values() for k in keys(c))])
    return {
        run.setting: {key: reduce(getitem, key.split("."), run.config) for key in changed}
        for run in runs if run.model == BASELINE
    }  # fmt: skip


def _draw_grids(study: ConfigDict, workdir: Path) -> None:
    """Draws the same test images, of several classes, under every setting, for each own map."""
    if not study.pictures:
        return
    sample = Sample(study.base.data, study.measure.split, study.measure.limit)
    (batch,) = sample.batches(len(sample))
    asked = batch["asked" if "asked" in batch else "label"]
    classes, first = np.unique(asked, return_index=True)
    chosen = np.linspace(0, len(classes) - 1, min(study.pictures, len(classes)))
    places = first[chosen.round().astype(int)]
    titles = [f"asked: {sample.classes[i]}" for i in asked[places]] if "asked" in batch else ()
    for model in study.models:
        stored = {s: arrays_of(workdir / "runs" / model / s) for s in study.settings}
        if not all("map/own" in arrays for arrays in stored.values()):
            continue
        maps = {s: arrays["map/own"][places] for s, arrays in stored.items()}
        path = workdir / "results" / f"grid_{model}.png"
        lie = {s: place_of(arrays, "own") for s, arrays in stored.items()}
        draw_grid(batch["image"][places], maps, lie, path, titles)
