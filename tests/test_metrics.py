"""Measures of a map on examples that a person can check."""

import jax.numpy as jnp
import numpy as np
import pytest

from lficam_jax.metrics.importance import correlation_with_mean, effective_channels
from lficam_jax.metrics.localisation import constant, energy, on_image, pointing_hit


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
