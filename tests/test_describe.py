"""What `--mode describe` says, against numbers that can be worked out."""

import pytest

from lficam_jax.config import default_config
from lficam_jax.speed.describe import describe, text


@pytest.fixture(scope="module")
def found():
    config = default_config()
    config.data.name, config.optim.lr = "cifar10", 0.1
    return describe(config)


def test_parameters_of_the_papers_network(found):
    """3x3 convolutions of 64 channels: FIN has 4 * (9 * 64 * 64 + 2 * 64) parameters."""
    assert found["parameters"]["total"] == 420_442
    assert found["parameters"]["fin"] == 4 * (9 * 64 * 64 + 2 * 64)
    assert found["parameters"]["head"] == 64 * 10 + 10
    assert sum(n for _, _, n in found["layers"]) == 420_442  # the table leaves nothing out


def test_flops_are_two_per_multiply_and_add(found):
    """ResNet-20 has 40.8 M multiply-adds (He et al.), FIN 4 * 8 * 8 * 9 * 64 * 64 more.

    XLA leaves out the products with the padding: (22 / 24)² of a 3x3 convolution on 8x8 remain.
    """
    expected = 2 * (40.8e6 + 4 * 8 * 8 * 9 * 64 * 64)
    assert (22 / 24) ** 2 * expected < found["flops_per_image"] < expected


def test_steps_and_learning_rate(found):
    assert found["steps_per_epoch"] == 45_000 // 128
    assert found["total_steps"] == 300 * (45_000 // 128)
    assert found["learning_rate"][0] == pytest.approx(0.1)
    assert found["learning_rate"][-1] == pytest.approx(0.001)  # two drops by ten


def test_state_is_weights_momentum_and_statistics(found):
    """Twice the parameters in float32 and 1,600 running statistics and counters besides."""
    spare = found["bytes"]["state"] - 2 * 4 * 420_442
    assert 0 < spare < 20_000


def test_the_text_shows_it(found):
    lines = text(found)
    assert "420,442 (backbone" in lines and "last_stage" in lines and "peak 0.1, end 0.001" in lines


def test_layers_are_listed_though_an_equal_network_was_made_before(found):
    config = default_config()
    config.data.name, config.optim.lr = "cifar10", 0.1
    assert describe(config)["layers"] == found["layers"] != []
