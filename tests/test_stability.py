"""Stability between models, sanity and intervals on examples that a person can check."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lficam_jax.errors import UserError
from lficam_jax.metrics import sanity, stability
from lficam_jax.metrics.bootstrap import interval
from lficam_jax.metrics.pairs import Agreement
from lficam_jax.models import create_model
from lficam_jax.models.classifier import init_variables
from lficam_jax.ops.similarity import pearson, spearman, ssim


def blob(rows, columns, side=6):
    return jnp.zeros((1, side, side)).at[0, rows, columns].set(1.0)


UPPER, LOWER = blob(slice(0, 2), slice(0, 2)), blob(slice(2, 4), slice(0, 2))


def test_disjoint_blobs_do_not_overlap_but_score_a_third_row_by_row():
    """Of six rows four hold a blob of one model only, and two are empty in both and count as 1."""
    assert stability.iou(UPPER, LOWER)[0] == 0
    assert stability.dice(UPPER, LOWER)[0] == 0
    rows_with_one, rows_empty = 1e-6 / (3 * 2 + 1e-6), 1.0
    expected = (4 * rows_with_one + 2 * rows_empty) / 6
    assert stability.official_rowwise(UPPER, LOWER)[0] == pytest.approx(expected, rel=1e-6)
    assert expected == pytest.approx(1 / 3, abs=1e-6)


def test_a_map_agrees_with_itself():
    noise = jax.random.uniform(jax.random.key(0), (3, 6, 6))
    for name, statistic in stability.STATISTICS.items():
        np.testing.assert_allclose(statistic(noise, noise), 1, atol=1e-6, err_msg=name)


def test_a_hand_made_3x3():
    a = jnp.array([[[9, 8, 0], [7, 0, 0], [0, 0, 0]]]) / 9
    b = jnp.array([[[9, 0, 0], [7, 8, 0], [0, 0, 0]]]) / 9
    assert stability.iou(a, b)[0] == pytest.approx(2 / 4)
    assert stability.dice(a, b)[0] == pytest.approx(4 / 6)
    assert stability.iou_equal_area(a, b)[0] == pytest.approx(1 / 3)  # two pixels each, one shared
    # thresholds .1 to .7: 2 of 4; at .8 the 7s are gone: 1 of 3; at .9 the 8s (.889) too: 1 of 1
    assert stability.iou_auc(a, b)[0] == pytest.approx((7 * 0.5 + 1 / 3 + 1) / 9)
    assert stability.official_rowwise(a, b)[0] == pytest.approx((0.5 + 0.5 + 1) / 3, abs=1e-6)


def test_the_threshold_is_above_100_of_255_in_eight_bits():
    at, above = jnp.full((1, 2, 2), 100 / 255), jnp.full((1, 2, 2), 101.5 / 255)
    assert np.isnan(stability.iou(at, at)[0]) and stability.iou(above, above)[0] == 1
    assert stability.official_rowwise(at, above)[0] == pytest.approx(0, abs=1e-6)


def test_both_empty_is_left_out_and_counted():
    nothing = jnp.zeros((1, 6, 6))
    found = stability.between(
        np.concatenate([nothing, UPPER]), np.concatenate([nothing, UPPER]), shuffles=1
    )
    assert found["iou"]["value"] == 1 and found["iou"]["n"] == 1 and found["iou"]["left_out"] == 1
    assert found["official_rowwise"]["n"] == 2  # the script counts an empty pair as 1
    assert found["spearman"]["left_out"] == 1  # a constant map has no ranks


def test_chance_is_what_the_same_place_in_every_image_earns():
    """Both models always point at the top left: perfect agreement, all of it chance."""
    same = np.repeat(np.asarray(UPPER), 4, axis=0)
    found = stability.between(same, same)["iou"]
    assert found["value"] == 1 and found["chance"] == 1 and np.isnan(found["adjusted"])
    moving = np.concatenate([UPPER, LOWER, blob(slice(4, 6), slice(4, 6)), blob(0, slice(3, 6))])
    found = stability.between(moving, moving)["iou"]
    assert found["value"] == 1 and found["chance"] == 0 and found["adjusted"] == 1


def test_all_pairs_of_three_runs():
    a = np.concatenate([UPPER, LOWER])
    found = Agreement({"a": a, "b": a, "c": a[::-1]})
    assert list(found.pairs()) == ["a | b", "a | c", "b | c"]
    iou = found.statistics()["iou"]
    assert iou["value"] == pytest.approx(1 / 3) and iou["n"] == 6
    assert iou["sd"] == pytest.approx(np.std([1, 0, 0], ddof=1))
    assert Agreement({"a": a, "b": a}).statistics()["iou"]["sd"] is None


def test_a_pair_without_a_value_is_left_out_and_counted():
    """Model c shows nothing: its pairs have no rank correlation, that of a and b has."""
    noise = np.random.default_rng(0).random((2, 6, 6), np.float32)
    found = Agreement({"a": noise, "b": noise, "c": np.zeros_like(noise)}).statistics()["spearman"]
    assert found["value"] == pytest.approx(1) and found["n"] == 2 and found["left_out"] == 4


def blobs(rng, n=12):
    """Maps of n images, each with a blob elsewhere."""
    maps = np.zeros((n, 16, 16), np.float32)
    for one, (y, x) in zip(maps, rng.integers(0, 12, (n, 2)), strict=True):
        one[y : y + 4, x : x + 4] = 1
    return maps


def test_models_that_look_at_the_same_place_agree_fully_and_surely():
    rng = np.random.default_rng(0)
    same = blobs(rng)
    found = Agreement({"a": same, "b": same, "c": same}).statistics()["iou"]
    assert found["value"] == found["low"] == found["high"] == 1
    assert found["adjusted"] == {"value": 1, "low": 1, "high": 1}
    strange = Agreement({s: blobs(rng) for s in "abc"}).statistics()["iou"]["adjusted"]
    assert strange["low"] < 0 < strange["high"]  # what chance gives


def test_one_model_that_looks_elsewhere_makes_the_agreement_unsure():
    rng = np.random.default_rng(0)
    same, other = blobs(rng), blobs(rng)
    found = Agreement({"a": same, "b": same, "c": same, "d": other})
    iou, pairs = found.statistics()["iou"], found.pairs().values()
    for key in ("value", "chance"):
        assert iou[key] == pytest.approx(np.mean([pair["iou"][key] for pair in pairs]))
    assert iou["adjusted"]["value"] == pytest.approx(
        np.mean([pair["iou"]["adjusted"] for pair in pairs])
    )
    assert 0.5 < iou["value"] < 0.6  # half of the pairs agree
    assert iou["low"] < 0.1 and iou["high"] > 0.9  # without the fourth, 1; without another, 1/3
    assert found.minus(found)["iou"] == {"value": 0, "low": 0, "high": 0, "p": 1}


def test_runs_are_paired_by_id_not_by_order():
    orders = stability.pair({"a": [7, 3, 5], "b": [5, 7, 3]})
    np.testing.assert_array_equal(
        np.array([7, 3, 5])[orders["a"]], np.array([5, 7, 3])[orders["b"]]
    )
    with pytest.raises(
        UserError, match=r"1 only in the first \(ids 3\); 1 only in the second \(id"
    ):
        stability.pair({"a": [3, 5], "b": [5, 9]})
    with pytest.raises(UserError, match="twice"):
        stability.pair({"a": [3, 3], "b": [3, 3]})


def test_rank_correlation_takes_ties_at_their_mean_rank():
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 5, (2, 4, 3, 5)).astype(np.float32)
    expected = [spearmanr(x.ravel(), y.ravel()).statistic for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(spearman(jnp.asarray(a), jnp.asarray(b)), expected, atol=1e-6)
    assert np.isnan(spearman(jnp.ones((1, 3, 3)), jnp.asarray(a[:1, :, :3]))[0])
    assert np.isnan(pearson(jnp.ones((1, 3)), jnp.ones((1, 3)))[0])


def test_structural_similarity_of_flat_maps_is_that_of_their_means():
    a, b = jnp.full((1, 16, 16), 0.2), jnp.full((1, 16, 16), 0.6)
    expected = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
    assert ssim(a, b)[0] == pytest.approx(expected, rel=1e-3)
    assert ssim(a, a)[0] == pytest.approx(1, rel=1e-4)


def test_sensitivity_of_a_map_that_is_the_image():
    """A(x) = x: the change is the noise, at most radius * sqrt(n), over the image's norm."""
    images, keys = jnp.ones((2, 8, 8, 1)), jax.random.split(jax.random.key(0), 2)
    found = sanity.max_sensitivity(lambda x: x[..., 0], images, keys, radius=0.02)
    assert (found <= 0.02).all() and (found > 0.02 / np.sqrt(3) * 0.9).all()  # uniform: sd r/√3
    flat = sanity.max_sensitivity(lambda x: jnp.ones(x.shape[:3]), images, keys)
    np.testing.assert_array_equal(flat, 0)
    assert np.isnan(sanity.max_sensitivity(lambda x: 0 * x[..., 0], images, keys)).all()
    alone = sanity.max_sensitivity(lambda x: x[..., 0], images[:1], keys[:1])
    assert alone[0] == found[0]


