"""From the measures of each image to the table of methods: means, intervals, marks, CSV."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from lficam_jax.methods import TRIVIAL
from lficam_jax.metrics import faithfulness as measures
from lficam_jax.metrics import localisation
from lficam_jax.metrics.bootstrap import interval, wilson
from lficam_jax.workdir.results import replace_text, teaching
from lficam_jax.workdir.table import aligned, csv_text

# What --measures may name, and the columns that each fills: +1 if higher is better, else -1.
GROUPS: dict[str, dict[str, int]] = {
    "confidence": {
        "average_drop": -1, "increase": 1, "average_gain": 1, "win": 1, "average_drop_50": -1,
        "increase_50": 1, "average_drop_15": -1, "increase_15": 1,
    },
    "deletion": {"deletion": -1},
    "insertion": {"insertion": 1},
    "road": {"road": 1},
    "adcc": {"adcc": 1},
    "sparseness": {"gini": 1, "entropy": -1},
    "localisation": {"pointing_game": 1, "asked_over_other": 1, "energy": 1, "max_box_acc": 1},
    "sensitivity": {"max_sensitivity": -1},
}  # fmt: skip
COLUMNS = {name: sign for group in GROUPS.values() for name, sign in group.items()}
# What is a hit or none, and the value of a hit: the interval is Wilson's.
HITS = {
    "pointing_game": 1, "asked_over_other": 1, "increase": 100, "increase_50": 100,
    "increase_15": 100,
}  # fmt: skip
UNITS = {
    column: "%" for name in ("confidence", "adcc", "localisation") for column in GROUPS[name]
} | {"entropy": "nats"}
PERCENT = tuple(GROUPS["localisation"])  # measured as shares
CURVES = ("deletion_curve", "insertion_curve")
NOTES = (
    "(in brackets: trivial rows) * best of the other methods; ! a trivial row is as good or "
    "better: this measure does not tell maps apart here",
    "± half of the 95 % interval over images. own: the network that draws the map also "
    "scores the masked image.",
    "Without a unit: deletion, insertion and gini lie in 0..1, road in -1..1; max_sensitivity is a "
    "ratio.",
)
Rows = dict[str, np.ndarray]  # one row per image


def summarise(rows: Mapping[str, Rows], groups: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Returns for each method: counts, and for each measure its mean, 95 % interval and n.

    `win` is the mean over the other methods that are not trivial. Values that do not exist are
    left out and n says so; `constant` maps stay in, `not_finite` ones do not; both are counted.
    """
    columns = [column for group in groups for column in GROUPS[group]]
    honest = [name for name in rows if name not in TRIVIAL]
    found = {}
    for name, row in rows.items():
        others = [rows[other]["after"] for other in honest if other != name]
        if others:
            row = row | {"win": np.mean([_win(row["after"], other) for other in others], axis=0)}
        found[name] = {
            "images": len(row["after"]),
            "trivial": name in TRIVIAL,
            "constant": int(row["constant"].sum()),
            "not_finite": int(row["not_finite"].sum()),
            "measures": {c: _summary(c, row[c]) for c in columns if c in row},
            "curves": {c: _mean(row[c]).tolist() for c in CURVES if c in row},
        }
    return found


def marks(found: Mapping[str, Mapping[str, Any]]) -> dict[tuple[str, str], str]:
    """Returns (method, measure) -> '*' for the best honest value, '!' for a trivial one as good."""
    marked = {}
    for column, sign in COLUMNS.items():
        values = {
            name: sign * method["measures"][column]["value"]
            for name, method in found.items()
            if column in method["measures"] and method["measures"][column]["n"]
        }
        honest = [v for name, v in values.items() if not found[name]["trivial"]]
        for name, value in values.items():
            trivial = found[name]["trivial"]
            # where all are equal there is no best
            if honest and value >= max(honest) and (trivial or value > min(honest)):
                marked[name, column] = "!" if trivial else "*"
    return marked


def table(found: Mapping[str, Mapping[str, Any]], width: int = 0) -> str:
    """Writes methods × measures as aligned text, with half the 95 % interval behind each value.

    `width` is the terminal's: what does not fit goes below; 0 folds nothing.
    """
    notes = [textwrap.fill(note, width) if width else note for note in NOTES]
    return "\n".join(["", aligned(cells(found), width), *notes])


