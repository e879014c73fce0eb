"""Each method against third-party implementations on torch, the weights of the network shared.

    pip install --no-deps torchcam grad-cam ttach opencv-python-headless captum

`grad-cam` imports torchvision for what is not used here, so a stand-in does. It applies a ReLU to
every method, resizes to the image and scales again; that is done to our maps before comparing.
"""

import sys
import warnings
from functools import partial
from importlib.util import find_spec
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lficam_jax.methods import METHODS, Split, loops
from lficam_jax.methods.sums import principal
from lficam_jax.methods.wrappers import augmented
from lficam_jax.ops import maps

torch = pytest.importorskip("torch")
import test_methods_torch as network  # noqa: E402

pytestmark = pytest.mark.crosscheck
TORCHVISION = ("torchvision", "torchvision.transforms", "torchvision.transforms.functional")


class Network(torch.nn.Module):
    """The network of the other file, in float32; `stem` puts out the features."""

    def __init__(self, stride):
        super().__init__()
        kernels = {k: torch.from_numpy(v) for k, v in network.kernels(np.float32).items()}
        self.first = torch.nn.Conv2d(3, network.CHANNELS, 3, stride, 1, bias=False)
        self.second = torch.nn.Conv2d(network.CHANNELS, 8, 3, 1, 1, bias=False)
        self.dense = torch.nn.Linear(8, network.CLASSES)
        with torch.no_grad():
            self.first.weight.copy_(kernels["first"].permute(3, 2, 0, 1))
            self.second.weight.copy_(kernels["second"].permute(3, 2, 0, 1))
            self.dense.weight.copy_(5 * kernels["dense"].T)
            self.dense.bias.fill_(3)
        self.stem = torch.nn.Sequential(self.first, torch.nn.ReLU())
        self.last = torch.nn.ReLU()  # a module, as captum changes it

    def forward(self, images):
        return self.dense(self.last(self.second(self.stem(images))).mean((2, 3)))


def stride_for(name):
    """Score-CAM is compared where a channel is as large as the image: both resize in other ways.

    grad-cam aligns the corners, torchcam scales a channel before it resizes it.
    """
    return 1 if name.partition("+")[0] in ("score_cam", "ss_cam", "is_cam") else 2


def cut(name):
    features = partial(network.features, stride=stride_for(name))

    def split(images):
        return Split(
            features(images), network.classify, images=images, again=split,
            network=lambda x: network.classify(features(x)),
        )  # fmt: skip

    return split(jnp.asarray(network.IMAGES, jnp.float32))


def ours(name, *, positive=False, **options):
    """Our maps; `positive` cuts them at 0 before they are scaled."""
    base, _, word = name.partition("+")
    more = {"project": principal} if word == "smoothed" else {}
    raw = METHODS[base](cut(name), jnp.array(network.CLASS_INDEX), **options, **more)
    return maps.min_max(jnp.maximum(raw, 0) if positive else raw)


def torch_images():
    return torch.from_numpy(network.IMAGES.astype(np.float32)).permute(0, 3, 1, 2)


TORCHCAM = {"grad_cam": "GradCAM", "xgrad_cam": "XGradCAM", "layer_cam": "LayerCAM",
            "score_cam": "ScoreCAM", "is_cam": "ISCAM", "ss_cam": "SSCAM"}  # fmt: skip


def torchcam(name, draws=None, **options):
    """Their maps; `draws` are the noise that they would draw."""
    methods = pytest.importorskip("torchcam.methods")
    model, kind = Network(stride_for(name)).eval(), getattr(methods, TORCHCAM[name])
    with kind(model, "stem", input_shape=(3, 16, 16), **options) as extract:
        if draws is not None:
            noise = iter(torch.from_numpy(draws))
            extract._distrib = mock.Mock(sample=lambda size: next(noise).reshape(size))
        scores = model(torch_images())
        (found,) = extract(network.CLASS_INDEX, scores)
    return found.numpy()


@pytest.mark.parametrize("name", [n for n in TORCHCAM if n != "ss_cam"])
def test_torchcam(name):
    np.testing.assert_allclose(ours(name), torchcam(name), atol=1e-3)


def keys():
    return jax.vmap(jax.random.key)(jnp.arange(len(network.IMAGES)))


def test_torchcam_ss_cam_with_our_noise():
    samples, size = 3, (network.SIZE, network.SIZE)

    def drawn(sample, channel):  # of all images
        each = [jax.random.fold_in(k, channel * samples + sample) for k in keys()]
        return np.stack([jax.random.normal(key, size) for key in each])

    noise = [np.stack([drawn(s, c) for c in range(network.CHANNELS)], 1) for s in range(samples)]
    theirs = torchcam("ss_cam", draws=0.5 * np.stack(noise), num_samples=samples, std=0.5)
    found = ours("ss_cam", key=keys(), samples=samples, deviation=0.5)
    np.testing.assert_allclose(found, theirs, atol=1e-3)


