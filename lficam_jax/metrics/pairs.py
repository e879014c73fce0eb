"""Do the maps of several models agree, over all pairs of them, and how sure is that?

Pairs are not independent: each model stands in several. So models are resampled, not pairs, and
images with them; a pair counts as often as both of its models were drawn.

Source: Snijders and Borgatti, "Non-parametric standard errors and tests for network statistics",
Connections 1999 (the vertex bootstrap).
"""

from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Float

from lficam_jax.metrics import stability
from lficam_jax.metrics.bootstrap import middle, weighted_mean, weights_of

RESAMPLES = 1000
Parts = dict[str, np.ndarray]  # `value chance adjusted` [1 + r]: as measured, then resampled


class Agreement:
    """How well the maps of several models agree.

    Args:
      maps: of each model `[n y x]` in [0, 1], of the same images in the same order.
      seed: of the resamples; models compared with `minus` need the same.
    """

    def __init__(self, maps: Mapping[str, Float[np.ndarray, "n y x"]], seed: int = 0) -> None:
        self._names = list(combinations(maps, 2))
        self._found = [stability.per_image(maps[a], maps[b], seed=seed) for a, b in self._names]
        places = {name: place for place, name in enumerate(maps)}
        models, images = (
            np.vstack([np.ones((1, count)), weights_of(count, RESAMPLES, seed + k)])
            for k, count in enumerate((len(maps), len(next(iter(maps.values())))))
        )
        counted = [models[:, places[a]] * models[:, places[b]] for a, b in self._names]
        self._drawn = {
            name: _drawn(np.stack(counted, axis=1), images, [each[name] for each in self._found])
            for name in stability.STATISTICS
        }

    def pairs(self) -> dict[str, Any]:
        """Returns for each pair, "a | b", what `stability.between` gives."""
        return {
            f"{a} | {b}": stability.summary(found)
            for (a, b), found in zip(self._names, self._found, strict=True)
        }

    def statistics(self) -> dict[str, Any]:
        """Returns for each of `stability.STATISTICS` the mean over all pairs.

        Its keys: `value low high` with the 95 % interval, `chance`, `adjusted` (itself `value low
        high`), `sd` of the values over pairs (None for a single pair), and the sums of `n`, the
        image pairs that have a value, and `left_out`, those that have none.
        """
        pairs = list(self.pairs().values())
        found = {}
        for name, parts in self._drawn.items():
            values = [pair[name]["value"] for pair in pairs]
            found[name] = _with_interval(parts["value"]) | {
                "chance": float(parts["chance"][0]), "adjusted": _with_interval(parts["adjusted"]),
                "sd": float(np.std(values, ddof=1)) if len(values) > 1 else None,
            } | {k: sum(pair[name][k] for pair in pairs) for k in ("n", "left_out")}  # fmt: skip
        return found

    def minus(self, other: "Agreement") -> dict[str, Any]:
        """Returns the paired difference of the agreement adjusted for chance, per statistic."""
        return {
            name: _with_interval(parts["adjusted"] - other._drawn[name]["adjusted"])
            for name, parts in self._drawn.items()
        }


def _drawn(
    counted: Float[np.ndarray, "r p"],
    images: Float[np.ndarray, "r n"],
    found: list[tuple[np.ndarray, np.ndarray]],
) -> Parts:
    """Returns the mean over pairs, each weighted, of each pair's mean over weighted images."""
    value = np.stack([weighted_mean(images, values) for values, _ in found], axis=1)
    chance = np.stack(
        [weighted_mean(np.tile(images, len(c)), c.reshape(-1)) for _, c in found], axis=1
    )
    # 0/0: maps that can only agree; pairs of which no resample drew both models
    with np.errstate(divide="ignore", invalid="ignore"):
        parts = {"value": value, "chance": chance, "adjusted": (value - chance) / (1 - chance)}
        return {
            name: np.sum(counted * part, axis=1) / np.sum(counted, axis=1)
            for name, part in parts.items()
        }


def _with_interval(drawn: np.ndarray) -> dict[str, float]:
    low, high = middle(drawn[1:])
    return {"value": float(drawn[0]), "low": low, "high": high}
