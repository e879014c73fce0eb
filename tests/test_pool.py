"""Max-pooling: flax's values, and its gradient to the bit, where values are equal too."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lficam_jax.errors import UserError
from lficam_jax.ops.pool import made_for, max_pool


def test_of_equal_values_the_first_takes_the_gradient():
    x = jnp.array([[1.0, 2.0, 2.0, 0.0]]).reshape(1, 1, 4, 1)  # windows of three at 0 and 1
    assert jax.grad(lambda x: max_pool(x, (1, 3), (1, 1)).sum())(x).ravel().tolist() == [0, 2, 0, 0]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("size", "stride", "padding"), [(3, 2, 1), (2, 2, 0), (3, 1, 1)])
def test_values_and_gradients_are_those_of_flax(dtype, size, stride, padding):
    random = np.random.default_rng(0)
    x = jnp.asarray(random.integers(-3, 3, (2, 9, 8, 3)), dtype)  # many ties, odd and even sides
    window, strides, pads = (size, size), (stride, stride), ((padding, padding),) * 2
    theirs, back = jax.vjp(lambda x: nn.max_pool(x, window, strides, pads), x)
    ours, our_back = jax.vjp(lambda x: max_pool(x, window, strides, padding), x)
    down = jnp.asarray(random.integers(-9, 9, ours.shape), dtype)
    np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(our_back(down)[0], back(down)[0])


def test_a_nan_stays():
    x = jnp.array([1.0, jnp.nan, 2.0, 0.0]).reshape(1, 2, 2, 1)
    value, _ = jax.value_and_grad(lambda x: max_pool(x, (2, 2), (2, 2)).sum())(x)
    assert jnp.isnan(value)


def test_the_forward_derivative_is_that_of_the_largest():
    x = jnp.array([1.0, 4.0, 2.0, 3.0]).reshape(1, 2, 2, 1)
    out, tangent = jax.jvp(lambda x: max_pool(x, (2, 2), (2, 2)), (x,), (10 * x,))
    assert (out.item(), tangent.item()) == (4, 40)


def test_a_tpu_keeps_its_own_operation():
    def primitives():
        gradient = jax.grad(lambda x: max_pool(x, (2, 2), (2, 2)).sum())
        return str(jax.make_jaxpr(gradient)(jnp.ones((1, 4, 4, 1))))

    assert "select_and_scatter_add" not in primitives()
    with made_for("tpu"):
        assert "select_and_scatter_add" in primitives()
    assert "select_and_scatter_add" not in primitives()


def test_what_is_smaller_than_a_window_is_told():
    with pytest.raises(UserError, match="too small for this network: 1 x 4 cells"):
        max_pool(jnp.ones((1, 1, 4, 1)), (2, 2), (2, 2))
    assert max_pool(jnp.ones((1, 1, 1, 1)), (3, 3), (2, 2), 1).shape == (1, 1, 1, 1)
