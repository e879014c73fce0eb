"""What the paper claims, and what the record of a study says to it, also where it says no."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lficam_jax.measure.scoreboard import COLUMNS
from lficam_jax.study.formats import Table
from lficam_jax.study.plan import BASELINE, CONTROL, OURS
from lficam_jax.study.tables import ADJUSTED, differs, number, shown, signed

BLIND = ("gaussian", "random", "fakecam")  # trivial maps that do not depend on the image


@dataclass(frozen=True)
class Claim:
    """One question to the record.

    Attributes:
      topic: accuracy, maps or stability, the paper's three claims; or fin.
      question: as a reader asks it.
      answer: one word or a few.
      evidence: the numbers.
    """

    topic: str
    question: str
    answer: str
    evidence: str


def claims(record: Mapping[str, Any]) -> list[Claim]:
    """Answers by rule: a difference counts where its paired 95 % interval leaves out 0."""
    return [*_accuracies(record), *_maps(record), _blind(record), *_stability(record), _fin(record)]


def answers(record: Mapping[str, Any]) -> Table:
    """Returns the claims as a table."""
    rows = tuple((claim.question, claim.answer, claim.evidence) for claim in claims(record))
    caption = "By rule: a difference counts where its paired 95 % interval leaves out 0."
    header = ("question", "answer", "numbers")
    return Table("answers", "What the numbers say", caption, header, rows)


def _accuracies(record: Mapping[str, Any]) -> list[Claim]:
    return [
        Claim(
            "accuracy", f"Is {model} more accurate than plain?", _verdict(found["difference"]),
            f"{signed(found['difference'], 2)} points",
        )
        for model, found in record["accuracy"].items() if "difference" in found
    ]  # fmt: skip


def _maps(record: Mapping[str, Any]) -> list[Claim]:
    found = []
    for other, all_of_them in record["versus"].items():
        differences = {c: all_of_them[c] for c in shown(record) if c in all_of_them}
        better, worse = _sorted(differences)
        answer = f"better in {len(better)}, worse in {len(worse)} of {len(differences)} measures"
        evidence = _better_worse(better, worse)
        question = f"Is lfi's own map better than that of {other}?"
        found.append(Claim("maps", question, answer, evidence))
    return found


def _blind(record: Mapping[str, Any]) -> Claim:
    """Names the measures that tell nothing: a map that never saw the image is ahead in them."""
    rows = record["maps"][OURS]
    won = {
        c: name
        for c in shown(record) for name in BLIND
        if "own" in rows and c in rows.get(name, {})
        and COLUMNS[c] * (rows[name][c]["value"] - rows["own"][c]["value"]) > 0
    }  # fmt: skip
    evidence = "; ".join(
        f"{c}: {name} {number(rows[name][c]['value'])}, own {number(rows['own'][c]['value'])}"
        for c, name in won.items()
    )
    question = "In which measures is a map ahead of lfi's own that never saw the image?"
    return Claim("maps", question, ", ".join(won) or "in none", evidence or "–")


def _stability(record: Mapping[str, Any]) -> list[Claim]:
    found = []
    for other, differences in record["stability_versus"].items():
        model, method = other.split(", ")
        if method != "own" and model not in (BASELINE, OURS):
            continue
        ours, theirs = record["stability"][OURS]["own"], record["stability"][model][method]
        evidence = "; ".join(
            f"{s} {number(ours[s]['adjusted']['value'])} against "
            f"{number(theirs[s]['adjusted']['value'])}: {signed(differences[s])}"
            for s in ADJUSTED
        )
        question = f"Do {OURS}'s own maps agree more between settings than {model}'s {method}?"
        answer = _in_all([differences[s] for s in ADJUSTED])
        found.append(Claim("stability", question, answer, evidence))
    return found


def _fin(record: Mapping[str, Any]) -> Claim:
    beside = record["versus"].get(f"{OURS}, mean_features", {})
    own = {c: beside[c] for c in shown(record) if c in beside}
    better, worse = _sorted(own)
    answer = f"its map is better than mean|F| in {len(better)}, worse in {len(worse)} of {len(own)}"
    evidence = f"the map: {_better_worse(better, worse)}"
    if trained := record["accuracy_versus"].get(CONTROL):
        answer += f"; more accurate than with uniform importance: {_verdict(trained)}"
        evidence += f"; accuracy: {signed(trained, 2)} points"
    question = "What does FIN add beyond gating with the mean activation?"
    return Claim("fin", question, answer, evidence)


def _better_worse(better: Sequence[str], worse: Sequence[str]) -> str:
    return f"better: {', '.join(better) or 'none'}; worse: {', '.join(worse) or 'none'}"


def _sorted(differences: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    telling = {c: COLUMNS[c] * found["value"] for c, found in differences.items() if differs(found)}
    return [c for c, v in telling.items() if v > 0], [c for c, v in telling.items() if v < 0]


def _in_all(found: Sequence[Mapping[str, Any]]) -> str:
    verdicts = [_verdict(each) for each in found]
    if len(set(verdicts)) == 1:
        return verdicts[0]
    return "; ".join(f"{s}: {verdict}" for s, verdict in zip(ADJUSTED, verdicts, strict=True))


def _verdict(found: Mapping[str, Any]) -> str:
    if not differs(found):
        return "no difference can be told"
    return "yes" if found["value"] > 0 else "no, less"
