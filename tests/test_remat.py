"""`model.remat`: the same numbers from less memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lficam_jax.errors import UserError
from lficam_jax.models import create_model
from lficam_jax.models.own import Identity
from lficam_jax.training.steps import example_losses

NETWORKS = [
    ("cifar_resnet", 14, "lfi", {}),
    ("cifar_resnet", 8, "abn", {"block": "bottleneck"}),
    ("cifar_densenet", 10, "lfi", {"growth": 4}),
    ("wide_resnet", 10, "plain", {"widen": 1}),
]


def gradient(backbone, depth, head, options, *, remat):
    """The function that a step differentiates, its weights, and the gradient with statistics."""
    model = create_model(backbone, depth, head, num_classes=3, remat=remat, **options)
    images = jax.random.normal(jax.random.key(0), (4, 16, 16, 3))
    variables = jax.jit(model.init)(jax.random.key(1), images)

    def loss(params):
        outputs, updated = model.apply(
            {**variables, "params": params}, images, train=True, mutable=["batch_stats"]
        )
        return example_losses(model, outputs, jnp.arange(4) % 3).mean(), updated

    return jax.grad(loss, has_aux=True), variables["params"]


@pytest.mark.parametrize(("backbone", "depth", "head", "options"), NETWORKS)
def test_gradient_and_statistics_are_the_same(backbone, depth, head, options):
    plain, params = gradient(backbone, depth, head, options, remat=False)
    again, same = gradient(backbone, depth, head, options, remat=True)
    assert jax.tree.structure(params) == jax.tree.structure(same)
    expected, found = jax.jit(plain)(params), jax.jit(again)(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5),
                 expected, found)  # fmt: skip


def test_each_block_is_computed_again():
    """ResNet-20 has a stem and nine blocks of two convolutions, two with a projection besides.

    Each convolution runs once forward and twice for the gradients of kernel and input, which the
    stem's has not; those of the blocks once more.
    """
    counts = []
    for remat in (False, True):
        function, params = gradient("cifar_resnet", 20, "plain", {}, remat=remat)
        counts.append(str(jax.make_jaxpr(function)(params)).count("conv_general_dilated["))
    blocks = 9 * 2 + 2
    assert counts == [3 * (1 + blocks) - 1, 3 * (1 + blocks) - 1 + blocks]


def test_a_backbone_of_ones_own_has_no_blocks_to_compute_again():
    with pytest.raises(UserError, match="takes no remat"):
        create_model(Identity(), num_classes=2, remat=True)
