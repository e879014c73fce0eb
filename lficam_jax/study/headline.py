"""The few rows of several studies that tell most, side by side."""

from collections.abc import Container, Mapping
from typing import Any

from lficam_jax.study.cells import (
    INTERVAL,
    PAIRED,
    marked,
    number,
    signed,
    with_arrow,
    with_interval,
)
from lficam_jax.study.formats import NONE, Table
from lficam_jax.study.plan import BASELINE, CONTROL, OURS
from lficam_jax.study.summary import FIN
from lficam_jax.study.tables import mean_of_runs

MAPS = ("insertion", "deletion", "pointing_game", "asked_over_other")
SAME_AREA = "iou_equal_area"


def headline(records: Mapping[str, Mapping[str, Any]]) -> Table:
    """Returns one row per question and one column per study.

    Args:
      records: by the title of the column; two studies may be of the same data. Rows about one
        model are of those that all studies have.
    """
    models = set.intersection(*({*record["accuracy"]} for record in records.values()))
    columns = [_rows(record, models) for record in records.values()]
    names = list(dict.fromkeys(name for column in columns for name in column))
    cells = {name: [column.get(name, NONE) for column in columns] for name in names}
    rows = tuple((name, *found) for name, found in cells.items() if {*found} != {NONE})
    told = next(filter(None, map(marked, records.values())), "")
    caption = (
        f"{INTERVAL} {PAIRED}{told} Insertion and deletion between networks look at the networks' "
        "probabilities, too. Stability: IoU of the top fifth of the pixels, adjusted for chance."
    )
    return Table("headline", "The studies side by side", caption, ("", *records), rows)


def _rows(record: Mapping[str, Any], models: Container[str]) -> dict[str, str]:
    accuracy, versus = record["accuracy"], record["versus"]
    control, abn = record["accuracy_versus"].get(CONTROL), accuracy.get("abn", {})
    found = {
        "accuracy of plain, %": with_interval(accuracy["plain"], 2, "accuracy"),
        "accuracy: abn minus plain": signed(abn.get("difference"), 2),
        "accuracy: lfi minus plain": signed(accuracy[OURS]["difference"], 2),
        "accuracy: lfi minus uniform, which is lfi without FIN": signed(control, 2),
    }
    for model, method in (("plain", "cam"), ("abn", "own")):
        differences = versus.get(f"{model}, {method}", {})
        for name in MAPS:
            text = f"{with_arrow(name)}: {OURS}'s own map minus {model}'s {method}"
            found[text] = signed(differences.get(name))
    for other, differences in record["stability_versus"].items():
        model, method = other.split(", ")
        if model in (BASELINE, OURS) or (method == "own" and model in models):
            text = f"stability: {OURS}'s own map minus {model}'s {method}"
            found[text] = signed(differences[SAME_AREA])
    found |= _heads(record, models)
    channels, correlation = (mean_of_runs(record, OURS, key, [*record["settings"]]) for key in FIN)
    return found | {
        "effective channels of FIN's importance": number(channels),
        "correlation of lfi's own map with mean|F|": number(correlation),
    }


def _heads(record: Mapping[str, Any], models: Container[str]) -> dict[str, str]:
    """Returns the rows of a study of all heads: every accuracy, and the reference's own map."""
    heads = record.get("heads", {})
    reference = heads.get("reference")
    if not reference:
        return {}
    found = {
        f"accuracy: {model} minus plain": signed(each["difference"], 2)
        for model, each in record["accuracy"].items() if model in models and "difference" in each
    }  # fmt: skip
    found[f"accuracy: {reference} minus {OURS}"] = signed(heads["accuracy"][OURS], 2)
    for section, pair, whose in (
        ("between", f"{OURS}, own", f"{OURS}'s own"),
        ("within", f"{reference}, mean_features", "its mean_features"),
        ("within", f"{reference}, grad_cam", "its grad_cam"),
    ):
        differences = heads[section].get(pair, {})
        for name in (*MAPS, "energy", "stability"):
            text = f"{with_arrow(name)}: {reference}'s own map minus {whose}"
            found[text] = signed(differences.get(name))
    return found
