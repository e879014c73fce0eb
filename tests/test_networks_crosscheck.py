"""Networks that nobody here wrote, in NNX and Equinox, against pytorch-grad-cam, weights shared.

    pip install --no-deps jaxnn equimo einops torchvision timm
    pip install --no-deps grad-cam ttach opencv-python-headless

jaxnn holds timm's networks in NNX, and equimo's ConvNeXt is timm's in Equinox: timm's own are what
they are compared with. torchvision, which timm and jaxnn import, is built for a torch with CUDA;
two of its operators, which nothing here calls, are declared so that it can be imported.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from lficam_jax.explaining.layers import layers
from lficam_jax.explaining.sources import source_of
from lficam_jax.methods import METHODS
from lficam_jax.ops.maps import min_max, resize

torch = pytest.importorskip("torch")
pytestmark = [
    pytest.mark.crosscheck,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]
IMAGES = np.random.default_rng(0).standard_normal((2, 64, 64, 3)).astype(np.float32)
CLASSES = [3, 7]
THEIRS = {"grad_cam": "GradCAM", "hires_cam": "HiResCAM", "layer_cam": "LayerCAM"}


@pytest.fixture(scope="module")
def timm():
    declared = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            declared.define(f"{name}(Tensor boxes, Tensor scores, float threshold) -> Tensor")
    yield pytest.importorskip("timm")
    del declared


def drawn(name, shape):
    """Weights that are far from an initialisation, so that every layer shows in the answers."""
    found = np.random.default_rng(len(name)).standard_normal(shape).astype(np.float32)
    if re.search(r"(scale|var|gamma|norm\.weight)$", name):
        return 1 + np.abs(found) / 4
    return found / np.sqrt(max(1, np.prod(shape) / max(shape))) / (1 if len(shape) > 1 else 4)


def nnx_weights(network):
    """Draws the weights of an NNX network and returns them by name, laid out as torch does."""
    found = {}
    for kind in (nnx.Param, nnx.BatchStat):
        for path, leaf in nnx.to_flat_state(nnx.state(network, kind)):
            name = ".".join(map(str, path))
            leaf[...] = array = drawn(name, leaf.shape)
            if name.endswith("kernel"):
                array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
            found[name] = array
    return found


def in_torch(network, names, weights):
    """Gives a network of timm's the weights; `names` are patterns and what they become."""
    state = network.state_dict()
    left = {name for name in state if not name.endswith("num_batches_tracked")}
    for name, array in weights.items():
        for pattern, new in names.items():
            name = re.sub(pattern, new, name)
        state[name] = torch.from_numpy(array.reshape(state[name].shape).copy())
        left.remove(name)
    assert not left
    network.load_state_dict(state)
    return network.eval()


def theirs(name, network, layer, reshape=None):
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    images = torch.from_numpy(IMAGES).permute(0, 3, 1, 2)
    method = getattr(pytorch_grad_cam, THEIRS[name])
    with method(network, layer, reshape_transform=reshape) as draw:
        return draw(images, [ClassifierOutputTarget(index) for index in CLASSES])


def compare(network, layer, other, theirs_at, reshape=None):
    """Our maps, as grad-cam draws: cut at 0, scaled, resized by half-pixels, scaled again."""
    source, weights = source_of(network, (), IMAGES.shape[1:], layer=layer)

    @jax.jit
    def ours(weights, images):
        splits = source.splits(weights, images)

        def drawn(name):
            raw = [jax.nn.relu(METHODS[name](one, jnp.array(CLASSES))) for one in splits]
            large = [min_max(resize(min_max(one), (64, 64))) for one in raw]
            return min_max(jnp.mean(jnp.stack(large), axis=0))

        return splits[0].logits, {name: drawn(name) for name in THEIRS}

    logits, maps = ours(weights, IMAGES)
    with torch.no_grad():
        said = other(torch.from_numpy(IMAGES).permute(0, 3, 1, 2)).numpy()
    np.testing.assert_allclose(logits, said, rtol=1e-3, atol=1e-3 * np.abs(said).max())
    for name, found in maps.items():
        expected = theirs(name, other, theirs_at, reshape)
        assert np.ptp(expected) > 0.9, name
        np.testing.assert_allclose(found, expected, atol=0.05, err_msg=name)


