"""What the documentation shows: its Python runs, its commands name what exists."""

import doctest
import importlib
import re
import shlex
from pathlib import Path

import pytest
from PIL import Image

from lficam_jax.config import CHOICES, default_config
from lficam_jax.models import BACKBONES
from lficam_jax.training import paper

MODELS = Path("docs/models.md").read_text()
PAGES = [Path(n) for n in ("README.md", "CONTRIBUTING.md", "launch/README.md")]
PAGES += sorted(Path("docs").rglob("*.md"))
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


def prose(page):
    return re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)


def anchors(page):
    """What GitHub makes of the headings: lower case, no punctuation, hyphens for spaces."""
    titles = re.findall(r"^#+ (.+)$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_every_link_leads_somewhere(page):
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", prose(page)):
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_python_of_the_readme_runs(trained, tmp_path, monkeypatch):
    """In the order of the page, with a run and a photograph where it says that they are."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "quickstart").symlink_to(trained)
    Image.new("RGB", (64, 48), (200, 120, 40)).save(tmp_path / "photo.jpg")
    blocks = re.findall(r"^```python\n(.*?)^```", Path("README.md").read_text(), re.M | re.S)
    assert len(blocks) == 3
    monkeypatch.chdir(tmp_path)
    names = {"images": "photo.jpg"}
    for block in blocks:
        exec(block.replace("limit=500", "limit=8"), names)
    assert (tmp_path / "out" / "index.html").exists()
