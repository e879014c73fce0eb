"""A class of two by one output, several labels, a number: what is learnt, measured and said."""

import csv
import json
import shutil

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from PIL import Image
from sklearn import metrics as sklearn

import lficam_jax as lfi
from configs.folder import get_config
from lficam_jax import modes
from lficam_jax.config import validate
from lficam_jax.data import DATASETS, Pipeline
from lficam_jax.devices.parallel import replicate, spmd
from lficam_jax.errors import UserError
from lficam_jax.explaining.answer import Answer, true_values
from lficam_jax.interop.export.program import program
from lficam_jax.methods.split import split_model
from lficam_jax.methods.targets import for_images
from lficam_jax.metrics import answers
from lficam_jax.models import create_model
from lficam_jax.models.answers import kind_of, told
from lficam_jax.models.classifier import init_variables
from lficam_jax.speed.describe import describe
from lficam_jax.structs import Outputs
from lficam_jax.training.evaluate import evaluate, make_eval_step
from lficam_jax.training.experiment import load_run
from lficam_jax.training.steps import create_state, example_losses, make_train_step, shown
from lficam_jax.training.train import train
from lficam_jax.training.transfer import transfer
from lficam_jax.workdir.folder import read_config

COLOURS = ("red", "green", "blue")


class Conv(nn.Module):
    """The least backbone."""

    @nn.compact
    def __call__(self, x):
        return nn.relu(nn.Conv(8, (3, 3), (2, 2))(x))


def network(loss, outputs, **options):
    return create_model(Conv(), head="plain", loss=loss, num_classes=outputs, **options)


# --- the losses, beside numbers worked out by hand ---


def losses(loss, logits, labels, outputs, **options):
    model = network(loss, outputs, **options)
    out = Outputs(jnp.asarray(logits), features=None, attended=None)
    return example_losses(model, out, jnp.asarray(labels))


def test_several_labels_cost_the_mean_of_their_cross_entropies():
    """sigmoid(0) = 1/2 costs log 2, sigmoid(log 3) = 3/4 log(4/3), or log 4 if it is absent."""
    logits = [[0.0, np.log(3), np.log(3)]]
    found = losses("sigmoid", logits, [[1.0, 1.0, 0.0]], 3)
    np.testing.assert_allclose(found, [(np.log(2) + np.log(4 / 3) + np.log(4)) / 3], rtol=1e-6)


def test_an_unknown_label_costs_nothing():
    """The mean is over the two that are known, and the third one's logit has no gradient."""
    labels = jnp.array([[1.0, jnp.nan, 0.0], [jnp.nan, jnp.nan, jnp.nan]])
    cost = lambda x: losses("sigmoid", x, labels, 3)  # noqa: E731
    logits = jnp.array([[0.0, 5.0, np.log(3)], [1.0, 2.0, 3.0]])
    np.testing.assert_allclose(cost(logits), [(np.log(2) + np.log(4)) / 2, 0], rtol=1e-6)
    found = jax.grad(lambda x: cost(x).sum())(logits)
    np.testing.assert_allclose(found, [[-0.25, 0, 0.375], [0, 0, 0]], rtol=1e-6)
    assert shown("several", logits, labels)["label_accuracy"].tolist() == [0.5, 0]


def test_the_gradient_of_several_labels_is_probability_minus_label():
    logits, labels = jnp.array([[0.0, jnp.log(3.0)]]), jnp.array([[1.0, 0.0]])
    found = jax.grad(lambda x: losses("sigmoid", x, labels, 2).sum())(logits)
    np.testing.assert_allclose(found, [[(0.5 - 1) / 2, (0.75 - 0) / 2]], rtol=1e-6)


def test_a_number_costs_its_squared_error_in_deviations():
    found = losses("regression", [[34.0]], [[30.0]], 1, number=(30.0, 8.0))
    np.testing.assert_allclose(found, [0.25], rtol=1e-6)
    ask = lambda x: losses("regression", x, [[30.0]], 1, number=(30.0, 8.0)).sum()  # noqa: E731
    np.testing.assert_allclose(jax.grad(ask)(jnp.array([[34.0]])), [[2 * 4 / 64]], rtol=1e-6)


