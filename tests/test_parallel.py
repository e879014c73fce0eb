"""One step on one device and on eight, in both mappings: the same numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lficam_jax.data import open_pipeline
from lficam_jax.devices.parallel import AXIS, check_divides, replicate, spmd, waits
from lficam_jax.errors import UserError
from lficam_jax.models import create_model
from lficam_jax.models.classifier import init_variables
from lficam_jax.training.steps import create_state, make_train_step

MODES = ("pmap", "shard_map")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("devices", [1, 8])
def test_the_gradient_is_the_mean_over_all_rows(mode, devices):
    """The loss mean(w * x) has gradient mean(x), however many devices share the rows."""

    def step(weight, resident, batch, *, axis_name):
        grad = jax.grad(lambda w: jnp.mean(w * batch["x"]))(weight)
        return jax.lax.pmean(grad, axis_name)

    rows = np.arange(16, dtype=np.float32)
    chosen = jax.devices()[:devices]
    weight = replicate(jnp.float32(3), mode, chosen)
    assert float(spmd(step, mode, chosen)(weight, {}, {"x": rows})) == 7.5


def train_three_steps(tiny, mode, devices):
    chosen = jax.devices()[:devices]
    tiny.data.augment = "crop_flip"  # its randomness must not depend on the device count
    pipeline = open_pipeline(tiny.data, "train", batch_size=16, train=True, seed=3)
    model = create_model("cifar_resnet", 8, num_classes=10, axis_name=AXIS)
    tx = optax.sgd(0.05, momentum=0.9)
    state = create_state(init_variables(model, (16, 16, 3), 0), tx)
    step = spmd(make_train_step(model, tx, pipeline.load, seed=3), mode, chosen)
    state = replicate(state, mode, chosen)
    resident = replicate(dict(pipeline.resident), mode, chosen)
    losses = []
    for _, batch in zip(range(3), pipeline.batches(0), strict=False):
        state, sums = step(state, resident, batch)
        losses.append(float(sums["loss"]) / float(sums["count"]))
        assert float(sums["count"]) == 16
    return jax.device_get((state.params, state.batch_stats)), losses


@pytest.fixture
def alone(tiny):
    return train_three_steps(tiny, "pmap", 1)


@pytest.mark.parametrize("mode", MODES)
def test_eight_devices_train_as_one(tiny, alone, mode):
    """Same losses, weights and statistics, up to the order in which float32 numbers are added."""
    (expected, losses), (found, losses_8) = alone, train_three_steps(tiny, mode, 8)
    np.testing.assert_allclose(losses_8, losses, rtol=1e-4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-4), found, expected)
    assert losses[-1] != losses[0]


def test_state_may_be_donated_without_losing_its_source(tiny):
    source = {"w": jnp.ones(4)}
    for mode in MODES:
        copy = replicate(source, mode)
        step = spmd(lambda s, r, b, *, axis_name: s, mode, donate_state=True)
        step(copy, {}, {"x": np.zeros(8, np.float32)})
        assert float(source["w"].sum()) == 4


def test_a_batch_that_does_not_divide_is_told_with_sizes_that_do():
    check_divides("train.batch_size", 96, 8)
    with pytest.raises(UserError, match="100 is not divisible by 8 devices; use 96 or 104"):
        check_divides("train.batch_size", 100, 8)
    with pytest.raises(UserError, match="4 is not divisible by 8 devices; use 8"):
        check_divides("eval.batch_size", 4, 8)
    with pytest.raises(UserError, match="8 devices x 3 microbatches; use 96 or 120"):
        check_divides("train.batch_size", 100, 8, 3)


def test_only_several_cpu_devices_are_waited_for():
    assert waits() and not waits(jax.devices()[:1])
