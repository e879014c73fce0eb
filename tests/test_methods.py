"""Each method on features whose map one can write down, on real networks, and in little memory.

The hand-made classifier is mean pooling and a linear layer, so its gradient is w / 9 everywhere.
"""

import dataclasses
import doctest
import functools
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lficam_jax import methods, targets
from lficam_jax.errors import UserError
from lficam_jax.methods import ATTENTION, METHODS, PIXELS, TRIVIAL, Split, draw, maps_of
from lficam_jax.models import create_model
from lficam_jax.models.classifier import predict
from lficam_jax.models.heads import ClasswiseHead

OURS = [name for name in METHODS if name not in ATTENTION]  # what a network of ours can be asked
RAMP = np.arange(9, dtype=np.float32).reshape(3, 3)  # channel 0
SPOT = np.zeros((3, 3), np.float32)  # channel 1: one pixel
SPOT[0, 2] = 9
DEAD = np.zeros((3, 3), np.float32)  # channel 2
FEATURES = np.stack([RAMP, SPOT, DEAD], axis=-1)[None]
WEIGHTS = np.array([[2, 0], [-1, 3], [5, 5]], np.float32)  # [channel, class]


def red_and_green(images):
    """Class 0 scores the sum of red, class 1 that of green."""
    return images[..., :2].sum(axis=(1, 2))


def linear(features):
    return features.mean(axis=(1, 2)) @ WEIGHTS


def split(features=FEATURES, **fields):
    images = jnp.ones((len(features), 6, 6, 3))
    given = {"weights": jnp.asarray(WEIGHTS), "images": images, "network": red_and_green, **fields}
    return Split(jnp.asarray(features), linear, again=lambda x: split(features, **fields), **given)


def raw(name, class_index=0, features=FEATURES, **options):
    """The map of the first image before it is scaled."""
    indices = np.full(len(features), class_index)
    compiled = jax.jit(lambda f, c: METHODS[name](split(f), c, **options))
    return np.asarray(compiled(features, indices))[0]


def relu(values):
    return np.maximum(values, 0)


# Class 0 weighs the ramp 2 and the spot -1; class 1 weighs the spot 3 and nothing else that lives.
HAND_MADE = {
    "cam": (2 * RAMP - SPOT, 3 * SPOT),
    "grad_cam": (relu(2 * RAMP - SPOT) / 9, SPOT / 3),
    # The ramp sums to 36, its gradient is 2/9: alpha = 1 / (2 + 36 * 2/9) = 1/10, at 9 positions.
    # The spot sums to 9, its gradient is 1/3: alpha = 1 / (2 + 9 / 3) = 1/5, at 9 positions.
    "grad_cam_pp": (9 / 10 * 2 / 9 * RAMP, 9 / 5 / 3 * SPOT),
    "xgrad_cam": (relu(2 * RAMP - SPOT) / 9, SPOT / 3),  # a constant gradient: as Grad-CAM
    "hires_cam": ((2 * RAMP - SPOT) / 9, SPOT / 3),
    "layer_cam": (2 * RAMP / 9, SPOT / 3),
    # Without the ramp (mean 4) class 0 falls by 8, without the spot (mean 1) it rises by 1.
    "ablation_cam": (relu(8 * RAMP - SPOT), 3 * SPOT),
    # The only noise that could matter is in the gradient, and that is constant.
    "smooth_grad_cam_pp": (9 / 10 * 2 / 9 * RAMP, 9 / 5 / 3 * SPOT),
    "mean_features": ((RAMP + SPOT) / 3,) * 2,
    "fakecam": (np.array([[0, 1, 1], [1, 1, 1], [1, 1, 1]]),) * 2,
}


@pytest.mark.parametrize("class_index", [0, 1])
@pytest.mark.parametrize("name", HAND_MADE)
def test_by_hand(name, class_index):
    expected = HAND_MADE[name][class_index]
    np.testing.assert_allclose(raw(name, class_index), expected, rtol=1e-5, atol=1e-6)


