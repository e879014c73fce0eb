"""Fine-tuning: where a run starts, what starts fresh, and what does not move."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from PIL import Image

from lficam_jax.config import as_json, default_config, validate
from lficam_jax.errors import UserError
from lficam_jax.models import create_model
from lficam_jax.training.experiment import load_run
from lficam_jax.training.optim import optimizer, schedule
from lficam_jax.training.steps import create_state
from lficam_jax.training.train import train
from lficam_jax.training.transfer import start_from, transfer
from lficam_jax.workdir.checkpoint import Checkpoints

TEN = tuple("abcdefghij")


def draw(classes=10, head="lfi", depth=8, seed=0, **options):
    model = create_model("cifar_resnet", depth, head, num_classes=classes, **options)
    variables = jax.jit(model.init)(jax.random.key(seed), jnp.zeros((1, 16, 16, 3)))
    return jax.device_get(variables)


def of_classes(classes=TEN):
    config = default_config()
    config.data.classes = classes
    return config


def leaves(variables):
    return flatten_dict(variables, sep="/")


def changed(before, after):
    """Paths whose values differ."""
    before, after = leaves(before), leaves(after)
    return {p for p in before if not np.array_equal(before[p], after[p])}


def test_the_same_network_is_taken_whole():
    theirs = draw(seed=1)
    taken, fresh = transfer(theirs, draw(seed=2))
    assert fresh == () and not changed(theirs, taken)


@pytest.mark.parametrize(
    ("theirs", "ours", "fresh"),
    [
        (dict(classes=10), dict(classes=3), ("classifier",)),  # FIN does not know the classes
        (dict(head="abn"), dict(head="abn", classes=3), ("head", "classifier")),  # ABN's does
        (dict(head="plain"), dict(head="lfi"), ("head",)),
        (dict(head="lfi"), dict(head="plain"), ()),
        (dict(fin={"width": 8}), dict(), ("head",)),
    ],
)
def test_a_head_or_classifier_that_does_not_fit_starts_fresh(theirs, ours, fresh):
    source, start = draw(**theirs, seed=1), draw(**ours, seed=2)
    taken, told = transfer(source, start)
    assert told == fresh
    assert leaves(taken).keys() == leaves(start).keys()
    for path, value in leaves(taken).items():
        origin = start if path.split("/")[1] in fresh else source
        np.testing.assert_array_equal(value, leaves(origin)[path], err_msg=path)


def test_another_backbone_is_refused_with_every_difference():
    with pytest.raises(UserError) as error:
        transfer(draw(depth=14), draw(depth=8))
    text = str(error.value)
    assert "params/trunk/stage1/block1/conv1/kernel: [3, 3, 16, 16] there, absent here" in text
    assert text.count("block1") == 3 * (2 * 1 + 2 * 4)  # per stage: 2 kernels, 2 norms of 4 arrays


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A run's folder with steps 1 (the best) and 2."""
    workdir = tmp_path_factory.mktemp("saved")
    (workdir / "config.json").write_text(json.dumps(as_json(of_classes())))
    config = default_config().optim
    tx = optimizer(config, schedule(config, 1, 1))
    with Checkpoints(workdir) as checkpoints:
        for step, accuracy in ((1, 0.9), (2, 0.1)):
            state = create_state(draw(seed=step), tx).replace(step=jnp.int32(step))
            checkpoints.save(state)
            checkpoints.note(step, {"accuracy": accuracy})
    return workdir


@pytest.mark.parametrize(("place", "step"), [("", 1), ("checkpoints/2", 2)])
def test_init_from_reads_the_best_step_or_the_one_that_is_named(saved, capsys, place, step):
    found = start_from(str(saved / place), draw(seed=5), of_classes().data)
    assert not changed(found, draw(seed=step))
    assert capsys.readouterr().out == f"starting from step {step} of {saved}\n"


