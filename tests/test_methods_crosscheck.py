"""Each method against third-party implementations on torch, the weights of the network shared.

    pip install --no-deps torchcam grad-cam ttach opencv-python-headless

`grad-cam` imports torchvision for what is not used here, so a stand-in does. It applies a ReLU to
every method, resizes to the image and scales again; that is done to our maps before comparing.
"""

import sys
import warnings
from functools import partial
from importlib.util import find_spec
from unittest import mock

import jax.numpy as jnp
import numpy as np
import pytest

from lficam_jax.methods import METHODS, Split
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

    def forward(self, images):
        return self.dense(torch.relu(self.second(self.stem(images))).mean((2, 3)))


def stride_for(name):
    """Score-CAM is compared where a channel is as large as the image: both resize in other ways.

    grad-cam aligns the corners, torchcam scales a channel before it resizes it.
    """
    return 1 if name == "score_cam" else 2


def ours(name, *, positive=False):
    """Our maps; `positive` cuts them at 0 before they are scaled."""
    features = partial(network.features, stride=stride_for(name))
    images = jnp.asarray(network.IMAGES, jnp.float32)
    split = Split(
        features(images), network.classify, images=images,
        network=lambda x: network.classify(features(x)),
    )  # fmt: skip
    raw = METHODS[name](split, jnp.array(network.CLASS_INDEX))
    return maps.min_max(jnp.maximum(raw, 0) if positive else raw)


def torch_images():
    return torch.from_numpy(network.IMAGES.astype(np.float32)).permute(0, 3, 1, 2)


TORCHCAM = {"grad_cam": "GradCAM", "xgrad_cam": "XGradCAM", "layer_cam": "LayerCAM",
            "score_cam": "ScoreCAM"}  # fmt: skip


def torchcam(name):
    methods = pytest.importorskip("torchcam.methods")
    model = Network(stride_for(name)).eval()
    with getattr(methods, TORCHCAM[name])(model, "stem", input_shape=(3, 16, 16)) as extract:
        scores = model(torch_images())
        (found,) = extract(network.CLASS_INDEX, scores)
    return found.numpy()


@pytest.mark.parametrize("name", TORCHCAM)
def test_torchcam(name):
    np.testing.assert_allclose(ours(name), torchcam(name), atol=1e-3)


GRAD_CAM = {"grad_cam": "GradCAM", "grad_cam_pp": "GradCAMPlusPlus", "xgrad_cam": "XGradCAM",
            "hires_cam": "HiResCAM", "layer_cam": "LayerCAM", "ablation_cam": "AblationCAM",
            "score_cam": "ScoreCAM"}  # fmt: skip


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
