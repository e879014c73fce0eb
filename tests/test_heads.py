"""Heads against the numpy oracle of reference.py, on ordinary and on degenerate features."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from lficam_jax.config import CHOICES
from lficam_jax.models import heads
from lficam_jax.models.fin import FeatureImportanceNetwork
from lficam_jax.models.heads import TIED, ABNHead, ClasswiseHead, LFIHead, PlainHead
from lficam_jax.models.layers import Layers
from lficam_jax.models.own import Identity
from lficam_jax.ops import maps

SIZE, CHANNELS, CLASSES = (5, 4), 6, 3
RNG = np.random.default_rng(7)
IMAGES = RNG.standard_normal((2, 11, 9, 3)).astype(np.float32)
ORDINARY = np.maximum(RNG.standard_normal((2, *SIZE, CHANNELS)), 0).astype(np.float32)


def degenerate(name):
    """Features that divide by zero in a careless implementation."""
    features = ORDINARY.copy()
    if name == "dead channel":
        features[..., 2] = 0
    if name == "constant positive channel":
        features[..., 2] = 1.5
    if name == "all zero":
        features[:] = 0
    if name == "all constant":
        features[:] = 0.25
    if name == "negative":  # DenseNet's features are not rectified
        features = RNG.standard_normal(features.shape).astype(np.float32)
    if name == "vanishing":  # 1 / span squared is more than float32 holds
        features[0, ..., 2] *= 1e-25
        features[1] *= 1e-25
    if name == "one pixel":
        features = features[:, :1, :1]
    return features


CASES = (
    "ordinary", "dead channel", "constant positive channel", "all zero", "all constant", "negative",
    "one pixel",
)  # fmt: skip


def lfi_head(dtype=jnp.float32, relu_every=2, **fin):
    layers = Layers(jnp.dtype(dtype))
    return LFIHead(FeatureImportanceNetwork(layers, relu_every=relu_every, **fin))


def pool(features):
    return jnp.mean(features.astype(jnp.float32), axis=(1, 2))


def unasked(channels):
    """The linear classifier, which FIN does not read."""
    return jnp.zeros((channels, 2)), jnp.zeros(2)


@functools.cache
def applied(head):
    """The head as a compiled function, one for all tests that use an equal head."""

    def apply(variables, images, features):
        return head.apply(variables, images, features, lambda x: x, pool, unasked, train=False)

    return jax.jit(apply)


def call(head, variables, images, features):
    return applied(head)(variables, images, features)


def plain(variables):
    """The parameters and the statistics as numpy, for the oracle."""
    numbers = jax.tree.map(lambda x: np.asarray(x, float), variables)
    return numbers["params"], numbers["batch_stats"]


@functools.cache
def drawn(head):
    """Variables of a head with statistics and biases that are not the trivial 0 and 1."""

    def init(key):
        return head.init(key, IMAGES, ORDINARY, lambda x: x, pool, unasked, train=False)

    rng = np.random.default_rng(3)
    return jax.tree.map(
        lambda x: jnp.asarray(rng.uniform(0.3, 1, x.shape) - 0.2, x.dtype),
        jax.eval_shape(init, jax.random.key(0)),
    )


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("relu_every", [1, 2])
def test_lfi_head_equals_the_oracle(name, relu_every):
    head, features = lfi_head(relu_every=relu_every), degenerate(name)
    variables = drawn(head)
    outputs = call(head, variables, IMAGES, features)
    params, stats = plain(variables)
    for i in range(2):
        image, row = IMAGES[i].astype(float), features[i].astype(float)
        weight, attention, attended = reference.lfi_head(
            image, row, params["fin"], stats["fin"], relu_every
        )
        np.testing.assert_allclose(outputs.importance[i], weight, atol=2e-5)
        np.testing.assert_allclose(outputs.attention[i], attention, atol=2e-4)
        np.testing.assert_allclose(outputs.attended[i], attended, atol=5e-4)
        np.testing.assert_allclose(outputs.logits[i], attended.mean(axis=(0, 1)), atol=5e-4)


@pytest.fixture(scope="module")
def gradient():
    head = lfi_head()

    def loss(variables, features, images):
        outputs = call(head, variables, images, features)
        return jnp.sum(jnp.square(outputs.logits)) + jnp.sum(outputs.attention)

    return functools.partial(jax.jit(jax.grad(loss, argnums=(0, 1, 2))), drawn(head))


@pytest.mark.parametrize("name", [*CASES, "vanishing"])
def test_gradients_are_finite_on_degenerate_features(gradient, name):
    grads = gradient(degenerate(name), IMAGES)
    assert all(bool(jnp.isfinite(g).all()) for g in jax.tree.leaves(grads))


def test_bfloat16_keeps_map_and_importance_in_float32_and_near_the_oracle():
    head = lfi_head(jnp.bfloat16)
    variables = drawn(head)
    features = jnp.asarray(ORDINARY, jnp.bfloat16)
    outputs = call(head, variables, IMAGES, features)
    assert (
        outputs.attention.dtype == outputs.importance.dtype == outputs.logits.dtype == jnp.float32
    )
    assert outputs.attended.dtype == jnp.bfloat16
    np.testing.assert_allclose(jnp.sum(outputs.importance, axis=-1), 1, atol=1e-6)
    params, stats = plain(variables)
    for i in range(2):
        row = np.asarray(features[i], float)
        weight, attention, _ = reference.lfi_head(
            IMAGES[i].astype(float), row, params["fin"], stats["fin"]
        )
        np.testing.assert_allclose(outputs.importance[i], weight, atol=0.03)
        np.testing.assert_allclose(outputs.attention[i], attention, atol=0.06)


def test_without_its_mask_image_fin_does_not_see_the_image():
    sees = lfi_head(temperature=50.0)  # else one channel takes all
    blind = dataclasses.replace(sees, mask_image=False)
    variables = drawn(blind)
    seen = call(sees, variables, IMAGES, ORDINARY).importance
    first, other = (call(blind, variables, x, ORDINARY).importance for x in (IMAGES, -2 * IMAGES))
    np.testing.assert_array_equal(first, other)
    assert np.abs(seen - first).max() > 1e-3


def test_the_map_of_one_strong_channel_is_that_channel():
    features = np.zeros((1, 3, 3, 2), np.float32)
    features[0, 1, 2, 0] = 4.0
    uniform = LFIHead(None)
    outputs = call(uniform, {}, IMAGES[:1], features)
    expected = np.zeros((3, 3))
    expected[1, 2] = 1.0
    np.testing.assert_array_equal(outputs.attention[0], expected)
    np.testing.assert_array_equal(outputs.importance, [[0.5, 0.5]])
    assert outputs.attended[0, 1, 2, 0] == 8.0  # (1 + map) * feature


def test_the_map_is_not_detached():
    def logit(features):
        return call(LFIHead(None), {}, IMAGES, features).logits[0, 0]

    attached = jax.jit(jax.grad(logit))(ORDINARY)
    gate = 1 + call(LFIHead(None), {}, IMAGES, ORDINARY).attention[0]
    detached = gate / gate.size  # what the gradient of the first channel would be
    assert float(jnp.abs(attached[0, ..., 0] - detached).max()) > 1e-3


def test_a_low_temperature_sharpens_the_importance():
    entropies = []
    for temperature in (1.0, 0.1):
        head = lfi_head(temperature=temperature)
        weight = call(head, drawn(head), IMAGES, ORDINARY).importance
        entropies.append(float(-jnp.sum(weight * jnp.log(weight + 1e-12))))
    assert entropies[1] < entropies[0]


@pytest.mark.parametrize(
    "options", [{"width": 2}, {"depth": 2}, {"kernel": 1}, {"softmax": False},
                {"standardise": True}, {"learn_temperature": True, "temperature": 0.5}],
)  # fmt: skip
def test_every_fin_option_gives_weights_that_sum_to_one_and_learn(options):
    head = lfi_head(**options)
    variables = drawn(head)

    def loss(params):
        outputs = call(head, variables | {"params": params}, IMAGES, ORDINARY)
        return jnp.sum(outputs.logits[:, 0]), outputs

    grads, outputs = jax.jit(jax.grad(loss, has_aux=True))(variables["params"])
    np.testing.assert_allclose(jnp.sum(outputs.importance, axis=-1), 1, atol=1e-6)
    assert all(bool(jnp.any(g != 0) & jnp.isfinite(g).all()) for g in jax.tree.leaves(grads))


def test_standardised_values_have_a_spread_of_the_gain():
    """exp of the standardised values: the spread of the importance's logarithm is the gain."""
    head = lfi_head(standardise=True)
    variables = drawn(head)
    for gain in (0.5, 2.0):
        variables["params"]["fin"]["gain"] = jnp.float32(gain)
        logs = np.log(call(head, variables, IMAGES, ORDINARY).importance)
        np.testing.assert_allclose(logs.std(axis=1), gain, rtol=0.02)


