"""Faithfulness on classifiers whose curves can be written down."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lficam_jax.metrics import faithfulness as f
from lficam_jax.metrics.road import impute, road
from lficam_jax.metrics.robustness import fgsm
from lficam_jax.ops.blur import gaussian_blur

CLASSES = jnp.zeros(1, jnp.int32)


def share(images, classes):
    """A linear model: its confidence is the mean pixel of the first channel."""
    return jnp.mean(images[..., 0], axis=(1, 2))


def ramp(side=4):
    """Each pixel its own value, 1/n to 1, in reading order."""
    return jnp.arange(1, side * side + 1).reshape(1, side, side) / side**2


def test_drop_increase_and_gain_by_hand():
    before, after = jnp.array([0.8, 0.5, 0.4]), jnp.array([0.2, 0.5, 0.7])
    np.testing.assert_allclose(f.average_drop(before, after), [75, 0, 0], rtol=1e-6)
    np.testing.assert_allclose(f.increase_in_confidence(before, after), [0, 0, 100])
    np.testing.assert_allclose(f.average_gain(before, after), [0, 0, 50], rtol=1e-6)
    assert f.average_drop(jnp.zeros(1), jnp.zeros(1))[0] == 0
    assert f.average_gain(jnp.ones(1), jnp.ones(1))[0] == 0


def test_win_counts_a_tie_half():
    np.testing.assert_allclose(
        f.win(jnp.array([0.9, 0.5, 0.1]), jnp.array([0.5, 0.5, 0.5])), [100, 50, 0]
    )


def test_masking_multiplies_the_normalised_image_and_shows_the_baseline_elsewhere():
    images = jax.random.normal(jax.random.key(0), (1, 4, 4, 3))
    maps = ramp()
    plain = f.masked(images, maps, f.baseline(images))
    np.testing.assert_allclose(plain, images * maps[..., None], rtol=1e-6)
    black = f.baseline(images, "black", jnp.array([-2.0, -1.0, -3.0]))
    nothing = f.masked(images, jnp.zeros_like(maps), black)
    np.testing.assert_allclose(nothing[0, 1, 2], [-2, -1, -3])
    np.testing.assert_array_equal(f.masked(images, jnp.ones_like(maps), black), images)
    blurred = f.baseline(images, "blur")
    np.testing.assert_array_equal(f.masked(images, jnp.zeros_like(maps), blurred), blurred)


def test_top_share_zeroes_the_rest():
    kept = f.keep_top(ramp(), 0.5)
    expected = np.where(ramp() >= np.quantile(ramp(), 0.5), ramp(), 0)
    np.testing.assert_array_equal(kept, expected)
    assert (np.asarray(kept) > 0).sum() == 8
    np.testing.assert_array_equal(f.keep_top(ramp(), 1.0), ramp())


def test_deletion_of_a_linear_model_is_a_polynomial():
    """All pixels 1, any map: the confidence falls along a line, area 1/2. With the ramp as image
    and as map, after k of n pixels `(n-k)(n-k+1) / 2n²` is left."""
    area, curve = f.deletion(
        share, jnp.ones((1, 4, 4, 1)), CLASSES, ramp(), jnp.zeros((1, 4, 4, 1))
    )
    assert area[0] == pytest.approx(0.5) and curve.shape == (1, 17)
    image = ramp()[..., None]
    area, curve = f.deletion(share, image, CLASSES, ramp(), jnp.zeros_like(image))
    left = (16 - np.arange(17)) * (17 - np.arange(17)) / (2 * 16**2)
    np.testing.assert_allclose(curve[0], left, rtol=1e-5)
    assert area[0] == pytest.approx(np.trapezoid(left, dx=1 / 16), rel=1e-5)
    worst, _ = f.deletion(share, image, CLASSES, -ramp(), jnp.zeros_like(image))
    assert worst[0] > area[0]  # the best map deletes fastest


def test_insertion_goes_from_the_blur_to_the_image():
    image = ramp(8)[..., None]
    area, curve = f.insertion(share, image, CLASSES, ramp(8), steps=4)
    assert curve[0, 0] == pytest.approx(float(share(gaussian_blur(image), None)[0]), rel=1e-5)
    assert curve[0, -1] == pytest.approx(float(image.mean()), rel=1e-5)
    worst, _ = f.insertion(share, image, CLASSES, -ramp(8), steps=4)
    assert area[0] > worst[0]


def test_chunks_change_nothing_and_a_constant_map_goes_in_reading_order():
    image = ramp()[..., None]
    ground = jnp.zeros_like(image)
    one = f.deletion(share, image, CLASSES, ramp(), ground, steps=5)[1]
    many = f.deletion(share, image, CLASSES, ramp(), ground, steps=5, chunk=4)[1]
    np.testing.assert_array_equal(one, many)
    flat = f.deletion(share, image, CLASSES, jnp.ones((1, 4, 4)), ground)[1]
    rest = np.append(np.cumsum(np.asarray(ramp()).ravel()[::-1])[::-1], 0) / 16
    np.testing.assert_allclose(flat[0], rest, rtol=1e-5)


def test_a_map_with_many_zeros_still_loses_the_right_number_of_pixels():
    spot = jnp.zeros((1, 4, 4)).at[0, 3, 3].set(1.0)
    ones = jnp.ones((1, 4, 4, 1))
    _, curve = f.deletion(share, ones, CLASSES, spot, 0 * ones, steps=4)
    np.testing.assert_allclose(curve[0], [1, 0.75, 0.5, 0.25, 0])


def test_adcc_by_hand():
    assert f.adcc(jnp.ones(1), jnp.zeros(1), jnp.zeros(1))[0] == pytest.approx(100)
    value = f.adcc(jnp.array([0.5]), jnp.array([0.5]), jnp.array([75.0]))[0]
    assert value == pytest.approx(300 / (2 + 2 + 4))
    assert f.adcc(jnp.zeros(1), jnp.zeros(1), jnp.zeros(1))[0] == 0
    assert f.coherency(ramp(), ramp())[0] == pytest.approx(1)
    assert f.coherency(ramp(), 1 - ramp())[0] == pytest.approx(0, abs=1e-6)
    assert f.coherency(ramp(), jnp.ones((1, 4, 4)))[0] == 0.5


def test_a_blur_keeps_the_mean_of_a_flat_image_and_spreads_a_point():
    flat = jnp.full((1, 9, 9, 2), 3.0)
    np.testing.assert_allclose(gaussian_blur(flat), flat, rtol=1e-6)
    point = jnp.zeros((1, 31, 31, 1)).at[0, 15, 15].set(1.0)
    blurred = np.asarray(gaussian_blur(point))[0, ..., 0]
    weights = np.exp(-0.5 * (np.arange(-5, 6) / 5) ** 2)
    weights /= weights.sum()
    np.testing.assert_allclose(blurred[10:21, 10:21], np.outer(weights, weights), rtol=1e-5)
    assert blurred.sum() == pytest.approx(1, rel=1e-5) and (blurred > 0).sum() == 121


def test_imputation_of_one_pixel_is_the_weighted_mean_of_its_neighbours():
    """A hand-made 3x3: direct neighbours 6, diagonal ones 12."""
    image = jnp.array([[12, 6, 12], [6, 99, 6], [12, 6, 12]], jnp.float32)[None, ..., None]
    hole = jnp.zeros((1, 3, 3), bool).at[0, 1, 1].set(True)
    filled = impute(image, hole, tolerance=1e-6)
    assert filled[0, 1, 1, 0] == pytest.approx(4 * 6 / 6 + 4 * 12 / 12, rel=1e-4)
    np.testing.assert_array_equal(filled[~hole], image[~hole])
    corner = jnp.zeros((1, 3, 3), bool).at[0, 0, 0].set(True)  # three neighbours only
    expected = (6 / 6 + 6 / 6 + 99 / 12) / (1 / 6 + 1 / 6 + 1 / 12)
    assert impute(image, corner, tolerance=1e-6)[0, 0, 0, 0] == pytest.approx(expected, rel=1e-4)


def test_imputation_solves_the_linear_system():
    """Against a dense solve in numpy, with a large hole that touches the border."""
    rng = np.random.default_rng(0)
    image, hole = rng.normal(size=(6, 7)), rng.random((6, 7)) < 0.6
    places = [tuple(p) for p in np.argwhere(hole)]
    matrix, right = np.zeros((len(places),) * 2), np.zeros(len(places))
    for i, (y, x) in enumerate(places):
        for q in np.ndindex(3, 3):
            ny, nx = y + q[0] - 1, x + q[1] - 1
            if q == (1, 1) or not (0 <= ny < 6 and 0 <= nx < 7):
                continue
            weight = 1 / 6 if 1 in q else 1 / 12
            matrix[i, i] += weight
            if hole[ny, nx]:
                matrix[i, places.index((ny, nx))] -= weight
            else:
                right[i] += weight * image[ny, nx]
    found = impute(
        jnp.asarray(image, jnp.float32)[None, ..., None], jnp.asarray(hole)[None], tolerance=1e-6
    )
    np.testing.assert_allclose(found[0, ..., 0][hole], np.linalg.solve(matrix, right), atol=2e-4)


def test_road_prefers_the_map_that_points_at_what_the_model_reads():
    """The model reads the left half, which is bright; removed last, its brightness stays."""

    def left(images, classes):
        return jnp.mean(images[:, :, :4, 0], axis=(1, 2))

    image = jnp.zeros((1, 8, 8, 1)).at[:, :, :4].set(1.0)
    good = jnp.zeros((1, 8, 8)).at[:, :, :4].set(1.0)
    keys = jax.random.split(jax.random.key(0), 1)
    right = road(left, image, CLASSES, good, keys)
    wrong = road(left, image, CLASSES, 1 - good, keys)
    assert right["road"][0] > 0.05 and wrong["road"][0] < -0.05
    assert right["road"][0] == pytest.approx((right["road_lerf"][0] - right["road_morf"][0]) / 2)


def test_a_neighbour_in_the_batch_changes_nothing():
    images = jax.random.normal(jax.random.key(0), (3, 8, 8, 1))
    maps = jax.random.uniform(jax.random.key(1), (3, 8, 8))
    keys, classes = jax.random.split(jax.random.key(2), 3), jnp.zeros(3, jnp.int32)
    other = images.at[1:].set(5.0)
    first, again = (
        road(share, x, classes, maps, keys, percentages=(30, 60))["road_morf"][0]
        for x in (images, other)
    )
    assert first == again


def test_fgsm_moves_pixels_by_epsilon_and_stays_a_picture():
    mean, std = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
    pixels = jnp.array([0.0, 0.5, 1.0])[None, None, :, None] * jnp.ones((1, 1, 1, 3))
    images = (pixels - 0.5) / 0.25
    attacked = fgsm(lambda x, y: jnp.sum(x, (1, 2, 3)), images, CLASSES, mean=mean, std=std)
    np.testing.assert_allclose(
        (attacked * 0.25 + 0.5)[0, 0, :, 0], [2 / 255, 0.5 + 2 / 255, 1.0], atol=1e-6
    )


def test_the_default_tolerance_lies_below_the_noise():
    """On a smooth image as large as photographs; the noise has a standard deviation of 0.01."""
    image = 7 * gaussian_blur(jax.random.normal(jax.random.key(0), (1, 224, 224, 1)), 25, 4.0)
    removed = jnp.broadcast_to(jnp.arange(224) < 202, (1, 224, 224))
    found = [impute(image, removed, **options) for options in ({}, {"tolerance": 1e-6})]
    assert jnp.std(image) > 0.4 and jnp.abs(found[0] - found[1]).max() < 0.005