def test_score_cam_by_hand():
    images = np.zeros((1, 3, 3, 3), np.float32)
    images[0, ..., 0] = 1  # red everywhere
    images[0, 0, 2, 1] = 1  # green under the spot
    seen = split(images=jnp.asarray(images), network=red_and_green)
    found = METHODS["score_cam"](seen, jnp.array([0]))[0]
    # The ramp's mask, 0..8 over 8, lets 36 / 8 of the red through; the spot's lets 1; dead: no say.
    powers = np.exp([36 / 8, 1])
    np.testing.assert_allclose(found, (powers[0] * RAMP + powers[1] * SPOT) / powers.sum(), 1e-5)
    # Of green the ramp's mask lets 2 / 8 through (its third cell), the spot's 1.
    powers = np.exp([2 / 8, 1])
    found = METHODS["score_cam"](seen, jnp.array([1]))[0]
    np.testing.assert_allclose(found, (powers[0] * RAMP + powers[1] * SPOT) / powers.sum(), 1e-5)
    # As probabilities of class 0 against class 1: sigmoid of the difference of the two logits.
    powers = np.exp(1 / (1 + np.exp([2 / 8 - 36 / 8, 1 - 1])))
    found = METHODS["score_cam"](seen, jnp.array([0]), score="probability")[0]
    np.testing.assert_allclose(found, (powers[0] * RAMP + powers[1] * SPOT) / powers.sum(), 1e-5)


def test_ss_cam_and_is_cam_mean_over_masks():
    """The sum of red is linear in the mask, so a mean of scores is the score of the mean mask."""
    red = np.zeros((1, 3, 3, 3), np.float32)
    red[0, 0, :2, 0] = 1  # the ramp's mask, 0..8 over 8, lets 1 / 8 through, the spot's nothing
    seen = split(images=jnp.asarray(red), network=red_and_green)
    # IS-CAM's masks are the channel's times 1/2 and 3/2.
    powers = np.exp([1 / 8 * (1 / 2 + 3 / 2) / 2, 0])
    found = METHODS["is_cam"](seen, jnp.array([0]), samples=2)[0]
    np.testing.assert_allclose(found, (powers[0] * RAMP + powers[1] * SPOT) / powers.sum(), 1e-5)
    quiet = METHODS["ss_cam"](seen, jnp.array([0]), samples=2, deviation=0.0)
    np.testing.assert_allclose(quiet, METHODS["score_cam"](seen, jnp.array([0])), rtol=1e-5)
    # Noise of deviation 2 on two pixels moves the mean score of 400 masks by 2 * sqrt(2 / 400).
    loud = np.asarray(METHODS["ss_cam"](seen, jnp.array([0]), samples=400))[0]
    share = np.exp(1 / 8) / (1 + np.exp(1 / 8))  # of the ramp, which alone has values at the end
    assert 0 < abs(loud[2, 2] / 8 - share) < 0.2


def test_eigen_grad_cam_is_centred_and_signed():
    """Of one channel that lives, its terms G F less their mean; far from 0 is positive."""
    one = FEATURES * np.array([1, 0, 0], np.float32)
    np.testing.assert_allclose(
        raw("eigen_grad_cam", features=one), 2 * (RAMP - 4) / 9, rtol=1e-4, atol=1e-5
    )
    one = FEATURES * np.array([0, 1, 0], np.float32)  # its gradient is -1/9: the spot is below 0
    found = raw("eigen_grad_cam", features=one)
    np.testing.assert_allclose(found, (SPOT - 1) / 9, rtol=1e-4, atol=1e-5)  # turned


def test_own_class_is_what_the_attention_adds():
    attention = jnp.asarray(SPOT[None] / 9)
    before = jnp.asarray(FEATURES)
    seen = split(before * (1 + attention[..., None]), attention=attention, unattended=before)
    found = METHODS["own_class"](seen, jnp.array([1]))[0]
    np.testing.assert_allclose(found, 3 * SPOT / 9, rtol=1e-5)  # w / 9 times the spot, once more
    added = linear(seen.features)[0, 1] - linear(before)[0, 1]
    np.testing.assert_allclose(found.sum(), added, rtol=1e-5)


