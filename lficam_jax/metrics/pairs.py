"""Do the maps of several models agree, over all pairs of them, and how sure is that?

Pairs are not independent: each model stands in several. So models are left out in turn, not pairs,
and images with them (`metrics.crossed`).

Source: Snijders and Borgatti, "Non-parametric standard errors and tests for network statistics",
Connections 1999.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from lficam_jax.metrics import stability
from lficam_jax.metrics.bootstrap import weighted_mean
from lficam_jax.metrics.crossed import jackknife_interval, left_out

# `value chance adjusted` [r], under each weight of `crossed.left_out`
Parts = dict[str, Float[np.ndarray, " r"]]


class Agreement:
    """How well the maps of several models agree.

    Args:
      maps: of each model `[n y x]` in [0, 1], of the same images in the same order.
      seed: of the shuffles that tell chance.
      clusters: of `crossed.left_out`.
    """

    def __init__(
        self, maps: Mapping[str, Float[np.ndarray, "n y x"]], seed: int = 0,
        clusters: Int[np.ndarray, " n"] | None = None,
    ) -> None:  # fmt: skip
        self._names = list(combinations(maps, 2))
        views = {name: stability.views(each) for name, each in maps.items()}
        self._found = [stability.per_image(views[a], views[b], seed=seed) for a, b in self._names]
        self._models = len(maps)
        models, images = left_out(self._models, len(next(iter(maps.values()))), clusters)
        places = {name: place for place, name in enumerate(maps)}
        counted = [models[:, places[a]] * models[:, places[b]] for a, b in self._names]
        self._parts = {
            name: _means(np.stack(counted, axis=1), images, [each[name] for each in self._found])
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

        Its keys: `value low high` with the 95 % interval, `chance`, `adjusted` (of each pair, then
        averaged; itself `value low high`), `sd` of the values over pairs (None for a single pair),
        and the sums of `n`, the image pairs that have a value, and `left_out`, those without.
        """
        pairs = list(self.pairs().values())
        found = {}
        for name, parts in self._parts.items():
            values = [pair[name]["value"] for pair in pairs]
            found[name] = self._with_interval(parts["value"]) | {
                "chance": float(parts["chance"][0]),
                "adjusted": self._with_interval(parts["adjusted"]),
                "sd": float(np.std(values, ddof=1)) if len(values) > 1 else None,
            } | {k: sum(pair[name][k] for pair in pairs) for k in ("n", "left_out")}  # fmt: skip
        return found

    def minus(self, other: "Agreement") -> dict[str, Any]:
        """Returns the paired difference of the agreement adjusted for chance, per statistic.

        Its keys: `value low high p`; p is of `crossed.Interval`.

        Args:
          other: of other maps of the same images, under the same settings, in the same order.
        """
        found = {n: p["adjusted"] - other._parts[n]["adjusted"] for n, p in self._parts.items()}
        return {
            name: {"value": float(each[0]), **jackknife_interval(each, self._models)._asdict()}
            for name, each in found.items()
        }

    def _with_interval(self, found: Float[np.ndarray, " r"]) -> dict[str, float]:
        low, high, _ = jackknife_interval(found, self._models)
        return {"value": float(found[0]), "low": low, "high": high}


def _means(
    counted: Float[np.ndarray, "r p"],
    images: Float[np.ndarray, "r n"],
    found: Sequence[tuple[np.ndarray, np.ndarray]],
) -> Parts:
    """Returns the mean over the pairs that count of each pair's mean over the images that count."""
    value = np.stack([weighted_mean(images, values) for values, _ in found], axis=1)
    chance = np.stack(
        [weighted_mean(np.tile(images, len(c)), c.reshape(-1)) for _, c in found], axis=1
    )
    with np.errstate(divide="ignore", invalid="ignore"):  # maps that cannot but agree: 0/0
        parts = {"value": value, "chance": chance, "adjusted": (value - chance) / (1 - chance)}
    return {name: _over_pairs(counted, part) for name, part in parts.items()}


def _over_pairs(
    counted: Float[np.ndarray, "r p"], part: Float[np.ndarray, "r p"]
) -> Float[np.ndarray, " r"]:
    """Returns the mean over the pairs that count and have a value; NaN where there is none."""
    counted = counted * np.isfinite(part)
    total = np.sum(counted, axis=1)
    mean = np.sum(counted * np.where(np.isfinite(part), part, 0), axis=1) / np.maximum(total, 1)
    return np.where(total == 0, np.nan, mean)
