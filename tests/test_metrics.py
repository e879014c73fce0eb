"""Measures of a map on examples that a person can check."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lficam_jax.metrics.importance import correlation_with_mean, effective_channels
from lficam_jax.metrics.localisation import (
    box_overlaps,
    constant,
    energy,
    max_box_acc,
    on_image,
    pointing_hit,
)
from lficam_jax.metrics.sparseness import entropy, gini
from lficam_jax.ops.maps import Axis, Place


def one_hot_map(row, column, size=4):
    return jnp.zeros((1, size, size)).at[0, row, column].set(3.0)


def mask_of(rows, columns, size=8):
    return jnp.zeros((1, size, size), bool).at[0, rows, columns].set(True)


TOP_LEFT = mask_of(slice(0, 4), slice(0, 4))


def test_a_peak_on_the_object_hits_and_one_beside_it_misses():
    assert pointing_hit(one_hot_map(0, 0), TOP_LEFT)[0]
    assert not pointing_hit(one_hot_map(3, 3), TOP_LEFT)[0]


def test_a_constant_map_is_a_miss_even_if_the_first_pixel_is_object():
    for value in (0.0, 1.0):
        flat = jnp.full((1, 4, 4), value)
        assert constant(flat)[0] and not pointing_hit(flat, TOP_LEFT)[0]


def test_the_peak_is_sought_on_the_map_s_own_grid():
    """Resizing mixes a peak inside with its neighbours, and leaves one at the border as it is."""
    maps = one_hot_map(1, 1).at[0, 3, 0].set(2.9)
    assert np.argmax(on_image(maps, (8, 8))) == 7 * 8  # the corner, though its cell is lower
    assert pointing_hit(maps, TOP_LEFT)[0] and not pointing_hit(maps, ~TOP_LEFT)[0]


def test_random_maps_point_everywhere_alike():
    """By half-pixels, the two outermost rows and columns of 48 are half a cell of 12 wide."""
    maps = jax.random.uniform(jax.random.key(0), (4000, 12, 12))
    inner = mask_of(slice(8, 40), slice(8, 40), size=48)  # 8 by 8 of the 12 by 12 cells
    hits = pointing_hit(maps, jnp.broadcast_to(inner, (4000, 48, 48))).mean()
    assert hits == pytest.approx(64 / 144, abs=0.03)


def test_a_cell_points_where_it_looks():
    """Cells every 4 pixels from pixel 0, not in the middle of tiles."""
    place = Place(Axis(0.5 / 8, 2 / 8), Axis(0.5 / 8, 2 / 8))
    on_two = mask_of(slice(2, 3), slice(2, 3))
    assert pointing_hit(one_hot_map(1, 1), on_two, place)[0]
    assert not pointing_hit(one_hot_map(1, 1), on_two)[0]  # the tile's middle is pixel 3


def test_energy_is_the_share_of_the_mass_inside():
    assert energy(one_hot_map(0, 0), TOP_LEFT)[0] == pytest.approx(1)
    assert energy(one_hot_map(3, 3), TOP_LEFT)[0] == 0  # disjoint
    assert energy(one_hot_map(0, 0), ~TOP_LEFT)[0] == pytest.approx(0)
    half = mask_of(slice(0, 8), slice(0, 4))
    across = jnp.zeros((1, 4, 4)).at[0, 1:3].set(1.0)  # a bar over the whole width
    assert energy(across, half)[0] == pytest.approx(0.5)
    assert energy(jnp.zeros((1, 4, 4)), half)[0] == 0


def test_maps_are_scaled_before_they_are_enlarged():
    """Scaled afterwards, a one-pixel map enlarged by two would peak at 0.75² of itself."""
    enlarged = on_image(one_hot_map(1, 1), (8, 8))
    assert enlarged.shape == (1, 8, 8) and float(enlarged.max()) == pytest.approx(0.75**2)


def test_effective_channels_counts_who_shares():
    assert effective_channels(jnp.full((1, 64), 1 / 64))[0] == pytest.approx(64, rel=1e-5)
    assert effective_channels(jnp.eye(64)[:1])[0] == pytest.approx(1)
    shared = jnp.zeros((1, 64)).at[0, :4].set(0.25)
    assert effective_channels(shared)[0] == pytest.approx(4, rel=1e-5)


def test_correlation_with_the_mean_of_the_activations():
    features = jnp.asarray(np.random.default_rng(0).random((1, 4, 4, 3)), jnp.float32)
    mean = features.mean(-1)
    assert correlation_with_mean(2 * mean + 1, features)[0] == pytest.approx(1, abs=1e-5)
    assert correlation_with_mean(-mean, features)[0] == pytest.approx(-1, abs=1e-5)
    assert correlation_with_mean(jnp.ones((1, 4, 4)), features)[0] == 0


def test_the_best_component_is_compared_not_the_largest():
    """A large blob off the object, a small one on it: the small one is found."""
    maps = np.zeros((1, 12, 12), np.float32)
    maps[0, 0:5, 0:5], maps[0, 8:10, 8:10] = 0.5, 1.0
    mask = np.zeros((1, 12, 12), bool)
    mask[0, 8:10, 8:10] = True
    overlaps = box_overlaps(maps, mask, thresholds=(0.3, 0.8))
    np.testing.assert_allclose(overlaps, [[1, 1]])
    mask[0, 8:10, 8:12] = True  # the object is twice as wide
    np.testing.assert_allclose(box_overlaps(maps, mask, (0.3,)), [[0.5]])


def test_pixels_that_touch_by_a_corner_are_one_component():
    maps = np.eye(4, dtype=np.float32)[None]
    np.testing.assert_allclose(box_overlaps(maps, np.ones((1, 4, 4), bool), (0.5,)), [[1]])


def test_box_accuracy_takes_the_best_threshold_of_the_whole_set():
    """IoU .3 .5 .7 is reached by 2, 1, 1 of two images at the first threshold."""
    overlaps = np.array([[0.8, 0.6], [0.4, 0.0]])
    ones = np.ones((1, 2))
    assert max_box_acc(ones, overlaps)[0] == pytest.approx((2 + 1 + 1) / 3 / 2)
    assert max_box_acc(ones, overlaps[:, ::-1])[0] == pytest.approx(4 / 6)
    # one threshold serves all: images that need different ones cannot both be found
    assert max_box_acc(ones, np.array([[1.0, 0.0], [0.0, 1.0]]))[0] == pytest.approx(0.5)


def test_images_without_an_object_have_no_box():
    maps, nowhere = np.ones((1, 4, 4), np.float32), np.zeros((1, 4, 4), bool)
    overlaps = box_overlaps(maps, nowhere, (0.5,))
    assert np.isnan(overlaps).all()
    both = np.concatenate([overlaps, [[1.0]]])
    assert max_box_acc(np.ones((1, 2)), both)[0] == 1


def test_sparseness_of_one_pixel_of_a_flat_map_and_by_hand():
    one, flat = one_hot_map(1, 2), jnp.full((1, 4, 4), 0.5)
    assert gini(one)[0] == pytest.approx(1 - 1 / 16) and entropy(one)[0] == 0
    assert gini(flat)[0] == pytest.approx(0) and entropy(flat)[0] == pytest.approx(np.log(16))
    assert gini(0 * flat)[0] == 0 and entropy(0 * flat)[0] == pytest.approx(np.log(16))
    two = jnp.zeros((1, 4, 4)).at[0, 0, :2].set(jnp.array([1.0, 3.0]))
    # Gini = sum |a_i - a_j| / (2 n sum a) = 2 (14*1 + 14*3 + 2) / (2 * 16 * 4)
    assert gini(two)[0] == pytest.approx((14 + 42 + 2) / 64)
    assert entropy(two)[0] == pytest.approx(-(0.25 * np.log(0.25) + 0.75 * np.log(0.75)))
