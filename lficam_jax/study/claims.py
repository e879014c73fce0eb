"""What the paper claims, and what the record of a study says to it, also where it says no."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lficam_jax.study.cells import (
    ADJUSTED,
    NETWORKS,
    RANKED,
    differs,
    mark,
    marked,
    number,
    shown,
    signed,
)
from lficam_jax.study.formats import Table
from lficam_jax.study.heads import head_columns
from lficam_jax.study.plan import BASELINE, CONTROL, OURS

NOT_MEASURED, NOT_TOLD = "not measured", "no detectable difference"


@dataclass(frozen=True)
class Claim:
    """One question to the record.

    Attributes:
      topic: accuracy, maps or stability, the paper's three claims; or fin.
      question: as a reader asks it.
      answer: one word or a few.
      evidence: the numbers.
      tone: yes, no, mixed, or open: nothing can be told.
    """

    topic: str
    question: str
    answer: str
    evidence: str
    tone: str


def opening(record: Mapping[str, Any]) -> list[str]:
    """Answers in a sentence each, by the rule of `claims`: accuracy, maps, stability, heads."""
    told = (_on_accuracy, _on_maps, _on_stability, _on_heads)
    return [sentence for tell in told if (sentence := tell(record))]


def _on_accuracy(record: Mapping[str, Any]) -> str:
    versus = {BASELINE: record["accuracy"][OURS]["difference"]}
    if CONTROL in record["accuracy_versus"]:
        versus[f"{CONTROL}, the same network without FIN"] = record["accuracy_versus"][CONTROL]
    return f"Accuracy: {OURS} is {_more_accurate(versus)}."


def _more_accurate(versus: Mapping[str, Any]) -> str:
    words = {"yes": "more", "no": "less", "open": "not measurably more"}
    told = [
        f"{words[tone(_verdict(found))]} accurate than {other} ({_plain(signed(found, 2))} points)"
        for other, found in versus.items()
    ]
    return ", and ".join(told)


def _on_heads(record: Mapping[str, Any]) -> str:
    heads = record.get("heads", {})
    reference = heads.get("reference")
    if not reference:
        return ""
    plain = record["accuracy"][reference]["difference"]
    versus = {BASELINE: plain, OURS: heads["accuracy"][OURS]}
    told = []
    for section, other, whose in (
        ("between", f"{OURS}, own", f"{OURS}'s"),
        ("within", f"{reference}, mean_features", "the mean activation of its network"),
        ("within", f"{reference}, grad_cam", "grad_cam of its network"),
    ):
        differences = heads[section].get(other, {})
        if found := {c: differences[c] for c in head_columns(record) if c in differences}:
            told.append(f"{_better_worse(found)[0]} beside {whose}")
    start = f"Heads: {reference} is {_more_accurate(versus)}"
    return f"{start}. Its own map is {'; '.join(told)}." if told else f"{start}."


def _on_maps(record: Mapping[str, Any]) -> str:
    told = []
    for method in ("cam", "grad_cam"):
        found = record["versus"].get(f"{OURS}, {method}", {})
        differences = {c: found[c] for c in shown(record) if c in found}
        if differences:
            answer, _, _ = _better_worse(differences)
            told.append(f"{answer} beside {method}")
    return f"Maps: {OURS}'s own map is {'; '.join(told)} of the same network." if told else ""


def _on_stability(record: Mapping[str, Any]) -> str:
    told = []
    rivals = {
        "abn, own": "abn's own",
        f"{BASELINE}, mean_features": f"{BASELINE}'s mean activation",
    }
    for other, whose in rivals.items():
        if found := record["stability_versus"].get(other):
            marks: dict[str, list[str]] = {}  # by what they say
            for s in ADJUSTED:
                marks.setdefault(tone(_verdict(found[s])), []).append(mark(found[s]))
            how = "by some measures " * (len(marks) > 1)
            words = [
                f"{word}{min(marks[each])}"  # † if all have it
                for each, word in (("yes", "more"), ("no", "less")) if each in marks
            ]  # fmt: skip
            told.append(f"{how}{' or '.join(words) or 'not measurably more'} than {whose}")
    start = f"Stability: between settings, {OURS}'s own maps agree "
    return f"{start}{', and '.join(told)}." if told else ""


def _plain(text: str) -> str:
    return text.replace("**", "")


def tone(answer: str) -> str:
    """Returns the tone of an answer of one or a few words.

    >>> [tone(answer) for answer in ("yes†", "no, less", "not measured", "iou: yes; dice: no")]
    ['yes', 'no', 'open', 'mixed']
    """
    single = {"yes": "yes", "no, less": "no", NOT_TOLD: "open", NOT_MEASURED: "open"}
    return single.get(answer.removesuffix("†"), "mixed")


def claims(record: Mapping[str, Any]) -> list[Claim]:
    """Answers by rule: a difference counts where its paired 95 % interval leaves out 0."""
    return [
        *_accuracies(record),
        *_maps(record),
        *_blind(record),
        *_stability(record),
        *_fin(record),
    ]


def answers(record: Mapping[str, Any]) -> Table:
    """Returns the claims as a table."""
    rows = tuple((claim.question, claim.answer, claim.evidence) for claim in claims(record))
    caption = (
        f"By rule: a difference counts where its paired 95 % interval leaves out 0."
        f"{marked(record)} {NETWORKS}"
    )
    header = ("question", "answer", "numbers")
    return Table("answers", "What the numbers say", caption, header, rows)


def _accuracies(record: Mapping[str, Any]) -> list[Claim]:
    return [
        Claim(
            "accuracy", f"Is {model} more accurate than plain?", _told(found["difference"]),
            f"{signed(found['difference'], 2)} points", tone(_verdict(found["difference"])),
        )
        for model, found in record["accuracy"].items() if "difference" in found
    ]  # fmt: skip


def _maps(record: Mapping[str, Any]) -> list[Claim]:
    found = []
    for other, all_of_them in record["versus"].items():
        differences = {c: all_of_them[c] for c in shown(record) if c in all_of_them}
        if not differences:
            continue
        model, method = other.split(", ")
        whose = "its own" if method == "own" else method
        question = f"Is {OURS} with its own map better than {model} with {whose}?"
        if model == OURS:
            question = f"Is {OURS}'s own map better than {method} of the same network?"
        found.append(Claim("maps", question, *_better_worse(differences)))
    return found


def _blind(record: Mapping[str, Any]) -> list[Claim]:
    """Names the measures that tell nothing: a map that never saw the image is ahead in them."""
    ahead = {
        c: [name for name, differences in record["blind"].items()
            if c in differences and c in _sorted(differences)[1]]
        for c in shown(record)
    }  # fmt: skip
    ahead = {c: names for c, names in ahead.items() if names}
    rows = record["maps"][OURS]
    evidence = "; ".join(
        f"{c}: own {number(rows['own'][c]['value'])}, "
        + ", ".join(f"{name} {number(rows[name][c]['value'])}" for name in names)
        for c, names in ahead.items()
    )
    if not any(record["blind"].values()):
        return []
    question = f"In which measures is a map ahead of {OURS}'s own that never saw the image?"
    mood = "mixed" if ahead else "yes"
    return [Claim("maps", question, ", ".join(ahead) or "in none", evidence or "–", mood)]


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
        found.append(Claim("stability", question, answer, evidence, tone(answer)))
    return found


def _fin(record: Mapping[str, Any]) -> list[Claim]:
    found = []
    if CONTROL in record["accuracy_versus"]:
        trained = record["accuracy_versus"][CONTROL]
        question = f"Does FIN make the network more accurate than {CONTROL}, the gate without it?"
        answer = _told(trained)
        evidence = f"{signed(trained, 2)} points"
        found.append(Claim("fin", question, answer, evidence, tone(answer)))
    for other, whose in ((f"{OURS}, mean_features", "mean|F| of the same network"),
                         (f"{CONTROL}, own", f"the map of {CONTROL}")):  # fmt: skip
        versus, stable = (record[key].get(other, {}) for key in ("versus", "stability_versus"))
        differences = {c: versus[c] for c in shown(record) if c in versus}
        if not differences:
            continue
        answer, evidence, mood = _better_worse(differences)
        if stable:
            steady = _in_all([stable[s] for s in ADJUSTED])
            evidence += f"; more agreement between settings: {steady}"
        found.append(Claim("fin", f"Is FIN's map better than {whose}?", answer, evidence, mood))
    return found


def _better_worse(differences: Mapping[str, Any]) -> tuple[str, str, str]:
    """Returns in how many measures a map is better and worse, in which, and the tone of that.

    With †: how many of them, and which, hold after Holm's correction, too.
    """
    better, worse = _sorted(differences)
    marks = {c: mark(found) for c, found in differences.items()}
    names = [", ".join(f"{c}{marks[c]}" for c in each) or "none" for each in (better, worse)]
    sure = [sum(marks[c] != "" for c in each) for each in (better, worse)]
    counts = [
        f"{len(each)} ({n}†)" if n else f"{len(each)}"
        for each, n in zip((better, worse), sure, strict=True)
    ]
    mood = "mixed" if better and worse else "yes" if better else "no" if worse else "open"
    return (
        f"better in {counts[0]}, worse in {counts[1]} of {len(differences)} measures",
        f"better: {names[0]}; worse: {names[1]}",
        mood,
    )


def _sorted(differences: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    telling = {c: RANKED[c] * found["value"] for c, found in differences.items() if differs(found)}
    return [c for c, v in telling.items() if v > 0], [c for c, v in telling.items() if v < 0]


def _in_all(found: Sequence[Mapping[str, Any]]) -> str:
    verdicts = [_told(each) for each in found]
    if len(set(verdicts)) == 1:
        return verdicts[0]
    return "; ".join(f"{s}: {verdict}" for s, verdict in zip(ADJUSTED, verdicts, strict=True))


def _told(found: Mapping[str, Any]) -> str:
    return _verdict(found) + mark(found)


def _verdict(found: Mapping[str, Any]) -> str:
    if found["value"] is None:
        return NOT_MEASURED
    if not differs(found):
        return NOT_TOLD
    return "yes" if found["value"] > 0 else "no, less"
