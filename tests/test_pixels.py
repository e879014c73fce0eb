"""Attributions to pixels where one can write them down; wrapped methods."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lficam_jax.errors import UserError
from lficam_jax.methods import METHODS, PIXELS, Split, check, draw, place_of, targets
from lficam_jax.methods.guided import guided
from lficam_jax.methods.pixels import integrated, random_mask
from lficam_jax.models import create_model
from lficam_jax.models.geometry import places
from lficam_jax.ops.maps import min_max

RNG = np.random.default_rng(0)
IMAGES = RNG.standard_normal((2, 8, 8, 3)).astype(np.float32)
WEIGHTS = RNG.standard_normal((8, 8, 3)).astype(np.float32)
FIRST = jnp.zeros(2, int)


def linear(images):
    return (images * WEIGHTS[None]).sum((1, 2, 3))[:, None]


def raw(name, network, images=IMAGES, **options):
    """Maps as the method makes them; nothing is tapped, so the features are the image."""
    seen = Split(jnp.asarray(images), network, images=jnp.asarray(images), network=network)
    target = jnp.zeros(len(images), int)
    return np.asarray(jax.jit(lambda: METHODS[name](seen, target, **options))())


def test_gradients_of_a_linear_network_are_its_weights():
    largest = np.broadcast_to(np.abs(WEIGHTS).max(-1), (2, 8, 8))
    np.testing.assert_allclose(raw("gradient", linear), largest, rtol=1e-5)
    np.testing.assert_allclose(raw("smooth_grad", linear, samples=3), largest, rtol=1e-5)
    terms = np.maximum((IMAGES * WEIGHTS).sum(-1), 0)
    for name in ("input_x_gradient", "integrated_gradients"):
        np.testing.assert_allclose(raw(name, linear), terms, rtol=1e-4, atol=1e-6)


def test_integrated_gradients_sum_to_the_score():
    """Of x^2 it is x^2, where the image times the gradient is 2 x^2: it would count twice."""

    def squares(images):
        return (images**2).sum((1, 2, 3))[:, None]

    expected = (IMAGES**2).sum(-1)
    np.testing.assert_allclose(raw("integrated_gradients", squares), expected, rtol=1e-4)
    np.testing.assert_allclose(raw("input_x_gradient", squares), 2 * expected, rtol=1e-4)

    def bent(images):
        return jnp.tanh(linear(images) / 5)

    seen = Split(jnp.asarray(IMAGES), bent, images=jnp.asarray(IMAGES), network=bent)
    signed = integrated(seen, FIRST, 50).sum((1, 2, 3))
    np.testing.assert_allclose(signed, bent(IMAGES)[:, 0], rtol=1e-4)


def test_smooth_grad_smooths():
    """|x| has a gradient of -1 or 1; under noise of the image's range times 10 it is about 0."""

    def distance(images):
        return jnp.abs(images).sum((1, 2, 3))[:, None]

    np.testing.assert_array_equal(raw("gradient", distance), 1)
    smooth = raw("smooth_grad", distance, samples=200, deviation=10.0)
    assert 0 < smooth.mean() < 0.2


def test_guided_backprop_stops_what_speaks_against():
    """y = 2 ReLU(red) - ReLU(green) + blue: green is for nothing, and red only where it is on."""

    def network(images):
        red, green, blue = jnp.moveaxis(images, -1, 0)
        hidden = 2 * jax.nn.relu(red) - jax.checkpoint(jax.nn.relu)(green)
        return (hidden + 0.5 * blue).sum((1, 2))[:, None]

    expected = np.where(IMAGES[..., 0] > 0, 2, 0.5)
    np.testing.assert_allclose(raw("guided_backprop", network), expected)
    np.testing.assert_allclose(  # the answers are the network's own
        guided(network, jnp.asarray(IMAGES))(jnp.asarray(IMAGES)), network(IMAGES), rtol=1e-6
    )


