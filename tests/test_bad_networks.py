"""Arguments that no network, preprocessing or map can have, and weights of another network, end in
one `UserError` that names the cause."""

import flax.linen as nn
import jax
import numpy as np
import pytest

import lficam_jax as lfi
from tests.refused import refused

ONE = np.zeros((8, 8, 3), np.uint8)
FED = np.zeros((2, 16, 16, 3), np.float32)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"num_classes": 0}, "num_classes=0 must be a whole number, 1 at least"),
        ({"num_classes": -1}, "num_classes=-1"),
        ({"num_classes": "10"}, "num_classes='10'"),
        ({"num_classes": 2.5}, "num_classes=2.5"),
        ({"num_classes": True}, "num_classes=True"),
        ({"depth": "8"}, "depth='8' must be a whole number"),
        ({"depth": 8.0}, "depth=8.0"),
        ({"head": None}, "head None is unknown; known: plain, lfi, abn"),
        ({"head": ["lfi"]}, "did you mean 'lfi'"),
        ({"backbone": 3}, "a flax.linen module, not 3"),
        ({"backbone": nn.Dense}, "not <class"),
        ({"dtype": None}, "known: float32, bfloat16"),
        ({"remat": "yes"}, "remat='yes' must be True or False"),
        ({"axis_name": 3}, "a mapped axis, not 3"),
        ({"block": 3}, "block 3 is unknown"),
        ({"backbone": "cifar_densenet", "depth": 10, "growth": "x"}, "growth='x' must be a whole"),
        ({"backbone": "wide_resnet", "depth": 10, "widen": 1.5}, "widen=1.5"),
        ({"fin": "uniform"}, "fin must be a dict of options, not 'uniform'"),
        ({"fin": {3: 4}}, "fin: the option 3 is unknown"),
        ({"fin": {"kernel": 0}}, "fin: kernel=0 must be a whole number, 1 at least"),
        ({"fin": {"kernel": 2}}, "kernel=2 must be odd"),
        ({"fin": {"depth": 1.5}}, "fin: depth=1.5"),
        ({"fin": {"width": -1}}, "fin: width=-1"),
        ({"fin": {"temperature": float("nan")}}, "temperature=nan must be a positive number"),
        ({"fin": {"softmax": "no"}}, "fin: softmax='no' must be True or False"),
        ({"fin": {"kind": None}}, "fin: kind None is unknown"),
        (
            {"backbone": "vgg", "depth": 11, "fin": {"kind": "tied"}},
            "fin.kind=tied reads its map off a linear classifier, and vgg has more",
        ),
        ({"head": "plain", "plain": {"scal": 2}}, "did you mean 'scale'"),
        ({"head": "plain", "plain": {"scale": 0}}, "plain: scale=0 must be a positive number"),
        ({"head": "classwise", "classwise": {"look": "leak"}}, "did you mean 'leaky'"),
        ({"head": "classwise", "classwise": {"temp": 1}}, "did you mean 'temperature'"),
        (
            {"head": "classwise", "classwise": {"temperature": -1}},
            "classwise: temperature=-1 must be a positive number",
        ),
        ({"head": "classwise", "classwise": {"detach": 1}}, "detach=1 must be True or False"),
        ({"head": "abn", "abn": "both"}, "abn must be a dict"),
        ({"head": "abn", "abn": {"los": "both"}}, "did you mean 'loss'"),
        ({"head": "abn", "abn": {"loss": ["x"]}}, "abn: loss"),
    ],
)
def test_a_network_is_refused_before_it_is_built(given, says):
    refused(says, lfi.create_model,
            **{"backbone": "cifar_resnet", "depth": 8, "num_classes": 10, **given})  # fmt: skip


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"std": (0, 1, 1)}, "std=.* must be positive"),
        ({"std": (-1, 1, 1)}, "must be positive"),
        ({"std": (1, 1, float("nan"))}, "three numbers"),
        ({"std": 1}, "std=1 must be three numbers"),
        ({"mean": (0, 0)}, "mean=.* must be three numbers: red, green, blue"),
        ({"mean": "abc"}, "mean='abc'"),
        ({"image_size": 0}, "image_size=0 must be a whole number, 1 at least"),
        ({"image_size": "16"}, "image_size='16'"),
        ({"image_size": (16, 16, 3)}, "image_size="),
        ({"image_size": 10**9}, "image_size=1000000000 must be 9,999 at most"),
        ({"channels": 2}, "channels=2 must be 1 or 3"),
        ({"crop_share": 2}, "crop_share=2 must be in"),
        ({"crop_share": "x"}, "crop_share='x'"),
        ({"interpolation": "linear"}, "did you mean 'bilinear'"),
        ({"interpolation": None}, "interpolation None is unknown"),
    ],
)
def test_a_preprocessing_that_cannot_be_is_refused(given, says):
    refused(says, lfi.Preprocess, **{"image_size": 16, **given})


def test_a_preprocessing_takes_arrays_and_can_be_compared():
    mean = np.array([0.5, 0.25, 0.5])
    fed = lfi.Preprocess(image_size=16, mean=mean, std=[1, 1, 1])
    assert fed == lfi.Preprocess(image_size=16, mean=(0.5, 0.25, 0.5), std=(1, 1, 1))


def test_what_is_no_preprocessing_is_told(run):
    for given in (16, "imagenet", {"image_size": 16}, run, lfi.Preprocess):
        refused("must be a Preprocess or the dataset of a run", lfi.explain,
                run.model, run.variables, ONE, preprocess=given)  # fmt: skip


