"""Torch weights by name: released layouts, aliases, what does not match, and hostile files."""

import json
import os
import pickle
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from lficam_jax.errors import UserError
from lficam_jax.interop.torch import import_weights, variables_from_torch
from lficam_jax.interop.torch_file import load_torch_file
from lficam_jax.interop.torch_names import translate
from lficam_jax.models import create_model


def draw(name, shape, seed, index):
    """A weight as a function of (seed, place in the file), so that a few numbers pin a network."""
    rng = np.random.default_rng([seed, index])
    if name.endswith("running_mean"):
        return (0.1 * rng.standard_normal(shape)).astype(np.float32)
    if name.endswith("running_var"):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    if len(shape) == 4:
        scale = np.sqrt(2.0 / (shape[1] * shape[2] * shape[3]))
        return (rng.standard_normal(shape) * scale).astype(np.float32)
    if len(shape) == 2:
        return (0.05 * rng.standard_normal(shape)).astype(np.float32)
    if name.endswith("weight"):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    return (0.1 * rng.standard_normal(shape)).astype(np.float32)


def norm(name, d):
    fields = ("weight", "bias", "running_mean", "running_var")
    return [(f"{name}.{f}", (d,)) for f in fields] + [(f"{name}.num_batches_tracked", ())]


def conv(name, inside, outside, kernel=3):
    return [(f"{name}.weight", (outside, inside, kernel, kernel))]


def block(name, inside, out, *, projects):
    spec = [*conv(f"{name}.conv1", inside, out), *norm(f"{name}.bn1", out)]
    spec += [*conv(f"{name}.conv2", out, out), *norm(f"{name}.bn2", out)]
    if projects:
        spec += [*conv(f"{name}.downsample.0", inside, out, 1), *norm(f"{name}.downsample.1", out)]
    return spec


def stage(name, inside, out, count=1):
    spec = block(f"{name}.0", inside, out, projects=inside != out)
    for i in range(1, count):
        spec += block(f"{name}.{i}", out, out, projects=False)
    return spec


def linear(name, inside, out):
    return [(f"{name}.weight", (out, inside)), (f"{name}.bias", (out,))]


def cifar(count=1, classes=10, head=(), classifier="fc", branch=()):
    """The layout of the released CIFAR ResNets of basic blocks."""
    spec = [*conv("conv1", 3, 16), *norm("bn1", 16), *stage("layer1", 16, 16, count)]
    spec += [*stage("layer2", 16, 32, count), *branch, *stage("layer3", 32, 64, count)]
    return [*spec, *head, *linear(classifier, 64, classes)]


def fin_sequence(d):
    """FIN as the released CIFAR networks name it: ReLUs at 4 and 9 have no weights."""
    pairs = [(0, 1), (2, 3), (5, 6), (7, 8)]
    return [
        entry
        for c, b in pairs
        for entry in (*conv(f"attention.{c}", d, d), *norm(f"attention.{b}", d))
    ]


def abn_branch(inside, d, k):
    return [
        *stage("att_layer3", inside, d), *norm("bn_att", d), *conv("att_conv", d, k, 1),
        *norm("bn_att2", k), *conv("att_conv2", k, k, 1), *conv("att_conv3", k, 1),
        *norm("bn_att3", 1),
    ]  # fmt: skip


def state_of(spec, seed=11):
    return {
        name: np.zeros((), np.int64)
        if name.endswith("num_batches_tracked")
        else draw(name, shape, seed, i)
        for i, (name, shape) in enumerate(spec)
    }


# What the released network computes from `state_of` at seed 11: logits and first row of the map of
# the first image, and the sum of the four maps.
RELEASED = {
    "logits": [
        -30.6915, 14.8691, -35.594, -28.1495, -99.9676,
        -20.928, 5.55823, 56.7378, -16.7349, -34.5543,
    ],
    "first_row": [0, 0.090839, 0.264149, 0.294214, 0.144529, 0.2259, 0.21098, 0.039023],
    "map_sum": 145.271164,
}  # fmt: skip
LFI8 = cifar(head=fin_sequence(64), classifier="fc.0")


def lfi8(classes=10):
    return create_model("cifar_resnet", 8, "lfi", num_classes=classes)