def test_guided_backprop_says_where_it_is_not_defined():
    with pytest.raises(UserError, match="this network calls none; use gradient"):
        raw("guided_backprop", lambda x: jax.nn.gelu(x).sum((1, 2)))

    def looped(images):
        return jax.lax.fori_loop(0, 3, lambda _, x: jax.nn.relu(x), images).sum((1, 2))

    with pytest.raises(UserError, match="inside jax.lax.(scan|while); use gradient"):
        raw("guided_backprop", looped)


def test_relu6_is_a_relu_with_a_ceiling():
    images = np.array([-1, 3, 7], np.float32).reshape(1, 1, 3, 1)
    found = raw("guided_backprop", lambda x: jax.nn.relu6(x).sum((1, 2)), images)
    np.testing.assert_array_equal(found, [[[0, 1, 0]]])


def test_occlusion_finds_the_pixel_that_counts():
    """One pixel is the score: every window that covers it takes 1 away, every other nothing."""
    images = np.zeros((1, 8, 8, 3), np.float32)
    images[0, 3, 5] = 1
    # Windows of 2 pixels, one pixel apart: the pixel's are those from rows 2 and 3.
    found = raw("occlusion", lambda x: x[:, 3, 5, :1], images)[0]
    cover = np.zeros(8)
    cover[[2, 3, 4]] = 0.5, 1, 0.5
    np.testing.assert_allclose(found, np.outer(cover, np.roll(cover, 2)), atol=1e-6)
    # A window as large as the image is one number for all.
    np.testing.assert_array_equal(raw("occlusion", lambda x: x[:, 3, 5, :1], images, window=1.0), 1)


def test_rise_finds_the_pixel_that_counts():
    images = np.ones((1, 8, 8, 3), np.float32)
    seen = raw("rise", lambda x: x[:, 3, 5, :1], images, score="logit", cells=4, samples=500)[0]
    assert np.unravel_index(seen.argmax(), seen.shape) == (3, 5)
    # Far away a mask tells nothing of that pixel: the mean of M(p) M / share is that of M(p).
    assert abs(seen[7, 0] - 0.5) < 0.08 and seen[3, 5] > 0.6
    masks = jax.vmap(lambda k: random_mask(k, (8, 8), 4, 0.3))(
        jax.random.split(jax.random.key(1), 500)
    )
    assert 0 <= masks.min() and masks.max() <= 1
    np.testing.assert_allclose(masks.mean(axis=0), 0.3, atol=0.06)


ONCE = ("gradient", "input_x_gradient", "guided_backprop", "occlusion")
RANDOM = ("smooth_grad", "rise", "ss_cam", "smooth_grad_cam_pp", "smooth_grad+augmented")


@pytest.mark.parametrize("name", RANDOM)
def test_the_same_key_is_the_same_map_in_any_batch(name):
    def cut(images):
        def classify(features):
            return jnp.tanh(features * features[:, ::-1]).sum((1, 2)) @ jnp.abs(WEIGHTS[0, :3, :2])

        return Split(
            jnp.abs(images[:, ::2, ::2]), classify, images=images, again=cut,
            network=lambda x: classify(jnp.abs(x[:, ::2, ::2])),
        )  # fmt: skip

    options = {"samples": 4}

    def drawn(images, keys):
        return draw(name, cut(jnp.asarray(images)), 0, key=keys, chunk_size=3, **options)

    keys, drawn = jax.vmap(jax.random.key)(jnp.arange(2)), jax.jit(drawn)
    both = drawn(IMAGES, keys)
    np.testing.assert_allclose(drawn(IMAGES[1:], keys[1:])[0], both[1], atol=1e-5)
    np.testing.assert_array_equal(drawn(IMAGES, keys), both)
    assert not np.allclose(drawn(IMAGES, keys[::-1]), both, atol=1e-3)


# Wrapped methods


def quarters(images):
    """A split whose features are every other pixel: centred to the left of the middle."""
    features = jnp.abs(images[:, ::2, ::2])
    weigh = jnp.array([[1.0], [-0.5], [0.3]])
    return Split(
        features, lambda f: (f**2).mean((1, 2)) @ weigh, images=images, again=quarters,
        network=lambda x: quarters(x).answers(),
    )  # fmt: skip


