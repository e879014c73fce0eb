"""`create_model`: the contract of every network, the golden table of parameters, the errors."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lficam_jax.config import CHOICES, default_config, validate
from lficam_jax.errors import UserError
from lficam_jax.models import BACKBONES, create_model
from lficam_jax.models.classifier import init_variables
from lficam_jax.models.resnet import COUNTS
from lficam_jax.structs import Outputs

# Trainable parameters. Those marked * are published: the released LFI-CAM and ABN code, torchvision
# (resnet, densenet, vgg, mobilenet, convnext), efficientnet_lite_pytorch, and the tables of the
# SE-ResNet, WRN, ResNeXt and DenseNet authors' ports.
GOLDEN = [
    ("cifar_resnet", 20, "lfi", 10, 420_442),  # *
    ("cifar_resnet", 44, "lfi", 100, 3_068_532),  # *
    ("cifar_densenet", 22, "lfi", 100, 249_934),  # *
    ("cifar_densenet", 40, "lfi", 10, 804_442),  # *
    ("cifar_resnext", 11, "lfi", 10, 48_751_434),  # *
    ("resnet", 18, "lfi", 2, 20_618_818),  # *
    ("resnet", 34, "lfi", 7, 30_729_543),  # *
    ("resnet", 50, "lfi", 16, 174_552_144),  # *
    ("cifar_resnet", 20, "abn", 10, 479_150),  # *
    ("cifar_resnet", 44, "abn", 100, 1_262_290),  # *
    ("resnet", 18, "abn", 10, 19_581_726),  # *
    ("cifar_resnet", 8, "classwise", 10, 78_042),
    ("cifar_resnet", 110, "plain", 10, 1_704_154),
    ("cifar_densenet", 100, "plain", 10, 769_162),  # *
    ("cifar_resnext", 29, "plain", 10, 34_426_698),  # *
    ("wide_resnet", 28, "plain", 10, 36_479_194),  # *
    ("wide_resnet", 28, "abn", 100, 64_475_666),
    ("resnet", 18, "plain", 1000, 11_689_512),  # *
    ("resnet", 34, "plain", 1000, 21_797_672),  # *
    ("resnet", 50, "plain", 1000, 25_557_032),  # *
    ("resnet", 101, "plain", 1000, 44_549_160),  # *
    ("resnet", 152, "plain", 1000, 60_192_808),  # *
    ("se_resnet", 50, "plain", 1000, 28_088_024),  # *
    ("se_resnet", 101, "plain", 1000, 49_326_872),  # *
    ("se_resnet", 152, "plain", 1000, 66_821_848),  # *
    ("densenet", 121, "plain", 1000, 7_978_856),  # *
    ("densenet", 169, "plain", 1000, 14_149_480),  # *
    ("densenet", 201, "plain", 1000, 20_013_928),  # *
    ("vgg", 11, "plain", 1000, 132_863_336),  # *
    ("vgg", 13, "plain", 1000, 133_047_848),  # *
    ("vgg", 16, "plain", 1000, 138_357_544),  # *
    ("vgg", 19, "plain", 1000, 143_667_240),  # *
    ("mobilenet", 2, "plain", 1000, 3_504_872),  # *
    ("convnext", 18, "plain", 1000, 28_589_128),  # *
    ("convnext", 36, "plain", 1000, 50_223_688),  # *
    ("efficientnet_lite", 0, "plain", 1000, 4_652_008),  # *
    ("efficientnet_lite", 1, "plain", 1000, 5_416_680),  # *
    ("efficientnet_lite", 2, "plain", 1000, 6_092_072),  # *
]
# The smallest network of each family, for what must hold in all of them.
SMALL = {
    "cifar_resnet": {"depth": 8},
    "cifar_densenet": {"depth": 10, "growth": 4},
    "cifar_resnext": {"depth": 11, "cardinality": 2, "widen": 1},
    "wide_resnet": {"depth": 10, "widen": 1},
    "resnet": {"depth": 18},
    "se_resnet": {"depth": 50},
    "efficientnet_lite": {"depth": 0},
    "densenet": {"depth": 121},
    "vgg": {"depth": 11},
    "mobilenet": {"depth": 2},
    "convnext": {"depth": 18},
}


def shapes(model, size=64):
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, size, size, 3)))


@pytest.mark.parametrize(("backbone", "depth", "head", "classes", "count"), GOLDEN)
def test_golden_parameter_counts(backbone, depth, head, classes, count):
    model = create_model(backbone, depth, head, num_classes=classes)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes(model)["params"])) == count


def test_every_registered_backbone_and_every_tabled_depth_has_a_golden_row():
    rows = {(backbone, depth) for backbone, depth, *_ in GOLDEN}
    assert {backbone for backbone, _ in rows} == set(BACKBONES) == set(SMALL)
    assert {depth for backbone, depth in rows if backbone == "resnet"} == set(COUNTS)
    assert {head for _, _, head, _, _ in GOLDEN} == set(CHOICES["model.head"])


def test_config_offers_what_the_registry_holds():
    assert CHOICES["model.backbone"] == tuple(BACKBONES)


@pytest.mark.parametrize(
    ("depth", "cardinality", "widen", "count"),
    [(50, 32, 2, 25_028_904), (101, 32, 4, 88_791_336), (50, 1, 2, 68_883_240)],
)
def test_resnext_and_wide_resnet_are_options_of_resnet(depth, cardinality, widen, count):
    """ResNeXt-50 32x4d, ResNeXt-101 32x8d and Wide-ResNet-50-2, with torchvision's parameters."""
    options = {"cardinality": cardinality, "widen": widen}
    model = create_model("resnet", depth, "plain", num_classes=1000, **options)
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes(model)["params"])) == count


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("head", CHOICES["model.head"])
def test_the_model_group_of_the_config_builds_every_combination(backbone, head):
    config = default_config()
    config.model.update(SMALL[backbone], backbone=backbone, head=head)
    if head == "classwise" and backbone in ("vgg", "convnext"):
        with pytest.raises(UserError, match=f"reads its map off.*{backbone} has more between"):
            create_model(**config.model.to_dict(), num_classes=5)
        return
    model = create_model(**config.model.to_dict(), num_classes=5)
    outputs = jax.eval_shape(model.apply, shapes(model), jnp.zeros((2, 64, 64, 3)))
    assert outputs.logits.shape == (2, 5)
    last = outputs.features.shape
    if head in ("lfi", "classwise"):
        assert outputs.attention.shape == last[:3] and outputs.importance.shape == (2, last[3])
    if head == "abn":
        stride = (
            1 if backbone in ("cifar_densenet", "densenet", "vgg") else 2
        )  # the map is drawn before the last stage
        assert outputs.attention.shape == (2, stride * last[1], stride * last[2])
        assert outputs.attention_logits.shape == (2, 5)
    if head == "plain":
        assert outputs.attention is outputs.importance is outputs.attention_logits is None


