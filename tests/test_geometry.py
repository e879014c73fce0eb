"""Maps lie where the network looks: the centre of each cell, followed through the network."""

from functools import partial
from importlib import import_module

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import lficam_jax as lfi
from lficam_jax.errors import UserError
from lficam_jax.metrics.localisation import energy, pointing_hit
from lficam_jax.models import create_model
from lficam_jax.models.geometry import _say_lost, places
from lficam_jax.ops.maps import Axis, Place, resize


def passing(key, shape, dtype=jnp.float32):
    """A kernel that passes the pixel in its middle and nothing else."""
    kernel = jnp.zeros(shape, dtype)
    return kernel.at[shape[0] // 2, shape[1] // 2].set(jnp.eye(*shape[2:]))


def conv(stride, padding=1, size=3):
    return nn.Conv(
        3, (size, size), (stride, stride), padding, use_bias=False, kernel_init=passing
    )  # fmt: skip


class Network(nn.Module):
    """Two halvings, each of another kind."""

    kind: str

    @nn.compact
    def __call__(self, x):
        for _ in range(2):
            if self.kind == "strided":
                x = conv(2)(x)
            elif self.kind == "max_pool":
                x = nn.max_pool(conv(1)(x), (3, 3), (2, 2), ((1, 1), (1, 1)))
            elif self.kind == "mean_pool":
                x = nn.avg_pool(x, (2, 2), (2, 2))
            elif self.kind == "valid":
                x = conv(2, "VALID")(x)
            elif self.kind == "same":  # TensorFlow's: pads behind only, where the side is even
                x = conv(2, "SAME")(x)
            elif self.kind == "wrapped":  # jit, remat, and padding by hand
                padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
                x = nn.remat(lambda module, x: jax.jit(nn.relu)(module(x)))(conv(1, 0), padded)
                x = x[:, ::2, ::2]
        return x


def dotted(y, x, size=16):
    image = np.zeros((size, size, 3), np.float32)
    image[y, x] = 1
    return image


def explained(kind, image, **options):
    model = create_model(Network(kind), head="plain", num_classes=2)
    variables = model.init(jax.random.key(0), image[None])
    asked = {"method": "mean_features", "normalised": True} | options
    return lfi.explain(model, variables, image, **asked)


@pytest.mark.parametrize(
    ("kind", "y", "x"),
    [("strided", 8, 4), ("wrapped", 8, 4), ("max_pool", 8, 4), ("valid", 11, 7), ("same", 7, 11)],
)
def test_a_bright_dot_has_its_peak_on_itself(kind, y, x):
    (e,) = explained(kind, dotted(y, x))
    assert e.peak == (y, x)
    (e,) = explained(kind, dotted(y, x), align="half_pixel")
    assert e.peak != (y, x)


def test_pooling_by_two_is_what_half_pixels_are_made_for():
    (e,) = explained("mean_pool", dotted(9, 5))
    (by_half,) = explained("mean_pool", dotted(9, 5), align="half_pixel")
    assert e.peak == by_half.peak == (10, 6)  # nearest to 9.5 and 5.5, the middle of the cell
    assert np.array_equal(e.overlay(), by_half.overlay())


def test_strided_convolutions_lean_by_a_pixel_and_a_half():
    # cells every 4 pixels: the first looks at pixel 0, half-pixels put it at 1.5
    model = create_model(Network("strided"), head="plain", num_classes=2)
    rows, columns = places(model, (16, 32))[4, 8]
    assert (rows.first * 16 - 0.5, rows.step * 16) == (0, 4)
    assert (columns.first * 32 - 0.5, columns.step * 32) == (0, 4)


def test_the_overlay_is_hottest_on_the_dot():
    (e,) = explained("strided", dotted(8, 4))
    grey = np.asarray(e.overlay(alpha=1, cmap="gray"), float)[..., 0]  # 14 for one of the picture
    hot = np.argwhere(grey == grey.max()).mean(axis=0) + 0.5
    assert np.allclose(hot, [14 * 8.5, 14 * 4.5], atol=1)


FAMILIES = {
    "cifar_resnet": (8, {}), "cifar_densenet": (10, {}), "cifar_resnext": (11, {"cardinality": 2}),
    "wide_resnet": (10, {"widen": 1}), "resnet": (18, {}), "se_resnet": (50, {}),
    "vgg": (16, {}), "efficientnet_lite": (0, {}), "mobilenet": (2, {}), "convnext": (18, {}),
}  # fmt: skip


# How far the others' cells look, and some more.
WIDE = {"se_resnet": 640, "vgg": 640, "efficientnet_lite": 1408, "mobilenet": 1152,
        "convnext": 3520}  # fmt: skip


def without_layer_norm(call, args, kwargs, context):
    """Of channels that are all equal, LayerNorm leaves nothing; it moves no cell."""
    return args[0] if isinstance(context.module, nn.LayerNorm) else call(*args, **kwargs)


def even(tree):
    """Weights of one positive value, so that a cell's gradient tells what it looks at."""

    def value(path, leaf):
        name = path[-1].key
        if name == "kernel" and leaf.ndim == 2:  # classifier and gates weigh no place
            return jnp.zeros(leaf.shape)
        if name == "kernel":
            return jnp.full(leaf.shape, 1 / np.prod(leaf.shape[:3]))
        return jnp.full(leaf.shape, float(name in ("scale", "var", "layer_scale")))

    return jax.tree_util.tree_map_with_path(value, tree)


@pytest.mark.parametrize("name", FAMILIES)
def test_centres_are_the_middle_of_what_a_cell_looks_at(name, monkeypatch):
    # a maximum over equal pixels has the gradient of the first; a mean looks at the same window
    def mean(x, window, stride, padding=0):
        return nn.avg_pool(x, window, stride, ((padding, padding),) * 2)

    for room in ("residual", "vgg"):
        monkeypatch.setattr(import_module(f"lficam_jax.models.{room}"), "max_pool", mean)
    depth, options = FAMILIES[name]
    head = "plain" if name in WIDE else "abn"  # whose own map has a grid of its own
    model = create_model(name, depth, head, num_classes=2, **options)
    size = 32, 640 if name == "resnet" else WIDE.get(name, 160)
    variables = even(jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *size, 3))))
    found = places(model, size)

    # the weights are an argument: XLA folds equal constants to gradients of zero (jax 0.10.2, CPU)
    def cell(variables, image, which, column):
        with nn.intercept_methods(without_layer_norm):
            outputs = model.apply(variables, image, train=False)
        return getattr(outputs, which)[0, :, column].sum()

    kinds = ["features"] if head == "plain" else ["features", "attention"]
    image = jnp.full((1, *size, 3), 1e-6)  # no sigmoid is near its end
    outputs = jax.eval_shape(partial(model.apply, train=False), variables, image)
    for which in kinds:
        grid = getattr(outputs, which).shape[1:3]
        column = grid[1] // 2
        gradient = jax.jit(jax.grad(cell, argnums=1), static_argnums=(2, 3))
        looked = gradient(variables, image, which, column)
        looked = np.abs(np.asarray(looked, np.float64)).sum((0, 1, 3))
        assert looked[0] == looked[-1] == 0  # all that it looks at is in the image
        middle = (looked * (np.arange(size[1]) + 0.5)).sum() / looked.sum() / size[1]
        axis = found[grid].columns
        assert abs(axis.first + axis.step * column - middle) * size[1] < 0.01  # pixels


