"""Do the maps of several trainings agree, and how sure is that?

Pairs of settings are not independent: each setting stands in several. So settings are resampled,
not pairs, and images with them; a pair counts as often as both of its settings were drawn.

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
# For each statistic `value`, `chance` and `adjusted`: as measured, then in each resample.
Draws = Mapping[str, Mapping[str, Float[np.ndarray, " r"]]]


def draws(maps: Mapping[str, Float[np.ndarray, "n y x"]], seed: int = 0) -> Draws:
    """Compares all pairs of settings, as they are and as they would be in other samples.

    Args:
      maps: by setting, of the same images in the same order.
      seed: the same for all models, so that their differences are paired.
    """
    m, n = len(maps), len(next(iter(maps.values())))
    pairs = list(combinations(range(m), 2))
    rows = [*maps.values()]
    found = [stability.per_image(rows[i], rows[j]) for i, j in pairs]
    settings, images = (
        np.vstack([np.ones((1, count)), weights_of(count, RESAMPLES, seed + k)])
        for k, count in enumerate((m, n))
    )
    counted = np.stack([settings[:, i] * settings[:, j] for i, j in pairs], axis=1)  # [r p]
    return {
        name: _drawn(counted, images, [each[name] for each in found])
        for name in stability.STATISTICS
    }


def _drawn(
    counted: np.ndarray, images: np.ndarray, found: list[tuple[np.ndarray, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Returns the mean over pairs, each weighted, of each pair's mean over weighted images."""
    value = np.stack([weighted_mean(images, values) for values, _ in found], axis=1)
    chance = np.stack(
        [weighted_mean(np.tile(images, len(c)), c.reshape(-1)) for _, c in found], axis=1
    )
    with np.errstate(divide="ignore", invalid="ignore"):  # maps that agree by chance alone: NaN
        parts = {"value": value, "chance": chance, "adjusted": (value - chance) / (1 - chance)}
        return {
            name: np.sum(counted * part, axis=1) / np.sum(counted, axis=1)
            for name, part in parts.items()
        }


def summarised(found: Draws) -> dict[str, Any]:
    """Returns `value low high chance adjusted` of each statistic; `adjusted` as such a one."""
    return {
        name: _with_interval(each["value"])
        | {"chance": float(each["chance"][0]), "adjusted": _with_interval(each["adjusted"])}
        for name, each in found.items()
    }


def difference(a: Draws, b: Draws) -> dict[str, Any]:
    """Returns the paired difference of the agreement adjusted for chance, per statistic."""
    return {name: _with_interval(a[name]["adjusted"] - b[name]["adjusted"]) for name in a}


def _with_interval(drawn: np.ndarray) -> dict[str, float]:
    low, high = middle(drawn[1:])
    return {"value": float(drawn[0]), "low": low, "high": high}
