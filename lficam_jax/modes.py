"""One function per mode: run it, print a short table, leave a file behind, return the exit code."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from lficam_jax.config import validate
from lficam_jax.data import counts
from lficam_jax.devices.interrupt import Interrupted
from lficam_jax.devices.parallel import replicate
from lficam_jax.errors import UserError
from lficam_jax.explaining.render import confusion_picture
from lficam_jax.explaining.run import run as explain_run
from lficam_jax.explaining.run import run_video
from lficam_jax.explaining.session import Session
from lficam_jax.interop.pretrained import load_pretrained
from lficam_jax.measure import stability
from lficam_jax.measure.faithfulness import run as faithfulness_run
from lficam_jax.methods import check, check_asked
from lficam_jax.speed import benchmark
from lficam_jax.speed.compiled import compile_for
from lficam_jax.speed.describe import describe as describe_config
from lficam_jax.speed.describe import text as describe_text
from lficam_jax.structs import Run
from lficam_jax.training import experiment
from lficam_jax.training.evaluate import Evaluation
from lficam_jax.training.profiling import window
from lficam_jax.workdir.results import write_result
from lficam_jax.workdir.table import aligned

# What the tables show, in this order, with how to write it.
ROWS = {
    "accuracy": "{:.2%}", "top5_accuracy": "{:.2%}", "auroc": "{:.4f}",
    "mean_average_precision": "{:.4f}", "f1": "{:.4f}", "label_accuracy": "{:.2%}",
    "exact_match": "{:.2%}", "mae": "{:.4g}", "rmse": "{:.4g}", "r2": "{:.4f}",
    "loss": "{:.4f}", "pointing_game": "{:.2%}",
    "asked_over_other": "{:.2%}", "energy": "{:.2%}", "effective_channels": "{:.1f}",
    "correlation_with_mean": "{:.4f}", "constant_maps": "{}", "examples": "{}",
}  # fmt: skip


def train(config: ConfigDict, workdir: str, profile_steps: str = "") -> int:
    """Trains or continues; prints the measures of the best step on both splits."""
    from lficam_jax.training.train import (
        train as run_training,  # brings orbax, which others do without
    )

    try:
        result = run_training(config, workdir, profile=window(profile_steps))
    except Interrupted as stop:
        print(stop)
        return stop.exit_code
    print(f"\nbest of {result['step']} steps on the validation split: step {result['best_step']}")
    print(table({split: result[split] for split in ("validation", "test")}))
    if "per_label" in result["test"]:
        print(f"\n{per_label(result['test'])}")
    drawn = _draw_confusion(result["test"], workdir)
    print(f"{result['seconds']:.0f} seconds; {workdir}/results/train.json{drawn}")
    return 0


def evaluate(config: ConfigDict, workdir: str, split: str) -> int:
    """Measures the best checkpoint on a split."""
    validate(config)
    config = experiment.recall(config, workdir, reads=True)
    splits, mode = experiment.open_splits(config, split), config.parallel.mode
    print("\n".join(counts.told(splits)), flush=True)
    run = experiment.load_run(config, workdir)
    result = Evaluation(run.model, splits[split], config).measure(replicate(run.variables, mode))
    print(table({f"{split} at step {run.step}": result}))  # even where nothing can be written
    if "per_label" in result:
        print(f"\n{per_label(result)}")
    about = {
        "data": splits[split].dataset.name, "split": split, "step": run.step,
        "align": config.explain.align,
    }  # fmt: skip
    write_result(workdir, "evaluate", about | result, config)
    print(f"{workdir}/results/evaluate.json{_draw_confusion(result, workdir)}")
    return 0


def explain(
    config: ConfigDict, workdir: str | None, *, images: Sequence[str] = (), tiles: bool = False,
    video: str = "", target: str | None = None, out: str = "", **asked: Any,
) -> int:  # fmt: skip
    """Draws the maps of the best checkpoint on a split's sample, or on the user's own files."""
    if images and video:
        raise UserError("say --images or --video, not both: they leave a page and a video")
    if tiles and not images:
        raise UserError("--tiles looks at --images in their full size; say which")
    split = None if images or video else config.explain.split
    session = _session(config, workdir, split=split, limit=config.explain.limit, **asked)
    drawn = session.methods() or session.methods("own", "grad_cam")[:1]
    check_asked(target, drawn, session.run.model)  # before a file is read
    wanted = _class(target, session.classes)
    if video:
        return run_video(session, video, target=wanted, out=out)
    return explain_run(session, images, target=wanted, out=out, tiles=tiles)


def faithfulness(
    config: ConfigDict, workdir: str, *, groups: Sequence[str] = (), baseline: str = "mean",
    target: str | None = None, **asked: Any,
) -> int:  # fmt: skip
    """Measures the maps of the best checkpoint."""
    session = _session(config, workdir, **asked)
    return faithfulness_run(session, groups, baseline=baseline, target=target or "")


def robustness(
    config: ConfigDict, workdir: str, *, perturbations: Sequence[str], severities: Sequence[int],
    epsilons: Sequence[int], **asked: Any,
) -> int:  # fmt: skip
    """Attacks and corrupts the pictures: does the class hold, and does the map?"""
    from lficam_jax.measure.observe import planned  # brings Pillow, which `describe` does without
    from lficam_jax.measure.robustness import run as robustness_run

    plan = planned(perturbations, severities, epsilons)
    return robustness_run(_session(config, workdir, **asked), plan)


def sanity(config: ConfigDict, workdir: str, **asked: Any) -> int:
    """Randomises the best checkpoint layer by layer: does the map change?"""
    from lficam_jax.measure.sanity import run as sanity_run

    return sanity_run(_session(config, workdir, **asked))


def export(
    config: ConfigDict, workdir: str | None, *, to: str, out: str = "", runtime: str = "",
    pretrained: str = "", weights: str = "",
) -> int:  # fmt: skip
    """Writes the best checkpoint, or a pretrained network, in a format that others read."""
    from lficam_jax.explaining.export import export as write  # brings jax.export

    for path in write(_opened(config, workdir, pretrained, weights), to, out, runtime=runtime):
        opened = "; open it in a browser" * (to == "page")
        print(f"{path}  {path.stat().st_size / 1e6:.1f} MB{opened}")
    return 0


def serve(
    config: ConfigDict, workdir: str | None, *, port: int, pretrained: str = "", weights: str = "",
) -> int:  # fmt: skip
    """Serves a page that explains pictures, until Ctrl-C."""
    from lficam_jax.explaining.serve import HOST, PageServer

    with PageServer(_opened(config, workdir, pretrained, weights), port) as running:
        print(f"http://{HOST}:{running.server_port}/  (Ctrl-C ends it)", flush=True)
        try:
            running.serve_forever()
        except KeyboardInterrupt:
            print()
    return 0


def compare(config: ConfigDict | None, workdir: str, runs: list[str], **asked: Any) -> int:
    """Compares the maps of several runs; `config` says where the data and the maps lie, no more."""
    if config is None:
        return stability.run(runs, workdir, **asked)
    align = config.explain.align
    return stability.run(runs, workdir, data=config.data, align=align, **asked)


def describe(
    config: ConfigDict, workdir: str | None, *, topology: str, sections: Sequence[str],
    methods: Sequence[str],
) -> int:  # fmt: skip
    """Prints what the config amounts to, or what a TPU's compiler says; needs no data."""
    validate(config)
    if topology:
        found = compile_for(config, topology, sections, methods)
    elif sections or methods:
        raise UserError("--sections and --methods of describe are what --topology compiles")
    else:
        found = describe_config(config)
        print(describe_text(found))
    if workdir is not None:
        write_result(workdir, "compiled" if topology else "describe", found, config)
    return 0