def torchcam_weights(model, noise, **options):
    methods = pytest.importorskip("torchcam.methods")
    with methods.SmoothGradCAMpp(model, "stem", input_shape=(3, 16, 16), **options) as extract:
        extract._distrib = mock.Mock(sample=lambda size: torch.from_numpy(noise))
        model(torch_images())
        return extract._get_weights(network.CLASS_INDEX)[0].detach().numpy()


class Pooled(torch.nn.Module):
    """Pools before its hidden layer: the gradient is the same everywhere, and noise changes it."""

    def __init__(self):
        super().__init__()
        self.stem = Network(2).stem
        self.hidden, self.dense = (torch.nn.Linear(*s) for s in ((network.CHANNELS, 8), (8, 4)))

    def forward(self, images):
        return self.dense(torch.relu(self.hidden(4 * self.stem(images).mean((2, 3)))))


def test_torchcam_smooth_grad_cam_pp_with_our_noise():
    """One sample: of several, torchcam weighs by the last gradient alone, not by their mean.

    Its third power is summed times F, not F alone, which is one thing where the gradient is the
    same everywhere; and it weighs the features of the noisy image, so its weights are compared.
    """
    torch.manual_seed(0)
    model = Pooled().eval()
    (w1, b1), (w2, b2) = (
        [p.detach().numpy() for p in layer.parameters()] for layer in (model.hidden, model.dense)
    )

    def classify(features):
        return jax.nn.relu(4 * features.mean((1, 2)) @ w1.T + b1[None]) @ w2.T + b2[None]

    def split(images):
        return Split(network.features(images), classify, images=images, again=split)

    size, asked = (network.SIZE, network.SIZE, 3), jnp.array(network.CLASS_INDEX)
    seen = split(jnp.asarray(network.IMAGES, jnp.float32))
    raw = METHODS["smooth_grad_cam_pp"](seen, asked, key=keys(), samples=1, deviation=0.7)
    noise = np.asarray(loops.noise(keys(), 0, size)).transpose(0, 3, 1, 2)
    weights = torchcam_weights(model, 0.7 * noise, num_samples=1, std=0.7)
    theirs = jax.nn.relu(jnp.einsum("bhwd,bd->bhw", seen.features, weights))
    np.testing.assert_allclose(
        maps.min_max(raw), maps.min_max(theirs), atol=5e-3
    )  # theirs adds 1e-8


GRAD_CAM = {"grad_cam": "GradCAM", "grad_cam_pp": "GradCAMPlusPlus", "xgrad_cam": "XGradCAM",
            "hires_cam": "HiResCAM", "layer_cam": "LayerCAM", "ablation_cam": "AblationCAM",
            "score_cam": "ScoreCAM"}  # fmt: skip
SMOOTHED = ("grad_cam", "grad_cam_pp", "xgrad_cam")


@pytest.fixture(scope="module")
def pytorch_grad_cam():
    if find_spec("pytorch_grad_cam") is None:
        pytest.skip("grad-cam is not installed")
    missing = [name for name in TORCHVISION if name not in sys.modules]
    sys.modules.update({name: mock.MagicMock() for name in missing})
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # theirs
            import pytorch_grad_cam
        return pytorch_grad_cam
    finally:
        for name in missing:
            del sys.modules[name]


def grad_cam(library, name):
    asked = [library.utils.model_targets.ClassifierOutputTarget(c) for c in network.CLASS_INDEX]
    model = Network(stride_for(name)).eval()
    with getattr(library, GRAD_CAM[name])(model, [model.stem]) as extract:
        return extract(torch_images(), targets=asked)


@pytest.mark.parametrize("name", GRAD_CAM)
def test_pytorch_grad_cam(name, pytorch_grad_cam):
    size = (network.SIZE, network.SIZE)
    found = maps.min_max(maps.resize(ours(name, positive=True), size))
    # grad-cam adds 1e-6 to the denominator of Grad-CAM++.
    tolerance = 5e-3 if name == "grad_cam_pp" else 1e-4
    np.testing.assert_allclose(found, grad_cam(pytorch_grad_cam, name), atol=tolerance)


