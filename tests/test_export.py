"""Exports: what runs without this package answers as the network does here."""

import itertools
import json
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
import pytest

import lficam_jax as lfi
from lficam_jax import structs
from lficam_jax.cli import commands
from lficam_jax.config import CHOICES, as_json, default_config
from lficam_jax.data import fit_image
from lficam_jax.explaining.export import ENDINGS, export
from lficam_jax.interop.export import onnx_file, pixels
from lficam_jax.interop.export.onnx_file import KEY, onnx_bytes
from lficam_jax.interop.export.program import OUTPUTS, Program, program
from lficam_jax.interop.export.stablehlo import save_stablehlo
from lficam_jax.models import BACKBONES, create_model
from lficam_jax.models.classifier import init_variables
from lficam_jax.ops.pool import max_pool

SMALLEST = {
    "cifar_resnet": 8, "cifar_densenet": 40, "cifar_resnext": 29, "wide_resnet": 10, "resnet": 18,
    "se_resnet": 50, "densenet": 121, "vgg": 16, "mobilenet": 2, "convnext": 18,
    "efficientnet_lite": 0,
}  # fmt: skip


def drawn(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def fresh(backbone, head, size=32, **model):
    """A network of five classes as training would begin with it."""
    config = default_config()
    config.model.update(model)
    config.model.update(backbone=backbone, depth=SMALLEST[backbone], head=head)
    config.data.update(
        name="folder", classes=tuple("abcde"), image_size=size, mean=(0.4,) * 3, std=(0.2,) * 3,
        channels=3, crop_share=1.0, fit="crop", interpolation="bilinear", background="white",
    )  # fmt: skip
    model = create_model(**config.model.to_dict(), num_classes=5)
    variables = init_variables(model, (size, size, 3), 0)
    return structs.Run(None, config, model, variables, 0, f"{backbone}-{head}")


@pytest.mark.parametrize(
    ("shape", "fed"),
    [
        ((61, 90), {"image_size": 48, "crop_share": 0.875}),  # smaller, of the central square
        ((61, 90), {"image_size": 64, "interpolation": "bicubic"}),  # larger
        ((30, 77), {"image_size": 32, "fit": "pad", "mean": (0.5, 0.25, 0.75)}),
        ((50, 77), {"image_size": 32, "fit": "stretch", "interpolation": "bicubic"}),
        ((50, 77), {"image_size": (32, 64), "crop_share": 0.9}),
        ((50, 50), {"image_size": 64, "channels": 1}),
        ((32, 32), {"image_size": 32}),  # as it is
    ],
)
def test_pictures_are_scaled_as_pillow_does(shape, fed):
    asked, image = lfi.Preprocess(**fed), drawn(*shape, 3)
    ours = np.asarray(jax.jit(lambda x: pixels.fit(x, asked))(image[None]))[0]
    off = np.abs(ours - fit_image(image, asked))
    assert off.max() <= 1 and (off > 0).mean() < 0.004
    if shape == (32, 32):
        np.testing.assert_array_equal(ours, image)


def test_stablehlo_runs_with_jax_alone_and_is_equal_to_the_bit(run, tmp_path):
    made, images = program(run), drawn(2, 16, 16, 3)
    path, beside = save_stablehlo(made, tmp_path / "model.stablehlo")
    np.save(tmp_path / "images.npy", images)
    code = f"""
import sys, jax, numpy as np
network = jax.export.deserialize(open({str(path)!r}, "rb").read())
found = network.call(np.load({str(tmp_path / "images.npy")!r}))
np.savez({str(tmp_path / "found.npz")!r}, **found)
network.call(np.zeros((1, 20, 50, 3), np.uint8))  # another count, another size
assert "lficam_jax" not in sys.modules and network.platforms == ("cpu", "cuda", "tpu")
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    found = np.load(tmp_path / "found.npz")
    for name, value in jax.jit(made.call)(images).items():
        np.testing.assert_array_equal(found[name], value)
    told = run.explain(images)
    np.testing.assert_allclose(found["probabilities"][1], told[1].probabilities, atol=1e-6)
    np.testing.assert_allclose(found["map"][1], told[1].map, atol=1e-5)
    about = json.loads(beside.read_text())
    assert about["classes"] == list(run.classes) and about["method"] == "own"


def compared(network, images):
    """The largest differences between onnxruntime and jax, as shares of what is above 1."""
    made = program(network)
    session = onnxruntime.InferenceSession(onnx_bytes(made))
    found = dict(zip(OUTPUTS, session.run(list(OUTPUTS), {"images": images}), strict=True))
    told = json.loads(session.get_modelmeta().custom_metadata_map[KEY])
    assert told == json.loads(json.dumps(made.about))
    wanted = jax.jit(made.call)(images)
    # Fresh weights of a deep network may answer millions: a float32 has seven digits.
    scale = {name: max(1, np.abs(wanted[name]).max()) for name in OUTPUTS}
    off = {name: np.abs(found[name] - wanted[name]).max() / scale[name] for name in OUTPUTS}
    return {"span": np.ptp(wanted["map"])} | off


# The middle one has max-pooling; without a head the map is Grad-CAM's.
@pytest.mark.parametrize(
    ("backbone", "head"),
    [
        ("cifar_resnet", "lfi"),
        ("resnet", "plain"),
        ("cifar_resnet", "abn"),
        ("cifar_resnet", "classwise"),
    ],
)
def test_onnx_answers_as_the_network(backbone, head):
    off = compared(fresh(backbone, head, 64), drawn(1, 64, 64, 3))
    assert off["span"] > 0.5  # the map is not flat
    assert off["logits"] <= 1e-5 and off["map"] <= 1e-4, off


@pytest.mark.parametrize("look", ["leaky", "softmax"])
def test_onnx_draws_every_look_of_classwise(look):
    off = compared(
        fresh("cifar_resnet", "classwise", classwise={"look": look}), drawn(1, 32, 32, 3)
    )
    assert off["span"] > 0.5 and off["logits"] <= 1e-5 and off["map"] <= 1e-4, off


@pytest.mark.parametrize(
    ("pool", "how"),
    [
        (max_pool, ((3, 3), (2, 2), 1)),
        (nn.max_pool, ((2, 2), (2, 2), "VALID")),  # of backbones of one's own
        (nn.max_pool, ((3, 2), (1, 2), "SAME")),
    ],
)
def test_the_gradient_of_max_pooling_goes_to_the_first_of_equals(pool, how, monkeypatch):
    """As a plain VGG's Grad-CAM needs it; where ReLU left zeros, whole windows are equal."""

    def pooled(values):
        found = pool(values, *how)
        each = (1, *found.shape[1:])
        return (found * np.arange(1, 1 + np.prod(each)).reshape(each)).sum()

    def call(images):
        values = images.astype(jnp.float32)
        gradient = jax.grad(pooled)(values).sum(-1)
        total = values.sum((1, 2))
        return {"logits": total, "probabilities": total, "map": gradient}

    images = drawn(3, 7, 7, 3) // 128  # zeros and ones
    (batch,) = jax.export.symbolic_shape("b")
    shape = jax.ShapeDtypeStruct((batch, 7, 7, 3), jnp.uint8)
    monkeypatch.setattr(onnx_file, "open_shape", lambda: shape)
    session = onnxruntime.InferenceSession(onnx_bytes(Program(call, "", {})))
    (found,) = session.run(["map"], {"images": images})
    np.testing.assert_array_equal(found, jax.jit(call)(images)["map"])


# Of some backbones the CI asks for the head that is quick to compile.
QUICK = {
    ("resnet", "lfi"), ("densenet", "plain"), ("mobilenet", "abn"), ("efficientnet_lite", "plain"),
    ("convnext", "lfi"),
}  # fmt: skip
ABSENT = {("vgg", "classwise"), ("convnext", "classwise")}  # there are no such networks
LARGER = [
    pytest.param(*pair, marks=pytest.mark.crosscheck if pair in QUICK else pytest.mark.long)
    for pair in itertools.product(SMALLEST, CHOICES["model.head"])
    if pair[0] != "cifar_resnet" and pair not in ABSENT
]


@pytest.mark.parametrize(("backbone", "head"), LARGER)
def test_onnx_answers_as_larger_networks(backbone, head):
    size = 32 if backbone.startswith(("cifar", "wide")) else 64
    off = compared(fresh(backbone, head, size), drawn(1, size, size, 3))
    assert off["logits"] <= 1e-5 and off["map"] <= 1e-4, off


def test_each_backbone_is_compared():
    assert {*SMALLEST} == {*BACKBONES}


def test_an_onnx_file_takes_pictures_of_any_size():
    """One file, three sizes and counts; grey values may fall either way when they are scaled."""
    network = lfi.load("cluttered_digits")
    session = onnxruntime.InferenceSession(onnx_bytes(program(network)))
    assert session.get_inputs()[0].shape == ["b", "y", "x", 3]
    for shape in ((1, 48, 48, 3), (3, 100, 60, 3), (2, 20, 70, 3)):
        images = drawn(*shape)
        found = dict(zip(OUTPUTS, session.run(list(OUTPUTS), {"images": images}), strict=True))
        told = network.predict(images)
        np.testing.assert_allclose(found["probabilities"], told.probabilities, atol=2e-3)
        assert found["map"].shape == told.maps.shape


def test_a_network_with_a_filter_that_is_not_exported_is_told():
    network = fresh("cifar_resnet", "plain")
    network.config.data.interpolation = "lanczos"
    with pytest.raises(lfi.UserError, match="interpolation=lanczos is not exported"):
        onnx_bytes(program(network))


def test_a_missing_package_is_told_with_what_installs_it(run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(lfi.UserError, match=r"pip install 'lficam_jax\[export\]'"):
        export(run, "onnx", tmp_path / "a.onnx")


@pytest.mark.parametrize(
    ("to", "out", "runtime", "told"),
    [
        ("onxx", "", "", "did you mean 'onnx'"),
        ("onnx", "a.pt", "", "must be a file that ends in .onnx"),
        ("onnx", "", "a.tgz", "what a page runs with"),
        ("page", "a.html", "absent.tgz", "absent.tgz: no such file; get onnxruntime-web"),
    ],
)
def test_a_mistake_is_told_in_a_line(to, out, runtime, told, run):
    with pytest.raises(lfi.UserError, match=told) as error:
        run.export(to, out, runtime=runtime)
    assert "\n" not in str(error.value)


def test_an_archive_that_is_another_is_told(run, tmp_path):
    (tmp_path / "a.tgz").write_bytes(b"no archive")
    with pytest.raises(lfi.UserError, match="damaged, or not onnxruntime-web"):
        run.export("page", tmp_path / "a.html", runtime=tmp_path / "a.tgz")


def test_the_command_writes_into_the_folder_of_the_run(trained, tmp_path, capsys):
    from lficam_jax.main import run as command

    words = [
        "--workdir",
        str(trained),
        "--to",
        "safetensors",
        "--out",
        str(tmp_path / "m.safetensors"),
    ]
    assert command("export", words, "lficam export") == 0
    assert "m.safetensors  0." in capsys.readouterr().out
    assert lfi.load(tmp_path / "m.safetensors").dataset == lfi.load(trained).dataset
    assert tuple(ENDINGS) == commands.FORMATS


def test_without_out_the_file_lies_in_the_run(run, tmp_path, monkeypatch):
    from dataclasses import replace

    before = as_json(run.config)
    (path, _) = export(replace(run, workdir=tmp_path), "safetensors")
    assert as_json(run.config) == before
    assert path == tmp_path / "export" / "model.safetensors"
    monkeypatch.chdir(tmp_path)
    (path, _) = lfi.load("cluttered_digits").export("safetensors")
    assert str(path) == "cluttered_digits/export/model.safetensors"