def test_one_output_for_two_classes_is_binary_cross_entropy():
    """The two logits of output z cost what optax's binary cross-entropy of z does, and so does the
    gradient."""
    features = jax.random.normal(jax.random.key(0), (4, 2, 2, 8))
    model, labels = network("sigmoid", 1), jnp.array([0, 1, 1, 0])
    params = {"classifier": {"kernel": jnp.ones((8, 1)) / 3, "bias": jnp.array([0.2])}}

    def ours(params):
        logits = model.apply({"params": params}, features, method="classify")
        return example_losses(model, Outputs(logits, features, features), labels).mean()

    def plainly(params):
        layer = params["classifier"]
        z = jnp.sum(features.mean((1, 2)) * layer["kernel"].T, axis=1) + layer["bias"][0]
        return optax.sigmoid_binary_cross_entropy(z, labels.astype(float)).mean()

    found, wanted = (jax.tree.leaves(jax.value_and_grad(f)(params)) for f in (ours, plainly))
    assert len(found) == 3
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_the_attention_branch_pays_the_same_loss():
    model = network("regression", 1, number=(0.0, 2.0))
    out = Outputs(jnp.array([[4.0]]), None, None, attention_logits=jnp.array([[2.0]]))
    np.testing.assert_allclose(example_losses(model, out, jnp.array([[0.0]])), [4 + 1])
    abn = create_model("cifar_resnet", 8, "abn", num_classes=1, loss="sigmoid")
    shapes = jax.eval_shape(
        lambda: abn.init_with_output(jax.random.key(0), jnp.zeros((2, 8, 8, 3)))
    )
    assert shapes[0].logits.shape == shapes[0].attention_logits.shape == (2, 2)  # of one output


@pytest.mark.parametrize(("loss", "outputs"), [("sigmoid", 1), ("sigmoid", 3), ("regression", 1)])
def test_head_classwise_reads_each_label_through_its_map(loss, outputs):
    """What the gated features of a label say of it is its logit, in the unit of the number."""
    options = {"number": (5.0, 3.0)} if loss == "regression" else {}
    model = create_model(Conv(), head="classwise", loss=loss, num_classes=outputs, **options)
    variables = init_variables(model, (8, 8, 3), 0)
    split = split_model(model, variables, jax.random.normal(jax.random.key(0), (2, 8, 8, 3)))
    for k in range(split.logits.shape[1]):
        ours = split.asked(for_images(k, 2))
        np.testing.assert_allclose(
            ours.classify(ours.features)[:, k], split.logits[:, k], rtol=1e-4
        )


def test_what_weighs_channels_by_probabilities_of_classes_says_so():
    with pytest.raises(UserError, match="fin.kind=tied weighs channels by how likely each class"):
        create_model("cifar_resnet", 8, num_classes=1, loss="regression", fin={"kind": "tied"})
    create_model("cifar_resnet", 8, num_classes=3, loss="sigmoid", fin={"kind": "tied"})  # a share


def test_bfloat16_answers_in_float32():
    model = network("regression", 1, dtype="bfloat16", number=(1000.0, 0.5))
    variables = init_variables(model, (8, 8, 3), 0)
    assert model.apply(dict(variables), jnp.ones((1, 8, 8, 3))).logits.dtype == jnp.float32


@pytest.mark.parametrize(
    ("loss", "outputs", "wanted"),
    [("softmax", 3, "class"), ("sigmoid", 1, "class"), ("sigmoid", 3, "several"),
     ("regression", 1, "number")],
)  # fmt: skip
def test_the_loss_says_what_is_answered(loss, outputs, wanted):
    assert kind_of(network(loss, outputs)) == wanted
    told_of = told(wanted, jnp.array([[0.0, 0.0]]))
    np.testing.assert_allclose(told_of, [[0.0 if wanted == "number" else 0.5] * 2])