def test_init_from_says_what_starts_fresh(saved, capsys):
    start_from(str(saved), draw(classes=3), of_classes(tuple("xyz")).data)
    assert capsys.readouterr().out.endswith(
        "; fresh: classifier (its classes are a, b, c, d, e, f, g, h, i, j)\n"
    )


@pytest.mark.parametrize("head", ["lfi", "abn"])
def test_the_same_classes_in_another_order_are_put_in_order(head):
    theirs, ours = TEN, TEN[::-1]
    source, start = draw(head=head, seed=1), draw(head=head, seed=2)
    taken, fresh = transfer(source, start, (theirs, ours))
    assert fresh == ()
    by_class = {"params/classifier/kernel", "params/classifier/bias"}
    by_class |= {"params/head/conv_logits/kernel"} if head == "abn" else set()
    assert changed(source, taken) - {"params/classifier/bias"} == by_class - {
        "params/classifier/bias"  # all zero at first
    }
    images = jnp.asarray(np.random.default_rng(0).normal(size=(2, 16, 16, 3)), jnp.float32)
    model = create_model("cifar_resnet", 8, head, num_classes=10)
    before, after = model.apply(source, images), model.apply(taken, images)
    np.testing.assert_array_equal(before.logits, after.logits[:, ::-1])
    np.testing.assert_array_equal(before.attention, after.attention)
    if head == "abn":
        np.testing.assert_array_equal(before.attention_logits, after.attention_logits[:, ::-1])


@pytest.mark.parametrize(
    ("head", "fresh"), [("lfi", ("classifier",)), ("abn", ("head", "classifier"))]
)
def test_other_classes_of_the_same_number_start_fresh(head, fresh):
    """One of ten is called otherwise: the shapes fit, the meaning does not."""
    start = draw(head=head, seed=2)
    taken, told = transfer(draw(head=head, seed=1), start, (TEN, (*TEN[:9], "other")))
    assert told == fresh
    assert not any(p.split("/")[1] in fresh for p in changed(start, taken))


def test_a_run_whose_class_names_nobody_knows_keeps_its_classifier_for_the_same_data(
    saved, tmp_path, capsys
):
    shutil.copytree(saved / "checkpoints", tmp_path / "checkpoints")
    config = of_classes(())
    config.data.name = "imagenet2012"  # only its prepared files know the names
    (tmp_path / "config.json").write_text(json.dumps(as_json(config)))
    ours = of_classes()
    start_from(str(tmp_path), draw(seed=5), ours.data)
    assert "; fresh: classifier (nobody knows its class names)" in capsys.readouterr().out
    ours.data.name = "imagenet2012"
    assert not changed(start_from(str(tmp_path), draw(seed=5), ours.data), draw(seed=1))


