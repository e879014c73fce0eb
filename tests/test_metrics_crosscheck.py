"""Each measure against third parties on torch and numpy, the network's weights and the maps shared.

    pip install --no-deps torchcam grad-cam ttach opencv-python-headless captum quantus pandas \
      cachetools scikit-image lazy-loader imagecorruptions

Where one differs from the definition in docs/measures.md, the documented relation is tested.
"""

import contextlib
import sys
import types
import warnings
from functools import partial
from importlib.util import find_spec

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lficam_jax.metrics import faithfulness, road, sanity, sparseness
from lficam_jax.metrics.corruptions import corrupt
from lficam_jax.metrics.localisation import constant, energy, on_image, pointing_hit
from lficam_jax.ops.blur import gaussian_blur
from lficam_jax.ops.maps import min_max
from lficam_jax.ops.similarity import ssim, top

torch = pytest.importorskip("torch")
import test_methods_crosscheck as thirds  # noqa: E402
import test_methods_torch as network  # noqa: E402

pytestmark = pytest.mark.crosscheck
pytorch_grad_cam = thirds.pytorch_grad_cam  # the fixture
SIZE = network.SIZE
IMAGES = jnp.asarray(network.IMAGES, jnp.float32)
CLASSES = jnp.array(network.CLASS_INDEX)
softmax = partial(torch.softmax, dim=-1)


def confidence(images, classes):
    share = jax.nn.softmax(network.classify(network.features(images)))
    return jnp.take_along_axis(share, classes[:, None], axis=1)[:, 0]


@pytest.fixture(scope="module")
def maps():
    """Grad-CAM's maps on the grid of the features, and at the image's size."""
    raw = min_max(jnp.asarray(thirds.ours("grad_cam")))
    return raw, on_image(raw, (SIZE, SIZE))


@pytest.fixture(scope="module")
def model():
    return thirds.Network(2).eval()


def as_torch(images):
    return torch.from_numpy(np.array(images)).permute(0, 3, 1, 2)


class Given:
    """Hands torchcam's measures the maps that ours are given."""

    def __init__(self, model, maps):
        self.model, self.maps = model, torch.from_numpy(np.array(maps))

    def __call__(self, class_idx, scores):
        return [self.maps]

    def fuse_cams(self, cams):
        return cams[0]

    def _hooks_off(self):
        return contextlib.nullcontext()


def test_torchcam_average_drop_and_increase(model, maps):
    metrics = pytest.importorskip("torchcam.metrics")
    small, large = maps
    for drawn, masked in ((small, large), (1 - small, on_image(1 - small, (SIZE, SIZE)))):
        metric = metrics.ClassificationMetric(Given(model, drawn), softmax)
        metric.update(as_torch(IMAGES), network.CLASS_INDEX)
        found = metric.summary()
        before = confidence(IMAGES, CLASSES)
        after = confidence(faithfulness.masked(IMAGES, masked, 0 * IMAGES), CLASSES)
        drop = faithfulness.average_drop(before, after).mean()
        increase = faithfulness.increase_in_confidence(before, after).mean()
        assert 0 < drop and drop == pytest.approx(100 * found["avg_drop"], rel=1e-4)
        assert increase == pytest.approx(100 * found["conf_increase"])


def test_torchcam_deletion_and_insertion(model, maps):
    """Theirs take one baseline for both: zeros for deletion, the blurred image for insertion."""
    metrics = pytest.importorskip("torchcam.metrics")
    small, large = maps
    options = {"steps": 16, "batch_size": 64}

    def theirs(baseline):
        metric = metrics.DeletionInsertionMetric(
            Given(model, small), softmax, baseline=baseline, **options
        )
        metric.update(as_torch(IMAGES), network.CLASS_INDEX)
        return metric.summary()

    ours, _ = faithfulness.deletion(confidence, IMAGES, CLASSES, large, 0 * IMAGES)
    assert ours.mean() == pytest.approx(theirs(None)["deletion_auc"], rel=1e-4)
    ours, _ = faithfulness.insertion(confidence, IMAGES, CLASSES, large)
    blurred = as_torch(gaussian_blur(IMAGES))
    assert ours.mean() == pytest.approx(theirs(blurred)["insertion_auc"], rel=1e-4)