def test_each_step_learns():
    """Sixteen pictures, of which the bright row says the answer, are learnt in 60 steps."""
    images = np.random.default_rng(0).normal(size=(16, 8, 8, 3)).astype(np.float32)
    turn = np.arange(16) % 4
    images[np.arange(16), turn * 2] += 3
    wanted = {
        ("sigmoid", 1): (turn > 1).astype(np.int32),
        ("sigmoid", 2): np.stack([turn > 1, turn % 2], 1).astype(np.float32),
        ("regression", 1): 100 + 10 * turn[:, None].astype(np.float32),
    }
    for (loss, outputs), labels in wanted.items():
        model = network(loss, outputs, number=(115.0, 11.0))
        tx = optax.adam(0.01)
        state = create_state(init_variables(model, (8, 8, 3), 0), tx)
        step = make_train_step(model, tx, lambda resident, batch, key: batch, seed=0)
        mapped, first = spmd(step, "pmap", jax.devices()[:1]), None
        state = replicate(state, "pmap", jax.devices()[:1])
        for _ in range(60):
            state, sums = mapped(state, {}, {"image": images, "label": labels})
            first = first or float(sums["loss"])
        assert float(sums["loss"]) < 0.7 * first, (loss, outputs)


# --- the measures, beside scikit-learn's ---


@pytest.fixture(scope="module")
def scored():
    """37 pictures, 4 labels, logits with ties; the last label is in no picture."""
    random = np.random.default_rng(0)
    labels = (random.random((37, 4)) < [0.5, 0.2, 0.8, 0]).astype(np.float32)
    return np.round(random.normal(0, 2, (37, 4))).astype(np.float32), labels


def test_measures_of_labels_are_those_of_scikit_learn(scored):
    logits, labels = scored
    found = answers.of_labels(logits, labels)
    each = found["per_label"]
    for k in range(3):
        pair = labels[:, k], logits[:, k]
        wanted = sklearn.average_precision_score(*pair), sklearn.roc_auc_score(*pair)
        ours = each["average_precision"][k], each["auroc"][k]
        np.testing.assert_allclose(ours, wanted, rtol=1e-9)
    present = logits >= 0
    wanted = sklearn.f1_score(labels, present, average=None, zero_division=0)
    np.testing.assert_allclose(each["f1"], wanted)
    assert found["f1"] == pytest.approx(wanted.mean())
    assert found["exact_match"] == pytest.approx(sklearn.accuracy_score(labels, present))
    wanted = 1 - sklearn.hamming_loss(labels, present)
    assert found["label_accuracy"] == pytest.approx(wanted)
    mean = sklearn.average_precision_score(labels[:, :3], logits[:, :3], average="macro")
    assert found["mean_average_precision"] == pytest.approx(mean)


def test_what_no_picture_defines_is_left_out(scored):
    logits, labels = scored
    each = answers.of_labels(logits, labels)["per_label"]
    assert each["average_precision"][3] is each["auroc"][3] is None
    assert each["positives"][3] == 0
    assert answers.of_numbers(np.ones(3), np.ones(3))["r2"] is None


def test_an_unknown_label_counts_in_no_measure(scored):
    """Each label is measured as if the pictures where it is unknown were not there."""
    logits, labels = scored
    unknown = np.random.default_rng(1).random(labels.shape) < 0.3
    holes = np.where(unknown, np.nan, labels)
    found = answers.of_labels(logits, holes)
    for k in range(4):
        seen = ~unknown[:, k]
        alone = answers.of_labels(logits[seen][:, [k]], labels[seen][:, [k]])
        assert {n: v[k] for n, v in found["per_label"].items()} == {
            n: v for n, (v,) in alone["per_label"].items()
        }
    right = (logits >= 0) == (labels > 0)
    assert found["label_accuracy"] == pytest.approx(right[~unknown].mean())
    assert found["exact_match"] == pytest.approx((right | unknown).all(axis=1).mean())