def test_init_from_tells_what_is_wrong(saved, tmp_path):
    fresh = draw(depth=14)
    with pytest.raises(UserError, match="init_from=.* is of another network; .*\n  .*block1/"):
        start_from(str(saved), fresh, of_classes().data)
    with pytest.raises(UserError, match=r"holds no run .*WORKDIR/checkpoints/STEP"):
        start_from(str(tmp_path), fresh, of_classes().data)
    with pytest.raises(UserError, match="checkpoint 7 in .* cannot be read"):
        start_from(str(saved / "checkpoints" / "7"), fresh, of_classes().data)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(UserError, match="no checkpoint in"):
        start_from(str(tmp_path), fresh, of_classes().data)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Three classes, eight pictures each, in each split."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for split in ("train", "validation", "test"):
        for name in ("ant", "bee", "cat"):
            (root / split / name).mkdir(parents=True)
            for i in range(8):
                pixels = rng.integers(0, 255, (16, 16, 3), np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{i}.png")
    return root


def test_a_run_starts_from_another_with_other_classes_and_frozen_parts_stay(
    tiny, photos, saved, tmp_path, capsys
):
    """Weight decay, momentum and clipping are on; what is frozen stays to the bit."""
    tiny.data.name, tiny.data.folder, tiny.data.train_examples = "folder", str(photos), 0
    tiny.train.batch_size = 16
    tiny.optim.freeze = "trunk/.*"
    tiny.optim.weight_decay, tiny.optim.clip_norm = 0.1, 1.0
    tiny.train.total_steps = tiny.eval.every_steps = 1
    tiny.optim.warmup_steps = 0  # its first step would have no learning rate
    tiny.init_from = "nowhere"
    workdir = tmp_path / "run"
    with pytest.raises(UserError, match="init_from=nowhere holds no run"):
        train(tiny, workdir)
    source = tmp_path / "source"
    shutil.copytree(saved, source)
    tiny.init_from = str(source)  # the folder holds nothing yet: the same command, put right
    train(tiny, workdir)
    assert "starting from step 1 of" in (out := capsys.readouterr().out)
    assert "fresh: classifier" in out

    after, before = load_run(tiny, workdir).variables, draw(seed=1)
    assert after["params"]["classifier"]["kernel"].shape == (64, 3)
    moved = changed(before["params"], after["params"])
    assert not any(path.startswith("trunk/") for path in moved)
    stays = [p for p in leaves(before["params"]) if not p.startswith("trunk/")]
    assert moved == set(stays)
    assert changed(before["batch_stats"]["trunk"], after["batch_stats"]["trunk"])

    (workdir / "results" / "train.json").unlink()
    shutil.rmtree(source)  # it goes on without
    assert train(tiny, workdir)["resumed_at_step"] == 1
    (workdir / "results" / "train.json").unlink()
    tiny.init_from = "elsewhere"
    with pytest.raises(UserError, match="init_from: .* -> elsewhere"):
        train(tiny, workdir)


def frozen_step(pattern, name="sgd", **changes):
    """Parameters before and after one step of a constant gradient."""
    optim = default_config().optim
    optim.update(name=name, freeze=pattern, lr=1.0, schedule="constant", **changes)
    tx = optimizer(optim, schedule(optim, 1, 1))
    params = {"trunk": {"kernel": jnp.ones((1, 1))}, "head": {"kernel": jnp.ones((1, 1))}}
    grads = {"trunk": {"kernel": jnp.full((1, 1), 4.0)}, "head": {"kernel": jnp.full((1, 1), 3.0)}}
    state = tx.init(params)
    updates, _ = tx.update(grads, state, params)
    moments = sum(leaf.size for leaf in jax.tree.leaves(state) if leaf.ndim)
    return jax.tree.map(lambda p, u: float((p + u)[0, 0]), params, updates), moments


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_weight_decay_does_not_move_what_is_frozen(name):
    after, moments = frozen_step("trunk/.*", name, weight_decay=0.5)
    assert after["trunk"]["kernel"] == 1.0 and after["head"]["kernel"] < 0
    assert moments == (1 if name == "sgd" else 2)  # momentum of the trained parameter alone


def test_the_norm_that_is_clipped_is_of_what_is_trained():
    after, _ = frozen_step("trunk/.*", clip_norm=3.0, weight_decay=0.0)
    assert after["head"]["kernel"] == pytest.approx(1 - 3.0)  # with the trunk's 4 it would be 1.8


def test_a_pattern_that_fits_nothing_or_everything_is_told():
    with pytest.raises(UserError, match=r"freeze='trnk/.\*' matches no .*paths: head/kernel"):
        frozen_step("trnk/.*")
    with pytest.raises(UserError, match="matches no parameter; it must match whole paths"):
        frozen_step("trunk")
    with pytest.raises(UserError, match="none is left to train"):
        frozen_step(".*")
    config = default_config()
    config.optim.freeze = "(trunk"
    with pytest.raises(UserError, match=r"optim.freeze='\(trunk' is no regular expression"):
        validate(config)