def test_weights_of_a_silent_fin_without_softmax_are_uniform():
    head = lfi_head(softmax=False)
    variables = jax.tree.map(jnp.zeros_like, drawn(head))
    outputs = call(head, variables, IMAGES, ORDINARY)
    np.testing.assert_allclose(outputs.importance, 1 / CHANNELS, atol=1e-6)


KERNEL = RNG.standard_normal((CHANNELS, CLASSES)).astype(np.float32)
BIAS = np.array([0.3, -0.2, 0.1], np.float32)


def read_off(head, features, kernel=KERNEL, bias=BIAS):
    """The outputs of a head without parameters, before a linear classifier."""
    return compiled(head, features, kernel, bias)


@functools.partial(jax.jit, static_argnums=0)
def compiled(head, features, kernel, bias):
    linear = (lambda x: pool(x) @ kernel + bias[None]), (lambda channels: (kernel, bias))
    return head.apply({}, IMAGES, features, lambda x: x, *linear, train=False)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("look", [("relu", 1.0), ("leaky", 1.0), ("softmax", 0.5)])
def test_classwise_head_equals_the_oracle(name, look):
    features = degenerate(name)
    outputs = read_off(ClasswiseHead(*look), features)
    for i in range(2):
        logits, attention = reference.classwise_head(features[i].astype(float), KERNEL, BIAS, *look)
        best = np.argmax(logits)
        np.testing.assert_allclose(outputs.logits[i], logits, atol=1e-4)
        np.testing.assert_allclose(outputs.attention[i], attention[best], atol=1e-4)
        np.testing.assert_array_equal(outputs.importance[i], KERNEL[:, best])
        gated = features[i] * (1 + attention[best][..., None])
        np.testing.assert_allclose(outputs.attended[i], gated, atol=1e-3)