def test_weights_of_another_network_are_told_by_name(run):
    def explained(model, variables):
        lfi.explain(model, variables, FED, normalised=True)

    more = lfi.create_model("cifar_resnet", 8, num_classes=9)
    refused(r"classifier/kernel is \[64, 10\], the model's \[64, 9\]", explained, more,
            run.variables)  # fmt: skip
    refused("is missing.*and .* more", explained,
            lfi.create_model("cifar_resnet", 14, num_classes=10), run.variables)  # fmt: skip
    # flax itself would pass over what is too much, and answer nonsense
    plain = lfi.create_model("cifar_resnet", 8, "plain", num_classes=10)
    refused("head/fin/.* is none of the model's", explained, plain, run.variables)
    params = run.variables["params"]
    refused("batch_stats/.* is missing", explained, run.model, {"params": params})
    refused(r"not \['classifier', 'head'", explained, run.model, params)
    for nothing in ({}, None, "weights"):
        refused("variables must be {'params'", explained, run.model, nothing)
    refused("params/a must be an array of numbers", explained, run.model, {"params": {"a": "b"}})


class NoTrain(nn.Module):
    def __call__(self, images):
        return images


class NoOutputs(nn.Module):
    @nn.compact
    def __call__(self, images, train):
        return nn.Dense(3)(images)


def test_things_that_are_no_network_are_told(run):
    for thing in (None, "resnet", nn.Dense, lambda images: images, run):
        refused("network must be a module of Flax Linen", lfi.explain, thing, run.variables, FED,
                normalised=True)  # fmt: skip
        refused("model must be a flax module", lfi.maps_of, "own", thing, run.variables, FED)
    empty = {"params": {}}
    refused("NoTrain takes no train=", lfi.maps_of, "own", NoTrain(), empty, FED)
    refused("no layer of this network has a map", lfi.explain, NoTrain(), empty, FED,
            normalised=True)  # fmt: skip
    model = NoOutputs()
    weights = model.init(jax.random.key(0), FED, train=False)
    refused("NoOutputs returns a .*structs.Outputs", lfi.maps_of, "own", model, weights, FED)
    refused(r"answers \[2, 16, 16, 3\], which is no number per class", lfi.explain, model, weights,
            FED, normalised=True)  # fmt: skip
    refused("do not fit NoOutputs", lfi.explain, model, empty, FED, normalised=True)


def halved(images):
    return images[:, ::2, ::2]


def logits(features):
    return features.mean((1, 2))


@pytest.mark.parametrize(
    ("network", "says", "more"),
    [
        ((lambda x: halved(x) > 0, lambda z: logits(1.0 * z)), "puts out bool, and a map", {}),
        (
            (halved, lambda z: jax.lax.while_loop(lambda s: s.sum() < 0, lambda s: -s, logits(z))),
            "no gradient flows through a loop .*lax.while_loop.*lax.scan", {},
        ),
        ((halved, logits), r"attentions must return an array \[b heads n n\] .*not None",
         {"attentions": lambda x: None, "method": "attention_rollout"}),
    ],
)  # fmt: skip
def test_what_cannot_be_drawn_of_two_functions_is_told(network, says, more):
    asked = {"normalised": True, "method": "grad_cam", **more}
    refused(says, lfi.explain, network, FED, **asked)


def test_an_answer_of_nan_is_told(run):
    broken = jax.tree.map(lambda leaf: leaf * np.nan, run.variables)
    refused("answers NaN, for its weights hold NaN", lfi.explain, run.model, broken, ONE,
            preprocess=run.dataset)  # fmt: skip
    far = np.stack([FED[0], np.full_like(FED[0], 1e38)])
    refused("NaN for 1 of 2 images, the first of them image 1", run.explain, far, normalised=True)
    refused("NaN for 1 of 2 images", run.predict, far, normalised=True)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"name": None}, "method None is unknown"),
        ({"name": ["own"]}, "did you mean 'own'"),
        ({"images": FED[0]}, r"floats \[b y x c\].*the shape \[16, 16, 3\]"),
        ({"images": FED[None]}, r"the shape \[1, 2, 16, 16, 3\]"),
        ({"images": FED[:0]}, r"the shape \[0, 16, 16, 3\]"),
        ({"images": FED.astype(np.uint8)}, "these are uint8. lficam_jax.explain takes pixels"),
        ({"images": "a.png"}, "not 'a.png'"),
        ({"images": [[1], [1, 2]]}, "images must be an array"),
        ({"images": None}, "not None"),
        ({"images": FED * np.nan}, "NaN or infinity"),
        ({"images": np.zeros((2, 3, 16, 16))}, "1 or 3 channels, and these have 16"),
        ({"target": 1.5}, "number of a class, or one for each of the 2 images, not 1.5"),
        ({"target": "3"}, "not '3'"),
        ({"target": [1, 2, 3]}, r"not \[1, 2, 3\]"),
        ({"target": True}, "not True"),
        ({"target": 11}, "class 11 does not exist"),
        ({"chunk_size": "a"}, "chunk_size='a'"),
        ({"score": 3}, "score 3 is unknown"),
        ({"key": 3}, "key must be as jax.random.key makes it"),
        ({"key": jax.random.PRNGKey(0)}, "key must be as jax.random.key makes it"),
        ({"variables": None}, "variables must be"),
        ({"model": None}, "model must be"),
    ],
)
def test_maps_of_tells_what_it_cannot_take(run, given, says):
    asked = {"name": "grad_cam", "model": run.model, "variables": run.variables, "images": FED}
    refused(says, lfi.maps_of, **(asked | given))
