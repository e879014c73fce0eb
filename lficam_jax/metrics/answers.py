"""How right a network's answers are, where the share of right classes is not the measure.

Of a whole split at once, in float64, so that neither batches nor devices change a number. Ties and
definitions are scikit-learn's, which the tests compare.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

PRESENT = 0.5  # the probability from which a label counts as present


def auroc(scores: Float[np.ndarray, " n"], positive: Bool[np.ndarray, " n"]) -> float | None:
    """Returns the area under the ROC curve: how often a positive scores above a negative.

    A tie counts half. None without positives or without negatives. Source: Hanley and McNeil,
    Radiology 1982.

    >>> auroc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]))
    0.75
    """
    from scipy.stats import rankdata

    hits = int(positive.sum())
    pairs = hits * (len(positive) - hits)
    if not pairs:
        return None
    above = float(rankdata(scores)[positive].sum()) - hits * (hits + 1) / 2
    return above / pairs


def average_precision(
    scores: Float[np.ndarray, " n"], positive: Bool[np.ndarray, " n"]
) -> float | None:
    """Returns `sum_t (recall_t - recall_(t-1)) precision_t` over the thresholds, high to low.

    Equal scores pass one threshold together; nothing is interpolated. None without positives.
    Source: scikit-learn's `average_precision_score`.

    >>> round(average_precision(np.array([0.1, 0.4, 0.35, 0.8]), np.array([0, 0, 1, 1]) > 0), 4)
    0.8333
    """
    if not positive.any():
        return None
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], np.cumsum(positive[order])
    last = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # of each threshold
    precision, recall = hits[last] / (last + 1), hits[last] / hits[-1]
    return float(np.sum(np.diff(recall, prepend=0) * precision))


def f1(found: Bool[np.ndarray, " n"], positive: Bool[np.ndarray, " n"]) -> float | None:
    """Returns `2 TP / (2 TP + FP + FN)`; None where the label is neither there nor found."""
    whole = int(found.sum() + positive.sum())
    return 2 * int((found & positive).sum()) / whole if whole else None


def of_labels(logits: Float[np.ndarray, "n k"], labels: Float[np.ndarray, "n k"]) -> dict[str, Any]:
    """Measures several labels.

    Args:
      logits: of each label; probabilities near 1 would tie in float32.
      labels: 1 where it is present, else 0; NaN where it is unknown, which counts nowhere.

    Returns:
      `mean_average_precision` (over the labels that have a positive), `f1` (macro: the mean over
      labels) and `label_accuracy` and `exact_match` (all known labels of a picture right) at a
      probability of 0.5; `per_label`: `average_precision f1 auroc positives known`, in their order,
      each over the pictures of which the label is known. What no picture defines is None and left
      out of the means.
    """
    logits, positive, known = logits.astype(np.float64), labels > 0.5, ~np.isnan(labels)
    found = logits >= 0
    of_label = list(zip(logits.T, found.T, positive.T, known.T, strict=True))
    triples = [(s[seen], there[seen], p[seen]) for s, there, p, seen in of_label]
    precisions = [average_precision(s, p) for s, _, p in triples]
    f1s = [f1(there, p) for _, there, p in triples]
    right = found == positive
    return {
        "mean_average_precision": _mean(precisions),
        "f1": _mean(f1s),
        "label_accuracy": float(right[known].mean()),
        "exact_match": float((right | ~known).all(axis=1).mean()),
        "per_label": {
            "average_precision": precisions,
            "f1": f1s,
            "auroc": [auroc(s, p) for s, _, p in triples],
            "positives": positive.sum(axis=0).tolist(),
            "known": known.sum(axis=0).tolist(),
        },
    }


def of_numbers(
    told: Float[np.ndarray, " n"], true: Float[np.ndarray, " n"]
) -> dict[str, float | None]:
    """Measures predicted numbers, in their own unit: `mae rmse r2`.

    `r2` is `1 - sum (true - told)^2 / sum (true - mean)^2`: 0 is as good as telling the mean of
    these pictures; None where all are the same.

    >>> of_numbers(np.array([2.5, 0.0, 2.0, 8.0]), np.array([3.0, -0.5, 2.0, 7.0]))["mae"]
    0.5
    """
    told, true = told.astype(np.float64), true.astype(np.float64)
    error, spread = told - true, float(np.sum((true - true.mean()) ** 2))
    return {
        "mae": float(np.abs(error).mean()),
        "rmse": float(np.sqrt((error**2).mean())),
        "r2": 1 - float((error**2).sum()) / spread if spread else None,
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
