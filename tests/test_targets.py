"""What a map is asked about: each target by numbers that a person can add up."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lficam_jax.errors import UserError
from lficam_jax.methods import ATTENTION, METHODS, PIXELS, Split, draw, targets
from lficam_jax.methods.targets import Difference, Function, Output, Region, Similarity, pick, rows

LOGITS = jnp.array([[1.0, 5.0, 2.0], [4.0, 0.0, 6.0]])
FEATURES = jax.random.uniform(jax.random.key(0), (2, 3, 3, 4))
WEIGHTS = jax.random.normal(jax.random.key(1), (4, 3))
SPLIT = Split(
    FEATURES,
    classify=lambda f: f.mean((1, 2)) @ WEIGHTS,
    images=FEATURES[..., :3],
    network=lambda x: x.mean((1, 2)) @ WEIGHTS[:3],
    weights=WEIGHTS,
    attention=FEATURES[..., 0],
)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (jnp.array([1, 2]), [5, 6]),
        (Output(0), [1, 4]),
        (Output(np.array([2, 0])), [2, 4]),
        (Difference(1, 0), [4, -4]),
        (Difference(np.array([1, 0]), 2), [3, -2]),
        (lambda outputs: outputs.sum(axis=1), [8, 10]),
        (Function(lambda outputs: outputs.max(axis=1)), [5, 6]),
        (Similarity(np.array([0.0, 0.0, 3.0])), [2 / 30**0.5, 6 / 52**0.5]),
        (Similarity(np.array([[1.0, 0, 0], [0, 1, 0]])), [1 / 30**0.5, 0]),
    ],
)
def test_a_target_reads_one_number_per_image(target, expected):
    np.testing.assert_allclose(pick(LOGITS, target), expected, rtol=1e-6)


@pytest.mark.parametrize("axis", [-1, 1])
def test_a_region_sums_its_class_where_the_mask_is_on(axis):
    answers = np.zeros((2, 4, 6, 3), np.float32)
    answers[0, :2, :3, 1] = 1  # the upper left quarter of the first image
    answers[:, :, :, 2] = 100  # another class does not count
    answers = jnp.moveaxis(jnp.asarray(answers), -1, axis)
    left = np.zeros((4, 6), bool)
    left[:, :2] = True
    np.testing.assert_array_equal(pick(answers, Region(1, left)), [4, 0])
    each = np.stack([left, ~left])
    np.testing.assert_array_equal(pick(answers, Region(np.array([1, 2]), each)), [4, 1600])
    assert Region(1, left).count(answers) == 3


def test_a_network_that_answers_one_number_has_one_output():
    np.testing.assert_array_equal(pick(jnp.array([3.0, 4.0]), Output(0)), [3, 4])
    with pytest.raises(UserError, match="class 1 does not exist; classes are 0 to 0"):
        draw("grad_cam", Split(FEATURES, lambda f: f.mean((1, 2, 3))), 1)


def test_rows_take_each_image_its_own():
    target = targets.for_images(Difference([0, 1], 2), 2)
    taken = rows(target, jnp.array([1, 1, 0]))
    assert [taken.index.tolist(), taken.other.tolist()] == [[1, 1, 0], [2, 2, 2]]


# What needs more than this split has; tests/test_pixels.py and test_methods.py ask those.
NEEDY = (*ATTENTION, *PIXELS, "own_class", "smooth_grad_cam_pp", "ss_cam", "is_cam")


@pytest.mark.parametrize("name", [name for name in METHODS if name not in NEEDY])
def test_every_method_is_asked_through_the_target(name):
    """The same question in three ways: as a class, as an output, and as a function of all."""
    options = {"chunk_size": 3}
    asked = draw(name, SPLIT, 2, **options)
    np.testing.assert_array_equal(draw(name, SPLIT, Output([2, 2]), **options), asked)
    same = draw(name, SPLIT, lambda outputs: outputs[:, 2], **options)
    np.testing.assert_allclose(same, asked, atol=1e-6)


def test_why_one_class_and_not_another_is_the_difference_of_their_maps():
    """CAM is linear in the weights, and hires_cam in the gradient; neither has a ReLU."""
    for name in ("cam", "hires_cam"):
        apart = [METHODS[name](SPLIT, Output(jnp.array([k, k]))) for k in (0, 1)]
        asked = METHODS[name](SPLIT, targets.for_images(Difference(0, 1), 2))
        np.testing.assert_allclose(asked, apart[0] - apart[1], atol=1e-6)


def test_another_class_or_embedding_compiles_nothing():
    traced = []

    @jax.jit
    def score(target):
        traced.append(target)
        return pick(LOGITS, target)

    for target in (Difference(0, 1), Difference(np.int64(2), 1), Difference([0, 1], 0)):
        score(targets.for_images(target, 2))
    assert len(traced) == 1
    for embedding in (np.ones(3), np.zeros((2, 3), np.int32)):
        score(targets.for_images(Similarity(embedding), 2))
    assert len(traced) == 2


@pytest.mark.parametrize(
    ("target", "says"),
    [
        (
            lambda outputs: outputs,
            r"one float for each of the 2 images, \[2\], not float32 \[2, 3\]",
        ),
        (lambda outputs: outputs.sum(), r"not float32 \[\]"),
        (lambda outputs: outputs.argmax(1), r"not int32 \[2\]"),
        (lambda outputs: None, "not None"),
        (
            lambda outputs: outputs["logits"],
            r"cannot read the network's answers, \[2, 3\]: TypeErr",
        ),
        (Difference, "Difference cannot read the network's answers"),
        (Output(3), "class 3 does not exist; classes are 0 to 2"),
        (Difference(0, -1), "class -1 does not exist"),
        (Difference(0, "dog"), "other must be the number of a class, .* not 'dog'"),
        (Difference(0, [1, 2, 0]), r"not \[1, 2, 0\]"),
        (Output(1.5), "not 1.5"),
        (Region(0, np.ones((2, 2))), r"the mask is \[2, 2\], and the network answers \[2, 3\]"),
        (Similarity(np.ones(4)), r"the embedding has 4 numbers, and the network answers \[2, 3\]"),
        (Similarity("cat"), r"embedding must be numbers \[d\]"),
    ],
)
def test_what_is_no_target_is_told(target, says):
    with pytest.raises(UserError, match=says):
        draw("grad_cam", SPLIT, target)


def test_answers_that_are_no_logits_want_a_target_that_reads_them():
    dense = Split(FEATURES, classify=lambda f: f)
    with pytest.raises(UserError, match=r"answers \[2, 3, 3, 4\], which is no number per class"):
        draw("grad_cam", dense)
    assert draw("grad_cam", dense, Region(1, np.eye(3))).shape == (2, 3, 3)
    several = Split(FEATURES, classify=lambda f: {"a": f.mean((1, 2))})
    with pytest.raises(UserError, match="answers a dict"):
        draw("grad_cam", several)
    assert draw("grad_cam", several, lambda outputs: outputs["a"][:, 0]).shape == (2, 3, 3)


def test_a_part_of_the_batch_is_answered_with_its_own_images():
    """Here the network looks past the features: it adds a number that each image has of its own."""
    own = jnp.array([0.0, 100.0])
    plain = Split(FEATURES, lambda f: f.mean((1, 2)))
    past = Split(
        FEATURES,
        classify=lambda f: f.mean((1, 2)) + own[:, None],
        classify_some=lambda f, index: f.mean((1, 2)) + own[index][:, None],
    )
    np.testing.assert_array_equal(past.answers_of(FEATURES[:1], jnp.array([1])).min() > 50, True)
    for split in (plain, past):
        found = draw("ablation_cam", split, 1, chunk_size=3)
        np.testing.assert_allclose(found, draw("ablation_cam", plain, 1), atol=1e-4)