def test_logits_that_are_all_sure_are_still_ranked():
    """Their probabilities are 1 in float32: as such they would tie, and 0.5 be the area."""
    logits = np.array([[20.0], [30.0], [25.0], [40.0]], np.float32)
    found = answers.of_labels(logits, np.array([[0], [1], [0], [1]], np.float32))
    assert found["per_label"]["auroc"] == [1] and found["mean_average_precision"] == 1


def test_measures_of_numbers_are_those_of_scikit_learn():
    random = np.random.default_rng(0)
    true = random.normal(1e4, 3, 50)  # far from zero: float32 sums would lose the spread
    said = true + random.normal(0, 1, 50)
    found = answers.of_numbers(said, true)
    assert found["mae"] == pytest.approx(sklearn.mean_absolute_error(true, said))
    assert found["rmse"] == pytest.approx(sklearn.root_mean_squared_error(true, said))
    assert found["r2"] == pytest.approx(sklearn.r2_score(true, said))


@pytest.mark.parametrize(("loss", "outputs"), [("sigmoid", 3), ("regression", 1), ("sigmoid", 1)])
def test_devices_and_padding_change_no_measure(loss, outputs):
    """13 pictures in batches of 8 on 4 devices, and all at once on one."""
    model, random = network(loss, outputs), np.random.default_rng(0)
    variables = init_variables(model, (8, 8, 3), 0)
    labels = (random.random((13, outputs)) < 0.5).astype(np.float32)
    if loss == "sigmoid" and outputs == 1:
        labels = labels[:, 0].astype(np.int32)
    examples = {"image": random.normal(size=(13, 8, 8, 3)).astype(np.float32), "label": labels}
    names = ("no a", "a") if labels.ndim == 1 else tuple("abc")[:outputs]

    def measured(size, devices, mode):
        def batches(start):
            for first in range(0, 13, size):
                rows = np.arange(first, first + size)
                valid = rows < 13
                yield {k: v[np.where(valid, rows, 0)] for k, v in examples.items()} | {
                    "valid": valid
                }

        load = lambda resident, batch, key: batch  # noqa: E731
        split = Pipeline(DATASETS["elpv"], {}, batches, load, 13, 1, names)
        chosen = jax.devices()[:devices]
        step = spmd(make_eval_step(model, load), mode, chosen)
        return evaluate(step, replicate(variables, mode, chosen), {}, split, kind_of(model))

    once = measured(13, 1, "pmap")
    for mode in ("pmap", "shard_map"):
        several = measured(8, 4, mode)
        assert several.keys() == once.keys()
        for name, value in once.items():
            if isinstance(value, float):
                assert several[name] == pytest.approx(value, rel=1e-5), name
    said = jax.device_get(
        told(kind_of(model), model.apply(dict(variables), examples["image"]).logits)
    )
    by_hand = {
        "several": (
            "mean_average_precision",
            lambda: sklearn.average_precision_score(labels, said),
        ),
        "number": ("mae", lambda: sklearn.mean_absolute_error(labels, said)),
        "class": ("auroc", lambda: sklearn.roc_auc_score(labels, said[:, 1])),
    }
    name, wanted = by_hand[kind_of(model)]
    assert once[name] == pytest.approx(wanted(), rel=1e-5)


