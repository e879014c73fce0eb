"""Which head wins, ties or loses, against what: tables of all heads of a study."""

from collections.abc import Mapping
from typing import Any

from lficam_jax.study.cells import (
    INTERVAL,
    NETWORKS,
    PAIRED,
    RANKED,
    differs,
    mark,
    marked,
    shown,
    signed,
    with_arrow,
)
from lficam_jax.study.formats import NONE, Table
from lficam_jax.study.plan import BASELINE
from lficam_jax.study.summary import RIVALS

STABLE = (
    "stability: IoU of the top fifth of the pixels between settings, adjusted for chance, of "
    "own maps minus that of the others."
)
TIE = "·"  # the interval holds 0
Row = tuple[str, str, Mapping[str, Any], int]


def head_tables(record: Mapping[str, Any]) -> list[Table]:
    """Returns `heads`, who wins in words, and its numbers: `within` and `between`.

    None of a record without `heads`, as the first edition's are.
    """
    if not record.get("heads", {}).get("within"):
        return []
    found = [_heads(record), _within(record)]
    return [*found, _between(record)] if record["heads"]["between"] else found


def head_columns(record: Mapping[str, Any]) -> list[str]:
    """Returns the measures in which maps of heads are compared."""
    return [*shown(record), "stability"]


def _heads(record: Mapping[str, Any]) -> Table:
    columns = ["accuracy", *head_columns(record)]
    rows = tuple(
        (against, head, *(verdict(found.get(c), c, sign) for c in columns))
        for against, head, found, sign in _rows(record)
    )
    caption = (
        "Is the head better or worse in a measure than what stands under against? A difference "
        f"counts where its paired 95 % interval leaves out 0; {TIE}: it does not; {NONE}: not "
        "compared. †: also after Holm's correction for all comparisons of the table that has the "
        f"number. {_accuracy(record)} {STABLE} {NETWORKS}"
    )
    header = ("against", "head", *map(with_arrow, columns))
    return Table("heads", "Which head wins", caption, header, rows)


def _accuracy(record: Mapping[str, Any]) -> str:
    """Says in a sentence each which heads are more accurate than plain, less, and neither."""
    found: dict[str, list[str]] = {"better": [], "worse": [], TIE: []}
    for name, each in record["accuracy"].items():
        word = verdict(each.get("difference"), "accuracy")
        if word != NONE:
            found[word.removesuffix("†")].append(name + "†" * word.endswith("†"))
    said = (f"More accurate than {BASELINE}", "Less", "No detectable difference")
    return " ".join(
        f"{start}: {', '.join(names) or 'none'}."
        for start, names in zip(said, found.values(), strict=True)
    )


def _rows(record: Mapping[str, Any]) -> list[Row]:
    """Lists what is set against what, the differences, and -1 where they are the other's."""
    heads = record["heads"]
    found: list[Row] = []
    for method in RIVALS:
        for pair, each in heads["within"].items():
            name, other = pair.split(", ")
            if other == method:
                found.append((f"its own {method}", name, each, 1))
    for pair, each in heads["between"].items():
        name, method = pair.split(", ")
        if method == "own":
            each = each | {"accuracy": heads["accuracy"][name]}
            found.append((f"{heads['reference']}'s own map", name, each, -1))
        else:
            found.append((f"{name}'s {method}", heads["reference"], each, 1))
    return found


def verdict(found: Mapping[str, Any] | None, column: str, sign: int = 1) -> str:
    """Says in a word who is ahead.

    Args:
      found: a difference; None: not measured.
      column: the measure.
      sign: -1 if the difference is the other's minus this one's.

    >>> verdict({"value": -0.2, "low": -0.3, "high": -0.1}, "deletion")
    'better'
    """
    if found is None or found["value"] is None:
        return NONE
    if not differs(found):
        return TIE
    word = "better" if sign * RANKED[column] * found["value"] > 0 else "worse"
    return f"{word}{mark(found)}"


def _within(record: Mapping[str, Any]) -> Table:
    caption = (
        f"The own map of each head minus the map named, of the same network. {INTERVAL} {PAIRED}"
        f"{marked(record, 'within')} ↑: more is better, so + speaks for the own map; ↓: less is. "
        f"{STABLE}"
    )
    title = "Own maps against other maps of the same network"
    return Table("within", title, caption, *_cells(record, "within", "model, own minus"))


def _between(record: Mapping[str, Any]) -> Table:
    reference = record["heads"]["reference"]
    caption = (
        f"The own map of {reference} minus the map named. {INTERVAL} {PAIRED}"
        f"{marked(record, 'between')} ↑: more is better, so + speaks for {reference}; ↓: less is. "
        f"{STABLE} {NETWORKS}"
    )
    title = f"{reference}'s own map against maps of other networks"
    return Table("between", title, caption, *_cells(record, "between", f"{reference}, own minus"))


def _cells(
    record: Mapping[str, Any], section: str, first: str
) -> tuple[tuple[str, ...], tuple[tuple[str, ...], ...]]:
    columns = head_columns(record)
    rows = tuple(
        (other, *(signed(found.get(c)) for c in columns))
        for other, found in record["heads"][section].items()
    )
    return (first, *map(with_arrow, columns)), rows
