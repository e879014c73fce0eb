"""What the paper claims, and what the record of a study says to it, also where it says no."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lficam_jax.scoreboard import COLUMNS
from lficam_jax.study.tables import differs, number, signed


@dataclass(frozen=True)
class Claim:
    """One question to the record.

    Attributes:
      question: as a reader asks it.
      answer: one word or a few.
      evidence: the numbers.
    """

    question: str
    answer: str
    evidence: str


def claims(record: Mapping[str, Any]) -> list[Claim]:
    """Answers by rule: a difference counts where its paired 95 % interval leaves out 0."""
    return [*_accuracies(record), *_maps(record), *_stability(record), _fin(record)]


def _accuracies(record: Mapping[str, Any]) -> list[Claim]:
    return [
        Claim(
            f"Is {model} more accurate than plain?", _verdict(found["difference"], 1),
            f"{signed(found['difference'], 2)} points",
        )
        for model, found in record["accuracy"].items() if "difference" in found
    ]  # fmt: skip


def _maps(record: Mapping[str, Any]) -> list[Claim]:
    found = []
    for other, differences in record["versus"].items():
        better, worse = _sorted(differences)
        undecided = [c for c in differences if c not in (*better, *worse)]
        evidence = "; ".join(
            f"{word} {', '.join(f'{c} {signed(differences[c])}' for c in columns)}"
            for word, columns in (("better:", better), ("worse:", worse)) if columns
        )  # fmt: skip
        evidence += f"{'; ' * bool(evidence)}no difference: {', '.join(undecided) or 'none'}"
        answer = f"better in {len(better)}, worse in {len(worse)} of {len(differences)} measures"
        found.append(Claim(f"Is lfi's own map better than that of {other}?", answer, evidence))
    return found


def _stability(record: Mapping[str, Any]) -> list[Claim]:
    own = {m: each["own"] for m, each in record["stability"].items() if "own" in each}
    if not {"lfi", "abn"} <= set(own):
        return []
    scales = ("iou", "iou_equal_area", "spearman", "official_rowwise")
    more = [s for s in scales if own["lfi"][s]["adjusted"] > own["abn"][s]["adjusted"]]
    evidence = "; ".join(
        f"{s}: " + ", ".join(f"{model} {number(found[s]['value'])} (adjusted for chance "
                             f"{number(found[s]['adjusted'])})" for model, found in own.items())
        for s in scales
    )  # fmt: skip
    answer = f"in {len(more)} of {len(scales)} statistics, adjusted for chance"
    return [Claim("Do lfi's maps agree more between settings than abn's?", answer, evidence)]


def _fin(record: Mapping[str, Any]) -> Claim:
    adds = record["fin_adds"]
    own = adds["own_minus_mean_features"]
    better, worse = _sorted(own)
    evidence = (
        f"its map against mean|F| of the same networks: better in {', '.join(better) or 'nothing'};"
        f" worse in {', '.join(worse) or 'nothing'} of {', '.join(own)}"
    )
    trained = adds.get("accuracy_lfi_minus_uniform")
    answer = f"its map is better than mean|F| in {len(better)} of {len(own)} measures"
    if trained:
        answer += f"; accuracy over uniform importance: {_verdict(trained, 1)}"
        evidence += f"; accuracy {signed(trained, 2)} points"
    question = "What does FIN add beyond gating with the mean activation?"
    return Claim(question, answer, evidence)


def _sorted(differences: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    telling = {c: COLUMNS[c] * found["value"] for c, found in differences.items() if differs(found)}
    return [c for c, v in telling.items() if v > 0], [c for c, v in telling.items() if v < 0]


def _verdict(found: Mapping[str, Any], sign: int) -> str:
    if not differs(found):
        return "no difference can be told"
    return "yes" if sign * found["value"] > 0 else "no, less"
