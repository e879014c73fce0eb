"""Do two models look at the same place? Maps of the same images, paired by example id.

Maps are in [0, 1] and of the image's size. Every statistic stands beside its chance: the same
statistic with the second model's images shuffled. Broad maps, or maps that always sit in the
centre, agree by chance; `adjusted = (value - chance) / (1 - chance)` takes that away.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from lficam_jax.errors import UserError
from lficam_jax.ops import similarity

THRESHOLD = 100 / 255  # of the published script
SHOWN = 5  # ids named in a message


@dataclass(frozen=True)
class Statistic:
    """How alike two models' maps of the same images are.

    Attributes:
      view: what is looked at of maps `[n y x]`; computed once, however often they are compared.
      compare: two such views, row by row; NaN, to be counted, where there is no value.
    """

    view: Callable[[Array], Array]
    compare: Callable[[Array, Array], Array]

    def __call__(self, a: Float[Array, "n y x"], b: Float[Array, "n y x"]) -> Float[Array, " n"]:
        """Compares maps row by row."""
        return self.compare(self.view(a), self.view(b))


def _shown(maps: Array) -> Array:
    return maps > THRESHOLD


def _top_fifth(maps: Array) -> Array:
    return similarity.top(maps, 0.2)


def _in_eight_bits(maps: Array) -> Array:
    return jnp.floor(255 * maps) > 100


def _mean_iou(a: Array, b: Array) -> Array:
    thresholds = jnp.arange(1, 10) / 10
    values = jax.lax.map(lambda t: similarity.iou(a > t, b > t), thresholds)
    exists = jnp.isfinite(values)
    count = jnp.sum(exists, axis=0)
    total = jnp.sum(jnp.where(exists, values, 0), axis=0)
    return jnp.where(count == 0, jnp.nan, total / jnp.maximum(count, 1))


def _rowwise(a: Array, b: Array) -> Array:
    shared, union = (3 * jnp.sum(mask, axis=2) for mask in (a & b, a | b))
    return jnp.mean((shared + 1e-6) / (union + 1e-6), axis=1)


# IoU and Dice of the pixels above 100/255; NaN where both maps are empty.
iou, dice = Statistic(_shown, similarity.iou), Statistic(_shown, similarity.dice)
# IoU of the top 20 % of the pixels of each: a broad map has no advantage.
iou_equal_area = Statistic(_top_fifth, similarity.iou)
# Mean IoU over the thresholds 0.1, 0.2 .. 0.9 at which it exists.
iou_auc = Statistic(jnp.asarray, _mean_iou)
# Rank correlation; NaN where either map is constant.
spearman = Statistic(similarity.ranks, similarity.pearson)
# The statistic of the script that was released with the LFI-CAM paper. It thresholds 8-bit pictures
# [y x 3] at 100 and sums them over the axes (1, 2), so that what it averages is the IoU of single
# *rows*, smoothed by 1e-6 above and below: a row that is empty in both counts as 1. A value v
# is there uint8(256 v) and here floor(255 v), so values from 101/256 to 101/255 count only there.
# Two disjoint blobs score about a third here and 0 in truth. Only this one may be set beside the
# published 0.73, 0.60 and 0.64.
official_rowwise = Statistic(_in_eight_bits, _rowwise)

STATISTICS = {
    "iou": iou, "iou_equal_area": iou_equal_area, "iou_auc": iou_auc, "dice": dice,
    "spearman": spearman, "official_rowwise": official_rowwise,
}  # fmt: skip
Views = Mapping[str, np.ndarray]  # of each of STATISTICS


def pair(ids: Mapping[str, Sequence[Any]]) -> dict[str, np.ndarray]:
    """Returns, for every run, the rows that bring its examples into one common order.

    Args:
      ids: of the examples of each run, in the order of its maps.

    Raises:
      UserError: if the runs do not hold the same examples; it names ids that differ.
    """
    first, *others = ids
    expected = set(ids[first])
    for name in ids:
        if len(set(ids[name])) != len(ids[name]):
            raise UserError(f"{name} holds an example id twice; ids must name examples for ever")
    for name in others:
        missing, extra = sorted(expected - set(ids[name])), sorted(set(ids[name]) - expected)
        if missing or extra:
            raise UserError(
                f"{first} and {name} do not hold the same examples: "
                f"{_told(missing, 'first')}{'; ' * bool(missing and extra)}{_told(extra, 'second')}"
                "; give runs on the same data set, and the same --limit"
            )
    return {name: np.argsort(np.asarray(rows), kind="stable") for name, rows in ids.items()}


def between(
    a: Float[np.ndarray, "n y x"],
    b: Float[np.ndarray, "n y x"],
    *,
    shuffles: int = 8,
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    """Compares two models' maps of the same images, row by row.

    Args:
      a: maps of one model, in [0, 1].
      b: maps of the other, of the same images in the same order.
      shuffles: over which chance is averaged; no image meets itself in any of them.
      seed: of the shuffles.

    Returns:
      For each of `STATISTICS`: `value` (mean over images), `chance`, `adjusted`, `n` images that
      had a value, and `left_out`, those that had none (both maps empty, or one constant).
    """
    return summary(per_image(views(a), views(b), shuffles=shuffles, seed=seed))


def views(maps: Float[np.ndarray, "n y x"]) -> Views:
    """Returns what each of `STATISTICS` looks at, for `per_image`."""
    return {name: np.asarray(jax.jit(s.view)(maps)) for name, s in STATISTICS.items()}


def per_image(
    a: Views, b: Views, *, shuffles: int = 8, seed: int = 0
) -> dict[str, tuple[Float[np.ndarray, " n"], Float[np.ndarray, "s n"]]]:
    """Returns, for each of `STATISTICS`, each image's value and its chance in each shuffle."""
    n = len(next(iter(a.values())))
    orders = [shuffled(n, np.random.default_rng([seed, i])) for i in range(shuffles)]
    found = {}
    for name, statistic in STATISTICS.items():
        compare = jax.jit(statistic.compare)
        chance = [np.asarray(compare(a[name], b[name][rows])) for rows in orders]
        found[name] = np.asarray(compare(a[name], b[name])), np.stack(chance)
    return found


def summary(found: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, dict[str, float]]:
    """Returns what `between` returns, of what `per_image` found."""
    return {name: _summary(values, chances) for name, (values, chances) in found.items()}


def _summary(values: np.ndarray, chances: np.ndarray) -> dict[str, float]:
    value, chance = _mean(values), _mean(chances)
    adjusted = float("nan") if chance == 1 else (value - chance) / (1 - chance)
    exists = int(np.isfinite(values).sum())
    return {
        "value": value, "chance": chance, "adjusted": adjusted,
        "n": exists, "left_out": len(values) - exists,
    }  # fmt: skip


def shuffled(n: int, generator: np.random.Generator) -> np.ndarray:
    """Returns a permutation that leaves nothing in its place (for n > 1): one cycle."""
    cycle = generator.permutation(n)
    rows = np.empty(n, int)
    rows[cycle] = np.roll(cycle, -1)
    return rows


def _mean(values: np.ndarray) -> float:
    exists = np.isfinite(values)
    return float(values[exists].mean(dtype=np.float64)) if exists.any() else float("nan")


def _told(ids: Sequence[Any], where: str) -> str:
    if not ids:
        return ""
    named = ", ".join(map(str, ids[:SHOWN])) + (", …" if len(ids) > SHOWN else "")
    return f"{len(ids)} only in the {where} (ids {named})"