def test_validate_knows_the_numbers_of_the_model_group():
    config = default_config()
    config.model.growth, config.model.fin.kernel, config.model.fin.depth = -1, 4, 0
    with pytest.raises(UserError) as error:
        validate(config)
    for problem in ("model.growth=-1", "model.fin.kernel=4 must be odd", "model.fin.depth=0"):
        assert problem in str(error.value)


@pytest.mark.parametrize(
    ("backbone", "head"),
    [("cifar_densenet", "lfi"), ("cifar_resnet", "abn"), ("se_resnet", "plain"),
     ("efficientnet_lite", "lfi")],
)  # fmt: skip
def test_bfloat16_is_of_activations_only(backbone, head):
    model = create_model(backbone, **SMALL[backbone], head=head, num_classes=3, dtype="bfloat16")
    variables = shapes(model)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    outputs = jax.eval_shape(model.apply, variables, jnp.zeros((1, 64, 64, 3)))
    assert outputs.features.dtype == jnp.bfloat16
    for name in ("logits", "attention", "importance", "attention_logits"):
        value = getattr(outputs, name)
        assert value is None or value.dtype == jnp.float32, name


@pytest.mark.parametrize(
    ("backbone", "depth", "head", "grid"),
    [("resnet", 18, "lfi", 14), ("resnet", 18, "plain", 7), ("cifar_resnet", 20, "lfi", 56),
     ("efficientnet_lite", 0, "lfi", 7)],
)  # fmt: skip
def test_map_size_at_224_pixels(backbone, depth, head, grid):
    model = create_model(backbone, depth, head, num_classes=2)
    outputs = jax.eval_shape(model.apply, shapes(model), jnp.zeros((1, 224, 224, 3)))
    assert outputs.features.shape[1:3] == (grid, grid)


