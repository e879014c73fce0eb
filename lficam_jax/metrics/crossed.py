"""How sure is a statistic over a few models and many images, both of which are samples?

A percentile bootstrap of five models is too narrow: of 2,000 draws of five normal numbers around 0
(numpy, seed 0) its 95 % interval left 0 out in 15 %. So the variance is the jackknife's: what
leaving out each model, and each image, changes, added. The interval is Student's, with the degrees
of freedom of Satterthwaite.

Sources: Efron and Stein, "The jackknife estimate of variance", Annals of Statistics 1981; Dorfman,
Berbaum and Metz, Investigative Radiology 1992 (readers x cases); Satterthwaite, Biometrics 1946;
Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
Statistics 1979.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from lficam_jax.metrics.bootstrap import Statistic, weighted_mean

GROUPS = 200  # more images than these are left out in groups: the delete-a-group jackknife


class Interval(NamedTuple):
    """How sure a statistic is.

    Attributes:
      low: NaN, as the others, where nothing can be told.
      high: likewise.
      p: of the two-sided test that the statistic is 0, whatever the level of the interval: an
        interval of 95 % leaves out 0 where p < 0.05.
    """

    low: float
    high: float
    p: float


def crossed_interval(
    values: Float[np.ndarray, "m n ..."],
    statistic: Statistic = weighted_mean,
    *,
    level: float = 0.95,
    clusters: Int[np.ndarray, " n"] | None = None,
) -> Interval:
    """Returns the interval that holds `level` of the statistic over models and images.

    Args:
      values: `values[m, n]` is of model m and image n; all models saw the same images.
      statistic: of `(weights [r m*n], values [m*n ...])`.
      level: in (0, 1).
      clusters: which images were made of one source, and so fail together: of each image a number.
        They are left out together. Default: each image has a source of its own.
    """
    values = np.asarray(values, np.float64)
    m, n = values.shape[:2]
    models, images = left_out(m, n, clusters)
    found = statistic(
        (models[:, :, None] * images[:, None, :]).reshape(len(models), m * n),
        values.reshape(m * n, *values.shape[2:]),
    )
    return jackknife_interval(found, m, level=level)


def left_out(
    m: int, n: int, clusters: Int[np.ndarray, " n"] | None = None
) -> tuple[Float[np.ndarray, "r m"], Float[np.ndarray, "r n"]]:
    """Returns 0/1 weights of models and of images: all; then each model out; then each image out.

    More images than `GROUPS` are left out in as many groups, of every `GROUPS`-th image; images of
    one cluster always together.

    >>> left_out(1, 3, np.array([7, 9, 7]))[1]
    array([[1., 1., 1.],
           [1., 1., 1.],
           [0., 1., 0.],
           [1., 0., 1.]])
    """
    member = np.arange(n) if clusters is None else np.unique(clusters, return_inverse=True)[1]
    groups = min(int(member.max(initial=0)) + 1, GROUPS)
    models, images = np.ones((1 + m + groups, m)), np.ones((1 + m + groups, n))
    models[1 : 1 + m] -= np.eye(m)
    images[1 + m :] -= member % groups == np.arange(groups)[:, None]
    return models, images


def jackknife_interval(found: Float[np.ndarray, " r"], m: int, *, level: float = 0.95) -> Interval:
    """Returns the interval of a statistic from its values under the weights of `left_out`.

    A statistic that does not exist without one of the models, as the agreement of two, has an
    interval over images alone.

    Args:
      found: as measured, without each of m models, without each group of images.
      m: the number of models.
      level: in (0, 1).
    """
    parts = [_variance(found[1 : 1 + m]), _variance(found[1 + m :])]
    parts = [(variance, freedom) for variance, freedom in parts if freedom > 0]
    total = sum(variance for variance, _ in parts)
    if not parts or not np.isfinite(found[0]):
        return Interval(float("nan"), float("nan"), float("nan"))
    value = float(found[0])
    if total == 0:
        return Interval(value, value, float(value == 0))
    from scipy.stats import t as student  # here: it takes as long to import as jax

    freedom = total**2 / sum(variance**2 / freedom for variance, freedom in parts)
    error = float(np.sqrt(total))
    half = float(student.ppf((1 + level) / 2, freedom)) * error
    p = 2 * float(student.sf(abs(value) / error, freedom))
    return Interval(value - half, value + half, p)


def holm(found: Sequence[float]) -> list[float]:
    """Returns p values corrected for their number, by Holm's step-down method.

    Rejecting where a corrected value is below 0.05 finds something that is not there in at most 5 %
    of such families, however the comparisons hang together.

    Args:
      found: the p values of one family; NaN where there was no comparison.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03, 0.005, float("nan")])]
    [0.03, 0.06, 0.06, 0.02, nan]
    """
    p = np.asarray(found, np.float64)
    corrected, (there,) = np.full(len(p), np.nan), np.nonzero(np.isfinite(p))
    order = there[np.argsort(p[there])]
    steps = p[order] * np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1)
    return [float(each) for each in corrected]


def _variance(without: Float[np.ndarray, " k"]) -> tuple[float, int]:
    """Returns the jackknife's variance and its degrees of freedom; 0 of them if there is none."""
    exists = without[np.isfinite(without)]
    k = len(exists)
    if k < 2:
        return 0.0, 0
    return float((k - 1) / k * np.sum((exists - exists.mean()) ** 2)), k - 1