def test_a_class_looks_where_its_own_evidence_is():
    """Channel 0 speaks for class 0 and lies left, channel 1 for class 1 and lies right."""
    features = np.zeros((2, 1, 3, 2), np.float32)
    features[:, 0, 0, 0], features[:, 0, 2, 1] = 3.0, 1.0
    outputs = read_off(ClasswiseHead(), features, np.eye(2, dtype=np.float32), np.zeros(2))
    np.testing.assert_array_equal(outputs.attention[0], [[1, 0, 0]])
    np.testing.assert_allclose(outputs.logits[0], [2 * 3 / 3, 2 * 1 / 3])


def test_each_look_makes_another_map_of_the_same_evidence():
    """Evidence -10, 0, 10: cut off, a tenth of it, or shares of the three cells, times three."""
    evidence = jnp.array([[-10.0, 0.0, 10.0]])
    drawn = {
        look: ClasswiseHead(look, temperature=10.0).drawn(evidence)
        for look in CHOICES["model.classwise.look"]
    }
    np.testing.assert_allclose(drawn["relu"], [[0, 0, 1]])
    np.testing.assert_allclose(drawn["leaky"], [[0, 1 / 11, 1]], rtol=1e-6)
    shares = np.exp([[-1, 0, 1]])
    np.testing.assert_allclose(drawn["softmax"], 3 * shares / shares.sum(), rtol=1e-6)
    sharp = ClasswiseHead("softmax", temperature=0.01).drawn(evidence)
    np.testing.assert_allclose(sharp, [[0, 0, 3]], atol=1e-6)