def measure_speed(
    config: ConfigDict, workdir: str | None, *, methods: Sequence[str], groups: Sequence[str],
    sections: Sequence[str],
) -> int:  # fmt: skip
    """Measures speed on random images; needs no data and no workdir."""
    validate(config)
    found = benchmark.run(config, sections, methods, groups)
    if workdir is not None:
        print(write_result(workdir, "benchmark", found, config))
    return 0


def table(columns: Mapping[str, Mapping[str, Any]]) -> str:
    """Writes measures as aligned text, one row per measure that any column has.

    >>> print(table({"test": {"accuracy": 0.96, "examples": 50}}))
    measure     test
    accuracy  96.00%
    examples      50
    """
    rows = [["measure", *columns]]
    for name, form in ROWS.items():
        if any(values.get(name) is not None for values in columns.values()):
            known = [values.get(name) for values in columns.values()]
            cells = ["" if value is None else form.format(value) for value in known]
            rows.append([name, *cells])
    return aligned(rows)


def per_label(result: Mapping[str, Any]) -> str:
    """Writes the measures of each of several labels as aligned text.

    >>> measures = {"average_precision": [0.5, None], "positives": [3, 0]}
    >>> print(per_label({"classes": ["red", "blue"], "per_label": measures}))
    label  average_precision  positives
    red               0.5000          3
    blue                              0
    """
    measures = result["per_label"]
    rows = [["label", *measures]]
    for i, name in enumerate(result["classes"]):
        values = [column[i] for column in measures.values()]
        cells = [f"{v:.4f}" if isinstance(v, float) else str(v) for v in values]
        rows.append([name, *("" if cell == "None" else cell for cell in cells)])
    return aligned(rows)


RUN: dict[str, Callable[..., int]] = {
    "train": train, "evaluate": evaluate, "explain": explain, "describe": describe,
    "faithfulness": faithfulness, "stability": compare, "robustness": robustness,
    "sanity": sanity, "export": export, "serve": serve,
    "benchmark": measure_speed,
}  # fmt: skip


def _session(
    config: ConfigDict, workdir: str | None, *, methods: Sequence[str], pretrained: str = "",
    weights: str = "", **sample: Any,
) -> Session:  # fmt: skip
    validate(config)
    check(*methods)  # before anything is read
    return Session(_opened(config, workdir, pretrained, weights), methods=methods, **sample)


def _opened(config: ConfigDict, workdir: str | None, pretrained: str, weights: str) -> Run:
    if pretrained:
        run = load_pretrained(pretrained, weights, config)
        return replace(run, workdir=Path(workdir) if workdir else None)
    assert workdir is not None, "a run has a folder"
    return experiment.load_run(config, workdir)


def _class(text: str | None, names: Sequence[str]) -> str | int | None:
    """Returns a class's name, where there is one of that name, or its number."""
    return int(text) if text is not None and text.isdecimal() and text not in names else text


def _draw_confusion(result: Mapping[str, Any], workdir: str) -> str:
    """Draws the classes that were taken for others; returns what to say of it."""
    if "confusion" not in result:
        return ""  # of labels and numbers
    if jax.process_index() != 0:
        return ", confusion.png"
    path = Path(workdir) / "results" / "confusion.png"
    confusion_picture(np.asarray(result["confusion"]), result["classes"], path)
    return ", confusion.png"