@pytest.fixture(scope="module")
def networks():
    model = create_model("cifar_resnet", 8, "lfi", num_classes=3)
    return model, init_variables(model, (16, 16, 3), 0), init_variables(model, (16, 16, 3), 1)


def test_randomisation_goes_down_from_the_classifier_and_takes_fin_apart(networks):
    model, trained, fresh = networks
    steps = dict(sanity.cascade(trained, fresh))
    names = list(steps)
    assert names[:3] == ["head", "classifier", "last_stage"]
    assert names[3].startswith("trunk/stage") and len(names) == 3 + len(trained["params"]["trunk"])

    def changed(name, group):
        pair = zip(*map(jax.tree.leaves, (trained, steps[name])), strict=True)
        paths = [jax.tree_util.keystr(p) for p, _ in jax.tree_util.tree_leaves_with_path(trained)]
        return any(
            not np.array_equal(a, b) for p, (a, b) in zip(paths, pair, strict=True) if group in p
        )

    assert changed("head", "'head'") and not changed("head", "'trunk'")
    assert changed("classifier", "'classifier'") and not changed("classifier", "'last_stage'")
    last = names[-1]
    assert changed(last, "'trunk'") and changed(last, "'last_stage'") and not changed(last, "head")
    assert jax.tree.structure(steps[last]) == jax.tree.structure(dict(trained))


