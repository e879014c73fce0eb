"""`lfi.explain` of any network: layers, targets by name, several maps, and what is said of them."""

import jax.numpy as jnp
import numpy as np
import pytest

import lficam_jax as lfi
from lficam_jax.methods import Split, draw
from lficam_jax.ops.maps import min_max, resize
from tests import networks
from tests.networks import IMAGES, LINEN, VARIABLES, classify, features

ANIMALS = ("cat", "dog", "cow", "hen")
PAIR = (features, classify)
NAMED = {"normalised": True, "classes": ANIMALS, "method": "hires_cam"}


def explained(*network, **options):
    return lfi.explain(*network, IMAGES, **NAMED | options)


def by_hand(target, method="hires_cam"):
    found = jnp.asarray(features(IMAGES))
    return np.asarray(draw(method, Split(found, classify), target))


def test_a_pair_of_functions_is_explained_like_any_network():
    e = lfi.explain(PAIR, IMAGES, normalised=True, classes=ANIMALS)
    assert e.methods == ["grad_cam"] and [item.map.shape for item in e] == [(8, 8)] * 3
    logits = np.asarray(classify(features(IMAGES)))
    assert [item.predicted for item in e] == logits.argmax(axis=1).tolist()
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose([item.probabilities for item in e], shares, rtol=1e-4)
    expected = by_hand(None, "grad_cam")
    np.testing.assert_allclose([item.map for item in e], expected, atol=1e-5)


def test_several_questions_are_several_maps_of_each_image():
    several = [
        "dog", lfi.targets.Difference("cat", ["dog", "cow", "hen"]), lambda outputs: outputs[:, 3]
    ]  # fmt: skip
    e = explained(PAIR, target=several)
    same = explained(PAIR, target=lfi.targets.Several(*several))
    assert [item.title for item in same] == [item.title for item in e]
    assert len(e) == 9 and len(e.images) == 3
    assert [item.class_index for item in e[:3]] == [1, None, None]
    titles = [item.title.partition(" for ")[2] for item in e.images[1]]
    assert titles == ["'dog'", "'cat' and not 'cow'", "lambda"]
    assert "and not &#x27;cow&#x27;" in e.images[1][1]._repr_html_()
    expected = [by_hand(1), by_hand(lfi.targets.Difference(0, [1, 2, 3])), by_hand(3)]
    for place, maps in enumerate(expected):
        np.testing.assert_allclose([item.map for item in e[place::3]], maps, atol=1e-5)


def test_options_go_to_the_methods_that_have_them():
    """Of two masks a map of RISE has few values; Grad-CAM, which has no options, stays as it is."""
    asked = {"method": ["rise", "grad_cam"], "target": 1}
    e = explained(PAIR, **asked, options={"samples": 2, "cells": 2})
    assert e.details["options"] == "cells=2, samples=2"
    alike = explained(PAIR, **asked, options={"cells": 2, "samples": 3})
    assert not np.allclose(e[0].map, alike[0].map)
    np.testing.assert_array_equal(e[1].map, alike[1].map)
    by_probability = explained(PAIR, method="score_cam", target=1, options={"score": "probability"})
    assert not np.allclose(
        by_probability[0].map, explained(PAIR, method="score_cam", target=1)[0].map
    )


@pytest.mark.parametrize(
    ("method", "options", "told"),
    [
        ("rise", {"sample": 3}, "did you mean 'samples'.* rise has score, samples, cells, share"),
        (["grad_cam", "own"], {"samples": 3}, "grad_cam has no options; own has no options"),
        (None, {"samples": 3}, "name it: method='rise'"),
        ("rise", {"samples": 0}, "samples=0 must be a whole number, 1 at least"),
        ("rise", {"samples": [3]}, "must be a whole number"),
        ("rise", {"share": 1.5}, "share must be a share above 0 and up to 1, not 1.5"),
        ("smooth_grad", {"deviation": -1}, "deviation must be a number, 0 or more, not -1"),
        ("score_cam", {"score": "logits"}, "score 'logits' is unknown — did you mean 'logit'"),
        ("rise", {3: 3}, "option 3 is unknown"),
        ("rise", [("samples", 3)], "options must be names and values"),
    ],
)
def test_options_that_no_method_has_are_told(method, options, told):
    with pytest.raises(lfi.UserError, match=told):
        explained(PAIR, method=method, options=options)


def test_another_class_of_the_same_network_compiles_nothing():
    traces = []

    def counted(found):
        traces.append(found.shape)
        return classify(found)

    pair = features, counted
    first = [explained(pair, target=target) for target in ("cat", 2, [0, 1, 2])]
    count = len(traces)
    assert [item.class_index for item in first[2]] == [0, 1, 2]
    explained(pair, target="hen")
    explained(pair, target=np.array([3, 3, 0]))
    assert len(traces) == count  # not even traced


def test_the_most_probable_classes_have_a_map_each():
    e = explained(PAIR, target=lfi.targets.Top(3))
    logits = np.asarray(classify(features(IMAGES)))
    order = np.argsort(-logits, axis=1)[:, :3]
    assert [item.class_index for item in e] == order.ravel().tolist()
    for place in range(3):
        maps = by_hand(jnp.asarray(order[:, place]))
        np.testing.assert_allclose([item.map for item in e[place::3]], maps, atol=1e-5)
    with pytest.raises(lfi.UserError, match="the 5 most probable of 4 classes"):
        explained(PAIR, target=lfi.targets.Top(5))