def targets(library):
    """The probability of the class; by default their targets are logits."""
    chosen = library.utils.model_targets.ClassifierOutputSoftmaxTarget
    return [chosen(c) for c in network.CLASS_INDEX]


def test_grad_cam_subtracts_where_average_drop_divides(model, maps, pytorch_grad_cam):
    from pytorch_grad_cam.metrics.cam_mult_image import DropInConfidence, IncreaseInConfidence

    large = np.array(maps[1])
    asked = as_torch(IMAGES), large, targets(pytorch_grad_cam), model
    before = confidence(IMAGES, CLASSES)
    after = confidence(faithfulness.masked(IMAGES, maps[1], 0 * IMAGES), CLASSES)
    drop = faithfulness.average_drop(before, after)
    np.testing.assert_allclose(DropInConfidence()(*asked), drop / 100 * before, atol=1e-6)
    increase = faithfulness.increase_in_confidence(before, after) / 100
    np.testing.assert_array_equal(IncreaseInConfidence()(*asked), increase)


@pytest.mark.filterwarnings("ignore:__array_wrap__")  # numpy, about grad-cam's use of torch
def test_grad_cam_imputes_the_same_pixels(maps, pytorch_grad_cam):
    from pytorch_grad_cam.metrics.road import NoisyLinearImputer

    for share in (0.1, 0.8):
        removed = top(maps[1], share)
        ours = road.impute(IMAGES, removed, tolerance=1e-6, iterations=2000)
        kept = torch.from_numpy(1 - np.array(removed, np.float32))
        for image, mask, found in zip(as_torch(IMAGES), kept, ours, strict=True):
            theirs = NoisyLinearImputer(noise=0)(image, mask).permute(1, 2, 0)
            np.testing.assert_allclose(found, theirs, atol=2e-4)