def test_eigen_cam_is_the_first_principal_direction():
    # Two channels that are never on together: the direction is the one with more energy.
    features = np.zeros((1, 3, 3, 3), np.float32)
    features[0, 0, :, 0], features[0, 2, 0, 1] = 2, 3  # energies 12 and 9
    np.testing.assert_allclose(raw("eigen_cam", features=features)[0], 2, rtol=1e-5)
    np.testing.assert_allclose(raw("eigen_cam", features=features)[1:], 0, atol=1e-5)
    flat = FEATURES.reshape(9, 3)
    _, _, directions = np.linalg.svd(flat)
    expected = np.abs(flat @ directions[0]).reshape(3, 3)
    np.testing.assert_allclose(raw("eigen_cam"), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(
        raw("eigen_cam", features=1e-25 * FEATURES), 1e-25 * expected, rtol=1e-4, atol=1e-30
    )


def test_the_gaussian_is_centred_and_falls_by_its_deviation():
    found = raw("gaussian", features=np.zeros((1, 5, 9, 3), np.float32))
    assert np.unravel_index(found.argmax(), found.shape) == (2, 4) and found.max() == 1
    np.testing.assert_allclose(found, found[::-1, ::-1], rtol=1e-5)
    # Two rows up is 2/5 of the height, 1.6 standard deviations.
    np.testing.assert_allclose(found[0, 4], np.exp(-(1.6**2) / 2), rtol=1e-5)


def test_random_is_uniform_and_a_key_per_image_follows_the_image():
    features = np.zeros((50, 9, 9, 3), np.float32)
    ours = METHODS["random"](split(features), jnp.zeros(50, int))
    assert abs(float(ours.mean()) - 0.5) < 0.02 and 0 <= float(ours.min()) <= float(ours.max()) < 1
    keys = jax.vmap(jax.random.key)(jnp.arange(50))
    first = METHODS["random"](split(features), jnp.zeros(50, int), key=keys)
    again = METHODS["random"](
        split(features[:3]), jnp.zeros(3, int), key=keys[jnp.array([7, 0, 49])]
    )
    np.testing.assert_array_equal(again, first[jnp.array([7, 0, 49])])
    assert not np.array_equal(first[0], first[1])


@pytest.mark.parametrize("level", [0.0, 2.0])
def test_constant_features_give_a_constant_map_that_stays(level):
    features = np.full((1, 3, 3, 3), level, np.float32)
    seen = split(features)
    # What looks at the image alone sees no constant features.
    names = sorted({*OURS} - {"own", "own_class", "gaussian", "random", "fakecam", *PIXELS})
    every = jax.jit(lambda: {name: draw(name, seen, 1) for name in names})()
    for name, drawn in jax.device_get(every).items():
        assert np.ptp(drawn) < 1e-5 and np.isfinite(drawn).all(), name
        assert 0 <= drawn.min() and drawn.max() <= 1, name


def test_maps_are_scaled_at_their_grid_and_each_image_has_its_class():
    both = split(np.concatenate([FEATURES, FEATURES]))
    drawn = np.asarray(draw("hires_cam", both, jnp.array([0, 1])))
    np.testing.assert_allclose(drawn[0], (2 * RAMP - SPOT + 5) / (16 + 5), rtol=1e-5)
    np.testing.assert_allclose(drawn[1], SPOT / 9, rtol=1e-5)
    # Class 0 scores 2 * 4 - 1 = 7 and class 1 scores 3: without a class, 0 is asked about.
    np.testing.assert_array_equal(draw("hires_cam", both)[1], drawn[0])


def test_negative_gradients_and_features_leave_no_nan():
    features = np.random.default_rng(0).standard_normal((1, 3, 3, 3)).astype(np.float32)
    features[..., 0] -= features[..., 0].mean()  # sums to 0
    for name in ("grad_cam_pp", "xgrad_cam", "ablation_cam", "eigen_cam", "layer_cam"):
        assert np.isfinite(raw(name, features=features)).all(), name


# Networks of create_model


@functools.cache
def network(head="lfi", backbone="cifar_resnet", depth=8, **options):
    model = create_model(backbone, depth, head, num_classes=4, **options)
    images = jax.random.normal(jax.random.key(0), (3, 16, 16, 3))
    variables = jax.jit(model.init)(jax.random.key(1), images)
    # As after training: a classifier that tells channels apart.
    variables["params"]["classifier"]["kernel"] *= 10
    return model, variables, images


FEW = {  # samples of what draws many; the rest of their work is the same for each
    "rise": 40, "smooth_grad": 4, "integrated_gradients": 4, "ss_cam": 2, "is_cam": 2,
}  # fmt: skip


@functools.cache
def all_maps(head):
    """One compiled function that draws every method; `cam` exists on all ResNets."""
    model, _, _ = network(head)
    names = [name for name in OURS if "own" not in name or head != "plain"]
    if head != "lfi":  # to what looks at the whole network, heads are all the same
        names = [name for name in names if name not in (*PIXELS, "own_class", "ss_cam", "is_cam")]

    def every(variables, images, class_index):
        seen = methods.split_model(model, variables, images)
        few = {name: {"samples": FEW[name]} if name in FEW else {} for name in names}
        return {name: draw(name, seen, class_index, chunk_size=40, **few[name]) for name in names}

    return jax.jit(every)


@pytest.mark.parametrize("head", ["plain", "lfi", "abn", "classwise"])
def test_every_method_draws_on_every_head(head):
    _, variables, images = network(head)
    drawn = all_maps(head)(variables, images, jnp.array([0, 1, 2]))
    sizes = {"own": (8, 8) if head == "abn" else (4, 4)} | dict.fromkeys(PIXELS, (16, 16))
    for name, maps in drawn.items():
        assert maps.shape == (3, *sizes.get(name, (4, 4))), name
        assert np.isfinite(maps).all() and maps.min() == 0 and maps.max() == 1, name


def test_a_map_does_not_depend_on_its_neighbours():
    _, variables, images = network("lfi")
    classes = jnp.array([0, 1, 2])
    first = all_maps("lfi")(variables, images, classes)
    others = images.at[0].set(100.0).at[2].set(jnp.flip(images[0]))
    second = all_maps("lfi")(variables, others, classes.at[0].set(3))
    for name in OURS:
        np.testing.assert_array_equal(first[name][1], second[name][1], err_msg=name)
    changed = [name for name in OURS if not np.array_equal(first[name], second[name])]
    assert set(OURS) - set(changed) == {"gaussian", "random", "fakecam"}


@functools.cache
def cut_network():
    """The split of the LFI network, its arrays computed by one program, and its outputs."""
    model, variables, images = network("lfi")

    def compute(variables, images):
        seen = methods.split_model(model, variables, images)
        arrays = {f.name: getattr(seen, f.name) for f in dataclasses.fields(Split)}
        kept = {k: v for k, v in arrays.items() if not callable(v) and k != "kind"}
        return kept, predict(model, variables, images)

    arrays, outputs = jax.jit(compute)(variables, images)
    whole = Split(classify=None, **arrays)
    classify = jax.jit(partial(model.apply, method="classify"))
    return dataclasses.replace(whole, classify=partial(classify, variables)), outputs


def test_identities_on_a_network():
    """Where pooling and a linear layer follow, some methods are one: each paper proves it."""
    _, variables, _ = network("lfi")
    seen, outputs = cut_network()
    classes = jnp.array([0, 1, 2])
    maps = {name: np.asarray(METHODS[name](seen, classes)) for name in ("cam", "hires_cam",
            "grad_cam", "xgrad_cam", "ablation_cam", "own", "own_class")}  # fmt: skip
    cells = 16
    np.testing.assert_allclose(maps["hires_cam"] * cells, maps["cam"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(maps["grad_cam"] * cells, relu(maps["cam"]), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(maps["xgrad_cam"], maps["grad_cam"], rtol=1e-3, atol=1e-6)
    logits = np.asarray(seen.logits)[np.arange(3), classes]
    bias = np.asarray(variables["params"]["classifier"]["bias"])[classes]
    np.testing.assert_allclose(maps["cam"].mean(axis=(1, 2)) + bias, logits, rtol=1e-4)
    np.testing.assert_array_equal(maps["own"], outputs.attention)
    added = logits - np.asarray(seen.classify(seen.unattended))[np.arange(3), classes]
    np.testing.assert_allclose(maps["own_class"].sum(axis=(1, 2)), added, rtol=1e-3, atol=1e-5)


def test_what_is_tapped():
    """The post-hoc family sees F' = (1 + A) F; mean_features sees F, as the own map does."""
    seen, outputs = cut_network()
    np.testing.assert_allclose(seen.features, outputs.attended, rtol=1e-6)
    np.testing.assert_allclose(seen.classify(seen.features), outputs.logits, rtol=1e-5)
    mean = METHODS["mean_features"](seen, jnp.zeros(3, int))
    np.testing.assert_allclose(mean, np.abs(outputs.features).mean(-1), rtol=1e-5)
    assert not np.allclose(seen.features, seen.unattended)


def test_densenet_is_asked_through_its_last_norm():
    model, variables, images = network("plain", "cifar_densenet", 10)

    @jax.jit
    def ask(variables, images):
        seen = methods.split_model(model, variables, images)
        return seen.classify(seen.features), seen.logits, seen.gradient(jnp.array([0, 1, 2]))

    ours, logits, gradient = ask(variables, images)
    np.testing.assert_allclose(ours, logits, rtol=1e-5)
    assert np.ptp(np.asarray(gradient), axis=(1, 2)).max() > 0  # the ReLU: not constant over space
    with pytest.raises(UserError, match="cam needs a classifier that is mean pooling.*hires_cam"):
        jax.eval_shape(lambda x: maps_of("cam", model, variables, x), images)


def test_wide_resnet_has_a_cam():
    """Its last BatchNorm and ReLU come before the attention, so the classifier is linear."""
    model, variables, images = network("lfi", "wide_resnet", 10, widen=1)

    @jax.jit
    def both(variables, images):
        seen = methods.split_model(model, variables, images)
        return draw("cam", seen), draw("hires_cam", seen)

    cam, hires = both(variables, images)
    np.testing.assert_allclose(cam, hires, atol=1e-5)


@functools.cache
def classwise_maps(backbone="cifar_resnet", depth=8, look="relu"):
    """The split of a classwise network, and every method's raw maps of three classes."""
    model, variables, images = network("classwise", backbone, depth)
    model = model.clone(head=ClasswiseHead(look))
    seen = jax.jit(lambda v, x: predict(model, v, x))(variables, images)
    names = ("own", "cam", "grad_cam", "hires_cam")

    @jax.jit
    def ask(variables, images, classes):
        asked = methods.split_model(model, variables, images).asked(classes)
        return {name: METHODS[name](asked, classes) for name in names}

    return seen, partial(ask, variables, images)


@pytest.mark.parametrize(
    "family",
    [
        ("cifar_resnet", 8),
        ("cifar_densenet", 10),
        *(("cifar_resnet", 8, x) for x in ("leaky", "softmax")),
    ],
)
def test_maps_of_a_classwise_network_are_exact_for_every_class(family):
    """Whatever class is asked: its logit is the mean of `cam`, which is what its own map gated."""
    seen, ask = classwise_maps(*family)
    _, variables, _ = network("classwise", *family[:2])
    kernel, bias = (np.asarray(variables["params"]["classifier"][n]) for n in ("kernel", "bias"))
    best = ask(jnp.argmax(seen.logits, axis=1))["own"]
    np.testing.assert_allclose(best, seen.attention, atol=1e-5)
    for classes in (np.array([0, 1, 2]), np.array([3, 3, 0])):
        drawn = {name: np.asarray(maps) for name, maps in ask(jnp.asarray(classes)).items()}
        logits = np.asarray(seen.logits)[np.arange(3), classes]
        np.testing.assert_allclose(drawn["cam"].mean((1, 2)) + bias[classes], logits, rtol=1e-4)
        evidence = np.einsum("bhwd,bd->bhw", seen.features, kernel.T[classes])
        np.testing.assert_allclose(
            drawn["cam"], (1 + drawn["own"]) * evidence, rtol=1e-3, atol=1e-5
        )
        np.testing.assert_allclose(drawn["hires_cam"] * 16, drawn["cam"], rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(drawn["grad_cam"] * 16, relu(drawn["cam"]), rtol=1e-3, atol=1e-4)


def test_a_classwise_network_is_asked_about_other_targets_too():
    """A difference looks through the difference of the evidence."""
    model, variables, images = network("classwise")
    both = jax.jit(lambda v, x, target: maps_of("own", model, v, x, target))
    drawn = both(variables, images, targets.Difference(jnp.full(3, 2), jnp.zeros(3, int)))
    seen, kernel = predict(model, variables, images), variables["params"]["classifier"]["kernel"]
    evidence = relu(np.asarray(seen.features) @ np.asarray(kernel[:, 2] - kernel[:, 0]))
    low, high = (f(evidence, axis=(1, 2), keepdims=True) for f in (np.min, np.max))
    np.testing.assert_allclose(drawn, (evidence - low) / (high - low), atol=1e-4)


def test_only_the_trivial_maps_of_a_classwise_network_ask_no_class():
    model, variables, images = network("classwise")
    first, second = (all_maps("classwise")(variables, images, jnp.full(3, c)) for c in (0, 1))
    same = {name for name in first if np.array_equal(first[name], second[name])}
    assert same == {name for name in OURS if not methods.asks(name, model)} == set(TRIVIAL)
    assert np.isnan(all_maps("classwise")(variables, images, jnp.full(3, 9))["own"]).all()
    methods.check_asked(3, ["own"], model)
    with pytest.raises(UserError, match="mean_features draws the same map"):
        methods.check_asked(3, ["mean_features"], model)


def test_bfloat16_maps_are_float32():
    model, variables, images = network("lfi", dtype="bfloat16")
    drawn = jax.jit(lambda v, x: maps_of("grad_cam", model, v, x))(variables, images)
    assert drawn.dtype == jnp.float32 and np.isfinite(drawn).all() and drawn.max() == 1


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        ({"name": "gradcam"}, "'gradcam' is unknown.*'grad_cam'"),
        ({"name": "score_cam", "score": "logits"}, "score 'logits' is unknown.*'logit'"),
        ({"name": "score_cam", "chunk_size": 0}, "chunk_size=0"),
        ({"name": "rise", "sample": 3}, "option 'sample' is unknown.*'samples'"),
        (
            {"name": "grad_cam", "samples": 3},
            "option 'samples' is unknown: grad_cam has no options",
        ),
    ],
)
def test_bad_options_are_told(options, fragment):
    with pytest.raises(UserError, match=fragment):
        draw(split=split(), **options)


def test_methods_that_a_model_cannot_give_say_why():
    _, variables, images = network("abn")
    model = create_model("cifar_resnet", 8, "abn", num_classes=4, abn={"loss": "attention"})
    with pytest.raises(UserError, match="predicts from the attention branch.*own"):
        jax.eval_shape(lambda x: maps_of("grad_cam", model, variables, x), images)
    with pytest.raises(UserError, match="draws no map of its own.*grad_cam"):
        draw("own", split(), 0)
    with pytest.raises(UserError, match="own_class: this model has no map of its own.*hires_cam"):
        draw("own_class", split(), 0)
    bare = Split(jnp.asarray(FEATURES), linear)
    for name in ("score_cam", "ss_cam", "smooth_grad_cam_pp", "occlusion", "grad_cam+augmented"):
        with pytest.raises(UserError, match=r"looks at changed images; give Split\(images="):
            draw(name, bare, 0)


# Memory


def scratch(name, channels, chunk_size):
    """Bytes that the compiled program needs besides its arguments and its result."""

    def classify(features):
        return features.mean(axis=(1, 2))[:, :2]

    def brightness(images):
        return jnp.tanh(images).mean(axis=(1, 2))

    def program(features, images):
        seen = Split(features, classify, images=images, network=brightness)
        return METHODS[name](seen, jnp.zeros(2, int), chunk_size=chunk_size)

    features = jax.ShapeDtypeStruct((2, 4, 4, channels), jnp.float32)
    images = jax.ShapeDtypeStruct((2, 64, 64, 3), jnp.float32)
    return jax.jit(program).lower(features, images).compile().memory_analysis().temp_size_in_bytes


def test_score_cam_needs_memory_for_one_chunk():
    image = 64 * 64 * 3 * 4
    small, large = scratch("score_cam", 256, 4), scratch("score_cam", 256, 32)
    assert 28 * image <= large - small <= 4 * 28 * image  # grows with the chunk
    more = scratch("score_cam", 1024, 4) - small
    assert more < 3 * image  # 768 channels more; all their masked images would be 1,536 * image


def test_ablation_cam_needs_memory_for_one_chunk():
    features = 4 * 4 * 256 * 4
    small, large = scratch("ablation_cam", 256, 4), scratch("ablation_cam", 256, 32)
    assert 28 * features / 2 <= large - small <= 4 * 28 * features
    assert large < 512 * features / 4  # far below one copy for each of the 512 pairs


def test_the_size_of_a_chunk_changes_nothing():
    parts = raw("ablation_cam", chunk_size=2)  # of 3 pairs: the last chunk is short
    np.testing.assert_allclose(parts, HAND_MADE["ablation_cam"][0], rtol=1e-5)


def test_the_registry_is_whole():
    assert set(TRIVIAL) < set(METHODS)
    covered = {*HAND_MADE, *ATTENTION, *PIXELS, "own", "own_class", "score_cam", "ss_cam", "is_cam",
               "eigen_cam", "eigen_grad_cam", "gaussian", "random"}  # fmt: skip
    assert covered == set(METHODS)


# docs/maps.md


def test_the_page_about_maps_runs_and_names_every_method():
    found = doctest.testfile("../docs/maps.md")
    assert found.attempted >= 12 and found.failed == 0
    text = Path("docs/maps.md").read_text()
    assert not [name for name in METHODS if f"\n| `{name}` |" not in text]


@pytest.mark.parametrize("wrong", [4, -1])
@pytest.mark.parametrize("name", ["own", "grad_cam", "ablation_cam", "gaussian"])
def test_a_class_that_does_not_exist_has_no_map(name, wrong):
    """The network has four classes; under jit, where nobody can look, its map is NaN."""
    model, variables, images = network("lfi")
    with pytest.raises(UserError, match=f"class {wrong} does not exist; classes are 0 to 3"):
        maps_of(name, model, variables, images, np.array([0, wrong, 1]))
    if name == "grad_cam":
        drawn = all_maps("lfi")(variables, images, jnp.array([0, wrong, 1]))[name]
        assert np.isnan(drawn[1]).all() and np.isfinite(drawn[jnp.array([0, 2])]).all()


def test_numpy_arrays_are_taken_outside_jit():
    model, variables, images = network("lfi")
    variables, images = jax.device_get((variables, images))
    maps = maps_of("score_cam", model, variables, images)
    assert maps.shape == (3, 4, 4) and np.isfinite(maps).all()
