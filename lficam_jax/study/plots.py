"""The record of a study as pictures, and the same images under every setting side by side."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from lficam_jax.explaining.figure import labelled_grid
from lficam_jax.explaining.render import enlarge, overlay
from lficam_jax.measure.scoreboard import UNITS
from lficam_jax.methods import TRIVIAL
from lficam_jax.ops.maps import Place
from lficam_jax.study.cells import ends, shown, with_arrow
from lficam_jax.study.plan import OURS
from lficam_jax.study.summary import FIN
from lficam_jax.workdir.results import replacing, teaching

INK, MUTED, ACCENT = "#1b1b1f", "#8a8a94", "#c2410c"
BLIND = {*TRIVIAL} - {"mean_features"}  # never saw the picture: drawn for one model


def draw_all(record: Mapping[str, Any], directory: Path) -> None:
    """Writes `accuracy.png maps.png stability.png fin.png`."""
    drawn = {"accuracy": _accuracy, "maps": _maps, "stability": _stability, "fin": _fin}
    for name, draw in drawn.items():
        path = directory / f"{name}.png"
        figure = draw(record)
        with teaching(path), replacing(path) as scratch:
            figure.savefig(scratch, dpi=130)


def draw_grid(
    pictures: Sequence[np.ndarray], maps: Mapping[str, Sequence[np.ndarray]],
    places: Mapping[str, Place | None], path: Path, titles: Sequence[str] = (),
) -> None:  # fmt: skip
    """Draws one row per setting and one column per image: does the map stay where it is?

    Args:
      pictures: uint8 [y x 3], one per column.
      maps: of each setting, one per picture.
      places: of each setting, where its maps lie on the picture.
      path: the file to write.
      titles: of the pictures.
    """
    overlays = [
        [overlay(enlarge(p), m, place=places[s]) for p, m in zip(pictures, each, strict=True)]
        for s, each in maps.items()
    ]
    columns = [*titles] or [""] * len(pictures)
    labelled_grid([[*pictures], *overlays], ["image", *maps], columns, {}, path)


def _figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)  # needs no screen
    return figure


def _accuracy(record: Mapping[str, Any]) -> Any:
    found = record["accuracy"]
    figure = _figure(9, 0.45 * len(found) + 1.1)
    axes = figure.subplots(1, 2, sharey=True)
    for place, each in enumerate(found.values()):
        _point(axes[0], place, each, INK, "accuracy")
        dots = list(each["per_setting"].values())
        axes[0].plot(dots, [place + 0.24] * len(dots), "o", ms=4, color=ACCENT, alpha=0.6)
        if "difference" in each:
            _point(axes[1], place, each["difference"], INK)
    axes[1].axvline(0, color=MUTED, lw=1)
    _name_rows(axes, ("test accuracy, %", "minus plain, paired, points"), list(found))
    return figure


def _maps(record: Mapping[str, Any]) -> Any:
    rows = _map_rows(record)
    columns = shown(record) or ["gini"]
    high = -(-len(columns) // 4)
    wide = -(-len(columns) // high)
    figure = _figure(2.6 * wide + 1.6, high * (0.19 * len(rows) + 0.9))
    axes = figure.subplots(high, wide, squeeze=False)
    for one, column in zip(axes.flat, columns, strict=False):
        for place, (name, trivial, found) in enumerate(rows):
            if column in found:
                colour = MUTED if trivial else ACCENT if name.endswith("own") else INK
                _point(one, place, found[column], colour, column)
        _tidy(one, len(rows), "")
        _part(one, [name for name, _, _ in rows])
        one.set_title(f"{with_arrow(column)}{_unit(column)}", fontsize=10, loc="left")
        if one in axes[:, 0]:
            one.set_yticks(range(len(rows)), [name for name, _, _ in rows], fontsize=8)
            one.tick_params(left=False, labelleft=True)
    for one in axes.flat[len(columns) :]:
        one.set_visible(False)
    return figure


def _map_rows(record: Mapping[str, Any]) -> list[tuple[str, bool, Mapping[str, Any]]]:
    return [
        (f"{model} {method}", method in TRIVIAL, found)
        for model, methods in record["maps"].items()
        for method, found in methods.items()
        if method not in BLIND or model == OURS
    ]


def _part(axes: Any, names: Sequence[str]) -> None:
    """Draws a line between the rows of one model and those of the next."""
    models = [name.split()[0] for name in names]
    for place, (before, after) in enumerate(pairwise(models)):
        if before != after:
            axes.axhline(place + 0.5, color="#e4e4e8", lw=0.8)


def _unit(column: str) -> str:
    return ", %" if UNITS.get(column) == "%" else ""


def _stability(record: Mapping[str, Any]) -> Any:
    rows = [(f"{m} {k}", v) for m, each in record["stability"].items() for k, v in each.items()]
    figure = _figure(12, 0.3 * len(rows) + 1.1)
    axes = figure.subplots(1, 4, sharey=True)
    for place, (name, found) in enumerate(rows):
        colour = ACCENT if name.endswith("own") else INK
        for one, statistic in zip(axes, ("iou", "official_rowwise"), strict=False):
            value, chance = found[statistic]["value"], found[statistic]["chance"]
            if value is None:  # maps of no extent
                continue
            one.plot([chance, value], [place, place], color=colour, lw=2, alpha=0.4)
            one.plot(value, place, "o", color=colour, ms=6)
            one.plot(chance, place, "|", color=MUTED, ms=9, mew=2)
        for one, statistic in zip(axes[2:], ("iou", "iou_equal_area"), strict=True):
            _point(one, place, found[statistic]["adjusted"], colour, "agreement")
    titles = ("iou (tick: chance)", "official_rowwise (tick: chance)", "iou, adjusted for chance",
              "iou_equal_area, adjusted")  # fmt: skip
    _name_rows(axes, titles, [name for name, _ in rows])
    for one in axes:
        _part(one, [name for name, _ in rows])
    return figure


def _fin(record: Mapping[str, Any]) -> Any:
    models = dict.fromkeys((OURS, *record["accuracy"], *record["ablations"]))
    names = [name for name in models if _of_runs(record, name, FIN[0])]
    figure = _figure(10, 0.34 * len(names) + 1.2)
    axes = figure.subplots(1, 3, sharey=True)
    for place, name in enumerate(names):
        colour = ACCENT if name == OURS else INK
        for one, key in zip(axes, FIN, strict=False):
            values = _of_runs(record, name, key)
            one.plot(values, [place] * len(values), "o", ms=5, alpha=0.6, color=colour)
        if name in record["ablations"]:
            _point(axes[2], place, record["ablations"][name]["accuracy"]["difference"], colour)
    axes[2].axvline(0, color=ACCENT, lw=1)
    titles = ("effective channels", "correlation with mean|F|", "ablations' accuracy minus lfi")
    _name_rows(axes, titles, names)
    axes[1].locator_params(axis="x", nbins=4)  # six places each
    return figure


def _of_runs(record: Mapping[str, Any], model: str, key: str) -> list[float]:
    runs = (run for path, run in record["runs"].items() if path.split("/")[0] == model)
    return [run[key] for run in runs if run.get(key) is not None]


def _name_rows(axes: Any, titles: Sequence[str], names: Sequence[str]) -> None:
    for one, title in zip(axes, titles, strict=True):
        _tidy(one, len(names), "")
        one.set_title(title, fontsize=10, loc="left", parse_math=False)
    axes[0].set_yticks(range(len(names)), names, fontsize=9)
    axes[0].tick_params(left=False, labelleft=True)


def _point(axes: Any, place: int, found: Mapping[str, Any], colour: str, column: str = "") -> None:
    if found["value"] is None:
        return
    axes.plot(ends(found, column), [place, place], color=colour, lw=1.6)
    axes.plot(found["value"], place, "o", color=colour, ms=5)


def _tidy(axes: Any, rows: int, label: str) -> None:
    axes.set_ylim(rows - 0.4, -0.6)
    axes.set_xlabel(label, fontsize=9)
    axes.tick_params(left=False, labelleft=False, labelsize=8)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(axis="x", color="#e4e4e8", lw=0.8)
    axes.set_axisbelow(True)
