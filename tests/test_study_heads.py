"""What a study tests of its differences: corrected for their number, and who wins, head by head."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from lficam_jax.study import comparisons, summary
from lficam_jax.study.cells import ADJUSTED, differs
from lficam_jax.study.claims import claims, opening
from lficam_jax.study.formats import latex, to_csv
from lficam_jax.study.headline import headline
from lficam_jax.study.tables import tables

RECORD = Path(__file__).parents[1] / "docs" / "results" / "first_edition" / "cluttered_digits.json"
HEADS_MEASURED = {  # deletion (less is better), and the share of images that are right
    "plain": {"grad_cam": 0.3, "right": 0.5},
    "classwise": {"own": 0.1, "grad_cam": 0.1, "right": 1},
    "lfi": {"own": 0.2, "mean_features": 0.3, "right": 0.5},
    "uniform": {"own": 0.3, "mean_features": 0.3, "right": 0.5},
}  # fmt: skip


def heads_of(measured, images=40):
    """What `summary` makes of the heads, of made-up values with little noise."""
    rng, models = np.random.default_rng(0), {}
    for name, found in measured.items():
        models[name] = {
            setting: {
                f"{method}/deletion": value + rng.normal(0, 0.01, images)
                for method, value in found.items() if method != "right"
            } | {"correct": np.arange(images) < found["right"] * images}
            for setting in ("a", "b", "c")
        }  # fmt: skip
    methods = {name: [m for m in found if m != "right"] for name, found in measured.items()}
    return summary._heads(models, methods, {}, ["deletion"])


def test_every_head_is_set_beside_its_own_network_and_beside_the_reference():
    found = heads_of(HEADS_MEASURED)
    assert [*found["within"]] == ["classwise, grad_cam", "lfi, mean_features"]
    assert found["within"]["lfi, mean_features"]["deletion"]["value"] == pytest.approx(
        -0.1, abs=0.01
    )
    assert found["reference"] == "classwise"
    assert {*found["between"]} == {"lfi, own", "uniform, own", "plain, grad_cam"}
    assert found["accuracy"]["lfi"]["value"] == 50 and "plain" not in found["accuracy"]
    without = heads_of({n: each for n, each in HEADS_MEASURED.items() if n != "classwise"})
    assert without["reference"] is None and without["between"] == {} and without["within"]


def test_who_wins_is_told_in_a_word_that_speaks_for_the_head():
    record = corrected() | {"heads": heads_of(HEADS_MEASURED)}
    record["accuracy"] = {n: record["accuracy"][n] for n in ("plain", "lfi", "uniform")}
    record["accuracy"]["classwise"] = record["accuracy"]["uniform"]
    comparisons.correct(record)
    found = {table.name: table for table in tables(record)}
    place = found["heads"].header.index("deletion ↓")
    told = {row[:2]: (row[2], row[place]) for row in found["heads"].rows}
    assert "More accurate than plain: lfi, uniform†, classwise†." in found["heads"].caption
    assert "Less: none. No detectable difference: none." in found["heads"].caption
    assert told["its own mean_features", "lfi"] == ("–", "better†")
    assert told["its own grad_cam", "classwise"] == ("–", "·")
    assert told["classwise's own map", "lfi"] == ("worse†", "worse†")
    assert told["plain's grad_cam", "classwise"] == ("–", "better†")
    assert found["between"].rows[0][0] == "lfi, own" and found["accuracy"].header[-1].startswith(
        "classwise"
    )
    assert record["comparisons"]["within"] == 2 and record["comparisons"]["between"] == 3
    rows = dict(headline({"digits": record}).rows)
    assert rows["deletion ↓: classwise's own map minus lfi's own"].startswith("**-0.1")
    heads = opening(record)[-1]
    assert heads.startswith("Heads: classwise is more accurate than plain (+4.54")
    assert "better in 1 (1†), worse in 0 of 1 measures beside lfi's" in heads


def corrected():
    """The first edition's record with a p value for each difference, made up, and corrected."""
    record = json.loads(RECORD.read_text())
    for family in comparisons._families(record).values():
        for *_, found in family:
            found["p"] = 0.01 if differs(found) else 0.5
    accuracy = [record["accuracy"][m]["difference"] for m in ("abn", "lfi", "uniform")]
    for found, p in zip(accuracy, (0.04, 0.03, 0.005), strict=True):
        found["p"] = p
    comparisons.correct(record)
    return record


def test_differences_are_corrected_for_how_many_a_table_has():
    """Accuracy: abn, abn_one_loss, lfi and uniform minus plain, and lfi minus uniform."""
    record = corrected()
    assert record["comparisons"]["accuracy"] == 5
    assert record["accuracy"]["lfi"]["difference"]["p_holm"] == pytest.approx(4 * 0.03)
    found = {table.name: table for table in tables(record)}
    told = {row[0]: row[-1] for row in found["accuracy"].rows}
    assert told["lfi"] == "**+4.64 [0.60, 8.68]**"  # 0.12: not one that holds among five
    assert told["uniform"] == "**+4.54 [0.87, 8.21]†**"  # 5 * 0.005
    assert (
        "†: also after Holm's correction for the 5 comparisons of accuracies"
        in found["accuracy"].caption
    )
    versus = record["comparisons"]["versus"]
    assert versus == sum(cell != "–" for row in found["versus"].rows for cell in row[1:])
    assert versus > 5 and "†" not in "".join(cell for row in found["versus"].rows for cell in row)
    assert "†" not in to_csv(found["accuracy"])
    assert r"8.21]$\dagger$}" in latex(found["accuracy"])


def test_answers_mark_what_holds_after_the_correction():
    record = corrected()
    found = dict.fromkeys(("deletion", "insertion", "energy"), {"value": 1.0, "low": 0.5})
    found = {c: each | {"high": 1.5, "p_holm": 0.2} for c, each in found.items()}
    found["energy"] |= {"p_holm": 0.01}
    record["versus"] = {"lfi, cam": found}
    (claim,) = (c for c in claims(record) if "better than cam" in c.question)
    assert claim.answer == "better in 2 (1†), worse in 1 of 3 measures"
    assert claim.evidence == "better: insertion, energy†; worse: deletion"
    assert "Maps: lfi's own map is better in 2 (1†), worse in 1" in opening(record)[1]
    more = {"value": 0.2, "low": 0.1, "high": 0.3, "p_holm": 0.01}
    stable = dict.fromkeys(ADJUSTED, more)
    record["stability_versus"] = {"abn, own": stable}
    assert opening(record)[2].endswith("agree more† than abn's own.")
    record["stability_versus"] = {"abn, own": stable | {"iou": more | {"p_holm": 0.2}}}
    assert opening(record)[2].endswith("agree more than abn's own.")


def test_every_corrected_difference_has_a_row_for_programs():
    record = corrected()
    rows = list(csv.DictReader(comparisons.differences_csv(record).splitlines()))
    assert len(rows) == sum(record["comparisons"].values())
    (row,) = (r for r in rows if (r["first"], r["minus"]) == ("uniform", "plain"))
    assert row["family"] == row["measure"] == "accuracy"
    assert (float(row["p"]), float(row["p_holm"])) == (0.005, 0.025)
