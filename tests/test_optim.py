"""Schedules and optimisers against values that can be worked out by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lficam_jax.config import default_config, validate
from lficam_jax.errors import UserError
from lficam_jax.training.optim import optimizer, schedule


def rates(steps, **changes):
    optim = default_config().optim
    optim.update(changes)
    rate = schedule(optim, steps_per_epoch=10, total_steps=100)
    return [float(rate(s)) for s in steps]


def test_multistep_drops_at_its_milestones():
    found = rates([0, 29, 30, 59, 60], lr=1.0, milestones_epochs=(3, 6), factor=0.1)
    np.testing.assert_allclose(found, [1, 1, 0.1, 0.1, 0.01], rtol=1e-6)


def test_multistep_counts_its_milestones_from_step_zero_also_after_a_warm_up():
    found = rates([0, 5, 29, 30], lr=1.0, milestones_epochs=(3,), warmup_epochs=1.0)
    np.testing.assert_allclose(found, [0, 0.5, 1, 0.1], rtol=1e-6)


def test_cosine_warms_up_linearly_and_ends_at_zero():
    found = rates([0, 5, 10, 55, 100], lr=2.0, schedule="cosine", warmup_steps=10)
    np.testing.assert_allclose(found, [0, 1, 2, 1, 0], atol=1e-6)


def test_a_warm_up_is_at_most_a_quarter_of_the_run():
    """40 of 100 steps are asked for; 25 remain, and the cosine ends at zero all the same."""
    found = rates([0, 10, 25, 100], lr=1.0, schedule="cosine", warmup_epochs=4.0)
    np.testing.assert_allclose(found, [0, 0.4, 1, 0], atol=1e-6)


def test_constant_stays():
    assert rates([0, 99], lr=0.5, schedule="constant") == [0.5, 0.5]


def updates(steps=2, *, grads=None, **changes):
    """Parameters after some steps of a constant gradient, from weight 1 and bias 1."""
    optim = default_config().optim
    optim.update(schedule="constant", **changes)
    tx = optimizer(optim, schedule(optim, 10, 100))
    params = {"kernel": jnp.ones((1, 1)), "bias": jnp.ones(1)}
    grads = grads or {"kernel": jnp.full((1, 1), 0.5), "bias": jnp.zeros(1)}
    state = tx.init(params)
    for _ in range(steps):
        change, state = tx.update(grads, state, params)
        params = jax.tree.map(jnp.add, params, change)
    return float(params["kernel"][0, 0]), float(params["bias"][0])


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_is_torchs(nesterov):
    """buf = m * buf + (g + wd * p); p -= lr * buf, or with Nesterov lr * (g + wd * p + m * buf)."""
    lr, momentum, decay = 0.1, 0.9, 0.01
    expected = []
    for value, grad in ((1.0, 0.5), (1.0, 0.0)):
        buffer = 0.0
        for _ in range(2):
            g = grad + decay * value
            buffer = momentum * buffer + g
            value -= lr * (g + momentum * buffer if nesterov else buffer)
        expected.append(value)
    found = updates(lr=lr, momentum=momentum, weight_decay=decay, nesterov=nesterov)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_decay_on_kernels_leaves_biases_and_norms_alone():
    kernel, bias = updates(weight_decay=0.1, weight_decay_on="kernels", momentum=0.0, steps=1)
    assert bias == 1.0
    np.testing.assert_allclose(kernel, 1 - 0.1 * (0.5 + 0.1), rtol=1e-6)


def test_clipping_bounds_the_norm_of_the_whole_gradient():
    grads = {"kernel": jnp.full((1, 1), 3.0), "bias": jnp.full(1, 4.0)}  # norm 5
    found = updates(steps=1, grads=grads, clip_norm=1.0, weight_decay=0.0, momentum=0.0, lr=1.0)
    np.testing.assert_allclose(found, [1 - 0.6, 1 - 0.8], rtol=1e-6)


def test_adamw_moves_by_the_learning_rate_at_first():
    kernel, bias = updates(steps=1, name="adamw", lr=0.1, weight_decay=0.0)
    np.testing.assert_allclose([kernel, bias], [0.9, 1.0], atol=1e-5)


def test_no_decay_spares_what_it_matches():
    kernel, bias = updates(weight_decay=0.1, no_decay="ker.*", momentum=0.0, steps=1, lr=1.0)
    np.testing.assert_allclose([kernel, bias], [1 - 0.5, 1 - 0.1], rtol=1e-6)


def test_multipliers_scale_the_learning_rate_by_path():
    asked = {"multipliers": ".*=2 bias=10", "weight_decay": 0.1, "momentum": 0.0, "lr": 0.1}
    kernel, bias = updates(steps=1, **asked)
    np.testing.assert_allclose([kernel, bias], [1 - 0.2 * 0.6, 1 - 1.0 * 0.1], rtol=1e-6)
    with pytest.raises(UserError, match="optim.multipliers='fin/.*' matches no parameter"):
        updates(steps=1, multipliers="fin/.*=3")
    with pytest.raises(UserError, match="optim.no_decay='kernl' matches no parameter"):
        updates(steps=1, no_decay="kernl")


@pytest.mark.parametrize("text", ["head", "head=", "=3", "head=-1", "head=x", "head=nan", "a=inf"])
def test_multipliers_that_are_none_are_told(text):
    config = default_config()
    config.optim.multipliers = text
    with pytest.raises(UserError, match="must be PATTERN=FACTOR"):
        validate(config)
    config.optim.multipliers = "(=3"
    with pytest.raises(UserError, match=r"optim.multipliers='\(' is no regular expression"):
        validate(config)
