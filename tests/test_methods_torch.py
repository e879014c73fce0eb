"""Each method again in torch autograd, float64, image by image, as its paper writes it.

The network is brought as a pair of functions. Its classifier has a convolution and a ReLU, so its
gradient varies over space and the methods are not one another.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lficam_jax.methods import ATTENTION, METHODS, Split, draw

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

CHANNELS, CLASSES, SIZE = 6, 4, 16
CLASS_INDEX = [2, 0, 3]


def kernels(dtype=np.float64):
    random = np.random.default_rng(3)
    shapes = {"first": (3, 3, 3, CHANNELS), "second": (3, 3, CHANNELS, 8), "dense": (8, CLASSES)}
    drawn = {name: random.standard_normal(shape) for name, shape in shapes.items()}
    return {
        name: (k / np.sqrt(np.prod(k.shape[:-1]) / 2)).astype(dtype) for name, k in drawn.items()
    }


IMAGES = np.random.default_rng(4).standard_normal((3, SIZE, SIZE, 3))


# The network here


def convolve(x, kernel, stride):
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), [(1, 1), (1, 1)], dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def features(images, stride=2):
    return jax.nn.relu(convolve(images, kernels(np.float32)["first"], stride))


def classify(maps):
    hidden = jax.nn.relu(convolve(maps, kernels(np.float32)["second"], 1))
    return 5 * hidden.mean(axis=(1, 2)) @ kernels(np.float32)["dense"] + 3


# The network in torch, on one image [1 c y x]


def torch_convolve(x, name, stride):
    kernel = torch.from_numpy(kernels()[name]).permute(3, 2, 0, 1)
    return torch.nn.functional.conv2d(x, kernel, stride=stride, padding=1)


def torch_features(image):
    return torch.relu(torch_convolve(image, "first", 2))


def torch_classify(maps):
    hidden = torch.relu(torch_convolve(maps, "second", 1))
    return 5 * hidden.mean((2, 3)) @ torch.from_numpy(kernels()["dense"]) + 3


# The papers. A is [k h w], S the score, c the class.


def activations_and_gradient(image, c):
    a = torch_features(image).detach().requires_grad_()
    score = torch_classify(a)[0, c]
    (gradient,) = torch.autograd.grad(score, a)
    return a.detach()[0], gradient[0], score.detach()


def grad_cam(image, c):
    a, g, _ = activations_and_gradient(image, c)
    return torch.relu(sum(g[k].mean() * a[k] for k in range(CHANNELS)))


def grad_cam_pp(image, c):
    a, g, score = activations_and_gradient(image, c)
    y = torch.exp(score)  # its derivatives of order n are exp(S) g^n, as S is piecewise linear
    result = torch.zeros(a.shape[1:], dtype=a.dtype)
    for k in range(CHANNELS):
        below = 2 * y * g[k] ** 2 + a[k].sum() * y * g[k] ** 3
        alpha = torch.where(below != 0, y * g[k] ** 2 / torch.where(below != 0, below, 1), 0)
        result += (alpha * torch.relu(y * g[k])).sum() * a[k]
    return torch.relu(result)


def xgrad_cam(image, c):
    a, g, _ = activations_and_gradient(image, c)
    return torch.relu(sum((a[k] / a[k].sum() * g[k]).sum() * a[k] for k in range(CHANNELS)))


def hires_cam(image, c):
    a, g, _ = activations_and_gradient(image, c)
    return sum(g[k] * a[k] for k in range(CHANNELS))


def layer_cam(image, c):
    a, g, _ = activations_and_gradient(image, c)
    return torch.relu(sum(torch.relu(g[k]) * a[k] for k in range(CHANNELS)))


def score_cam(image, c):
    a, _, _ = activations_and_gradient(image, c)
    base = torch_classify(torch_features(torch.zeros_like(image)))[0, c]
    scores = []
    for k in range(CHANNELS):
        mask = torch.nn.functional.interpolate(
            a[None, None, k], (SIZE, SIZE), mode="bilinear", align_corners=False
        )
        mask = (mask - mask.min()) / (mask.max() - mask.min())
        scores.append(torch_classify(torch_features(image * mask))[0, c] - base)
    weights = torch.softmax(torch.stack(scores), 0)
    return torch.relu(sum(weights[k] * a[k] for k in range(CHANNELS)))


def ablation_cam(image, c):
    a, _, score = activations_and_gradient(image, c)
    assert score > 0  # where the paper's division keeps the sign
    result = 0
    for k in range(CHANNELS):
        without = a.clone()
        without[k] = 0
        result = result + (score - torch_classify(without[None])[0, c]) / score * a[k]
    return torch.relu(result)


def eigen_cam(image, c):
    a, _, _ = activations_and_gradient(image, c)
    _, _, directions = torch.linalg.svd(a.reshape(CHANNELS, -1).T)
    return (a * directions[0][:, None, None]).sum(0).abs()  # of one sign, as a is after a ReLU


def mean_features(image, c):
    return activations_and_gradient(image, c)[0].mean(0)


def eigen_grad_cam(image, c):
    a, g, _ = activations_and_gradient(image, c)
    terms = (a * g).reshape(CHANNELS, -1).T
    terms = terms - terms.mean(0)
    _, _, directions = torch.linalg.svd(terms)
    along = (terms @ directions[0]).reshape(a.shape[1:])
    return along if along.max() > -along.min() else -along


def smooth_grad_cam_pp(image, c):
    """With the noise that is drawn here for the same image."""
    place = next(i for i, one in enumerate(IMAGES) if np.array_equal(one[..., 0], image[0, 0]))
    key, gradients = jax.random.fold_in(jax.random.key(0), place), []
    for number in range(4):
        drawn = jax.random.normal(jax.random.fold_in(key, number), IMAGES.shape[1:])
        noise = torch.from_numpy(np.asarray(drawn, np.float64)).permute(2, 0, 1)
        gradients.append(activations_and_gradient(image + 0.3 * noise, c)[1])
    a, g = torch_features(image)[0], torch.stack(gradients)
    second, third = (g**2).mean(0), (g**3).mean(0)
    result = torch.zeros(a.shape[1:], dtype=a.dtype)
    for k in range(CHANNELS):
        below = 2 * second[k] + a[k].sum() * third[k]
        alpha = torch.where(below != 0, second[k] / torch.where(below != 0, below, 1), 0)
        result += (alpha * torch.relu(g.mean(0)[k])).sum() * a[k]
    return torch.relu(result)


def is_cam(image, c):
    a, _, _ = activations_and_gradient(image, c)
    scores, strength = torch.zeros(CHANNELS, dtype=a.dtype), 0
    for i in range(10):
        strength += (i + 1) / 10
        for k in range(CHANNELS):
            mask = torch.nn.functional.interpolate(
                a[None, None, k], (SIZE, SIZE), mode="bilinear", align_corners=False
            )
            mask = strength * (mask - mask.min()) / (mask.max() - mask.min())
            scores[k] += torch_classify(torch_features(image * mask))[0, c] / 10
    return torch.relu((torch.softmax(scores, 0)[:, None, None] * a).sum(0))


REFERENCES = (grad_cam, grad_cam_pp, xgrad_cam, hires_cam, layer_cam, score_cam, ablation_cam,
              eigen_cam, mean_features, eigen_grad_cam, smooth_grad_cam_pp, is_cam)  # fmt: skip


def scaled(values):
    values = values.detach().numpy()
    return (values - values.min()) / (values.max() - values.min())


def expected(reference):
    images = torch.from_numpy(IMAGES).permute(0, 3, 1, 2)
    return np.stack([scaled(reference(image[None], c))
                     for image, c in zip(images, CLASS_INDEX, strict=True)])  # fmt: skip


@pytest.mark.parametrize("reference", REFERENCES, ids=lambda f: f.__name__)
def test_the_map_is_the_papers(reference):
    images = jnp.asarray(IMAGES, jnp.float32)

    def cut(images):
        return Split(
            features(images), classify, images=images, again=cut,
            network=lambda x: classify(features(x)),
        )  # fmt: skip

    split = cut(images)
    found = draw(reference.__name__, split, jnp.array(CLASS_INDEX), chunk_size=5)
    np.testing.assert_allclose(found, expected(reference), atol=1e-4)


def test_no_two_references_draw_the_same():
    drawn = [expected(reference) for reference in REFERENCES]
    nearest = min(np.abs(a - b).max() for i, a in enumerate(drawn) for b in drawn[:i])
    assert nearest > 0.02


def test_every_method_with_an_equation_has_a_reference():
    named = {reference.__name__ for reference in REFERENCES}
    # Compared with torchcam and captum (test_methods_crosscheck.py) or below.
    named |= {"ss_cam", "gradient", "input_x_gradient", "smooth_grad", "integrated_gradients",
              "guided_backprop", "occlusion", "rise"}  # fmt: skip
    # cam: proved equal to hires_cam, and own_class to what the attention adds to the logit
    # (test_methods.py); the others have no equation of a network.
    assert set(METHODS) - named == {
        *ATTENTION,
        "cam",
        "own",
        "own_class",
        "gaussian",
        "random",
        "fakecam",
    }


def test_rise_is_the_papers():
    """Masks of the same random cells and shifts, enlarged by torch; probabilities, as published."""
    key, samples, cells = jax.random.key(5), 40, 5
    large, step = 6 * 4, 4  # the next whole cells: 4 pixels of 16 / 5
    probe, c = torch.from_numpy(IMAGES[:1]).permute(0, 3, 1, 2), CLASS_INDEX[0]
    expected = torch.zeros((SIZE, SIZE), dtype=torch.float64)
    for i in range(samples):
        grid, shift = jax.random.split(jax.random.fold_in(key, i))
        on = np.asarray(jax.random.bernoulli(grid, 0.5, (cells, cells)), np.float64)
        y, x = np.asarray(jax.random.randint(shift, (2,), 0, jnp.array([step, step])))
        mask = torch.nn.functional.interpolate(
            torch.from_numpy(on)[None, None], (large, large), mode="bilinear", align_corners=False
        )[0, 0, y : y + SIZE, x : x + SIZE]
        share = torch.softmax(torch_classify(torch_features(probe * mask)), 1)[0, c]
        expected += share * mask / (samples * 0.5)
    images = jnp.asarray(IMAGES[:1], jnp.float32)
    seen = Split(features(images), classify, images=images, network=lambda x: classify(features(x)))
    found = METHODS["rise"](
        seen, jnp.array([c]), key=key[None], samples=samples, cells=cells, chunk_size=7
    )
    np.testing.assert_allclose(found[0], expected, rtol=1e-4)
