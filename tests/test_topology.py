"""TPUs by name, and what is said of those that are not."""

import pytest

from lficam_jax.devices import topology
from lficam_jax.devices.topology import Topology, devices, parse
from lficam_jax.errors import UserError


@pytest.mark.parametrize(
    ("name", "chips", "means"),
    [
        ("v5e:2x4", 8, "v5e:2x4"),
        ("v5litepod-8", 8, "v5e:2x4"),  # of v5e and v6e the number counts chips
        ("v5litepod-16", 16, "v5e:4x4"),
        ("v6e-8", 8, "v6e:2x4"),
        ("v4-8", 4, "v4:2x2x1"),  # of v4 and v5p it counts TensorCores, two a chip
        ("v4-16", 8, "v4:2x2x2"),
        ("v4-32", 16, "v4:2x2x4"),
        ("v5p-8", 4, "v5p:2x2x1"),
        ("v5p-128", 64, "v5p:4x4x4"),
        ("V5E:2X2", 4, "v5e:2x2"),
    ],
)
def test_names(name, chips, means):
    assert (str(parse(name)), parse(name).chips) == (means, chips)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("v5x:2x4", "'v5x' is unknown — did you mean 'v5"),
        ("h100", "known: v4, v5e, v5p, v6e"),
        ("v5e", "give 2 sides, each 1, 2 or a multiple of 4, for example v5e:2x4"),
        ("v5e:2x2x1", "give 2 sides"),
        ("v4:2x2", "give 3 sides, each 1, 2 or a multiple of 4, for example v4:2x2x1"),
        ("v5e:0x4", "give 2 sides"),
        ("v5e:3x3", "give 2 sides"),
        ("v6e-12", "nearest: v6e-8"),
        ("v4-4", "nearest: v4-8"),
        ("v5litepod-0", "nearest: v5litepod-1"),
    ],
)
def test_a_name_that_is_none_names_the_nearest(name, says):
    with pytest.raises(UserError) as caught:
        parse(name)
    assert f"--topology={name}: " in str(caught.value) and says in str(caught.value)


def test_without_the_compiler_the_command_that_installs_it_is_told(monkeypatch):
    def absent(**_):
        raise RuntimeError("JAX TPU support not installed")

    from jax.experimental import topologies

    for name in topology.ENVIRONMENT:
        monkeypatch.setenv(name, "")  # so that what is set here does not stay
    monkeypatch.setattr(topologies, "get_topology_desc", absent)
    monkeypatch.setattr(topology, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'jax\[tpu\]==\d"):
        devices(Topology("v5e", (2, 4)))


def test_a_shape_that_the_compiler_refuses_is_told_in_its_words(monkeypatch):
    def refused(**_):
        raise ValueError('"v5e:2x64" is too long\nmore')

    from jax.experimental import topologies

    for name in topology.ENVIRONMENT:
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(topologies, "get_topology_desc", refused)
    monkeypatch.setattr(topology, "find_spec", lambda name: "there")
    with pytest.raises(UserError, match='--topology=v5e:2x64: "v5e:2x64" is too long') as caught:
        devices(Topology("v5e", (2, 64)))
    assert "more" not in str(caught.value)
