"""The training step: it learns, and each option does what its name says."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lficam_jax.devices.parallel import replicate, spmd
from lficam_jax.models import create_model
from lficam_jax.models.classifier import init_variables
from lficam_jax.training.steps import create_state, cross_entropy, make_train_step, step_key

ONE = jax.devices()[:1]


class Conv(nn.Module):
    """A backbone without BatchNorm: microbatches then add up exactly."""

    @nn.compact
    def __call__(self, x):
        return nn.relu(nn.Conv(8, (3, 3), (2, 2))(x))


def rows(count=16, seed=0):
    generator = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.int32) % 4
    images = generator.normal(size=(count, 8, 8, 3)).astype(np.float32)
    images[np.arange(count), labels] += 3  # class c has a bright row c
    return {"image": images, "label": labels}


def test_what_is_frozen_costs_no_gradient():
    """The program without the backward pass of the frozen part does less than half."""
    model = create_model("cifar_resnet", depth=8, head="plain", num_classes=4)
    tx = optax.sgd(0.0)
    state = create_state(init_variables(model, (8, 8, 3), 0), tx)

    def step(freeze):
        make = make_train_step(model, tx, lambda r, batch, key: batch, seed=0, freeze=freeze)
        return spmd(make, "pmap", ONE).lower(replicate(state, "pmap", ONE), {}, rows()).compile()

    whole, part = (step(freeze).cost_analysis() for freeze in ("", "(trunk|last_stage)/.*"))
    assert part["flops"] < 0.5 * whole["flops"]


def trained(model, tx, steps=1, *, batch=None, ema=False, **options):
    state = create_state(init_variables(model, (8, 8, 3), 0), tx, ema=ema)
    make = make_train_step(model, tx, lambda resident, batch, key: batch, seed=0, **options)
    step, state = spmd(make, "pmap", ONE), replicate(state, "pmap", ONE)
    for _ in range(steps):
        state, sums = step(state, {}, rows() if batch is None else batch)
    return jax.device_get(state), jax.device_get(sums)


@pytest.fixture(scope="module")
def model():
    return create_model("cifar_resnet", 8, "lfi", num_classes=4)


def test_overfits_one_batch(model):
    _, sums = trained(model, optax.sgd(0.1, 0.9), steps=25)
    assert sums["correct"] == sums["count"] == 16
    assert sums["loss"] / 16 < 0.1


def test_microbatches_add_up_to_the_batch():
    model = create_model(Conv(), head="plain", num_classes=4)
    whole, sums = trained(model, optax.sgd(0.1), steps=2)
    pieces, sums_4 = trained(model, optax.sgd(0.1), steps=2, accumulate=4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), whole, pieces)
    np.testing.assert_allclose(sums_4["loss"], sums["loss"], rtol=1e-6)
    assert sums_4["count"] == 16


def test_ema_moves_by_its_share_of_the_way(model):
    start = init_variables(model, (8, 8, 3), 0)
    state, _ = trained(model, optax.sgd(0.1), ema=True, ema_decay=0.75)
    for name in ("params", "batch_stats"):
        live = getattr(state, name)
        expected = jax.tree.map(lambda a, b: 0.75 * a + 0.25 * b, start[name], live)
        close = lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6)  # noqa: E731
        jax.tree.map(close, state.variables[name], expected)


def test_a_step_tells_how_much_fin_trains(model):
    _, sums = trained(model, optax.sgd(0.1))
    assert 0 < sums["fin_gradient"] < sums["grad_norm"]


def test_without_ema_the_weights_themselves_are_evaluated(model):
    state, _ = trained(model, optax.sgd(0.1))
    assert state.ema is None and state.variables["params"] is state.params


def test_bfloat16_keeps_parameters_and_statistics_in_float32():
    model = create_model("cifar_resnet", 8, "lfi", num_classes=4, dtype="bfloat16")
    state, sums = trained(model, optax.sgd(0.1, 0.9), steps=2)
    kinds = {leaf.dtype for leaf in jax.tree.leaves((state.params, state.batch_stats))}
    assert kinds == {np.dtype("float32")} and np.isfinite(sums["loss"])
    outputs = model.apply(dict(state.variables), rows()["image"])
    assert outputs.features.dtype == jnp.bfloat16
    assert outputs.logits.dtype == outputs.attention.dtype == jnp.float32


def test_smoothing_spreads_a_share_of_the_target():
    """Uniform logits cost log k whatever the target; a sure one is punished for being sure."""
    logits, labels = jnp.array([[100.0, 0.0]]), jnp.array([0])
    np.testing.assert_allclose(
        cross_entropy(jnp.zeros((1, 2)), labels, 0.2), [np.log(2)], rtol=1e-6
    )
    np.testing.assert_allclose(cross_entropy(logits, labels), [0], atol=1e-6)
    np.testing.assert_allclose(cross_entropy(logits, labels, 0.2), [10], rtol=1e-5)


def test_each_step_has_a_key_of_its_own_and_always_the_same():
    first, again, other = step_key(0, 5), step_key(0, 5), step_key(0, 6)
    assert jax.random.uniform(first) == jax.random.uniform(again)
    assert jax.random.uniform(first) != jax.random.uniform(other)