def test_the_map_ignores_the_classifier_and_needs_the_trunk(networks):
    """LFI's map is class-agnostic: a fresh classifier leaves it as it is."""
    model, trained, fresh = networks
    images = jax.random.normal(jax.random.key(0), (2, 16, 16, 3))

    def explain(variables, images):
        return model.apply(variables, images).attention

    found = sanity.parameter_randomisation(explain, dict(trained), dict(fresh), images)
    np.testing.assert_allclose(found["classifier"]["spearman"], 1, atol=1e-6)
    np.testing.assert_allclose(found["classifier"]["ssim"], 1, atol=1e-4)
    assert (found[list(found)[-1]]["spearman"] < 0.99).all()


def test_the_interval_holds_the_mean_is_seeded_and_narrows():
    values = np.random.default_rng(0).normal(3, 1, 400)
    low, high = interval(values)
    assert low < values.mean() < high and (low, high) == interval(values)
    assert (low, high) != interval(values, seed=1)
    half = 1.96 * values.std() / np.sqrt(400)
    assert (high - low) / 2 == pytest.approx(half, rel=0.1)
    assert interval(np.full(5, 2.0)) == (2, 2)
    assert interval(np.append(np.full(5, 2.0), np.nan)) == (2, 2)  # left out, not zero
    assert np.isnan(interval(np.full(3, np.nan))).all()
