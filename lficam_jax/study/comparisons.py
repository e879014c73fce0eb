"""The differences that a study tests, in families, corrected for how many there are in each.

A family is what one table compares. Of twenty differences that are none, about one has an interval
that leaves out 0; Holm's correction makes that rare for the whole family.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lficam_jax.metrics.crossed import holm
from lficam_jax.study.cells import ADJUSTED, shown
from lficam_jax.study.heads import head_columns
from lficam_jax.study.plan import BASELINE, CONTROL, OURS
from lficam_jax.study.tables import ablation_columns
from lficam_jax.workdir.table import csv_text

NUMBERS = ("value", "low", "high", "p", "p_holm")

# Of each difference: what is compared with what, the measure, and the numbers.
Named = tuple[str, str, str, dict[str, Any]]


def correct(record: dict[str, Any]) -> None:
    """Writes `p_holm` beside the `p` of each difference, and their number into `comparisons`."""
    record["comparisons"] = {}
    for family, each in _families(record).items():
        found = [numbers for *_, numbers in each]
        corrected = holm([numbers["p"] for numbers in found])
        for numbers, p in zip(found, corrected, strict=True):
            numbers["p_holm"] = p
        record["comparisons"][family] = len(found)


def differences_csv(record: Mapping[str, Any]) -> str:
    """Writes every difference that was corrected in a row of its own, for programs."""
    rows: list[tuple[Any, ...]] = [("family", "first", "minus", "measure", *NUMBERS)]
    for family, each in _families(record).items():
        rows += [
            (family, first, other, measure, *("" if n[k] is None else n[k] for k in NUMBERS))
            for first, other, measure, n in each
        ]
    return csv_text(rows)


def _families(record: Mapping[str, Any]) -> dict[str, list[Named]]:
    found = {
        "accuracy": [*_accuracy(record)],
        "within": [*_within(record)],
        "between": [*_between(record)],
        "stability": [*_pairs(OURS, record["stability_versus"], ADJUSTED)],
        "versus": [*_pairs(OURS, record["versus"], shown(record))],
        "ablations": [*_ablations(record)],
    }
    return {family: each for family, each in found.items() if each}


def _accuracy(record: Mapping[str, Any]) -> Iterator[Named]:
    for model, found in record["accuracy"].items():
        if "difference" in found:
            yield model, BASELINE, "accuracy", found["difference"]
    if CONTROL in record["accuracy_versus"]:
        yield OURS, CONTROL, "accuracy", record["accuracy_versus"][CONTROL]
    heads = record.get("heads", {"accuracy": {}})
    for model, found in heads["accuracy"].items():
        yield heads["reference"], model, "accuracy", found


def _within(record: Mapping[str, Any]) -> Iterator[Named]:
    for other, found in record.get("heads", {}).get("within", {}).items():
        yield from _pairs(other.split(", ")[0], {other: found}, head_columns(record))


def _between(record: Mapping[str, Any]) -> Iterator[Named]:
    heads = record.get("heads", {"reference": "", "between": {}})
    yield from _pairs(heads["reference"], heads["between"], head_columns(record))


def _pairs(model: str, differences: Mapping[str, Any], columns: Sequence[str]) -> Iterator[Named]:
    for other, found in differences.items():
        for column in columns:
            if column in found:
                yield f"{model}, own", other, column, found[column]


def _ablations(record: Mapping[str, Any]) -> Iterator[Named]:
    for name, found in record["ablations"].items():
        yield name, OURS, "accuracy", found["accuracy"]["difference"]
        for column in ablation_columns(record):
            if column in found["own"]:
                yield f"{name}, own", f"{OURS}, own", column, found["own"][column]
