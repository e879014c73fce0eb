"""How sure is a mean over images? The percentile bootstrap; of a share, Wilson's interval."""

from collections.abc import Callable
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from jaxtyping import Float

# Means over resamples `[r m]` from weights `[r n]` (how often each image was drawn) and values.
Statistic = Callable[[np.ndarray, np.ndarray], np.ndarray]


def weighted_mean(
    weights: Float[np.ndarray, "r n"], values: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " r"]:
    """Returns the mean of the values that exist; NaN where a resample has none."""
    exists = np.isfinite(values)
    count = weights @ exists
    total = weights @ np.where(exists, values, 0)
    return np.where(count == 0, np.nan, total / np.maximum(count, 1))


def interval(
    values: Float[np.ndarray, "n ..."],
    statistic: Statistic = weighted_mean,
    *,
    level: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[float, float]:
    """Returns the interval that holds `level` of the statistic over resampled images.

    Args:
      values: one row per image.
      statistic: of `(weights [r n], values)`; the default leaves NaN out of the mean.
      level: in (0, 1).
      resamples: how often the images are drawn with replacement.
      seed: the same seed gives the same interval.

    Source: Efron, "Bootstrap methods: another look at the jackknife", Annals of Statistics 1979.
    """
    values = np.asarray(values, np.float64)
    n = len(values)
    return _middle(statistic(_weights(n, resamples, seed), values), level)


def wilson(hits: float, n: int, *, level: float = 0.95) -> tuple[float, float]:
    """Returns the interval that holds `level` of a share of hits, also where all or none hit.

    A bootstrap has no width there: of 200 images with 99.5 % hits its 95 % hold in 63 % of cases,
    `1 - 0.995**200`.

    Source: Wilson, "Probable inference, the law of succession, and statistical inference", JASA
    1927.

    >>> [round(end, 3) for end in wilson(200, 200)]
    [0.981, 1.0]
    """
    if not n:
        return float("nan"), float("nan")
    z, share = NormalDist().inv_cdf((1 + level) / 2), hits / n
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * float(np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)))
    return max(0.0, middle - half), min(1.0, middle + half)


def summary(values: Float[np.ndarray, " n"]) -> dict[str, float]:
    """Returns `value` (the mean of those that exist), `low` and `high` of it, and `n`."""
    values = np.asarray(values, np.float64)
    exists = np.isfinite(values)
    low, high = interval(values)
    value = float(values[exists].mean()) if exists.any() else float("nan")
    return {"value": value, "low": low, "high": high, "n": int(exists.sum())}


@lru_cache(maxsize=4)  # a table asks for the same resamples for each of its cells
def _weights(n: int, resamples: int, seed: int) -> Float[np.ndarray, "r n"]:
    """Returns how often each of n images is drawn, in each resample."""
    return np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=resamples)


def _middle(found: Float[np.ndarray, " r"], level: float) -> tuple[float, float]:
    if not np.isfinite(found).any():
        return float("nan"), float("nan")
    low, high = np.nanquantile(found, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
