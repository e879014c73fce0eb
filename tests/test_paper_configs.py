"""Every experiment of the paper is one config and passes `describe`."""

import importlib

import pytest

from lficam_jax.config import CHOICES, validate
from lficam_jax.data import dataset_info
from lficam_jax.errors import UserError
from lficam_jax.speed import describe
from lficam_jax.training import paper
from lficam_jax.training.experiment import make_model

CIFAR, RESNET18 = [*paper.CIFAR], ["resnet18"]
EXPERIMENTS = {
    "cifar10": CIFAR, "cifar100": CIFAR, "stl10": RESNET18, "cats_vs_dogs": RESNET18,
    "imagenet": [*paper.IMAGENET],
}  # fmt: skip
CLASSES = {"cifar10": 10, "cifar100": 100, "stl10": 10, "cats_vs_dogs": 2, "imagenet": 1000}
# Trainable parameters of the backbone without classifier, and the channels of its features.
BACKBONES = {
    "resnet110": (1_701_584, 256), "densenet": (765_732, 342), "resnext29": (34_416_448, 1024),
    "wrn-28-10": (36_472_784, 640), "resnet18": (11_176_512, 512), "resnet50": (23_508_032, 2048),
    "resnet101": (42_500_160, 2048), "resnet152": (58_143_808, 2048),
    "se-resnet50": (26_039_024, 2048),
    # Not the paper's. With the classifier 4,652,008 parameters, 5,416,680 and 6,092,072.
    "efficientnet-lite0": (3_371_008, 1280), "efficientnet-lite1": (4_135_680, 1280),
    "efficientnet-lite2": (4_811_072, 1280),
}  # fmt: skip
ALL = [(n, b, h) for n, known in EXPERIMENTS.items() for b in known for h in CHOICES["model.head"]]


def load(name, arg=""):
    return importlib.import_module(f"configs.{name}").get_config(arg)


@pytest.fixture
def without_flops(monkeypatch):
    """XLA's count takes ten times as long as all else, and test_describe.py checks it once."""
    monkeypatch.setattr(describe, "_flops", lambda *_: 0.0)


@pytest.mark.parametrize(("name", "backbone", "head"), ALL)
def test_every_experiment_is_described_with_the_parameters_it_should_have(
    name, backbone, head, without_flops
):
    config = load(name, f"backbone={backbone},head={head}")
    validate(config)
    found = describe.describe(config)
    (trunk, d), k = BACKBONES[backbone], CLASSES[name]
    parameters = found["parameters"]
    assert parameters["backbone"] == trunk
    assert parameters["fin"] == (4 * (9 * d * d + 2 * d) if head == "lfi" else 0)
    linear = d * k + k
    assert parameters["head"] > linear if head == "abn" else parameters["head"] == linear
    assert sum(count for _, _, count in found["layers"]) == parameters["total"]
    assert found["learning_rate"][-1] == pytest.approx(0.001)


def test_every_name_is_in_an_experiment():
    assert {b for _, b, _ in ALL} == {*paper.CIFAR, *paper.IMAGENET} == set(BACKBONES)
    assert len(ALL) == 72  # 18 networks and data sets, four heads


@pytest.mark.parametrize("name", [*EXPERIMENTS, "svhn", "folder"])
def test_a_name_that_does_not_exist_gets_the_nearest(name):
    with pytest.raises(UserError, match=r"backbone='resnet1' is unknown — did you mean 'resnet1"):
        load(name, "backbone=resnet1")
    with pytest.raises(UserError, match="'bakbone=resnet18' is unknown here — did you mean 'backb"):
        load(name, "bakbone=resnet18")
    config = load(name, "head=lif")
    with pytest.raises(UserError, match="model.head='lif' is unknown — did you mean 'lfi'"):
        validate(config)


def test_depth_is_another_of_the_family():
    assert load("cifar10", "depth=20").model.depth == 20
    model = load("imagenet", "backbone=se-resnet50,depth=101,head=plain").model
    assert (model.backbone, model.depth, model.head) == ("se_resnet", 101, "plain")


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "stl10", "cats_vs_dogs"])
def test_a_recipe_as_the_paper_gives_it(name):
    small = "cifar" in name
    config = load(name)
    assert config.data.name == name and config.model.head == "lfi"
    assert config.data.augment == ("crop_flip" if small else "resized_crop_flip")
    assert config.data.image_size == (0 if small else 224)  # 0: the data set's own, 32
    network = ("cifar_resnet", 110) if small else ("resnet", 18)
    assert (config.model.backbone, config.model.depth) == network
    sgd = config.optim
    assert (sgd.lr, sgd.momentum, sgd.weight_decay, sgd.nesterov) == (0.1, 0.9, 1e-4, False)
    assert (sgd.schedule, sgd.milestones_epochs, sgd.factor) == ("multistep", (150, 225), 0.1)
    assert (config.train.total_epochs, config.train.batch_size) == (300, 128 if small else 256)
    assert load(name, "smoke").train.total_steps == 4


def test_what_is_our_own_differs_where_its_file_says_so():
    svhn, cifar = load("svhn"), load("cifar10")
    assert svhn.data.augment == "crop"  # a mirrored digit is none
    assert (svhn.train.total_epochs, svhn.optim.milestones_epochs) == (80, (40, 60))
    assert svhn.model == cifar.model
    folder, stl10 = load("folder"), load("stl10")
    assert (folder.optim.schedule, folder.optim.warmup_epochs) == ("cosine", 5)
    assert (folder.train.total_epochs, folder.train.batch_size) == (100, 64)
    assert folder.model == stl10.model and folder.data.image_size == 224


def test_abn_on_imagenet_has_its_own_schedule():
    abn, lfi = load("imagenet", "head=abn"), load("imagenet", "head=lfi")
    assert (abn.train.total_epochs, abn.optim.milestones_epochs) == (90, (31, 61))
    assert (lfi.train.total_epochs, lfi.optim.milestones_epochs) == (300, (150, 225))


def test_at_224_pixels_lfi_has_the_finer_map_and_four_relus(without_flops):
    """They are the model's own defaults: 0 in the config."""
    config = load("stl10")
    assert config.model.stem_stride == config.model.fin.relu_every == 0
    assert make_model(config, dataset_info(config.data)).head.fin.relu_every == 1
    for arg, grid in (("head=lfi", 14), ("head=plain", 7)):
        layers = {name: shape for name, shape, _ in describe.describe(load("stl10", arg))["layers"]}
        assert layers["last_stage"][:2] == (grid, grid)
