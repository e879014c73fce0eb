"""The record of a study as tables.

Everything here is a function of `results/study.json` alone, so a table in a document can be made
again, letter by letter (`lficam_jax.study.document`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from lficam_jax.methods import TRIVIAL
from lficam_jax.study.cells import (
    ADJUSTED,
    CUT,
    INTERVAL,
    NETWORKS,
    PAIRED,
    marked,
    number,
    shown,
    signed,
    with_arrow,
    with_interval,
)
from lficam_jax.study.formats import Table
from lficam_jax.study.heads import head_tables
from lficam_jax.study.plan import CONTROL, OURS
from lficam_jax.study.summary import FIN

STATISTICS = ("iou", "iou_equal_area", "iou_auc", "dice", "spearman", "official_rowwise")
LATE = "validation_late_change"  # of a run


def tables(record: Mapping[str, Any]) -> list[Table]:
    """Returns all tables of a study's record, in the order in which they are read."""
    found = [_settings(record), _accuracy(record), *head_tables(record), _stability(record)]
    found += [_versus(record), *(_maps(record, name) for name in record["maps"])]
    found += [_ablations(record)] if record["ablations"] else []
    return [*found, _fin_adds(record)]


def _settings(record: Mapping[str, Any]) -> Table:
    keys = list(next(iter(record["settings"].values())))
    rows = tuple((n, *(str(s[k]) for k in keys)) for n, s in record["settings"].items())
    few = {", ".join(found["reference"]["per_setting"]) for found in record["ablations"].values()}
    caption = "Each model was trained once under each."
    if few - {", ".join(record["settings"])}:
        caption += f" So was {CONTROL}; the other ablations under {min(few, key=len)}."
    return Table("settings", "Settings", caption, ("setting", *keys), rows)


def _accuracy(record: Mapping[str, Any]) -> Table:
    models, settings = record["accuracy"], list(record["settings"])
    reference = record.get("heads", {}).get("reference")
    beside = [reference] if reference else []
    late = {name: mean_of_runs(record, name, LATE, settings) for name in models}
    told = any(value is not None for value in late.values())  # records since the second edition
    rows = tuple(
        (
            name, with_interval(found, 2, "accuracy"), number(found["sd"], 2),
            *(number(found["per_setting"].get(s), 2) for s in settings),
            signed(found.get("difference"), 2),
            *(signed(record["heads"]["accuracy"].get(name), 2) for _ in beside),
            *([number(late[name], 2)] if told else []),
        )
        for name, found in models.items()
    )  # fmt: skip
    right = (
        "of which exactly the labels that they have are named, at a probability of 0.5"
        if record.get("labels") == "several" else "right"
    )  # fmt: skip
    caption = (
        f"Percent of {record['test_examples']:,} test images {right}. sd: over settings. "
        f"{INTERVAL} {CUT} {PAIRED}{marked(record, 'accuracy')}"
    )
    if told:
        caption += (
            " last quarter: the points by which the accuracy on validation rose in the last "
            "quarter of the training, the mean over settings."
        )
    differences = ("minus plain", *(f"{each} minus this" for each in beside))
    header = ("model", "accuracy", "sd", *settings, *differences, *["last quarter"] * told)
    return Table("accuracy", "Accuracy", caption, header, rows)


def _stability(record: Mapping[str, Any]) -> Table:
    rows = tuple(
        (
            f"{model}, {method}", *(number(found[s]["value"]) for s in STATISTICS),
            number(found["iou"]["chance"]), number(found["official_rowwise"]["chance"]),
            *(with_interval(found[s]["adjusted"], None, "agreement") for s in ADJUSTED),
            *(signed(record["stability_versus"].get(f"{model}, {method}", {}).get(s))
              for s in ADJUSTED),
        )
        for model, methods in record["stability"].items()
        for method, found in methods.items()
    )  # fmt: skip
    caption = (
        "Do models trained under different settings look at the same place? Mean over all pairs of "
        f"settings and {record['images']} test images. Chance: the same with images shuffled. "
        "adjusted: (value - chance) / (1 - chance) of each pair, then averaged. "
        f"{INTERVAL} {PAIRED}{marked(record, 'stability')} "
        "Only official_rowwise is on the published scale."
    )
    header = (
        "model, map", *STATISTICS, "chance of iou", "chance of rowwise",
        *(f"{s}, adjusted" for s in ADJUSTED), *(f"lfi, own minus this: {s}" for s in ADJUSTED),
    )  # fmt: skip
    return Table("stability", "Stability between settings", caption, header, rows)


def _versus(record: Mapping[str, Any]) -> Table:
    columns = shown(record)
    rows = tuple(
        (other, *(signed(found.get(c)) for c in columns))
        for other, found in record["versus"].items()
    )
    caption = (
        f"The own map of {OURS} minus the map named. {INTERVAL} {PAIRED}{marked(record, 'versus')} "
        f"↑: more is better, so + speaks for lfi; ↓: less is. {NETWORKS}"
    )
    header = ("lfi, own minus", *(with_arrow(c) for c in columns))
    return Table("versus", "lfi's own map against other maps", caption, header, rows)


