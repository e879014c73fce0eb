"""Numbers of a study's record as the cells of its tables, and what captions say of them."""

import math
from collections.abc import Mapping
from typing import Any

from lficam_jax.measure.scoreboard import COLUMNS, UNITS

ADJUSTED = ("iou", "iou_equal_area", "iou_auc")  # shown with chance taken away, and compared
SHOWN = ("average_drop", "average_gain", "deletion", "insertion", "road", "adcc", "pointing_game",
         "asked_over_other", "energy", "max_box_acc", "max_sensitivity")  # fmt: skip
RANKED = COLUMNS | {"accuracy": 1, "stability": 1}  # +1 if more is better, else -1
# The least and greatest that a measure can be; an interval that is symmetric may go beyond.
BOUNDS = (
    {column: (0.0, 100.0) for column in ("accuracy", *(c for c in UNITS if UNITS[c] == "%"))}
    | dict.fromkeys(("deletion", "insertion", "gini"), (0.0, 1.0))
    | {"agreement": (-math.inf, 1.0)}
)
HOLM = 0.05  # where a corrected p value is below
INTERVAL = "In brackets: 95 % intervals over settings and images."
CUT = "An interval ends where the measure does."
PAIRED = (
    "Differences are paired, same settings and same images; bold where the interval leaves out 0."
)
NETWORKS = (
    "Between networks, only the measures of place (pointing_game, asked_over_other, energy, "
    "max_box_acc) compare maps alone; the others look at the network's probabilities, too."
)


def number(value: float | None, digits: int | None = None) -> str:
    """Writes a value with about three digits that mean something.

    >>> number(98.4567), number(0.12345), number(0.00012), number(None)
    ('98.46', '0.123', '0.0001', '–')
    """
    if value is None:
        return "–"
    return f"{value:.{_digits(value) if digits is None else digits}f}"


def with_interval(found: Mapping[str, Any], digits: int | None = None, column: str = "") -> str:
    """Writes `value [low, high]`, all three to as many places.

    Args:
      found: the three.
      digits: places; None: as many as mean something.
      column: the measure, so that the interval ends where it does; "": a difference.

    >>> with_interval({"value": 99.0, "low": 97.5, "high": 100.5}, 1, "pointing_game")
    '99.0 [97.5, 100.0]'
    """
    if digits is None and found["value"] is not None:
        digits = _digits(found["value"])
    low, high = (number(end, digits) for end in ends(found, column))
    return f"{number(found['value'], digits)} [{low}, {high}]"


def ends(found: Mapping[str, Any], column: str = "") -> list[float | None]:
    """Returns `low` and `high`, no further than a measure goes.

    >>> ends({"low": 97.5, "high": 100.5}, "accuracy"), ends({"low": -0.1, "high": 0.2})
    ([97.5, 100.0], [-0.1, 0.2])
    """
    least, most = BOUNDS.get(column, (-math.inf, math.inf))
    return [None if (v := found[k]) is None else min(max(v, least), most) for k in ("low", "high")]


def _digits(value: float) -> int:
    if abs(value) >= 10:
        return 2
    return 3 if abs(value) >= 0.01 or value == 0 else 4


def signed(found: Mapping[str, Any] | None, digits: int | None = None) -> str:
    """Writes a difference with its sign and interval; in bold if the interval leaves out 0."""
    if found is None or found["value"] is None:
        return "–"
    text = with_interval(found, digits)
    text = text if text.startswith("-") else f"+{text}"
    return f"**{text}{mark(found)}**" if differs(found) else text


def mark(found: Mapping[str, Any]) -> str:
    """Returns † if a difference holds after Holm's correction, too (`study.comparisons`)."""
    corrected = found.get("p_holm")
    return "†" if corrected is not None and corrected < HOLM else ""


def differs(found: Mapping[str, Any]) -> bool:
    """Tells whether an interval leaves out 0."""
    return found["low"] is not None and (found["low"] > 0 or found["high"] < 0)


def with_arrow(column: str) -> str:
    """Writes a measure's name, and whether more of it is better.

    >>> with_arrow("insertion"), with_arrow("deletion")
    ('insertion ↑', 'deletion ↓')
    """
    return f"{column} {'↑' if RANKED[column] > 0 else '↓'}"


def shown(record: Mapping[str, Any]) -> list[str]:
    """Returns the measures of a map's quality that the study took, in the order of tables."""
    taken = {c for rows in record["maps"].values() for row in rows.values() for c in row}
    return [c for c in SHOWN if c in taken]


def marked(record: Mapping[str, Any], family: str = "") -> str:
    """Says what † means, after a caption's `PAIRED`; nothing of a record without corrected p's.

    Args:
      record: of a study.
      family: of `study.comparisons`, if the table is one; else each difference is of its own.
    """
    if "comparisons" not in record:
        return ""
    number = record["comparisons"].get(family)
    what = "of accuracies" if family == "accuracy" else "of this table"
    each = "comparison" if number == 1 else "comparisons"
    of = f"the {number} {each} {what}" if number else "the comparisons of its own table"
    return f" †: also after Holm's correction for {of}."