@pytest.mark.parametrize("fuse", ["mean", "max"])
def test_several_layers_become_one_map_at_the_size_of_the_image(fuse):
    names = ["features", "branch"]
    e = explained(LINEN, VARIABLES, layer=names, fuse=fuse, target=1, align="half_pixel")
    assert e[0].map.shape == IMAGES.shape[1:3]
    apart = [
        [item.map for item in explained(LINEN, VARIABLES, layer=n, target=1, align="half_pixel")]
        for n in names
    ]
    large = np.stack([resize(jnp.asarray(np.stack(maps)), (16, 16)) for maps in apart])
    fused = large.mean(axis=0) if fuse == "mean" else np.tanh(2 * large.max(axis=0))
    np.testing.assert_allclose([item.map for item in e], min_max(jnp.asarray(fused)), atol=1e-5)


def test_a_network_that_is_no_classifier_wants_a_target_and_has_no_classes():
    pair = features, lambda found: found.mean((1, 2))[:, :1]  # one number for each image
    e = lfi.explain(pair, IMAGES, normalised=True, target=0, method="hires_cam")
    assert e[0].predicted is None and e[0].correct is None and e[0].top() == []
    assert e[0].title == "hires_cam for output 0" and "hires_cam" in repr(e[0]) and repr(e)
    np.testing.assert_allclose([item.map for item in e], by_hand_one(pair[1]), atol=1e-5)


def by_hand_one(classifier):
    return np.asarray(draw("hires_cam", Split(jnp.asarray(features(IMAGES)), classifier), 0))


def test_a_segmentation_is_asked_about_a_region_and_saved(tmp_path):
    dense = features, lambda found: found
    mask = np.zeros((8, 8), bool)
    mask[:4] = True
    region = lfi.targets.Region(2, mask)
    e = lfi.explain(dense, IMAGES, normalised=True, target=region, method="hires_cam")
    found = np.asarray(features(IMAGES))[..., 2] * mask  # the gradient is 1 there, and 0 elsewhere
    np.testing.assert_allclose([item.map for item in e], min_max(jnp.asarray(found)), atol=1e-5)
    assert e[0].title == "hires_cam for output 2 in a region"
    page = e.save(tmp_path / "out").read_text()
    assert '"predicted": null' in page or '"predicted":null' in page
    assert "output 2 in a region" in page
    with pytest.raises(lfi.UserError, match="use lficam_jax.targets.Region"):
        lfi.explain(dense, IMAGES, normalised=True)


def test_layers_are_a_table_with_the_default_marked():
    found = lfi.layers(LINEN, VARIABLES, IMAGES, normalised=True)
    assert found.names == ["first", "norm", "features", "branch", "Dropout_0"]
    assert found.default == "Dropout_0" and [row.default for row in found[3:]] == [False, True]
    assert [row.name for row in found.all][-1] == "head"
    assert found[3].output == (1, 8, 8, networks.WIDTH) and found[3].map == (8, 8)
    lines = repr(found).splitlines()
    assert lines[4].split() == ["branch", "Conv", "[b", "8", "8", "5]", "8×8"]
    assert lines[5].endswith("[b 8 8 5]  8×8  ← default")
    assert lines[-1] == "and 1 without a map" and "<td>8×8</td>" in found._repr_html_()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"target": "dig"}, "class 'dig' is unknown — did you mean 'dog'"),
        ({"target": 4}, "class 4 does not exist; classes are 0 to 3"),
        ({"target": lfi.targets.Difference("cat", "pig")}, "class 'pig' is unknown"),
        ({"target": lfi.targets.Difference(0, 9)}, "class 9 does not exist"),
        ({"target": lambda outputs: outputs}, r"must give one float for each of the 4 images"),
        ({"target": [0, 1]}, "target has 2 entries for 3 images"),
        ({"layer": "feature"}, "layer 'feature' does not exist — did you mean 'features'"),
        ({"layer": 3}, "layer must be a name, or a submodule of the network itself, not 3"),
        ({"fuse": "sum"}, "fuse 'sum' is unknown"),
        ({"reshape": "tokens"}, "reshape must be a function, not 'tokens'"),
        ({"method": "cam"}, "method cam needs a classifier"),
        ({"method": "own"}, "draws no map of its own"),
        ({"method": "attention_rollout"}, "attention weights of this network are not known"),
        ({"classes": ANIMALS[:2]}, "names 2 classes, but the network tells 4 apart"),
    ],
)
def test_what_cannot_be_explained_is_told(options, says):
    with pytest.raises(lfi.UserError, match=says):
        explained(PAIR, **options)


def test_images_are_asked_for():
    for call in (lfi.explain, lfi.layers):
        with pytest.raises(lfi.UserError, match="give the images"):
            call(PAIR)


def test_our_own_network_may_be_cut_at_any_layer(run_of_ours):
    model, variables = run_of_ours
    assert "trunk" in lfi.layers(model, variables, IMAGES, normalised=True).names
    e = lfi.explain(model, variables, IMAGES, normalised=True, layer="trunk", method="grad_cam")
    assert e[0].map.shape == (8, 8)  # twice as fine as the last stage's


@pytest.fixture(scope="module")
def run_of_ours():
    import jax

    model = lfi.create_model("cifar_resnet", 8, "plain", num_classes=4)
    return model, jax.jit(model.init)(jax.random.key(0), IMAGES)
