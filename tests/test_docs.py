"""What the documentation shows: its Python runs, its commands name what exists."""

import doctest
import importlib
import re
import shlex
from pathlib import Path

import pytest

from lficam_jax import paper
from lficam_jax.config import CHOICES, default_config
from lficam_jax.models import BACKBONES

MODELS = Path("docs/models.md").read_text()
COMMANDS = [
    shlex.split(line.replace("\\\n", " "))
    for line in re.findall(
        r"^python -m (lficam_jax\.(?:main|import_torch) (?:.*\\\n)*.*)$", MODELS, re.M
    )
]


def test_the_backbone_of_ones_own_runs():
    found = doctest.testfile("../docs/models.md")
    assert found.attempted >= 9 and found.failed == 0


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_the_commands_name_configs_and_keys_that_exist(words):
    file, _, options = words[words.index("--config") + 1].partition(":")
    module = importlib.import_module(file.removesuffix(".py").replace("/", "."))
    config = module.get_config(options)
    for word in words:
        if match := re.match(r"--config\.(.+)=(.+)", word):
            path = match[1].split(".")
            for name in path[:-1]:
                config = config[name]
            kind = type(config[path[-1]])
            kind(match[2])
            config = module.get_config(options)


def test_every_name_that_can_be_chosen_is_in_the_tables():
    fin = default_config().model.fin
    names = [*BACKBONES, *CHOICES["model.head"], *paper.CIFAR, *paper.IMAGENET, *fin]
    assert not [name for name in names if f"`{name}`" not in MODELS]
    assert len(COMMANDS) == 6