RESNET = {
    r"stage_modules\.(\d)\.layers": lambda found: f"layer{int(found[1]) + 1}",
    r"downsample\.conv": "downsample.0", r"downsample\.bn": "downsample.1", r"fc\.fc": "fc",
    r"(kernel|scale)$": "weight", r"(bn\d|downsample\.1)\.(mean|var)$": r"\1.running_\2",
}  # fmt: skip


def test_a_resnet_of_jaxnn(timm):
    jaxnn = pytest.importorskip("jaxnn")
    network = jaxnn.create_model("resnet18", pretrained=False, num_classes=10, rngs=nnx.Rngs(0))
    other = timm.create_model("resnet18", num_classes=10)
    other = in_torch(other, RESNET, nnx_weights(network))
    compare(network, "stage_modules[2]", other, [other.layer3])
    compare(network, [network.stage_modules[1], "stage_modules/2"], other,
            [other.layer2, other.layer3])  # fmt: skip


VIT = {r"blocks\.layers": "blocks", r"(kernel|scale)$": "weight"}


def test_a_vision_transformer_of_jaxnn(timm):
    jaxnn = pytest.importorskip("jaxnn")
    options = {"pretrained": False, "num_classes": 10, "depth": 2, "img_size": 64}
    network = jaxnn.create_model("vit_tiny_patch16_224", rngs=nnx.Rngs(0), **options)
    other = in_torch(
        timm.create_model("vit_tiny_patch16_224", **options), VIT, nnx_weights(network)
    )

    def reshape(tokens):
        return tokens[:, 1:].reshape(-1, 4, 4, 192).permute(0, 3, 1, 2)

    assert layers(network, IMAGES, normalised=True).default == "blocks/layers/1/norm1"
    compare(network, None, other, [other.blocks[1].norm1], reshape)


CONVNEXT = {
    r"^blocks\.0\.downsample\.conv": "stem.0", r"^blocks\.0\.downsample\.norm": "stem.1",
    r"^blocks\.(\d)": r"stages.\1", r"downsample\.norm": "downsample.0",
    r"downsample\.conv": "downsample.1", r"dwconv": "conv_dw", r"pwconv": "mlp.fc",
    r"ls\.gamma": "gamma", r"^norm": "head.norm", r"^head\.(weight|bias)": r"head.fc.\1",
}  # fmt: skip


def test_a_convnext_of_equimo(timm):
    equimo = pytest.importorskip("equimo.models.convnext")
    sizes = {"depths": (1, 1, 1, 1), "dims": (8, 16, 24, 32), "num_classes": 10}
    network = equimo.ConvNeXt(**sizes, key=jax.random.key(0))
    leaves, tree = jax.tree.flatten(network)
    names = [
        jax.tree_util.keystr(path, simple=True, separator=".")
        for path, _ in jax.tree_util.tree_leaves_with_path(network)
    ]
    weights = {
        name: drawn(name, leaf.shape)
        for name, leaf in zip(names, leaves, strict=True)
        if hasattr(leaf, "shape")
    }
    new = [
        jnp.asarray(weights[name]) if name in weights else leaf
        for name, leaf in zip(names, leaves, strict=True)
    ]
    from timm.models.convnext import ConvNeXt

    other = in_torch(ConvNeXt(**sizes, conv_mlp=True), CONVNEXT, weights)
    compare(jax.tree.unflatten(tree, new), "blocks/2/blocks/0/norm", other,
            [other.stages[2].blocks[0].norm])  # fmt: skip
