"""ImageNet's usual networks: random weights give torch's logits, under the names of their files."""

import jax
import numpy as np
import pytest

from lficam_jax.interop.torch import variables_from_torch
from lficam_jax.models import create_model

torch = pytest.importorskip("torch")
import torch_imagenet as theirs  # noqa: E402
from torch_reference import randomise  # noqa: E402

pytestmark = pytest.mark.torch
FIFTY, FEW = (3, 4, 6, 3), 7
NETWORKS = {
    "resnet50": (lambda: theirs.ResNet(FIFTY, classes=FEW), ("resnet", 50), {}),
    "resnext50": (lambda: theirs.ResNet(FIFTY, 32, 4, FEW), ("resnet", 50),
                  {"cardinality": 32, "widen": 2}),
    "resnext101": (lambda: theirs.ResNet((3, 4, 23, 3), 32, 8, FEW), ("resnet", 101),
                   {"cardinality": 32, "widen": 4}),
    "wide_resnet50": (lambda: theirs.ResNet(FIFTY, 1, 128, FEW), ("resnet", 50), {"widen": 2}),
    "densenet121": (lambda: theirs.DenseNet(classes=FEW), ("densenet", 121), {}),
    "vgg16": (lambda: theirs.VGG(classes=FEW), ("vgg", 16), {}),
    "mobilenet_v2": (lambda: theirs.MobileNetV2(FEW), ("mobilenet", 2), {}),
    "convnext_tiny": (lambda: theirs.ConvNeXt(classes=FEW), ("convnext", 18), {}),
    "lite0": (lambda: theirs.EfficientNetLite(classes=FEW), ("efficientnet_lite", 0), {}),
    "lite2": (lambda: theirs.EfficientNetLite(theirs.EfficientNetLite.LITE2, FEW),
              ("efficientnet_lite", 2), {}),
}  # fmt: skip


def state_of(network):
    return {name: tensor.numpy() for name, tensor in network.state_dict().items()}


@pytest.mark.parametrize("name", NETWORKS)
def test_logits(name):
    """72 x 104 pixels: neither square nor a multiple of 32, where padding and pooling differ."""
    build, backbone, options = NETWORKS[name]
    network = randomise(build(), seed=4).eval()
    model = create_model(*backbone, "plain", num_classes=FEW, **options)
    variables = variables_from_torch(state_of(network), model)
    assert sum(p.numel() for p in network.parameters()) == sum(
        leaf.size for leaf in jax.tree.leaves(variables["params"])
    )
    images = np.random.default_rng(1).standard_normal((2, 72, 104, 3)).astype(np.float32)
    with torch.no_grad():
        want = network(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    got = np.asarray(jax.jit(model.apply)(variables, images).logits)
    assert np.linalg.norm(got - want) <= 1e-4 * np.linalg.norm(want)
    assert np.ptp(want, axis=0).max() > 1e-3  # and they do depend on the picture


def test_the_older_names_of_densenets_files():
    """torchvision's published file writes norm.1 and conv.1."""
    state = state_of(theirs.DenseNet(classes=FEW))
    older = {
        name.replace("norm1.", "norm.1.").replace("norm2.", "norm.2.")
        .replace("conv1.", "conv.1.").replace("conv2.", "conv.2."): value
        for name, value in state.items()
    }  # fmt: skip
    assert {*older} != {*state}
    model = create_model("densenet", 121, "plain", num_classes=FEW)
    jax.tree.map(
        np.testing.assert_array_equal,
        variables_from_torch(older, model), variables_from_torch(state, model),
    )  # fmt: skip