@pytest.fixture(scope="module")
def small_lfi():
    model = create_model("cifar_resnet", 8, num_classes=4)
    variables = jax.jit(model.init)(jax.random.key(1), jnp.zeros((1, 16, 16, 3)))
    return jax.jit(model.apply), variables


def images(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("size", [(16, 16), (28, 28), (24, 40)])
def test_outputs_keep_their_promises_at_any_size_the_strides_divide(small_lfi, size):
    apply, variables = small_lfi
    outputs = apply(variables, images(2, *size, 3))
    assert outputs.attention.shape == (2, size[0] // 4, size[1] // 4)
    assert float(outputs.attention.min()) == 0 and float(outputs.attention.max()) == 1
    np.testing.assert_allclose(jnp.sum(outputs.importance, axis=-1), 1, atol=1e-6)
    assert isinstance(outputs, Outputs) and outputs.logits.shape == (2, 4)


def test_greyscale_is_repeated_to_three_channels(small_lfi):
    apply, variables = small_lfi
    grey = images(2, 16, 16, 1)
    repeated = np.repeat(grey, 3, axis=-1)
    np.testing.assert_allclose(
        apply(variables, grey).logits, apply(variables, repeated).logits, rtol=1e-5
    )


def test_an_image_does_not_see_its_neighbours_in_the_batch(small_lfi):
    apply, variables = small_lfi
    batch = images(3, 16, 16, 3)
    other = np.concatenate([batch[:1], 50 * images(2, 16, 16, 3, seed=9)])
    jax.tree.map(
        lambda left, right: np.testing.assert_allclose(left[0], right[0], rtol=1e-5, atol=1e-5),
        apply(variables, batch), apply(variables, other),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("backbone", "head"),
    [("cifar_resnet", "lfi"), ("cifar_densenet", "lfi"), ("cifar_resnet", "abn"),
     ("cifar_resnet", "classwise"), ("cifar_densenet", "classwise")],
)  # fmt: skip
def test_every_parameter_receives_a_finite_non_zero_gradient(backbone, head):
    model = create_model(backbone, **SMALL[backbone], head=head, num_classes=3)
    batch, labels = images(4, 8, 8, 3), jnp.array([0, 1, 2, 0])
    variables = jax.jit(model.init)(jax.random.key(0), batch)

    def loss(params):
        outputs, _ = model.apply(
            variables | {"params": params}, batch, train=True, mutable=["batch_stats"]
        )
        logits = [outputs.logits, outputs.attention_logits]
        picked = [jax.nn.log_softmax(x)[jnp.arange(4), labels] for x in logits if x is not None]
        return -sum(jnp.mean(p) for p in picked)

    grads = jax.jit(jax.grad(loss))(variables["params"])
    for path, grad in jax.tree_util.tree_leaves_with_path(grads):
        name = jax.tree_util.keystr(path)
        assert bool(jnp.isfinite(grad).all()), f"{name} is not finite"
        assert bool(jnp.any(grad != 0)), f"{name} learns nothing"


@pytest.mark.parametrize("loss", ["perception", "attention"])
def test_abn_with_one_loss_gives_that_branch_as_the_answer(loss):
    both = create_model("cifar_resnet", 8, "abn", num_classes=3)
    single = create_model("cifar_resnet", 8, "abn", num_classes=3, abn={"loss": loss})
    batch = images(1, 16, 16, 3)
    variables = jax.jit(both.init)(jax.random.key(0), batch)
    expected, got = jax.jit(both.apply)(variables, batch), jax.jit(single.apply)(variables, batch)
    answer = expected.logits if loss == "perception" else expected.attention_logits
    np.testing.assert_allclose(got.logits, answer, rtol=1e-5)
    assert got.attention_logits is None


class Tiny(nn.Module):
    """Somebody's own backbone; takes no `train`."""

    @nn.compact
    def __call__(self, x):
        return nn.relu(nn.Conv(5, (3, 3), (2, 2))(x))


class WithNorm(nn.Module):
    """Somebody's own backbone with batch statistics."""

    @nn.compact
    def __call__(self, x, train):
        return nn.relu(nn.BatchNorm(use_running_average=not train)(nn.Conv(5, (3, 3))(x)))


class Pooled(nn.Module):
    """Returns [b d], which no head can use."""

    @nn.compact
    def __call__(self, x):
        return nn.Conv(5, (3, 3))(x).mean(axis=(1, 2))


@pytest.mark.parametrize("module", [Tiny(), WithNorm()])
@pytest.mark.parametrize("head", ["lfi", "plain", "classwise"])
def test_a_backbone_of_ones_own(module, head):
    model = create_model(backbone=module, head=head, num_classes=7)
    batch = images(2, 8, 8, 3)
    variables = jax.jit(model.init)(jax.random.key(0), batch)
    apply = jax.jit(lambda v, x: model.apply(v, x, train=True, mutable=["batch_stats"]))
    outputs, updated = apply(variables, batch)
    assert outputs.logits.shape == (2, 7) and outputs.features.shape[-1] == 5
    moved = isinstance(module, WithNorm) or head == "lfi"
    assert bool(updated.get("batch_stats")) == moved


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"backbone": "cifar_resnot", "depth": 20}, "did you mean 'cifar_resnet'"),
        ({"backbone": "cifar_resnet", "depth": 21}, "6n \\+ 2, nearest: 20, 26"),
        ({"backbone": "cifar_resnet", "depth": 3}, "nearest: 8$"),
        ({"backbone": "resnet", "depth": 51}, "nearest: 34, 50"),
        ({"backbone": "se_resnet", "depth": 18}, "50, 101"),
        ({"backbone": "cifar_densenet", "depth": 23}, "nearest: 22, 28"),
        ({"backbone": "cifar_resnext", "depth": 30}, "nearest: 29, 38"),
        ({"backbone": "wide_resnet", "depth": 29}, "nearest: 28, 34"),
        ({"backbone": "cifar_resnet"}, "needs a depth"),
        ({"backbone": "cifar_resnet", "depth": 20, "head": "lif"}, "did you mean 'lfi'"),
        ({"backbone": "cifar_resnet", "depth": 20, "growth": 12}, "no option 'growth'"),
        ({"backbone": "cifar_resnet", "depth": 20, "block": "basik"}, "did you mean 'basic'"),
        ({"backbone": "cifar_resnet", "depth": 20, "dtype": "float8"}, "dtype 'float8' is unknown"),
        ({"backbone": "resnet", "depth": 18, "stem_stride": 3}, "must be 1 or 2"),
        ({"backbone": "cifar_resnet", "depth": 20, "fin": {"widht": 3}}, "did you mean 'width'"),
        ({"backbone": "cifar_resnet", "depth": 20, "fin": {"kind": "uni"}}, "mean 'uniform'"),
        ({"backbone": "cifar_resnet", "depth": 20, "head": "abn", "abn": {"loss": "x"}}, "both"),
        ({"backbone": Tiny(), "head": "abn"}, "two pieces"),
        ({"backbone": Tiny(), "depth": 20}, "takes no depth"),
        ({"backbone": 3}, "flax.linen module"),
    ],
)  # fmt: skip
def test_errors_name_the_remedy(arguments, message):
    with pytest.raises(UserError, match=message):
        create_model(**arguments, num_classes=10)


def test_a_backbone_that_pools_is_refused_by_name():
    model = create_model(backbone=Pooled(), num_classes=3)
    with pytest.raises(UserError, match=r"Pooled returned shape \[1, 5\].*\[b h w d\]"):
        model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))


class Tapped(nn.Module):
    taps: np.ndarray  # which has no hash

    @nn.compact
    def __call__(self, x, train=False):
        return nn.Conv(3, (1, 1))(x) * self.taps


def test_a_module_with_an_array_among_its_attributes_gets_weights():
    variables = init_variables(Tapped(np.ones((1, 1, 1, 3))), (4, 4, 3), seed=0)
    assert variables["params"]["Conv_0"]["kernel"].shape == (1, 1, 3, 3)