@pytest.mark.parametrize("name", [*SMOOTHED, "eigen_grad_cam"])
def test_the_first_component_of_pytorch_grad_cam(name, pytorch_grad_cam):
    """`eigen_smooth`, before its ReLU, and turned by the rule that it has for the sign."""
    from pytorch_grad_cam.utils.svd_on_activations import get_2d_projection_with_sign_correction

    split, asked = cut(name), jnp.array(network.CLASS_INDEX)
    kind = "EigenGradCAM" if name == "eigen_grad_cam" else GRAD_CAM[name]
    model = Network(stride_for(name)).eval()
    arrays = [np.asarray(a).transpose(0, 3, 1, 2) for a in (split.features, split.gradient(asked))]
    where = f"{getattr(pytorch_grad_cam, kind).__module__}.get_2d_projection"
    if name != "eigen_grad_cam":
        where = "pytorch_grad_cam.base_cam.get_2d_projection"
    with (
        getattr(pytorch_grad_cam, kind)(model, [model.stem]) as extract,
        mock.patch(where, get_2d_projection_with_sign_correction),
    ):
        theirs = extract.get_cam_image(torch_images(), model.stem, [], *arrays, True)
    found = METHODS[name](split, asked, **({} if name == "eigen_grad_cam" else SMOOTH))
    theirs = theirs if name == "eigen_grad_cam" else np.maximum(theirs, 0)
    np.testing.assert_allclose(maps.min_max(found), maps.min_max(theirs), atol=5e-3)


@pytest.mark.parametrize("name", ["grad_cam", "layer_cam"])
def test_the_augmented_map_is_pytorch_grad_cams(name, pytorch_grad_cam):
    """At the size of the image, theirs are resized and scaled before their mean is taken."""
    asked = [pytorch_grad_cam.utils.model_targets.ClassifierOutputTarget(c)
             for c in network.CLASS_INDEX]  # fmt: skip
    model = Network(2).eval()
    with getattr(pytorch_grad_cam, GRAD_CAM[name])(model, [model.stem]) as extract:
        theirs = extract(torch_images(), targets=asked, aug_smooth=True)
    size = (network.SIZE, network.SIZE)

    def enlarged(split):
        raw = METHODS[name](split, jnp.array(network.CLASS_INDEX))
        return maps.min_max(maps.resize(maps.min_max(raw), size))

    found = augmented(enlarged, cut(name), jnp.array(network.CLASS_INDEX))
    np.testing.assert_allclose(found, theirs, atol=1e-4)


# captum

SMOOTH = {"project": principal}


def colours(found):
    return found.detach().permute(0, 2, 3, 1).numpy()


def largest(found):
    return np.abs(colours(found)).max(-1)


def speaking_for(found):
    return np.maximum(colours(found).sum(-1), 0)


def captum(name):
    attr = pytest.importorskip("captum.attr")
    model, images = Network(2).eval(), torch_images().requires_grad_()
    asked = network.CLASS_INDEX
    if name == "gradient":
        return largest(attr.Saliency(model).attribute(images, asked))
    if name == "input_x_gradient":
        return speaking_for(attr.InputXGradient(model).attribute(images, asked))
    if name == "integrated_gradients":
        return speaking_for(attr.IntegratedGradients(model).attribute(images, target=asked))
    if name == "guided_backprop":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says that it sets hooks
            return largest(attr.GuidedBackprop(model).attribute(images, asked))
    windows = {"sliding_window_shapes": (3, 4, 4), "strides": (3, 2, 2)}
    return speaking_for(attr.Occlusion(model).attribute(images, target=asked, **windows) / 3)


CAPTUM = ("gradient", "input_x_gradient", "integrated_gradients", "guided_backprop", "occlusion")


@pytest.mark.parametrize("name", CAPTUM)
def test_captum(name):
    found = METHODS[name](cut(name), jnp.array(network.CLASS_INDEX))
    np.testing.assert_allclose(found, captum(name), rtol=1e-3, atol=1e-4)


def test_captum_smooth_grad_with_our_noise(monkeypatch):
    attr = pytest.importorskip("captum.attr")
    samples, model = 4, Network(2).eval()
    span = np.ptp(network.IMAGES, axis=(1, 2, 3))[:, None, None, None].astype(np.float32)
    drawn = [np.asarray(loops.noise(keys(), i, network.IMAGES.shape[1:])) for i in range(samples)]
    noise = np.stack([0.15 * span * d for d in drawn], 1).transpose(0, 1, 4, 2, 3)
    noise = torch.from_numpy(noise.reshape(-1, 3, network.SIZE, network.SIZE))
    monkeypatch.setattr(torch, "normal", lambda *_: noise)
    tunnel = attr.NoiseTunnel(attr.Saliency(model))
    theirs = tunnel.attribute(
        torch_images(), nt_samples=samples, nt_type="smoothgrad", target=network.CLASS_INDEX,
        abs=False,
    )  # fmt: skip
    asked = jnp.array(network.CLASS_INDEX)
    found = METHODS["smooth_grad"](cut("smooth_grad"), asked, key=keys(), samples=samples)
    np.testing.assert_allclose(found, largest(theirs), rtol=1e-3, atol=1e-4)
