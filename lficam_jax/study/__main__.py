"""Trains, measures and compares whole families of networks; writes tables, plots and a page.

  lficam study --config study_NAME[:smoke] --workdir DIR

Trains plain, ABN (with both losses and with one) and LFI networks and the ablations of FIN under
several settings, measures accuracy, faithfulness, localisation and stability of their maps, and
writes into DIR/results: study.json, index.html, study.md, tables/*.{md,csv,tex}, *.png.
Stop it whenever you like; the same command continues. Each run is an ordinary workdir,
DIR/runs/MODEL/SETTING, which every mode of `lficam` opens.

Any key can be set: --config.measure.limit=64 --config.base.train.total_epochs=1
"""

import sys
import time
from collections.abc import Mapping, Sequence
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from lficam_jax import cli, config_file
from lficam_jax.errors import UserError


def main(words: list[str], prog: str = "python -m lficam_jax.study") -> int:
    """Carries out a study, or writes its report again; returns the exit code."""
    words, overrides = config_file.split_overrides(words)
    asked = _parser(prog).parse(words)
    if not asked.workdir:
        raise UserError("--workdir is missing; for example --workdir runs/study")
    address = asked.workdir
    study = None if asked.report else config_file.configured(asked.config, overrides, study=True)
    from lficam_jax.devices.distributed import start
    from lficam_jax.devices.interrupt import Interrupted
    from lficam_jax.study import page
    from lficam_jax.workdir.remote import mirrored

    if study is not None:
        start(platform=study.base.parallel.platform)
    with mirrored(address, alone=study is not None) as here:
        workdir = Path(str(here))
        try:
            if study is not None:
                _compare(study, workdir, so_far_only=asked.so_far)
        except Interrupted as stop:
            print(stop)
            return stop.exit_code
        if not (workdir / "results" / "study.json").exists():
            raise UserError(f"{address}/results/study.json is not there; leave out --report")
        print(f"page  {page.report(workdir)}")
    return 0


def _parser(prog: str) -> cli.Parser:
    parser = cli.Parser(
        prog=prog, usage=f"{prog} [FLAGS] [--config.KEY=VALUE …]", description=__doc__
    )
    parser.add_argument("--config", metavar="NAME[:smoke]", help=config_file.HELP)
    parser.add_argument("--workdir", metavar="DIR", help="folder of the study")
    parser.add_argument(
        "--so_far", action="store_true", help="compares the settings that are done, trains nothing"
    )
    parser.add_argument(
        "--report", action="store_true", help="writes tables, plots and page again, from study.json"
    )
    return parser


def _compare(study: ConfigDict, workdir: Path, *, so_far_only: bool) -> None:
    """Carries out what is missing, unless told not to, and compares what there is."""
    from lficam_jax.study.plan import plan
    from lficam_jax.study.runs import carry_out, so_far
    from lficam_jax.workdir.compiled import keep_compiled

    runs = plan(study)
    planned = len(runs)
    if so_far_only:
        study, runs = so_far(study, runs, workdir)
    else:
        keep_compiled()  # settings that differ in the seed alone share their programs
        print(f"{planned} runs: {len(study.settings)} settings; {workdir}", flush=True)
        carry_out(study, runs, workdir)
    print(f"comparing {len(runs)} runs", flush=True)
    _record(study, runs, workdir, planned)


def _record(study: ConfigDict, runs: Sequence[Any], workdir: Path, planned: int) -> None:
    """Writes `results/study.json` and the grids of maps."""
    from lficam_jax.data import dataset_info
    from lficam_jax.study.comparisons import correct
    from lficam_jax.study.runs import arrays_of, folder
    from lficam_jax.study.summary import summarise
    from lficam_jax.workdir.origin import told_hardware, versions
    from lficam_jax.workdir.progress import duration_text
    from lficam_jax.workdir.results import write_result

    info = dataset_info(study.base.data)
    found = summarise(study, runs, workdir, info.size)
    correct(found)
    first = arrays_of(folder(workdir, runs[0]))
    about = {
        "name": info.name, "command": f"python -m lficam_jax.study {_words()}",
        "date": time.strftime("%Y-%m-%d"), "hardware": told_hardware(), "versions": versions(),
        "time": duration_text(_seconds(workdir, runs)), "planned": planned,
        "settings": _settings(study, runs), "align": study.base.explain.align,
        "labels": info.labels, "test_examples": len(first["correct"]), "images": len(first["id"]),
    }  # fmt: skip
    write_result(workdir, "study", about | found, study)
    _draw_grids(study, workdir)


def _seconds(workdir: Path, runs: Sequence[Any]) -> float:
    from lficam_jax.study.runs import asked_of, folder, result_of

    places = [folder(workdir, run) for run in runs]
    return float(sum(result_of(p)["seconds"] + asked_of(p)["seconds"] for p in places))


def _settings(study: ConfigDict, runs: Sequence[Any]) -> Mapping[str, Mapping[str, Any]]:
    """Returns for each setting the seed, and each key that any setting changes."""
    from lficam_jax.study.plan import BASELINE, keys

    changed = dict.fromkeys(["seed", *(k for c in study.settings.values() for k in keys(c))])
    return {
        run.setting: {key: reduce(getitem, key.split("."), run.config) for key in changed}
        for run in runs if run.model == BASELINE
    }  # fmt: skip


def _draw_grids(study: ConfigDict, workdir: Path) -> None:
    """Draws the same test images, of several classes, under every setting, for each own map."""
    from lficam_jax.data.sample import Sample
    from lficam_jax.study.plots import draw_grid
    from lficam_jax.study.runs import arrays_of, place_of

    sample = Sample(study.base.data, study.measure.split, study.measure.limit)
    (batch,) = sample.batches(len(sample))
    asked = batch["asked" if "asked" in batch else "label"]
    classes, first = np.unique(asked, return_index=True)
    chosen = np.linspace(0, len(classes) - 1, min(study.pictures, len(classes)))
    places = first[chosen.round().astype(int)]
    for model in study.models:
        stored = {s: arrays_of(workdir / "runs" / model / s) for s in study.settings}
        if not all("map/own" in arrays for arrays in stored.values()):
            continue
        maps = {s: arrays["map/own"][places] for s, arrays in stored.items()}
        path = workdir / "results" / f"grid_{model}.png"
        lie = {s: place_of(arrays, "own") for s, arrays in stored.items()}
        draw_grid(batch["image"][places], maps, lie, path)


def _words() -> str:
    return " ".join(sys.argv[1:])


if __name__ == "__main__":
    cli.run(main)