def _maps(record: Mapping[str, Any], model: str) -> Table:
    found = record["maps"][model]
    columns = [*shown(record), *(["gini"] if "gini" in found["mean_features"] else [])]
    rows = tuple(
        (
            f"({method})" if method in TRIVIAL else method,
            *(with_interval(row[c], None, c) if c in row else "–" for c in columns),
            str(row["constant"]), str(row["not_finite"]),
        )
        for method, row in found.items()
    )  # fmt: skip
    few = {m: n for m, n in record.get("fewer_images", {}).items() if m in found}
    fewer = "".join(
        f"; of {n} of them for {', '.join(m for m in few if few[m] == n)}, as for differences"
        for n in dict.fromkeys(few.values())
    )
    caption = (
        f"Maps of {record['images']} test images under every setting{fewer}. {INTERVAL} {CUT} "
        "(gaussian), (random) and (fakecam) never saw the image: where one of them is ahead, a "
        "measure does not tell maps apart. (mean_features) is the mean of the activations."
    )
    header = ("map", *map(with_arrow, columns), "constant", "not finite")
    return Table(f"maps_{model}", f"Maps of {model}", caption, header, rows)


def ablation_columns(record: Mapping[str, Any]) -> list[str]:
    """Returns the measures of which the ablations are compared."""
    return [c for c in shown(record) if c not in ("average_gain", "max_box_acc")]


def _ablations(record: Mapping[str, Any]) -> Table:
    columns = ablation_columns(record)
    under: dict[tuple[str, ...], list[str]] = {}
    for name, found in record["ablations"].items():
        under.setdefault(tuple(found["reference"]["per_setting"]), []).append(name)
    rows = tuple(
        row
        for settings, names in under.items()
        for row in (
            _reference_row(record, settings, names[0], len(columns)),
            *(_ablation_row(record, settings, name, columns) for name in names),
        )
    )
    caption = (
        "Each row changes one thing in lfi, whose own row above is under the same settings. "
        "effective channels: exp(entropy) of the importance; correlation: of the map with the mean "
        f"activation. {INTERVAL} {PAIRED}{marked(record, 'ablations')} {NETWORKS}"
    )
    header = ("FIN", "settings", "accuracy", "minus lfi", "effective channels", "correlation",
              *(f"{with_arrow(c)} minus lfi" for c in columns))  # fmt: skip
    return Table("ablations", "What each part of FIN does", caption, header, rows)


def mean_of_runs(
    record: Mapping[str, Any], model: str, key: str, settings: Sequence[str]
) -> float | None:
    """Returns the mean over settings of what evaluation found of a model; None if it has none."""
    runs = [record["runs"].get(f"{model}/{s}", {}) for s in settings]
    values = [run[key] for run in runs if run.get(key) is not None]
    return sum(values) / len(values) if values else None


def _reference_row(
    record: Mapping[str, Any], settings: Sequence[str], beside: str, differences: int
) -> tuple[str, ...]:
    accuracy = with_interval(record["ablations"][beside]["reference"], 2, "accuracy")
    fin = (number(mean_of_runs(record, OURS, key, settings)) for key in FIN)
    return OURS, " ".join(settings), accuracy, "", *fin, *[""] * differences


def _ablation_row(
    record: Mapping[str, Any], settings: Sequence[str], name: str, columns: Sequence[str]
) -> tuple[str, ...]:
    found = record["ablations"][name]
    return (
        name, " ".join(settings), with_interval(found["accuracy"], 2, "accuracy"),
        signed(found["accuracy"]["difference"], 2),
        *(number(mean_of_runs(record, name, key, settings)) for key in FIN),
        *(signed(found["own"].get(c)) for c in columns),
    )  # fmt: skip


def _fin_adds(record: Mapping[str, Any]) -> Table:
    beside, control = f"{OURS}, mean_features", f"{CONTROL}, own"
    versus, stable = record["versus"], record["stability_versus"]
    accuracy = number(record["accuracy"][OURS]["value"], 2)
    rows: list[tuple[str, ...]] = [
        ("accuracy, % ↑", accuracy, "", signed(record["accuracy_versus"].get(CONTROL), 2))
    ]
    rows += [
        (with_arrow(c), number(found["value_of_first"]), signed(found),
         signed(versus.get(control, {}).get(c)))
        for c in shown(record) if (found := versus.get(beside, {}).get(c))
    ]  # fmt: skip
    rows += [
        (f"{s} between settings, adjusted ↑",
         number(record["stability"][OURS]["own"][s]["adjusted"]["value"]),
         *(signed(stable.get(other, {}).get(s)) for other in (beside, control)))
        for s in ADJUSTED if "own" in record["stability"][OURS]
    ]  # fmt: skip
    caption = (
        "Left: FIN's map against the plain mean of the same network's activations. Right: the "
        "network trained with FIN against one trained with uniform importance. "
        f"{INTERVAL} {PAIRED}{marked(record)} {NETWORKS}"
    )
    header = ("measure", "lfi", "own map minus mean_features", "trained with FIN minus uniform")
    return Table("fin_adds", "What FIN adds", caption, header, tuple(rows))
