"""Two digits, one of them asked for: what the pictures are, and that maps are asked about it."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lficam_jax.config_file import load_config
from lficam_jax.data import DATASETS, dataset_info, normalise, open_pipeline
from lficam_jax.data.builders import cluttered_digits, sources
from lficam_jax.data.sample import Sample
from lficam_jax.devices.parallel import replicate
from lficam_jax.errors import UserError
from lficam_jax.explaining.run import _examples
from lficam_jax.explaining.session import Session
from lficam_jax.measure.faithfulness import Measurement, check_measurable, stream, target_of
from lficam_jax.measure.scoreboard import GROUPS
from lficam_jax.methods import maps_of
from lficam_jax.metrics.localisation import asked_over_other
from lficam_jax.structs import Run
from lficam_jax.study.cells import SHOWN
from lficam_jax.study.runs import _correct
from lficam_jax.training.evaluate import Evaluation, summarise
from lficam_jax.training.experiment import initial_variables, make_model


@pytest.fixture(scope="module")
def drawer():
    return cluttered_digits.drawers("two_digits")["test"]


@pytest.fixture(scope="module")
def config(few_digits):
    """A network whose map depends on the class, untrained, and 32 test pictures at 16 pixels."""
    config = load_config("two_digits:head=classwise:smoke")
    config.data.dir = str(few_digits(32, 16, 32, "two_digits"))
    return config


@pytest.fixture(scope="module")
def trained(config, tmp_path_factory):
    config = config.copy_and_resolve_references()
    config.data.image_size, config.explain.align = 16, "half_pixel"
    info = dataset_info(config.data)
    model = make_model(config, info)
    variables = initial_variables(model, config, info)
    return Run(tmp_path_factory.mktemp("run"), config, model, variables, step=0)


@pytest.fixture(scope="module")
def batch(trained):
    (found,) = Sample(trained.config.data, "test", 32).batches(32)
    return found


def test_both_digits_are_whole_apart_and_of_different_classes(drawer):
    for i in range(40):
        image, masks, labels = drawer.scene(i)
        assert image.shape == (48, 48, 3) and masks.shape == (2, 48, 48)
        assert not (masks[0] & masks[1]).any() and labels[0] != labels[1]
        for mask in masks:
            height = np.flatnonzero(mask.any(1))[[0, -1]] @ [-1, 1] + 1
            assert 18 <= height <= 26 and 120 < mask.sum() < 450
        alone = drawer.example(i)  # of the digit that is asked for
        np.testing.assert_array_equal(alone[1], masks[0])
        assert alone[2] == labels[0] == i % 10


def test_each_ordered_pair_comes_equally_often_so_half_ask_for_either(drawer):
    pairs = Counter(tuple(drawer._chosen(i)[0]) for i in range(180))
    assert len(pairs) == 90 and {*pairs.values()} == {2}  # (3, 8) as often as (8, 3)


def test_pictures_are_clustered_by_the_digit_that_is_asked_for(drawer):
    found = sources("two_digits", "test")
    assert (len(found), len({*found})) == (2000, 358)
    assert drawer.labels[found].tolist() == [i % 10 for i in range(2000)]
    assert DATASETS["two_digits"].examples == cluttered_digits.COUNTS


@pytest.mark.parametrize("kind", ["resident", "streaming"])
def test_read_back_through_the_pipelines(config, drawer, kind):
    data = config.data.copy_and_resolve_references()
    data.pipeline = kind
    pipeline = open_pipeline(data, "test", batch_size=32, train=False)
    rows = next(pipeline.batches(0))
    read = pipeline.load(pipeline.resident, rows, jax.random.key(0))
    for i in range(32):
        _, masks, labels = drawer.scene(int(read["id"][i]))
        np.testing.assert_array_equal(read["mask"][i], masks[0])
        np.testing.assert_array_equal(read["other_mask"][i], masks[1])
        assert read["asked"][i] == labels[0]
        assert np.flatnonzero(read["label"][i]).tolist() == sorted(labels)


def test_a_peak_on_the_asked_object_counts_one_on_the_other_none_elsewhere_not():
    """Left column asked about, right column the other, and nothing between."""
    asked, other = (jnp.zeros((4, 3, 3), bool).at[:, :, at].set(True) for at in (0, 2))
    maps = jnp.zeros((4, 3, 3)).at[0, 1, 0].set(1).at[1, 2, 2].set(1).at[2, 1, 1].set(1)
    found = asked_over_other(maps, asked, other)  # the last map is constant
    np.testing.assert_array_equal(found, [1, 0, np.nan, np.nan])


def test_tables_of_a_study_show_every_measure_of_where_a_map_lies():
    assert {*GROUPS["localisation"]} <= {*SHOWN}


def test_evaluation_divides_by_the_peaks_on_either():
    totals = {"count": 50, "loss": 5, "masked": 50, "pointing_hits": 30, "energy": 20}
    assert summarise(totals | {"other_hits": 10}, ("a", "b"))["asked_over_other"] == 0.75
    none = summarise(totals | {"pointing_hits": 0, "other_hits": 0}, ("a", "b"))
    assert "asked_over_other" not in none and "asked_over_other" not in summarise(totals, ())


def test_evaluation_looks_at_the_map_of_the_class_asked_for(trained, batch):
    model, variables = trained.model, trained.variables
    pipeline = open_pipeline(trained.config.data, "test", batch_size=32, train=False)
    placed = replicate(variables, trained.config.parallel.mode)
    found = Evaluation(model, pipeline, trained.config).measure(placed)
    images = normalise(batch["image"], pipeline.dataset)
    own = maps_of("own", model, variables, images, batch["asked"])
    assert not np.allclose(own, maps_of("own", model, variables, images))  # of the predicted
    over = np.asarray(asked_over_other(own, batch["mask"], batch["other_mask"]))
    assert found["pointing_game"] == pytest.approx((over == 1).mean())
    assert found["asked_over_other"] == pytest.approx(np.nanmean(over))


def test_measures_and_study_are_asked_about_the_same_class(trained, batch):
    session = Session(trained, "test", 32, ["own"])
    info = session.info
    measure = Measurement(
        trained.model, info, ("localisation",), "mean", 2, target_of(info), "half_pixel"
    )
    seen = measure.see(session.variables, batch)
    np.testing.assert_array_equal(seen["class"], batch["asked"])
    kept = []  # what a study compares between settings
    watch = lambda batch, seen, found: kept.append(found["own"]["map"])  # noqa: E731
    rows = stream(measure, session, ["own"], [watch])["own"]
    (own,) = kept
    expected = maps_of("own", trained.model, trained.variables, seen["image"], batch["asked"])
    np.testing.assert_allclose(own, expected, atol=1e-5)
    over = asked_over_other(jnp.asarray(own), batch["mask"], batch["other_mask"])
    np.testing.assert_array_equal(rows["asked_over_other"], over)
    right, ids = _correct(session, measure)
    logits = trained.model.apply(trained.variables, seen["image"]).logits
    np.testing.assert_array_equal(right, ((logits >= 0) == batch["label"]).all(axis=1))
    assert ids.tolist() == batch["id"].tolist()


def test_explain_asks_the_same_and_knows_no_pixels_of_another_class(trained, batch):
    def asks(method, asked):
        return next(_examples(Session(trained, "test", 32, [method]), asked))[1]

    usual = asks("own", True)
    assert usual["target"] == batch["asked"].tolist()
    np.testing.assert_array_equal(usual["masks"], batch["mask"])
    assert {"target", "masks"}.isdisjoint(asks("own", False))  # --target names a class
    assert "target" not in asks("mean_features", True)  # which takes none


@pytest.mark.parametrize("target", ["predicted", "label"])
def test_another_class_has_no_pixels_to_be_measured_by(trained, target):
    with pytest.raises(UserError, match="pixels of that one are known; leave target out"):
        check_measurable(Session(trained, "test", 32), target)
