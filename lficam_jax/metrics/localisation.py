"""Does the map lie on the object? Maps are scaled at their own grid, then resized to the image."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from lficam_jax.ops.maps import Place, cell_centres, min_max, resize

THRESHOLDS = tuple(i / 20 for i in range(1, 20))  # of MaxBoxAccV2


def on_image(
    maps: Float[Array, "b h w"], size: Sequence[int], place: Place | None = None
) -> Float[Array, "b y x"]:
    """Returns the maps min-maxed to [0, 1] at their native grid, then resized bilinearly.

    Here and below `place` says where the cells lie on the image (`models.geometry.places`);
    None: by half-pixels, as the literature does.
    """
    return resize(min_max(maps.astype(jnp.float32)), size, place)


def constant(maps: Float[Array, "b h w"]) -> Bool[Array, " b"]:
    """Marks maps that say nothing: all values are equal."""
    return jnp.max(maps, axis=(1, 2)) == jnp.min(maps, axis=(1, 2))


def pointing_hit(
    maps: Float[Array, "b h w"], mask: Bool[Array, "b y x"], place: Place | None = None
) -> Bool[Array, " b"]:
    """The pointing game: whether the centre of the map's largest cell lies on the object.

    The cell is sought on the map's own grid: resizing lowers peaks inside, which are mixed with
    their neighbours, and keeps those at the border (docs/measures.md, What was chosen).

    A constant map points nowhere and is a miss. Of equal peaks the first in reading order counts.
    Source: Zhang et al., "Top-down Neural Attention by Excitation Backprop", IJCV 2018.
    """
    rows, columns = cell_centres(maps.shape[1:], mask.shape[1:], place)
    peak = jnp.argmax(maps.reshape(len(maps), -1), axis=1)[:, None]
    on_cells = mask[:, rows][:, :, columns].reshape(len(maps), -1)
    hit = jnp.take_along_axis(on_cells, peak, axis=1)[:, 0]
    return hit & ~constant(maps)


def asked_over_other(
    maps: Float[Array, "b h w"], asked: Bool[Array, "b y x"], other: Bool[Array, "b y x"],
    place: Place | None = None,
) -> Float[Array, " b"]:  # fmt: skip
    """Of a map that is asked about one of two objects: whether it points at that one.

    1 where the peak, `pointing_hit`'s, lies on the object that is asked about, 0 where it lies on
    the other, NaN where on neither. Maps that do not depend on what is asked have a mean of 1/2, if
    either object is asked about equally often.

    Args:
      maps: on their own grid.
      asked: pixels of the object that is asked about.
      other: pixels of the other.
      place: where the cells lie.
    """
    right, wrong = pointing_hit(maps, asked, place), pointing_hit(maps, other, place)
    return jnp.where(right | wrong, right, jnp.nan)


def energy(
    maps: Float[Array, "b h w"], mask: Bool[Array, "b y x"], place: Place | None = None
) -> Float[Array, " b"]:
    """The share of the map's mass that lies on the object, in [0, 1]; 0 for an empty map.

    Source: Wang et al., "Score-CAM", CVPR workshops 2020 (energy-based pointing game).
    """
    scaled = on_image(maps, mask.shape[1:], place)
    total = jnp.sum(scaled, axis=(1, 2))
    inside = jnp.sum(scaled * mask, axis=(1, 2))
    return inside / jnp.where(total == 0, 1, total)


def box_overlaps(
    maps: Float[np.ndarray, "b h w"],
    masks: Bool[np.ndarray, "b y x"],
    thresholds: Sequence[float] = THRESHOLDS,
    place: Place | None = None,
) -> Float[np.ndarray, "b t"]:
    """Returns the best IoU of the object's box with the box of any component, per threshold.

    The components of `map >= threshold` join pixels that touch by side or corner. The object's box
    is the smallest around its pixels. Runs on the host. `max_box_acc` makes one number of it.
    """
    scaled = np.asarray(on_image(jnp.asarray(maps), masks.shape[1:], place))
    return np.array(
        [
            [_best_iou(one >= threshold, _box(mask)) for threshold in thresholds]
            for one, mask in zip(scaled, np.asarray(masks), strict=True)
        ]
    )


def max_box_acc(
    weights: Float[np.ndarray, "r b"],
    overlaps: Float[np.ndarray, "b t"],
    deltas: Sequence[float] = (0.3, 0.5, 0.7),
) -> Float[np.ndarray, " r"]:
    """MaxBoxAccV2: the share of boxes found at the best threshold, mean over the required IoUs.

    Args:
      weights: how often each image counts, one row per resample; ones for the plain measure.
      overlaps: from `box_overlaps`; rows with NaN do not count.
      deltas: the IoU from which a box is found.

    The threshold is the best for the whole data set and chosen on the images that are measured.
    Source: Choe et al., "Evaluating weakly supervised object localization methods right", CVPR
    2020, whose code tries 1,000 thresholds.
    """
    exists = np.isfinite(overlaps).all(axis=1)
    weights, overlaps = np.asarray(weights)[:, exists], overlaps[exists]
    found = [(weights @ (overlaps >= delta)).max(axis=1) for delta in deltas]
    accuracy: np.ndarray = np.mean(found, axis=0) / np.maximum(weights.sum(axis=1), 1)
    return accuracy


def _box(mask: Bool[np.ndarray, "y x"]) -> tuple[slice, slice] | None:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return None
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _best_iou(mask: Bool[np.ndarray, "y x"], box: tuple[slice, slice] | None) -> float:
    from scipy.ndimage import find_objects, label

    if box is None:
        return float("nan")
    components, _ = label(mask, structure=np.ones((3, 3)))
    return max((_box_iou(found, box) for found in find_objects(components)), default=0.0)


def _box_iou(a: tuple[slice, slice], b: tuple[slice, slice]) -> float:
    sides = [max(0, min(p.stop, q.stop) - max(p.start, q.start)) for p, q in zip(a, b, strict=True)]
    areas = [(r.stop - r.start) * (c.stop - c.start) for r, c in (a, b)]
    shared = sides[0] * sides[1]
    return float(shared / (sum(areas) - shared))
