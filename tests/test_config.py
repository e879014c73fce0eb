"""The config system: durations, choices, options, and the errors that teach."""

import importlib
from pathlib import Path

import pytest

from lficam_jax.config import NUMBERS, default_config, duration, options, validate
from lficam_jax.config_file import leaves, overridden
from lficam_jax.errors import UserError, nearest
from lficam_jax.workdir.folder import differences

CONFIGS = sorted(p.stem for p in Path("configs").glob("*.py") if not p.stem.startswith("study_"))


def load(name, arg=""):
    return importlib.import_module(f"configs.{name}").get_config(arg)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("arg", ["", "smoke"])
def test_every_config_is_valid(name, arg):
    config = load(name, arg)
    if name == "folder" and not arg:
        with pytest.raises(UserError, match="--config.data.folder=DIR"):
            validate(config)
        config.data.folder = "somewhere"
    validate(config)
    assert (config.train.total_steps == 4) == (arg == "smoke")


def test_every_config_says_what_it_reached():
    for name in CONFIGS:
        text = importlib.import_module(f"configs.{name}").__doc__
        assert "ot measured yet" in text or "lficam train" in text, name


def test_all_problems_are_told_at_once_with_the_nearest_name():
    config = default_config()
    config.optim.name, config.train.total_steps, config.optim.lr = "sdg", 10, -1.0
    with pytest.raises(UserError) as error:
        validate(config)
    text = str(error.value)
    assert len(text.splitlines()) == 4
    assert "optim.name='sdg' is unknown — did you mean 'sgd'?" in text
    assert "train.total_epochs=300 and train.total_steps=10 give one duration twice" in text
    assert "optim.lr=-1.0 must be a number from 0 to 1e+30" in text


def test_a_key_that_breaks_two_rules_is_told_of_once():
    config = default_config()
    config.data.channels, config.data.std = 5, (0.0, 0.0)
    with pytest.raises(UserError) as error:
        validate(config)
    _, *lines = str(error.value).splitlines()
    assert [line.split("=")[0].strip() for line in lines] == ["data.channels", "data.std"]


def test_a_duration_without_a_value_is_told():
    config = default_config()
    config.train.total_epochs = 0.0
    with pytest.raises(UserError, match="total_epochs and train.total_steps are both 0"):
        validate(config)


def test_a_duration_is_given_in_epochs_or_in_steps():
    config = default_config()
    config.train.total_epochs = 1.5
    assert duration(config.train, "total", steps_per_epoch=10) == 15
    config.train.total_epochs, config.train.total_steps = 0.0, 7
    assert duration(config.train, "total", steps_per_epoch=10) == 7


def test_options_keep_the_type_of_their_default():
    chosen, smoke = options("depth=110,smoke", head="lfi", depth=20)
    assert (chosen.depth, chosen.head, smoke) == (110, "lfi", True)
    assert options("depth=110:smoke", head="lfi", depth=20) == (chosen, smoke)  # as people write it
    with pytest.raises(UserError, match="'dpth=3' is unknown here — did you mean 'depth=…'"):
        options("dpth=3", head="lfi", depth=20)
    with pytest.raises(UserError, match="'q' is unknown here; known: smoke, head=…, depth=…"):
        options("q", head="lfi", depth=20)
    with pytest.raises(UserError, match="depth=deep"):
        options("depth=deep", depth=20)


def test_differences_name_the_key_and_both_values():
    ours, theirs = {"optim": {"lr": 0.1}, "seed": 0}, {"optim": {"lr": 0.2}, "seed": 0}
    assert differences(ours, theirs) == ["optim.lr: 0.2 -> 0.1"]
    assert differences({}, {"seed": 0}) == ["seed: 0 -> (absent)"]


def test_nearest_falls_back_to_the_list():
    assert nearest("cosin", ("cosine", "constant")) == " — did you mean 'cosine'?"
    assert nearest("zzz", ("a", "b")) == "; known: a, b"


def test_every_numeric_key_has_its_span():
    known = leaves(default_config())
    numeric = {key for key, value in known.items() if type(value) in (int, float)}
    numeric -= {"data.image_size"}  # one number or two
    lists = {"data.mean", "data.std", "data.number", "optim.milestones_epochs"}
    assert {*NUMBERS} == numeric | lists


@pytest.mark.parametrize("key", NUMBERS)
def test_a_number_outside_its_span_is_told_in_one_line(key):
    """Also those that are none, and whatever a command line makes of them."""
    kind, low, high = NUMBERS[key]
    for text in ("nan", "inf", "-inf", "1e300", "-1e300", f"{low - 1!r}", f"{high * 2 + 2!r}", "x"):
        with pytest.raises(UserError) as error:
            validate(overridden(load("cluttered_digits"), {key: text}))
        told = [line for line in str(error.value).splitlines() if f"{key}=" in line]
        assert told and all("must" in line or "is not a" in line for line in told)
    for edge in (low, high):
        several = isinstance(leaves(default_config())[key], tuple)
        config = overridden(load("cluttered_digits"), {key: f"{(edge,) * 3 if several else edge}"})
        try:
            validate(config)
        except UserError as error:  # of another rule than the span
            assert "from" not in str(error)