class Scaled(nn.Module):
    """Mixes all of space by a matrix."""

    @nn.compact
    def __call__(self, x):
        return jax.image.resize(conv(2)(x), (1, 4, 4, 3), "linear")


def test_a_network_that_cannot_be_followed_is_placed_by_half_pixels_which_is_said_once(capfd):
    _say_lost.cache_clear()
    model = create_model(Scaled(), head="plain", num_classes=2)
    assert not places(model, (16, 16)) and not places(model, (16, 32))
    assert capfd.readouterr().err.count("by half-pixels") == 1
    _say_lost.cache_clear()
    for head in ("lfi", "abn"):  # whose attention is gathered, on the grid of what is known
        assert places(create_model("cifar_resnet", 8, head, num_classes=2), (16, 32))
    assert not capfd.readouterr().err
    assert not places(create_model("cifar_resnet", 8, num_classes=2), (16, 16), "half_pixel")


def test_outside_the_outermost_centres_the_edge_goes_on():
    place = Place(Axis(0.5 / 8, 4 / 8), Axis(2.5 / 8, 4 / 8))  # rows 0 and 4, columns 2 and 6
    full = np.asarray(resize(jnp.array([[0.0, 1.0], [2.0, 3.0]]), (8, 8), place))
    assert full[0].tolist() == [0, 0, 0, 0.25, 0.5, 0.75, 1, 1]
    assert full[:, 0].tolist() == [0, 0.5, 1, 1.5, 2, 2, 2, 2]
    tiles = Place(Axis(0.25, 0.5), Axis(0.25, 0.5))
    rough = jax.random.uniform(jax.random.key(0), (3, 2, 2))
    assert np.allclose(resize(rough, (8, 8), tiles), resize(rough, (8, 8)))


def test_measures_ask_where_the_map_lies():
    maps = jnp.zeros((1, 4, 4)).at[0, 2, 1].set(1)
    mask = np.zeros((1, 16, 16), bool)
    mask[0, 8, 4] = True
    place = Place(Axis(0.5 / 16, 0.25), Axis(0.5 / 16, 0.25))
    assert pointing_hit(maps, mask, place) and not pointing_hit(maps, mask)
    assert energy(maps, mask, place) > 1.5 * energy(maps, mask)


def test_an_unknown_alignment_names_the_nearest():
    with pytest.raises(UserError, match=r"align='centre' is unknown.*'centres'"):
        explained("strided", dotted(8, 4), align="centre")


def test_a_bell_in_the_middle_stays_in_the_middle():
    (e,) = explained("strided", dotted(8, 4), method="gaussian")
    assert e.place is None  # no network looked there


@pytest.mark.parametrize("head", ["plain", "lfi", "abn", "classwise"])
def test_nothing_is_said_of_a_network_whose_features_are_followed(head, capfd):
    _say_lost.cache_clear()
    model = create_model("cifar_resnet", 8, head=head, num_classes=3)
    assert (4, 4) in places(model, (16, 16))
    assert not capfd.readouterr().err
