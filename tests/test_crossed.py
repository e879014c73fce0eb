"""Intervals over a few models and many images: as wide as they must be, and no wider."""

import numpy as np
import pytest
import scipy.stats

from lficam_jax.metrics.bootstrap import interval
from lficam_jax.metrics.crossed import crossed_interval, holm, left_out


def test_each_model_and_each_image_is_left_out_once():
    models, images = left_out(2, 3)
    assert models.tolist() == [[1, 1], [0, 1], [1, 0], [1, 1], [1, 1], [1, 1]]
    assert images.tolist()[3:] == [[0, 1, 1], [1, 0, 1], [1, 1, 0]] and images[:3].all()
    _, many = left_out(2, 1000)  # in 200 groups of five
    assert len(many) == 1 + 2 + 200 and (many[3:].sum(axis=1) == 995).all()
    assert (many[3:].sum(axis=0) == 199).all()


def test_images_of_one_source_are_left_out_together():
    """Twenty sources of ten images each, that agree: as sure as of twenty images, not of 200."""
    each = np.random.default_rng(0).normal(0, 1, 20)
    alone, clusters = crossed_interval(each[None]), np.tile(np.arange(20), 10)
    together = crossed_interval(np.tile(each, 10)[None], clusters=clusters)
    naive = crossed_interval(np.tile(each, 10)[None])
    assert np.allclose(together, alone)
    assert np.ptp(together[:2]) > 3 * np.ptp(naive[:2])  # sqrt(10)


def test_models_that_do_not_differ_add_nothing():
    images = np.random.default_rng(0).normal(0, 1, 200)
    low, high, _ = crossed_interval(np.stack([images] * 5))
    assert np.allclose((low, high), interval(images), atol=0.03)


def test_it_is_wider_where_models_differ():
    images = np.random.default_rng(0).normal(0, 1, 200)
    apart = images + np.array([-2, -1, 0, 1, 2])[:, None]
    low, high, _ = crossed_interval(apart)
    # of five values alone, by the t-test: 2.776 * 1.581 / sqrt(5) = 1.963 to each side
    assert low == pytest.approx(images.mean() - 1.963, abs=0.02)
    assert high == pytest.approx(images.mean() + 1.963, abs=0.02)


def test_what_never_varies_is_sure_and_what_does_not_exist_has_no_interval():
    assert crossed_interval(np.ones((3, 10))) == (1, 1, 0)
    assert crossed_interval(np.zeros((3, 10))) == (0, 0, 1)
    assert np.isnan(crossed_interval(np.full((3, 10), np.nan))).all()
    one = crossed_interval(np.random.default_rng(0).normal(0, 1, (1, 100)))
    assert one[0] < one[1]  # over images alone


def test_p_is_that_of_the_t_test_where_only_images_differ():
    values = np.random.default_rng(0).normal(0.2, 1, 100)
    wanted = scipy.stats.ttest_1samp(values, 0).pvalue
    assert crossed_interval(values[None]).p == pytest.approx(wanted, rel=1e-6)


def test_holm_corrects_the_smallest_p_most():
    """Of four: .005 * 4, .01 * 3, .03 * 2, and .04, which is not below the one before it."""
    assert np.allclose(holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    found = holm([0.6, float("nan"), 0.5])
    assert np.isnan(found[1]) and found[0] == found[2] == 1 and holm([]) == []


@pytest.mark.parametrize("settings", [2, 5])
@pytest.mark.parametrize(
    ("of_models", "of_images", "of_both"), [(1, 0, 0.1), (0, 1, 0.1), (0, 0, 1), (0.2, 1, 1)]
)
def test_where_nothing_differs_it_says_so_at_least_nineteen_times_in_twenty(
    settings, of_models, of_images, of_both
):
    rng, wrong, trials = np.random.default_rng(0), 0, 300
    for _ in range(trials):
        values = (
            rng.normal(0, of_models, (settings, 1)) + rng.normal(0, of_images, (1, 40))
            + rng.normal(0, of_both, (settings, 40))
        )  # fmt: skip
        low, high, p = crossed_interval(values)
        assert (low > 0 or high < 0) == (p < 0.05)
        wrong += low > 0 or high < 0
    assert wrong / trials < 0.05 + 3 * np.sqrt(0.05 * 0.95 / trials)