def test_augmented_is_the_mean_of_six_maps():
    images = jnp.asarray(IMAGES)
    found = draw("grad_cam+augmented", quarters(images), 0)
    several = []
    for factor in (0.9, 1.0, 1.1):
        several.append(draw("grad_cam", quarters(factor * images), 0))
        mirrored = draw("grad_cam", quarters(factor * images[:, :, ::-1]), 0)
        several.append(mirrored[:, :, ::-1])
    np.testing.assert_allclose(found, min_max(sum(several) / 6), atol=1e-5)


def test_an_augmented_map_lies_between_a_map_and_the_mirrored_images():
    """Cells of the ResNet look at pixels 0, 4, 8, 12 of 16; mirrored, at 3, 7, 11, 15."""
    lie = places(create_model("cifar_resnet", 8, num_classes=4), (16, 16))
    own, mean = (place_of(n, (4, 4), lie) for n in ("grad_cam", "grad_cam+augmented"))
    pixels = np.arange(4) * mean.columns.step * 16 + mean.columns.first * 16 - 0.5
    np.testing.assert_allclose(pixels, [1.5, 5.5, 9.5, 13.5])
    assert mean.rows == own.rows  # nothing is turned upside down
    assert place_of("gradient+augmented", (16, 16), lie) is None


def first_component(terms):
    terms = terms - terms.mean(axis=0)
    _, _, directions = np.linalg.svd(terms)
    along = (terms @ directions[0]).reshape(4, 4)
    return along * np.sign(along.flat[np.abs(along).argmax()])


def test_smoothed_is_the_first_component_of_the_terms():
    seen = quarters(jnp.asarray(IMAGES))
    along = first_component(np.asarray(seen.features * seen.gradient(FIRST))[0].reshape(16, 3))
    for name in ("hires_cam+smoothed", "eigen_grad_cam"):
        np.testing.assert_allclose(draw(name, seen, FIRST)[0], min_max(along), atol=1e-4)


def test_smoothed_of_layer_cam_is_that_of_its_own_terms():
    """They are ReLU(G) F, where hires_cam's are G F."""
    seen = quarters(jnp.asarray(IMAGES))
    terms = np.asarray(seen.features * jnp.maximum(seen.gradient(FIRST), 0))[0].reshape(16, 3)
    along = first_component(terms)
    found = draw("layer_cam+smoothed", seen, FIRST)[0]
    np.testing.assert_allclose(found, min_max(np.maximum(along, 0)), atol=1e-4)


@pytest.mark.parametrize(
    ("name", "fragment"),
    [
        ("grad_cam+augment", "behind a method's name, 'augment' is unknown.*'augmented'"),
        ("gradcam+augmented", "method 'gradcam' is unknown.*'grad_cam'"),
        ("grad_cam+augmented+augmented", "each word behind the \\+ once"),
        ("gaussian+augmented", "gaussian is there to compare with"),
        ("rise+smoothed", "rise sums none; leave it out"),
        ("grad_cam++", "method 'grad_cam\\+\\+' is unknown.*did you mean"),
    ],
)
def test_a_wrapped_name_that_means_nothing(name, fragment):
    with pytest.raises(UserError, match=fragment):
        check(name)


def test_a_region_is_not_mirrored():
    seen = Split(jnp.asarray(IMAGES), lambda f: f, images=jnp.asarray(IMAGES), again=lambda x: None)
    target = targets.Region(0, np.ones((8, 8)))
    with pytest.raises(UserError, match="region is not mirrored with them; leave \\+augmented out"):
        draw("grad_cam+augmented", seen, target)


def test_every_pixel_attribution_takes_any_target():
    def difference(outputs):
        return outputs[:, 0] - outputs[:, 1]

    def network(images):
        return jax.nn.relu(images).sum((1, 2))

    seen = Split(jnp.asarray(IMAGES), network, images=jnp.asarray(IMAGES), network=network)
    for name in PIXELS:
        options = {} if name in ONCE else {"samples": 8}
        maps = draw(name, seen, difference, score="logit", **options)
        assert maps.shape == (2, 8, 8) and np.isfinite(maps).all(), name