# --- the whole program ---


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """64 pictures of 8 pixels, each in some of three colours, and what they show, by CSV.

    Of every seventh picture one colour is unknown.
    """
    folder = tmp_path_factory.mktemp("shapes")
    random, rows = np.random.default_rng(0), []
    (folder / "pictures").mkdir()
    for i in range(64):
        there = [i % 2, i // 2 % 2, i // 4 % 2]
        picture = random.integers(0, 60, (8, 8, 3)) + 180 * np.array(there)
        Image.fromarray(picture.astype(np.uint8)).save(folder / "pictures" / f"{i:02}.png")
        split = ("train", "train", "train", "val", "test")[i % 5]
        known = ["" if (i % 7, i % 3) == (3, k) else label for k, label in enumerate(there)]
        rows.append([f"{i:02}.png", *known, 10 + sum(there), split])
    header = ["path", *COLOURS, "count", "split"]
    columns = {"labels": [0, 1, 2, 3], "one": [0, 3], "numbers": [0, 4, 5]}
    for name, kept in columns.items():
        with (folder / f"{name}.csv").open("w", newline="") as file:
            known = [row for row in rows if name != "one" or row[3] != ""]
            csv.writer(file).writerows([[row[i] for i in kept] for row in [header, *known]])
    return folder


def configured(shapes, name, loss, **options):
    config = get_config(f"loss={loss}")
    config.data.update(
        folder=str(shapes / "pictures"), labels_file=str(shapes / f"{name}.csv"), image_size=8,
        augment="none", pipeline="resident", crop_share=1.0,
    )  # fmt: skip
    config.model.update(backbone="cifar_resnet", depth=8, head="plain")
    config.train.update(batch_size=16, total_epochs=0.0, total_steps=40, tensorboard=False)
    config.eval.update(batch_size=16, every_epochs=0.0, every_steps=20)
    config.optim.lr = 0.02
    config.data.update(options)
    return config


@pytest.fixture(scope="module")
def several(shapes, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("several")
    return workdir, train(configured(shapes, "labels", "sigmoid"), workdir)


@pytest.fixture(scope="module")
def number(shapes, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("number")
    return workdir, train(configured(shapes, "numbers", "regression"), workdir)


def test_several_labels_are_learnt(several):
    workdir, result = several
    assert result["test"]["classes"] == list(COLOURS)
    assert result["test"]["mean_average_precision"] > 0.9 and "confusion" not in result["test"]
    again = modes.evaluate(lfi.load(workdir).config, str(workdir), "test")
    assert again == 0  # prints the table, and that of each label
    record = json.loads((workdir / "results" / "evaluate.json").read_text())
    assert record["exact_match"] == result["test"]["exact_match"]
    assert min(record["per_label"]["known"]) < record["examples"]


def test_a_number_is_learnt_and_the_smallest_error_is_the_best(number):
    workdir, result = number
    assert result["test"]["mae"] < 0.6 and result["test"]["r2"] > 0.3
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    errors = {line["step"]: line["validation/mae"] for line in lines if "validation/mae" in line}
    assert len(errors) == 2 and result["best_step"] == min(errors, key=errors.get)
    data = lfi.load(workdir).config.data
    assert data.labels == "number" and data.number[0] == pytest.approx(11.5, abs=0.3)


def test_predictions_and_explanations_say_the_labels(several, shapes, tmp_path):
    workdir, _ = several
    run = lfi.load(workdir)
    files = [shapes / "pictures" / f"{i:02}.png" for i in (0, 3, 7)]
    said = run.predict(files)
    assert said.predicted == [[], ["red", "green"], list(COLOURS)]
    assert "labels" in repr(said) and "none" in repr(said) and "3 labels" in repr(run)
    e = run.explain(files, method="grad_cam", labels=[[], ["red", "blue"], (1, np.nan, 1)])
    assert [one.correct for one in e] == [True, False, True]
    assert e[1].answer.wrong == ["green"] and e[1].title.startswith("grad_cam for '")
    assert e[2].answer.wrong == [] and e[2].answer.true == "red, blue (1 unknown)"
    row = json.loads((e.save(tmp_path / "known").parent / "manifest.json").read_text())["images"][2]
    assert (row["label"], row["unknown"], row["correct"]) == (["red", "blue"], ["green"], True)
    assert run.explain(files, method="grad_cam", labels=[[np.nan] * 3] * 3)[0].correct is None
    asked = run.explain(files, method="grad_cam", target="blue")
    assert [one.title for one in asked] == ["grad_cam for 'blue'"] * 3
    page = asked.save(tmp_path / "page").read_text()
    assert '"kind": "several"' in page
    row = json.loads((tmp_path / "page" / "manifest.json").read_text())["images"][1]
    assert row["predicted"] == ["red", "green"] and row["label"] is None
    with pytest.raises(UserError, match="'bleu' is unknown — did you mean 'blue'"):
        run.explain(files, method="grad_cam", target="bleu")
    with pytest.raises(UserError, match="labels: give the names"):
        run.explain(files, labels=["red", "pink", "blue"])


def test_predictions_and_explanations_say_the_number(number, shapes, tmp_path):
    workdir, _ = number
    run = lfi.load(workdir)
    file = shapes / "pictures" / "07.png"
    (value,) = run.predict(file).predicted
    assert value == pytest.approx(13, abs=1.5) and "a number (count)" in repr(run)
    (e,) = run.explain(file, method="grad_cam", labels=[13])
    assert e.correct is None and e.title == "grad_cam" and e.answer.text in repr(e)
    assert e.answer.error == pytest.approx(value - 13, abs=1e-4)
    e = run.explain(file, method="grad_cam", target="count")
    assert "mean" not in repr(e) and str(e[0].answer.text) in repr(e)
    e.save(tmp_path / "page")
    row = json.loads((tmp_path / "page" / "manifest.json").read_text())["images"][0]
    assert row["predicted"] == pytest.approx(value, abs=1e-4) and row["probabilities"] == []


def test_measures_ask_the_probability_of_a_label(several):
    found = lfi.load(several[0]).measure("grad_cam", limit=4, measures="confidence")
    assert 0 <= found["grad_cam"]["average_drop"] <= 100
    with pytest.raises(UserError, match="one true class per image"):
        lfi.load(several[0]).measure("grad_cam", limit=4, target="label")


def test_measures_of_a_class_refuse_a_number(number):
    run = lfi.load(number[0])
    with pytest.raises(UserError, match=r"predicts a number \(count\)"):
        run.measure("grad_cam", limit=4)
    with pytest.raises(UserError, match="predicts a number .* is not exported"):
        program(run)
    with pytest.raises(UserError, match="no single class"):
        asked = {"perturbations": ["contrast"], "severities": [1], "epsilons": [1]}
        modes.robustness(run.config, str(number[0]), methods=[], split="test", limit=4, **asked)


@pytest.mark.parametrize(
    ("name", "loss", "row"), [("labels", "sigmoid", "1 1 1"), ("numbers", "regression", "13")]
)
def test_a_killed_run_goes_on_bit_identically_with_the_labels_that_it_began_with(
    name, loss, row, shapes, tmp_path, request
):  # fmt: skip
    """What kill -9 behind step 20 leaves; then the file changes: the run keeps what it was told."""
    unbroken, result = request.getfixturevalue({"labels": "several", "numbers": "number"}[name])
    shutil.copytree(unbroken, tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "checkpoints" / "40")
    shutil.rmtree(tmp_path / "results")
    kept = (tmp_path / "split.csv").read_text()
    assert kept.startswith("path,class,split\n") and f",{row},train" in kept
    file = shapes / f"{name}.csv"
    before = file.read_text()
    file.write_text("path,red\n")  # nothing that could be read
    try:
        again = train(configured(shapes, name, loss), tmp_path)
    finally:
        file.write_text(before)
    assert again["resumed_at_step"] == 20 and again["test"] == result["test"]
    weights = [load_run(read_config(unbroken), run, 40).variables for run in (unbroken, tmp_path)]
    jax.tree.map(np.testing.assert_array_equal, *weights)
    assert (tmp_path / "split.csv").read_text() == kept


def test_other_pictures_are_measured_by_their_own_labels(several, shapes, tmp_path, capsys):
    (tmp_path / "a").mkdir()
    for i in (1, 2, 4):
        Image.open(shapes / "pictures" / f"{i:02}.png").save(tmp_path / "a" / f"x{i}.png")
    (tmp_path / "own.csv").write_text(
        "path,blue,weight,red,green\na/x1.png,0,7,1,0\na/x2.png,0,8,0,1\na/x4.png,1,9,0,0\n"
    )
    config = read_config(several[0])
    config.data.update(folder=str(tmp_path), labels_file=str(tmp_path / "own.csv"))
    assert modes.evaluate(config, str(several[0]), "test") == 0
    record = json.loads((several[0] / "results" / "evaluate.json").read_text())
    assert record["examples"] == 3 and record["exact_match"] == 1
    assert record["classes"] == list(COLOURS)  # in the run's order, without the other column


# --- what does not fit is said ---


@pytest.mark.parametrize(
    ("name", "loss", "told"),
    [("labels", "softmax", "several labels.*say --config.model.loss=sigmoid"),
     ("labels", "regression", "several labels"), ("numbers", "softmax", "loss=regression"),
     ("numbers", "sigmoid", r"a number \(count\)"), ("one", "regression", "has a class")],
)  # fmt: skip
def test_a_loss_that_does_not_fit_names_the_one_that_does(shapes, tmp_path, name, loss, told):
    with pytest.raises(UserError, match=told):
        train(configured(shapes, name, loss), tmp_path)


def test_ten_classes_have_no_one_output():
    from configs.cifar10 import get_config as cifar

    with pytest.raises(UserError, match="one of 10 classes, and model.loss=sigmoid is for two"):
        describe(cifar("loss=sigmoid"))


@pytest.mark.parametrize("loss", ["sigmoid", "regression"])
def test_smoke_needs_no_pictures(loss):
    config = get_config(f"loss={loss}:smoke")
    validate(config)
    assert "labels" in describe(config)["data"] or "a number" in describe(config)["data"]


def test_a_linear_layer_of_other_classes_starts_fresh():
    """One output for cat and dog is none for dog and cat, nor for two softmax outputs."""
    two, one = (network(loss, k) for loss, k in (("softmax", 2), ("sigmoid", 1)))
    from_, into = (init_variables(m, (8, 8, 3), s) for s, m in enumerate((two, one)))
    assert transfer(from_, into, (("cat", "dog"), ("cat", "dog")))[1] == ("classifier",)
    other = init_variables(one, (8, 8, 3), 2)
    assert transfer(other, into, (("cat", "dog"), ("dog", "cat")))[1] == ("classifier",)
    assert transfer(other, into, (("cat", "dog"), ("cat", "dog")))[1] == ()


def test_an_answer_is_the_labels_that_are_at_least_as_probable_as_not():
    said = Answer(np.array([0.5, 0.49, 0.1]), COLOURS, "several", (0, 0, 0))
    assert said.text == "red" and said.true == "none" and said.wrong == ["red"]
    nothing = Answer(np.array([0.4, 0.2, 0.1]), COLOURS, "several")
    assert (nothing.text, nothing.shares(), nothing.correct) == ("none", "red 40.0%", None)
    assert true_values([None, [2.5]], "number", ("age",), 2) == [None, 2.5]
    for array in (np.array([2.5, 3]), jnp.array([[2.5], [3]]), [np.array(2.5), jnp.array(3)]):
        assert true_values(array, "number", ("age",), 2) == [2.5, 3]


def test_labels_of_any_form_are_read_or_told():
    assert true_values([(1, 0), ("b",), None], "several", ("a", "b"), 3) == [(1, 0), (0, 1), None]
    assert true_values(2.5, "number", ("age",), 2) == [2.5, 2.5]  # one for all
    for given in ([[1, [2]]], [[]], ["x"]):
        with pytest.raises(lfi.UserError, match="labels: give a number"):
            true_values(given, "number", ("age",), 1)
    with pytest.raises(lfi.UserError, match="2 entries for 3 images"):
        true_values([1, 2], "number", ("age",), 3)