class Left(torch.nn.Module):
    """Asks whether the left half of the picture is bright."""

    def forward(self, images):
        bright = 8 * images[..., : SIZE // 2].mean((1, 2, 3))
        return torch.stack([bright, 4 + 0 * bright], 1)


@pytest.mark.filterwarnings("ignore:__array_wrap__")
def test_grad_cam_road(pytorch_grad_cam):
    """Theirs cut at a percentile: of 256 pixels it takes up to one more than the share says."""
    from pytorch_grad_cam.metrics import road as theirs

    def bright(images, classes):
        return jax.nn.sigmoid(8 * images[:, :, : SIZE // 2].mean((1, 2, 3)) - 4)

    images = gaussian_blur(IMAGES, 5, 1.0).at[:, :, : SIZE // 2].add(1)
    noise = jax.random.uniform(jax.random.key(1), images.shape[:3])  # no ties
    good = min_max(noise.at[:, :, : SIZE // 2].add(1))
    keys, classes = jax.random.split(jax.random.key(0), len(images)), jnp.zeros(3, jnp.int32)
    ours = road.road(bright, images, classes, good, keys)
    chosen = pytorch_grad_cam.utils.model_targets.ClassifierOutputSoftmaxTarget
    asked = as_torch(images), np.array(good), [chosen(0)] * len(images), Left()
    torch.manual_seed(0)
    before = np.asarray(bright(images, classes))  # their averages are of the change
    morf = before + theirs.ROADMostRelevantFirstAverage()(*asked)
    lerf = before + theirs.ROADLeastRelevantFirstAverage()(*asked)
    np.testing.assert_allclose(ours["road_morf"], morf, atol=0.02)
    np.testing.assert_allclose(ours["road_lerf"], lerf, atol=0.02)
    np.testing.assert_allclose(ours["road"], theirs.ROADCombined()(*asked), atol=0.02)
    assert ours["road"].min() > 0.1


def test_grad_cam_removes_all_of_a_map_with_many_zeros(pytorch_grad_cam):
    from pytorch_grad_cam.metrics.perturbation_confidence import RemoveMostRelevantFirst

    spot = np.zeros((1, 10, 10), np.float32)
    spot[0, 4, 4] = 1
    theirs = RemoveMostRelevantFirst(80, lambda image, kept: kept)(None, torch.from_numpy(spot[0]))
    assert theirs.sum() == 0  # nothing is kept
    assert top(jnp.asarray(spot), 0.2).sum() == 20


def test_pieces_of_adcc(maps, pytorch_grad_cam):
    from pytorch_grad_cam.metrics.arcc import Complexity, batch_pearson_coherency
    from scipy.stats import hmean

    large, other = np.array(maps[1]), np.array(maps[1])[::-1]
    coherency = faithfulness.coherency(jnp.asarray(large), jnp.asarray(other))
    np.testing.assert_allclose(coherency, (batch_pearson_coherency(large, other) + 1) / 2, 1e-4)
    complexity = large.mean(axis=(1, 2))
    np.testing.assert_allclose(complexity, Complexity()(large), rtol=1e-5)
    drop = np.array([0.0, 25.0, 60.0])
    expected = 100 * hmean([coherency, 1 - complexity, 1 - drop / 100])
    found = faithfulness.adcc(coherency, jnp.asarray(complexity), jnp.asarray(drop))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.fixture(scope="module")
def quantus():
    return pytest.importorskip("quantus")


QUIET = {"disable_warnings": True, "display_progressbar": False}


def test_quantus_localisation(quantus):
    maps = jax.random.uniform(jax.random.key(1), (64, 8, 8))
    maps = min_max(maps)
    masks = jax.random.uniform(jax.random.key(2), (64, 8, 8)) < 0.3
    asked = {"a_batch": np.array(maps, np.float64), "s_batch": np.array(masks)}
    hits = quantus.PointingGame(**QUIET).evaluate_batch(x_batch=None, **asked)
    np.testing.assert_array_equal(pointing_hit(maps, masks), hits)
    assert 0 < hits.mean() < 1
    shares = quantus.RelevanceMassAccuracy(**QUIET).evaluate_batch(**asked)
    np.testing.assert_allclose(energy(maps, masks), shares, rtol=1e-5)


def test_quantus_counts_a_constant_map_as_a_hit(quantus):
    flat, mask = jnp.ones((1, 4, 4)), jnp.zeros((1, 4, 4), bool).at[0, 1, 1].set(True)
    asked = {"a_batch": np.array(flat), "s_batch": np.array(mask)}
    assert quantus.PointingGame(**QUIET).evaluate_batch(x_batch=None, **asked)[0]
    assert constant(flat)[0] and not pointing_hit(flat, mask)[0]


def test_quantus_sparseness_and_complexity(quantus, maps):
    large = maps[1]  # they add 1e-7 to every value, and 1e-12 below the logarithm
    gini = quantus.Sparseness(**QUIET).evaluate_batch(None, np.array(large, np.float64))
    np.testing.assert_allclose(sparseness.gini(large), gini, atol=1e-5)
    entropy = quantus.Complexity(**QUIET).evaluate_batch(None, np.array(large, np.float64))
    np.testing.assert_allclose(sparseness.entropy(large), entropy, rtol=1e-5)


def test_captum_max_sensitivity(model):
    """The same draws; a map of zeros, of which captum makes 0, has no value here."""
    metrics = pytest.importorskip("captum.metrics")
    radius, draws = 0.02, 10
    keys = jax.random.split(jax.random.key(5), len(IMAGES))

    def noise(key, draw):
        one = jax.random.fold_in(key, draw)
        return jax.random.uniform(one, IMAGES.shape[1:], minval=-radius, maxval=radius)

    added = jax.vmap(jax.vmap(noise, (None, 0)), (0, None))(keys, jnp.arange(draws))
    added = as_torch(added.reshape(-1, *IMAGES.shape[1:]))

    def explain(images, scale=1):
        return (scale * model.stem(images[0] if isinstance(images, tuple) else images).mean(1),)

    theirs = metrics.sensitivity_max(
        explain, as_torch(IMAGES), lambda images: images + added, n_perturb_samples=draws
    )
    ours = sanity.max_sensitivity(lambda x: network.features(x).mean(-1), IMAGES, keys)
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-4)
    nothing = metrics.sensitivity_max(partial(explain, scale=0), as_torch(IMAGES))
    assert (nothing == 0).all()
    assert np.isnan(sanity.max_sensitivity(lambda x: 0 * x[..., 0], IMAGES, keys)).all()


def test_scikit_image_structural_similarity():
    """The maps are flat near the border, where scikit-image's mean leaves pixels out."""
    metrics = pytest.importorskip("skimage.metrics")
    a, b = np.zeros((2, 40, 40), np.float32)
    a[12:28, 12:28], b[12:28, 12:28] = np.random.default_rng(0).random((2, 16, 16))
    _, theirs = metrics.structural_similarity(
        a, b, gaussian_weights=True, use_sample_covariance=False, data_range=1, full=True
    )
    ours = ssim(jnp.asarray(a)[None], jnp.asarray(b)[None])
    assert ours[0] == pytest.approx(theirs.mean(), abs=1e-4) and theirs.mean() < 0.95


@pytest.fixture(scope="module")
def imagecorruptions():
    """Of 2020: it wants pkg_resources, which setuptools has dropped."""
    missing = find_spec("pkg_resources") is None
    if missing:
        sys.modules["pkg_resources"] = types.SimpleNamespace(resource_filename=None)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # theirs
            return pytest.importorskip("imagecorruptions")
    finally:
        if missing:
            del sys.modules["pkg_resources"]


PICTURE = np.array(
    gaussian_blur(jax.random.uniform(jax.random.key(3), (1, 96, 128, 3)) * 2550 - 1147, 9, 2.0)[0]
).clip(0, 255).astype(np.uint8)  # fmt: skip


@pytest.mark.parametrize("severity", [1, 5])
@pytest.mark.parametrize(
    "name", ["defocus_blur", "brightness", "contrast", "pixelate", "jpeg_compression"]
)
def test_imagecorruptions(imagecorruptions, name, severity):
    """Theirs cut fractions off, ours are rounded."""
    theirs = imagecorruptions.corrupt(PICTURE, severity, name).astype(int)
    ours = corrupt(PICTURE, name, severity, example=0).astype(int)
    assert (np.abs(ours - theirs) <= 1).mean() > 0.999
    assert np.abs(theirs - PICTURE).mean() > 1


def test_zoom_blur_in_torch():
    """imagecorruptions keeps the upper left of the enlarged picture; the authors, its centre."""
    picture = as_torch(PICTURE[None] / np.float32(255))
    total, factors = picture, np.arange(1, 1.31, 0.03)
    for factor in factors:
        matrix = torch.tensor([[[1 / factor, 0, 0], [0, 1 / factor, 0]]], dtype=torch.float32)
        grid = torch.nn.functional.affine_grid(matrix, picture.shape, align_corners=False)
        total = total + torch.nn.functional.grid_sample(picture, grid, align_corners=False)
    expected = 255 * (total / (len(factors) + 1))[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(corrupt(PICTURE, "zoom_blur", 5, example=0), expected, atol=0.51)


@pytest.mark.parametrize("name", ["gaussian_noise", "shot_noise", "impulse_noise"])
def test_imagecorruptions_noise_in_distribution(imagecorruptions, name):
    np.random.seed(0)
    for severity in (1, 3, 5):
        theirs = imagecorruptions.corrupt(PICTURE, severity, name) / 255.0
        ours = corrupt(PICTURE, name, severity, example=0) / 255.0
        assert ours.mean() == pytest.approx(theirs.mean(), abs=0.005)
        harm = [np.std(noisy - PICTURE / 255.0) for noisy in (ours, theirs)]
        assert harm[0] == pytest.approx(harm[1], rel=0.1)
