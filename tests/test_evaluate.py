"""Evaluation is exact, on any split size and device count."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lficam_jax.data import DATASETS, Pipeline
from lficam_jax.devices.parallel import replicate, spmd
from lficam_jax.models import create_model
from lficam_jax.models.classifier import init_variables
from lficam_jax.training.evaluate import evaluate, make_eval_step, summarise

CLASSES = tuple("abcdefg")


@pytest.fixture(scope="module")
def model():
    model = create_model("cifar_resnet", 8, "lfi", num_classes=len(CLASSES))
    return model, init_variables(model, (16, 16, 3), 0)


@pytest.fixture(scope="module")
def examples():
    """13 images: no multiple of any batch or device count; the object is the top left quarter."""
    generator = np.random.default_rng(0)
    mask = np.zeros((13, 16, 16), bool)
    mask[:, :8, :8] = True
    return {
        "image": generator.normal(size=(13, 16, 16, 3)).astype(np.float32),
        "label": generator.integers(0, len(CLASSES), 13).astype(np.int32),
        "mask": mask,
    }


def pipeline(examples, batch_size):
    def batches(start):
        count = len(examples["label"])
        for first in range(start, count, batch_size):
            rows = np.arange(first, first + batch_size)
            valid = rows < count
            yield {k: v[np.where(valid, rows, 0)] for k, v in examples.items()} | {"valid": valid}

    load = lambda resident, batch, key: batch  # noqa: E731
    return Pipeline(DATASETS["cifar10"], {}, batches, load, 13, -(-13 // batch_size), CLASSES, True)


def run(model, examples, batch_size, mode="pmap", devices=1):
    module, variables = model
    chosen = jax.devices()[:devices]
    split = pipeline(examples, batch_size)
    step = spmd(make_eval_step(module, split.load), mode, chosen)
    return evaluate(step, replicate(variables, mode, chosen), {}, split)


@pytest.fixture(scope="module")
def by_hand(model, examples):
    """The same measures in numpy, from one forward pass over all 13 images."""
    module, variables = model
    out = jax.device_get(jax.jit(module.apply)(dict(variables), examples["image"]))
    labels, rows = examples["label"], np.arange(13)
    shifted = out.logits - out.logits.max(1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    ranks = np.argsort(-out.logits, axis=1)
    return {
        "accuracy": (ranks[:, 0] == labels).mean(),
        "top5_accuracy": (ranks[:, :5] == labels[:, None]).any(1).mean(),
        "loss": -log_p[rows, labels].mean(),
        "effective_channels": np.exp(-(out.importance * np.log(out.importance)).sum(1)).mean(),
        "correlation_with_mean": np.mean(
            [
                np.corrcoef(a.ravel(), f.mean(-1).ravel())[0, 1]
                for a, f in zip(out.attention, out.features, strict=True)
            ]
        ),
    }


@pytest.mark.parametrize("batch_size,devices,mode", [
    (13, 1, "pmap"), (4, 1, "pmap"), (16, 8, "pmap"), (8, 8, "shard_map"),
])  # fmt: skip
def test_the_same_on_any_batch_and_device_count(
    model, examples, by_hand, batch_size, devices, mode
):
    found = run(model, examples, batch_size, mode, devices)
    assert found["examples"] == 13
    for name, value in by_hand.items():
        np.testing.assert_allclose(found[name], value, rtol=2e-5, err_msg=name)
    counts = np.array(found["confusion"])
    assert counts.sum() == 13
    np.testing.assert_array_equal(counts.sum(1), np.bincount(examples["label"], minlength=7))
    assert np.trace(counts) == round(found["accuracy"] * 13)


def test_images_without_an_object_do_not_count_in_the_pointing_game(model, examples):
    all_object = {**examples, "mask": np.ones_like(examples["mask"])}
    found = run(model, all_object, 13)
    assert found["pointing_game"] == 1 and found["energy"] == pytest.approx(1)
    half = {**all_object, "mask": all_object["mask"] & (np.arange(13) < 6)[:, None, None]}
    assert run(model, half, 13)["pointing_game"] == 1
    nowhere = {**examples, "mask": np.zeros_like(examples["mask"])}
    assert run(model, nowhere, 13)["pointing_game"] == 0


def test_a_plain_head_has_no_map_to_measure(examples):
    module = create_model("cifar_resnet", 8, "plain", num_classes=len(CLASSES))
    found = run((module, init_variables(module, (16, 16, 3), 0)), examples, 13)
    assert "pointing_game" not in found and "effective_channels" not in found


def test_classes_of_one_name_stay_apart():
    """ImageNet has two classes named crane."""
    total = {
        "count": 4,
        "correct": 3,
        "loss": 2.0,
        "top5": 4,
        "confusion": jnp.array([[2, 0], [1, 1]]),
    }
    found = summarise(total, ("crane", "crane"))
    assert found["per_class_accuracy"] == [1.0, 0.5] and found["accuracy"] == 0.75
    assert "top5_accuracy" not in found  # of two classes, five are always right