def test_a_detached_map_gates_as_before_and_passes_no_gradient():
    def logit(head, features):
        return read_off(head, features).logits[0, 0]

    head = ClasswiseHead(detach=True)
    assert logit(head, ORDINARY) == logit(ClasswiseHead(), ORDINARY)
    _, attention = reference.classwise_head(ORDINARY[0].astype(float), KERNEL, BIAS)
    slope = jax.grad(logit, argnums=1)(head, jnp.asarray(ORDINARY))[0]
    gate = (1 + attention[0]) / attention[0].size
    np.testing.assert_allclose(slope, gate[..., None] * KERNEL[:, 0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", [*CASES, "vanishing"])
@pytest.mark.parametrize("look", CHOICES["model.classwise.look"])
def test_classwise_gradients_are_finite_on_degenerate_features(name, look):
    def loss(features, kernel):
        outputs = read_off(ClasswiseHead(look), features, kernel)
        return jnp.sum(jnp.square(outputs.logits)) + jnp.sum(outputs.attention)

    for grads in jax.grad(loss, argnums=(0, 1))(jnp.asarray(degenerate(name)), KERNEL):
        assert bool(jnp.isfinite(grads).all())


gated_means = functools.partial(heads._gated_means, drawn=ClasswiseHead().drawn)


def test_many_classes_are_taken_by_chunks_with_the_same_logits_and_gradient(monkeypatch):
    def loss(kernel):
        return jnp.sum(jnp.square(gated_means(ORDINARY, kernel)))

    kernel = np.tile(KERNEL, (1, 4))[:, :11]  # of which two chunks of 8 are made
    whole, slope = gated_means(ORDINARY, kernel), jax.jit(jax.grad(loss))(kernel)
    monkeypatch.setattr(heads, "CHUNK", 8)
    np.testing.assert_allclose(gated_means(ORDINARY, kernel), whole, rtol=1e-5)
    np.testing.assert_allclose(
        jax.jit(jax.grad(lambda w: loss(w)))(kernel), slope, rtol=1e-4, atol=1e-5
    )


def test_a_thousand_classes_need_the_memory_of_a_chunk():
    features = jax.ShapeDtypeStruct((8, 14, 14, 32), jnp.float32)

    def used(classes):
        kernel = jax.ShapeDtypeStruct((32, classes), jnp.float32)
        slope = jax.grad(lambda f, w: jnp.sum(gated_means(f, w)), argnums=(0, 1))
        analysis = jax.jit(slope).lower(features, kernel).compile().memory_analysis()
        return analysis.temp_size_in_bytes

    assert used(1000) < 1.5 * used(128)  # all at once: eight times


@pytest.mark.parametrize("classes", [1, CLASSES])
def test_classwise_in_bfloat16_keeps_map_and_logits_in_float32(classes):
    kernel, bias = KERNEL[:, :classes], BIAS[:classes]
    features = jnp.asarray(ORDINARY, jnp.bfloat16)
    outputs = read_off(ClasswiseHead(), features, kernel, bias)
    assert outputs.logits.dtype == outputs.attention.dtype == jnp.float32
    assert outputs.attended.dtype == jnp.bfloat16
    exact, _ = reference.classwise_head(np.asarray(features[0], float), kernel, bias)
    np.testing.assert_allclose(outputs.logits[0], exact, atol=1e-4)


@pytest.mark.parametrize("kind", TIED)
def test_tied_kinds_equal_the_oracle_and_pass_no_gradient_through_the_importance(kind):
    head = LFIHead(None, kind)
    outputs = read_off(head, ORDINARY)
    for i in range(2):
        row = ORDINARY[i].astype(float)
        weight = reference.tied_importance(row, KERNEL, BIAS, kind)
        attention = reference.min_max(np.maximum(row @ weight, 0))
        np.testing.assert_allclose(outputs.importance[i], weight, atol=1e-5)
        np.testing.assert_allclose(outputs.attention[i], attention, atol=1e-4)
    slope = jax.grad(lambda kernel: read_off(head, ORDINARY, kernel).importance.sum())(KERNEL)
    np.testing.assert_array_equal(slope, 0)


def test_the_scale_of_a_plain_head_multiplies_what_is_pooled():
    once, twice = (call(PlainHead(scale), {}, IMAGES, ORDINARY) for scale in (1.0, 2.0))
    np.testing.assert_allclose(twice.logits, 2 * once.logits, rtol=1e-6)
    np.testing.assert_array_equal(twice.features, once.features)
    np.testing.assert_array_equal(twice.attended, 2 * ORDINARY)


@pytest.mark.parametrize("loss", CHOICES["model.abn.loss"])
def test_abn_head_equals_the_oracle(loss):
    head = ABNHead(Identity(), CLASSES, Layers(), loss)
    variables = drawn(head)
    outputs = call(head, variables, IMAGES, ORDINARY)
    for i in range(2):
        row = ORDINARY[i].astype(float)
        logits, attention = reference.abn_branch(row, *plain(variables))
        perception = (row * (1 + attention[..., None])).mean(axis=(0, 1))
        answer = logits if loss == "attention" else perception
        np.testing.assert_allclose(outputs.attention[i], attention, atol=1e-4)
        np.testing.assert_allclose(outputs.logits[i], answer, atol=1e-3)
        if loss == "both":
            np.testing.assert_allclose(outputs.attention_logits[i], logits, atol=1e-3)
    assert (outputs.attention_logits is None) == (loss != "both")


@pytest.mark.parametrize("size", [(5, 4), (11, 9), (22, 18), (1, 1), (7, 20)])
def test_resize_equals_the_oracle(size):
    image = IMAGES[0, ..., 0]
    np.testing.assert_allclose(
        maps.resize(image, size), reference.resize(image.astype(float), size), atol=1e-5
    )


def test_resize_to_twice_the_size_on_values_anyone_can_check():
    got = maps.resize(jnp.array([[0.0, 4.0]]), (1, 4))
    np.testing.assert_allclose(got, [[0.0, 1.0, 3.0, 4.0]], atol=1e-6)