def count(variables):
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def test_released_lfi_resnet20_gives_the_released_logits_and_map():
    """Numbers that the released torch network computed from these weights and this image."""
    spec = cifar(count=3, head=fin_sequence(64), classifier="fc.0")
    model = create_model("cifar_resnet", 20, "lfi", num_classes=10)
    variables = variables_from_torch(state_of(spec), model)
    assert count(variables) == 420_442
    rng = np.random.default_rng([11, 10**6])
    images = rng.standard_normal((4, 3, 32, 32)).astype(np.float32).transpose(0, 2, 3, 1)
    outputs = jax.jit(model.apply)(variables, images)
    np.testing.assert_allclose(outputs.logits[0], RELEASED["logits"], rtol=1e-5, atol=2e-4)
    np.testing.assert_allclose(outputs.attention[0, 0], RELEASED["first_row"], atol=1e-4)
    np.testing.assert_allclose(outputs.attention.sum(), RELEASED["map_sum"], rtol=1e-5)


def test_each_kind_of_weight_lands_in_its_place_and_layout():
    state = state_of(LFI8)
    variables = variables_from_torch(state, lfi8())
    params, stats = variables["params"], variables["batch_stats"]
    kernel = params["trunk"]["stage2"]["block0"]["conv1"]["kernel"]
    torch_kernel = state["layer2.0.conv1.weight"]  # [out, in, y, x]
    assert kernel.shape == (3, 3, 16, 32)
    assert kernel[0, 2, 5, 7] == torch_kernel[7, 5, 0, 2]
    assert params["classifier"]["kernel"][3, 4] == state["fc.0.weight"][4, 3]
    last = params["last_stage"]["block0"]["shortcut_bn"]
    np.testing.assert_array_equal(last["scale"], state["layer3.0.downsample.1.weight"])
    np.testing.assert_array_equal(
        stats["head"]["fin"]["bn2"]["mean"], state["attention.6.running_mean"]
    )
    np.testing.assert_array_equal(
        stats["trunk"]["stem"]["bn"]["var"], state["bn1.running_var"]
    )  # fmt: skip


@pytest.mark.parametrize(
    ("model", "theirs", "ours"),
    [
        (("cifar_resnext", 11, "abn"), "stage_1.stage_1_bottleneck_0.conv_reduce",
         "trunk/stage1/block0/conv1"),
        (("cifar_resnext", 11, "abn"), "stage_3.stage_3_bottleneck_0.shortcut.shortcut_bn",
         "last_stage/block0/shortcut_bn"),
        (("cifar_resnext", 11, "abn"), "stage_att.stage_att_bottleneck_0.bn",
         "head/attention_stage/block0/bn2"),
        (("cifar_resnext", 11, "abn"), "conv_1_3x3", "trunk/stem/conv"),
        (("cifar_resnext", 11, "abn"), "classifier", "classifier"),
        (("wide_resnet", 10, "abn"), "bn1", "final/bn"),
        (("wide_resnet", 10, "abn"), "block3.layer.0.convShortcut",
         "last_stage/block0/shortcut_conv"),
        (("wide_resnet", 10, "abn"), "att_block3.layer.0.conv2",
         "head/attention_stage/block0/conv2"),
        (("cifar_densenet", 10, "abn"), "att_dense3.0.bn1", "head/attention_stage/block0/bn1"),
        (("cifar_densenet", 10, "abn"), "trans2.conv1", "trunk/transition2/conv"),
        (("cifar_densenet", 10, "abn"), "bn", "final/bn"),
        (("resnet", 18, "lfi"), "att_conv2", "head/fin/conv1"),
        (("resnet", 18, "abn"), "att_conv2", "head/conv_logits"),
        (("resnet", 18, "lfi"), "layer4.1.bn2", "last_stage/block1/bn2"),
        (("se_resnet", 50, "plain"), "layer1.0.fc2", "trunk/stage1/block0/se/fc2"),
        (("se_resnet", 50, "plain"), "layer1.0.se_module.fc1", "trunk/stage1/block0/se/fc1"),
        (("se_resnet", 50, "plain"), "something.else", None),
    ],
)  # fmt: skip
def test_names_of_every_family(model, theirs, ours):
    network = create_model(*model, num_classes=3)
    image = jnp.zeros((1, 64, 64, 3))
    params = jax.eval_shape(network.init, jax.random.key(0), image)["params"]
    modules = {"/".join(path[:-1]) for path in flatten_dict(params)}
    assert translate({f"{theirs}.weight": np.zeros(1)}, modules) == {theirs: ours}
    assert ours is None or ours in modules


