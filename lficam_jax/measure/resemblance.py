"""How like the first map is a later one? Rows (what was done) by methods: table, CSV, picture."""

import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lficam_jax.data import Dataset, denormalise
from lficam_jax.explaining.figure import labelled_grid
from lficam_jax.explaining.render import Picture, colorize, enlarge, overlay, upsample
from lficam_jax.explaining.session import Session, closing
from lficam_jax.measure.observe import METHODS, Seen
from lficam_jax.methods import TRIVIAL, place_of
from lficam_jax.metrics.bootstrap import summary
from lficam_jax.ops.maps import Place
from lficam_jax.workdir.results import replace_text, teaching
from lficam_jax.workdir.table import aligned, csv_text

# What was done -> {"network": {measure: summary}, "methods": {method: {"constant", "not_finite",
# "statistics": {statistic: summary, perhaps with "chance" and "adjusted"}}}}
Found = dict[str, dict[str, Any]]


def summarise(
    values: Mapping[str, np.ndarray], chance: Mapping[str, np.ndarray] | None = None
) -> dict[str, dict[str, float]]:
    """Returns mean, interval and n of each statistic, and its chance and adjusted value.

    Args:
      values: statistic -> one value per image; NaN where there is none.
      chance: the same with the images shuffled. `adjusted` is (value - chance) / (1 - chance).
    """
    found = {name: summary(rows) for name, rows in values.items()}
    for name, rows in (chance or {}).items():
        by_chance, value = summary(rows)["value"], found[name]["value"]
        room = 1 - by_chance
        adjusted = (value - by_chance) / room if room > 0 else float("nan")
        found[name] |= {"chance": by_chance, "adjusted": adjusted}
    return found


def table(found: Found, statistics: Sequence[str]) -> str:
    """Writes one block per statistic: rows by methods, half the interval behind each value.

    Args:
      found: see `Found`.
      statistics: in order.
    """
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 0
    methods = list(next(iter(found.values()))["methods"])
    blocks = [_network(found)] if next(iter(found.values()))["network"] else []
    for statistic in statistics:
        rows = [[statistic, *(f"({m})" if m in TRIVIAL else m for m in methods)]]
        for what, row in found.items():
            cells = [row["methods"][method]["statistics"][statistic] for method in methods]
            rows.append([what, *map(_cell, cells)])
        blocks.append(aligned(rows, width))
    return "\n\n".join([*blocks, *_degenerate(found, methods)])


def write_csv(path: Path, found: Found) -> None:
    """Writes one line per row, method and statistic; the network's own measures name no method.

    Raises:
      UserError: if it cannot be written.
    """
    numbers = ("value", "low", "high", "n", "chance", "adjusted")
    lines = [["what", "method", "measure", *numbers, "constant", "not_finite"]]
    for what, row in found.items():
        for measure, cell in row["network"].items():
            lines.append([what, "", measure, *(cell.get(k, "") for k in numbers), "", ""])
        for method, of in row["methods"].items():
            counts = [of["constant"], of["not_finite"]]
            for statistic, cell in of["statistics"].items():
                values = [cell.get(k, "") for k in numbers]
                lines.append([what, method, statistic, *values, *counts])
    with teaching(path):
        replace_text(path, csv_text(lines))


def leave(
    session: Session, mode: str, result: Mapping[str, Any], found: Found, text: str,
    looks: Mapping[str, Seen], examples: int, *, over: bool,
) -> None:  # fmt: skip
    """Prints the text, even where nothing can be written, and writes `results/<mode>.*`.

    Args:
      session: of the mode.
      mode: its name.
      result: what the JSON says.
      found: of it, what the table shows.
      text: that table.
      looks: at the first examples, see `picture`.
      examples: how many are drawn, at most.
      over: see `picture`.
    """
    print(text)
    written = session.write(mode, result)
    write_csv(written.with_suffix(".csv"), found)
    names, few = session.methods(*METHODS), session.few(examples)
    path = written.with_suffix(".png")
    picture(path, looks, session, names, few.classes, len(few), over)
    print(closing(result, written, ".csv", ".png"))


def picture(
    path: Path,
    looks: Mapping[str, Seen],
    session: Session,
    names: Sequence[str],
    classes: Sequence[str],
    examples: int,
    over: bool,
) -> None:
    """Draws examples: a column for each look, a row for the picture and one for each method's map.

    Args:
      path: of the PNG.
      looks: heading -> what the network saw and drew.
      session: of the mode.
      names: of the methods.
      classes: class names, in label order.
      examples: how many, from the first row on.
      over: lay the maps over the pictures, else draw them alone.
    """
    rows: list[list[Picture]] = []
    labels: list[str] = []
    notes: dict[tuple[int, int], tuple[str, bool]] = {}
    for example in range(examples):
        shown = [enlarge(_shown(seen, example, session.info), 96) for seen in looks.values()]
        for column, seen in enumerate(looks.values()):
            text = f"{classes[seen['predicted'][example]]} {seen['confidence'][example]:.0%}"
            notes[len(rows), column] = text, seen["predicted"][example] == seen["class"][example]
        rows.append(shown)
        labels.append("image")
        for name in names:
            maps = [np.asarray(seen["maps"][name][example]) for seen in looks.values()]
            place = place_of(name, maps[0].shape, session.places)
            rows.append([_drawn(p, m, over, place) for p, m in zip(shown, maps, strict=True)])
            labels.append(name)
    labelled_grid(rows, labels, list(looks), notes, path)


def _shown(seen: Seen, example: int, info: Dataset) -> Picture:
    picture: Picture = denormalise(np.asarray(seen["image"][example]), info)
    return picture


def _drawn(shown: Picture, attention: np.ndarray, over: bool, place: Place | None) -> Picture:
    if over:
        return overlay(shown, attention, place=place)
    return colorize(upsample(attention, shown.shape[:2], place))


def _network(found: Found) -> str:
    names = list(next(iter(found.values()))["network"])
    rows = [["network", *names]]
    rows += [
        [what, *(_cell(row["network"][name]) for name in names)] for what, row in found.items()
    ]
    return aligned(rows)


def _cell(summary: Mapping[str, float]) -> str:
    if not summary["n"]:
        return "-"
    half = (summary["high"] - summary["low"]) / 2
    sure = f"±{half:.3f}" if half >= 0.0005 else ""
    by_chance = f" ({summary['chance']:.2f})" if "chance" in summary else ""
    return f"{summary['value']:.3f}{sure}{by_chance}"


def _degenerate(found: Found, methods: Sequence[str]) -> list[str]:
    """Says for each method with such maps in which row most of them are constant, not finite."""
    lines = []
    for kind in ("constant", "not_finite"):
        worst = {m: max(found, key=lambda what: found[what]["methods"][m][kind]) for m in methods}
        told = [
            f"{method} up to {count} ({what})"
            for method, what in worst.items()
            if (count := found[what]["methods"][method][kind])
        ]
        if told:
            lines.append(f"{kind.replace('_', ' ')} maps: {', '.join(told)}")
    return lines