def cells(found: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Returns the cells of the table, the header first; `NOTES` say what the marks in them mean."""
    columns = [c for c in COLUMNS if any(c in m["measures"] for m in found.values())]
    marked = marks(found)
    header = [f"{c} {'↑' if COLUMNS[c] > 0 else '↓'} {UNITS.get(c, '')}".rstrip() for c in columns]
    rows = [["method", *header, "images", "constant", "not finite"]]
    for name, method in found.items():
        told = [_cell(c, method["measures"].get(c), marked.get((name, c), " ")) for c in columns]
        counts = [str(method[k]) for k in ("images", "constant", "not_finite")]
        rows.append([f"({name})" if method["trivial"] else name, *told, *counts])
    return rows


def for_page(found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Returns the table and its curves as `report.page` lays them out.

    `columns`: name, group, unit and sign (1: higher is better) of each measure that any method has;
    `rows`: one per method, its `cells` in the order of the columns, None where there is no value;
    `curves`: for 'deletion' and 'insertion' the mean confidences of each method.
    """
    groups = {column: group for group, columns in GROUPS.items() for column in columns}
    columns = [c for c in COLUMNS if any(c in m["measures"] for m in found.values())]
    marked = marks(found)
    counts = ("images", "trivial", "constant", "not_finite")
    rows = []
    for name, method in found.items():
        cells = [
            method["measures"][c] | {"mark": marked.get((name, c), "")}
            if method["measures"].get(c, {"n": 0})["n"] else None
            for c in columns
        ]  # fmt: skip
        rows.append({"method": name, "cells": cells} | {k: method[k] for k in counts})
    return {
        "columns": [
            {"name": c, "group": groups[c], "sign": COLUMNS[c], "unit": UNITS.get(c, "")}
            for c in columns
        ],
        "rows": rows,
        "curves": {
            c.removesuffix("_curve"): {n: m["curves"][c] for n, m in found.items()}
            for c in CURVES
            if all(c in m["curves"] for m in found.values())
        },
    }


def _win(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.asarray(measures.win(jnp.asarray(a), jnp.asarray(b)))


def _mean(curves: np.ndarray) -> np.ndarray:
    """Returns the mean curve of those that exist; NaN if none does."""
    exist = curves[np.isfinite(curves).all(axis=1)]
    return exist.mean(axis=0) if len(exist) else np.full(curves.shape[1], np.nan)


def _summary(column: str, values: np.ndarray) -> dict[str, float]:
    scale = 100 if column in PERCENT else 1
    if column == "max_box_acc":
        exists = np.isfinite(values).all(axis=1)
        value = localisation.max_box_acc(np.ones((1, len(values))), values)[0]
        low, high = interval(values, localisation.max_box_acc)
    else:
        exists = np.isfinite(values)
        value = values[exists].mean() if exists.any() else np.nan
        low, high = interval(values)
    if column in HITS and exists.any():
        share, n = value / HITS[column], int(exists.sum())
        low, high = (HITS[column] * end for end in wilson(share * n, n))
    numbers = {"value": scale * value, "low": scale * low, "high": scale * high}
    return numbers | {"n": int(exists.sum())}


def _cell(column: str, summary: Mapping[str, float] | None, mark: str) -> str:
    if summary is None or not summary["n"]:
        return "- "
    digits = 1 if UNITS.get(column) == "%" or abs(summary["value"]) >= 10 else 3
    half = (summary["high"] - summary["low"]) / 2
    return f"{summary['value']:.{digits}f}±{half:.{digits}f}{mark}"


def write_csv(path: Path, found: Mapping[str, Mapping[str, Any]]) -> None:
    """Writes one line per method and measure."""
    head = ["value", "low", "high", "n"]
    lines = [["method", "trivial", "measure", *head, "constant", "not_finite"]]
    for name, method in found.items():
        for column, summary in method["measures"].items():
            numbers = [summary[k] for k in head]
            counts = [method["constant"], method["not_finite"]]
            lines.append([name, method["trivial"], column, *numbers, *counts])
    with teaching(path):
        replace_text(path, csv_text(lines))