WRAPPERS = ("module.", "_orig_mod.", "model.", "backbone.", "model._orig_mod.module.")


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_nested_weights_and_what_is_put_before_their_names_are_understood(wrapper):
    state = state_of(LFI8)
    wrapped = {"epoch": 3, "state_dict": {f"{wrapper}{k}": v for k, v in state.items()}}
    jax.tree.map(
        np.testing.assert_array_equal,
        variables_from_torch(wrapped, lfi8()), variables_from_torch(state, lfi8()),
    )  # fmt: skip


def test_names_may_be_wrapped_in_part_and_that_is_told():
    """A detector's backbone beside a classifier of its own."""
    state = {
        k if k.startswith("fc") else f"module.backbone.{k}": v for k, v in state_of(LFI8).items()
    }
    model = lfi8()
    start = model.init(jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
    imported = import_weights(state, model, start)
    assert imported.wrappers == ("module.backbone.",) and imported.fresh == ()
    assert import_weights(state_of(LFI8), model, start).wrappers == ()


def test_two_names_that_would_become_one_are_refused():
    """Weights and their running mean under two wrappers: which of them is meant?"""
    state = state_of(LFI8)
    both = {f"module.{k}": v for k, v in state.items()} | {
        f"model.{k}": v for k, v in state.items()
    }
    with pytest.raises(UserError, match="only in the file: model.conv1.weight"):
        variables_from_torch(both, lfi8())


def test_fin_with_four_relus_in_one_sequence_counts_its_convolutions():
    renumber = {0: 0, 1: 1, 2: 3, 3: 4, 5: 6, 6: 7, 7: 9, 8: 10}
    state = state_of(LFI8)

    def four(name):
        parts = name.split(".")
        if parts[0] == "attention":
            parts[1] = str(renumber[int(parts[1])])
        return ".".join(parts)

    moved = {four(name): value for name, value in state.items()}
    jax.tree.map(
        np.testing.assert_array_equal,
        variables_from_torch(moved, lfi8()), variables_from_torch(state, lfi8()),
    )  # fmt: skip


def test_everything_that_does_not_match_is_listed_at_once():
    state = state_of(LFI8)
    del state["bn1.running_mean"]
    del state["layer1.0.conv1.weight"]
    state["layer4.0.conv1.weight"] = np.zeros((8, 8, 3, 3), np.float32)
    state["mystery.weight"] = np.zeros((2, 2), np.float32)
    with pytest.raises(UserError) as error:
        variables_from_torch(state, lfi8(classes=7))
    for line in (
        "missing from the file: batch_stats/trunk/stem/bn/mean [16]",
        "missing from the file: params/trunk/stage1/block0/conv1/kernel [3, 3, 16, 16]",
        "fc.0.weight (params/classifier/kernel): [64, 10] in the file, [64, 7] in the model",
        "fc.0.bias (params/classifier/bias): [10] in the file, [7] in the model",
        "only in the file: layer4.0.conv1.weight [8, 8, 3, 3]",
        "only in the file: mystery.weight [2, 2]",
    ):
        assert line in str(error.value)


def test_two_names_for_one_weight_are_refused():
    state = state_of(LFI8)
    state["classifier.weight"] = state["fc.0.weight"]
    with pytest.raises(UserError, match="fc.0.weight both stand for params/classifier/kernel"):
        variables_from_torch(state, lfi8())


@pytest.mark.parametrize("wrong", [{}, {"state_dict": {"epoch": 3}}, {"state_dict": 5}, [1, 2]])
def test_a_file_without_weights_is_refused(wrong):
    with pytest.raises(UserError, match="holds no weights"):
        variables_from_torch(wrong, lfi8())


def fresh(model):
    return jax.jit(model.init)(jax.random.key(5), jnp.zeros((1, 32, 32, 3)))


def test_a_plain_backbone_file_leaves_head_and_classifier_fresh():
    """As a torchvision file does: 1000 classes, no attention."""
    state, model = state_of(cifar(classes=1000)), lfi8()
    initial = fresh(model)
    imported = import_weights(state, model, initial)
    assert imported.fresh == ("head", "classifier")
    assert set(imported.unused) == {"fc.weight", "fc.bias"}
    params = imported.variables["params"]
    jax.tree.map(np.testing.assert_array_equal, params["head"], initial["params"]["head"])
    stem = params["trunk"]["stem"]["conv"]["kernel"]
    np.testing.assert_array_equal(stem, state["conv1.weight"].transpose(2, 3, 1, 0))


def test_a_file_of_the_same_model_leaves_nothing_fresh():
    imported = import_weights(state_of(LFI8), lfi8(), fresh(lfi8()))
    assert imported.fresh == imported.unused == ()
    jax.tree.map(
        np.testing.assert_array_equal,
        imported.variables, variables_from_torch(state_of(LFI8), lfi8()),
    )  # fmt: skip


@pytest.mark.parametrize("head", ["plain", "lfi"])
def test_an_abn_file_gives_its_backbone_to_another_head(head):
    branch = abn_branch(32, 64, 10)
    state = state_of(cifar(branch=branch))
    model = create_model("cifar_resnet", 8, head, num_classes=10)
    imported = import_weights(state, model, fresh(model))
    assert imported.fresh == (("head",) if head == "lfi" else ())
    assert set(imported.unused) == {n for n, shape in branch if shape}


def test_a_damaged_backbone_is_never_left_fresh():
    state = state_of(LFI8)
    del state["layer3.0.bn2.weight"]
    state["layer4.0.bn2.weight"] = np.ones(64, np.float32)
    model = lfi8()
    with pytest.raises(UserError) as error:
        import_weights(state, model, fresh(model))
    assert "params/last_stage/block0/bn2/scale" in str(error.value)
    assert "only in the file: layer4.0.bn2.weight" in str(error.value)


def safetensors(path, arrays, dtype="F32"):
    header, data = {}, b""
    for name, array in arrays.items():
        raw = array.tobytes()
        offsets = [len(data), len(data) + len(raw)]
        header[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": offsets}
        data += raw
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def test_safetensors_without_torch(tmp_path):
    arrays = {"module.a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.float32([1.5])}
    read = load_torch_file(safetensors(tmp_path / "w.safetensors", arrays))
    np.testing.assert_array_equal(read["module.a"], [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(read["b"], [1.5])


def test_safetensors_in_bfloat16(tmp_path):
    path = safetensors(tmp_path / "w.safetensors", {"a": np.array([0x3FC0], "<u2")}, dtype="BF16")
    assert load_torch_file(path)["a"].tolist() == [1.5]


@pytest.mark.parametrize("cut", [4, 40, 10_000])
def test_truncated_safetensors(tmp_path, cut):
    path = safetensors(tmp_path / "w.safetensors", {"a": np.zeros(8, np.float32)})
    path.write_bytes(path.read_bytes()[: max(0, path.stat().st_size - cut)])
    with pytest.raises(UserError, match="damaged or truncated"):
        load_torch_file(path)


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(UserError, match="absent.pth: no such file"):
        load_torch_file(tmp_path / "absent.pth")


class Hostile:
    """Unpickling it would run a command."""

    def __init__(self, witness):
        self.witness = witness

    def __reduce__(self):
        return os.system, (f"touch {self.witness}",)


@pytest.mark.torch
@pytest.mark.parametrize("zipped", [True, False])
def test_a_training_checkpoint_with_optimiser_and_accuracy(tmp_path, zipped):
    torch = pytest.importorskip("torch")
    tensors = {f"module.{k}": torch.from_numpy(v) for k, v in state_of(LFI8).items()}
    tensors["module.conv1.weight"] = tensors["module.conv1.weight"].bfloat16()
    content = {"epoch": 3, "best_acc": np.float64(91.5), "state_dict": tensors, "optimizer": {}}
    path = tmp_path / "model_best.pth.tar"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    read = load_torch_file(path)
    np.testing.assert_array_equal(read["module.fc.0.weight"], state_of(LFI8)["fc.0.weight"])
    assert read["module.conv1.weight"].dtype == np.float32
    assert count(variables_from_torch(read, lfi8())) == count(fresh(lfi8()))


@pytest.mark.torch
def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path):
    torch = pytest.importorskip("torch")
    witness = tmp_path / "it_ran"
    torch.save({"state_dict": {}, "extra": Hostile(witness)}, tmp_path / "a.pth")
    (tmp_path / "b.pth").write_bytes(pickle.dumps(Hostile(witness)))
    for name, message in (("a.pth", "refused.*would run code .posix.system"), ("b.pth", "refused")):
        with pytest.raises(UserError, match=message):
            load_torch_file(tmp_path / name)
    assert not witness.exists()


@pytest.mark.torch
@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_truncated_torch_file(tmp_path, share, zipped):
    torch = pytest.importorskip("torch")
    path = tmp_path / "w.pth"
    torch.save({"a": torch.zeros(100)}, path, _use_new_zipfile_serialization=zipped)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(UserError, match="w.pth: (damaged or truncated|refused)"):
        load_torch_file(path)
