"""Config files: found by name or path, read with their mistakes told, changed key by key."""

import shutil
from pathlib import Path

import pytest

from lficam_jax.config import default_config, validate
from lficam_jax.config_file import (
    SYNONYMS,
    configured,
    keys_text,
    leaves,
    load_config,
    overridden,
    shipped,
    split_overrides,
)
from lficam_jax.errors import UserError

GOOD = """
from lficam_jax.config import default_config, validate

def get_config(arg=""):
    config = default_config()
    config.model.depth = 14
    return config
"""


def test_a_bare_name_is_a_config_of_the_package_in_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config("cifar10:depth=20,head=abn").model.depth == 20
    assert load_config("cluttered_digits:smoke").train.total_steps == 4
    for name in shipped():
        load_config(name)


def test_of_a_name_and_a_path_the_path_wins_only_with_its_suffix(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("cifar10").write_text(GOOD)
    Path("cifar10.py").write_text(GOOD)
    assert load_config("cifar10").model.depth == 110
    assert load_config("cifar10.py").model.depth == 14
    assert not Path("__pycache__").exists()


def test_a_config_may_import_its_neighbour_and_one_of_the_package(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("my_base.py").write_text("DEPTH = 26\n")
    Path("mine.py").write_text(
        "from my_base import DEPTH\nfrom lficam_jax.config_file import load_config\n"
        "def get_config():\n"
        "    config = load_config('cifar10')\n"
        "    config.model.depth = DEPTH\n"
        "    return config\n"
    )
    assert load_config("mine.py").model.depth == 26


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("cluttered_digts", "neither a config of the package nor a file — did you mean 'clutt"),
        ("Cifar-10", "did you mean 'cifar10'?"),
        ("configs/cifar10.py", "no such file — did you mean 'cifar10'?"),
        ("mine", "did you mean 'mine.py'?"),
        ("mime.py", "no such file — did you mean 'mine.py'?"),
        ("nowhere/zzz.py", "no such file; known: cats_vs_dogs"),
        ("cifar10:smok", "option 'smok' is unknown here — did you mean 'smoke'?"),
        ("cifar10:dept=20", "did you mean 'depth=…'?"),
        ("cifar10:backbone=resnet", "did you mean 'resne"),
        ("mine.py:head=lfi", "mine.py: its get_config() takes no options, so not :head=lfi"),
    ],
)
def test_a_config_that_is_not_there_is_told_with_the_nearest(word, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(GOOD.replace('arg=""', ""))
    with pytest.raises(UserError) as error:
        load_config(word)
    assert told in str(error.value)


BROKEN = {
    "raises": ("def get_config():\n    return 1 / 0\n", "bad.py:2: ZeroDivisionError: division by"),
    "raises in a library": (
        "import json\ndef get_config():\n    return json.loads('{')\n", "bad.py:3: JSONDecodeError"
    ),
    "imports what is absent": ("import no_such_thing\n", "bad.py:1: ModuleNotFoundError: No modul"),
    "a syntax error": ("def get_config():\n    return (\n", "bad.py:2: SyntaxError: '(' was never"),
    "ends python": ("import sys\nsys.exit(3)\n", "bad.py:2: SystemExit: 3"),
    "empty": ("", "bad.py: has no function get_config()"),
    "no function": ("get_config = 3\n", "bad.py: has no function get_config()"),
    "a dict": ("def get_config():\n    return {}\n", "bad.py: get_config() returns a dict; start"),
    "None": ("def get_config():\n    pass\n", "bad.py: get_config() returns nothing; start from"),
    "lacks a group": (
        GOOD.replace("config.model.depth = 14", "del config.optim"),
        "bad.py: lacks 'optim.accumulate' and ",
    ),
    "lacks a key": (
        GOOD.replace("config.model.depth = 14", "del config.optim.lr"),
        "bad.py: lacks 'optim.lr'; start from default_config()",
    ),
    "a group that is none": (
        GOOD.replace("config.model.depth = 14", "config.explain = None"),
        "bad.py: sets 'explain', which is no key",
    ),
    "a key that is none": (
        GOOD.replace("config.model.depth", "config.optim.learning_rate"),
        "bad.py: sets 'optim.learning_rate', which is no key — did you mean 'optim.lr'?",
    ),
    "a value of another type": (
        GOOD.replace("= 14", "= 'deep'"), "bad.py:6: TypeError: Could not override field 'depth'"
    ),
    "text after text": (  # a ValueError before python 3.11.4
        "\x00\x01",
        tuple(f"bad.py: {kind}: source code string cannot contain null"
              for kind in ("SyntaxError", "ValueError")),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_config_file_is_told_in_one_line_with_its_place(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text, told = BROKEN[kind]
    Path("bad.py").write_text(text)
    with pytest.raises(UserError) as error:
        load_config("bad.py")
    assert str(error.value).startswith(told) and "\n" not in str(error.value)


def test_binary_and_unreadable_files_are_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("bytes.py").write_bytes(bytes(range(128, 256)))
    Path("folder.py").mkdir()
    for name, told in (("bytes.py", "bytes.py"), ("folder.py", "folder.py: Is a directory")):
        with pytest.raises(UserError) as error:
            load_config(name)
        assert told in str(error.value) and "\n" not in str(error.value)


def test_the_file_at_fault_is_named_when_it_is_an_imported_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("its_part.py").write_text("x =\n")
    Path("whole.py").write_text("import its_part\n")
    with pytest.raises(UserError, match=r"its_part\.py:1: SyntaxError"):
        load_config("whole.py")


def test_a_config_of_the_other_kind_is_told():
    with pytest.raises(UserError, match="that of a study: give it to lficam study"):
        configured("study_cluttered_digits", {})
    with pytest.raises(UserError, match="that of one run: give it to lficam train"):
        configured("cifar10", {}, study=True)
    study = configured("study_cluttered_digits:smoke", {"base.optim.lr": "0.5"}, study=True)
    assert study.base.optim.lr == 0.5
    with pytest.raises(UserError, match=r"did you mean 'base\.optim\.lr'"):
        configured("study_cluttered_digits", {"learning_rate": "1"}, study=True)


def test_a_value_is_read_as_what_stood_there():
    given = {
        "optim.lr": "1e-3", "train.total_steps": "7", "train.tensorboard": "False",
        "optim.milestones_epochs": "30,60", "data.name": "1", "init_from": "",
    }  # fmt: skip
    config = default_config()
    found = leaves(overridden(config, given))
    wanted = [0.001, 7, False, (30, 60), "1", ""]
    assert [found[key] for key in given] == wanted
    assert config.optim.lr == 0.1  # the given config stays
    for text in ("(30, 60)", "[30,60]"):
        found = overridden(config, {"optim.milestones_epochs": text})
        assert found.optim.milestones_epochs == (30, 60)
    assert overridden(config, {"optim.milestones_epochs": "30"}).optim.milestones_epochs == (30,)


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("optim.lr", "fast", "--config.optim.lr=fast is not a number"),
        ("seed", "1.5", "--config.seed=1.5 is not a whole number"),
        ("optim.nesterov", "maybe", "--config.optim.nesterov=maybe is not true or false"),
        ("optim.milestones_epochs", "{", "is not a list"),
        ("optim", "x", "--config.optim is a group; set its keys: optim.accumulate, opt"),
        ("optim.lrr", "1", "unknown config key 'optim.lrr' — did you mean 'optim.lr'?"),
        ("optim.learning_rate", "1", "did you mean 'optim.lr'?"),
        ("lr", "1", "did you mean 'optim.lr'?"),
        ("epochs", "1", "did you mean 'train.total_epochs'?"),
        ("batch_size", "1", "did you mean 'eval.batch_size' or 'train.batch_size'?"),
        ("model.arch", "x", "did you mean 'model.backbone'?"),
        ("optim.lr.x", "1", "unknown config key 'optim.lr.x'"),
        ("", "1", "unknown config key ''"),
        (".seed", "1", "unknown config key '.seed'"),
        ("optim..lr", "1", "unknown config key 'optim..lr'"),
        ("zzzzzzz", "1", "unknown config key 'zzzzzzz'; --help-config lists all"),
    ],
)
def test_a_wrong_key_or_value_is_told_with_the_nearest(key, value, told):
    with pytest.raises(UserError) as error:
        overridden(default_config(), {key: value})
    assert told in str(error.value)


def test_a_duration_counts_as_it_is_given():
    smoke = load_config("cifar10:smoke")  # of four steps
    assert overridden(smoke, {"train.total_epochs": "2"}).train.to_dict().items() >= {
        ("total_epochs", 2.0), ("total_steps", 0)
    }  # fmt: skip
    whole = load_config("cifar10")
    assert overridden(whole, {"train.total_steps": "9"}).train.total_epochs == 0
    assert overridden(whole, {"train.total_steps": "0"}).train.total_epochs == 300
    both = overridden(whole, {"train.total_steps": "9", "train.total_epochs": "2"})
    with pytest.raises(UserError, match="give one duration twice"):
        validate(both)


def test_every_synonym_leads_to_a_key():
    assert not {*SYNONYMS.values()} - leaves(default_config()).keys()
    assert not SYNONYMS.keys() & {key.rpartition(".")[2] for key in leaves(default_config())}


def test_a_key_needs_a_value_and_the_last_one_counts():
    words = ["--config.seed=1", "--runs", "a", "--config.seed", "-2", "--config.data.name==x"]
    assert split_overrides(words) == (["--runs", "a"], {"seed": "-2", "data.name": "=x"})
    for words in (["--config.seed"], ["--config.seed", "--limit", "3"]):
        with pytest.raises(UserError, match="--config.seed has no value: say --config.seed=VALUE"):
            split_overrides(words)


def test_every_key_is_listed_with_its_meaning():
    text = keys_text(load_config("cifar10"))
    rows = {row.split("=")[0].strip(): row for row in text.splitlines()}
    assert [*rows][:2] == ["--config.seed", "--config.init_from"]  # in the order of config/keys.py
    assert rows.keys() == {f"--config.{key}" for key in leaves(default_config())}
    assert "=110" in rows["--config.model.depth"]
    assert rows["--config.init_from"].endswith("classifier that does not fit starts fresh")
    assert "plain | lfi | abn" in rows["--config.model.head"]
    assert "WORKDIR" not in rows["--config.data.name"]
    assert rows["--config.optim.momentum"] == "--config.optim.momentum=0.9"  # it needs no words


def test_the_tree_and_the_wheel_name_the_same_configs():
    """The wheel's own are looked at by test_wheel.py; here, that nothing hides the tree's."""
    assert {*shipped()} == {path.stem for path in Path("configs").glob("*.py")}
    assert not shutil.which("configs") and not Path("lficam_jax/configs").exists()
