"""The site's settings: `make site` reads the repository's Markdown where it lies."""

import os
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
os.environ["PYTHONPATH"] = str(ROOT)  # of the notebook

import lficam_jax  # noqa: E402

project = "lficam_jax"
author = "the lficam_jax authors"
project_copyright = "the lficam_jax authors, Apache-2.0"
release = version = lficam_jax.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
# The source folder is the repository, so that links between its pages hold on the site, too.
root_doc = "docs/index"
include_patterns = [
    "*.md", "launch/README.md", "docs/*.md", "docs/results/*.md", "docs/tutorials/*.md",
    "docs/notebooks/*.ipynb", "lficam_jax/interop/weights/*/README.md",
]  # fmt: skip
default_role = "code"  # what a docstring has in single backticks
highlight_language = "none"  # of blocks that name no language
myst_heading_anchors = 4
myst_enable_extensions = ["dollarmath"]
nb_execution_mode = "force"  # the notebook runs whenever the site is built
nb_execution_raise_on_error = True
nb_execution_timeout = 600
html_theme = "sphinx_book_theme"
html_title = "lficam_jax"
html_show_sourcelink = False
html_theme_options = {"navbar_persistent": []}  # one field to search in, not two
LIVE = ROOT / ".cache" / "live"  # the page that runs the network; it is built with the site
LIVE.mkdir(parents=True, exist_ok=True)
html_extra_path = ["llms.txt", "site", str(LIVE)]
copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True
autodoc_typehints = "none"  # shapes and units stand in the docstrings
autodoc_member_order = "bysource"


class Help(Directive):
    """`{help} train`: what `lficam train --help` prints, as a block."""

    optional_arguments: ClassVar[int] = 9

    def run(self) -> list[nodes.Node]:
        """Returns the block."""
        command = [sys.executable, "-m", "lficam_jax.main", *(self.arguments or ["--help"])]
        environment = {"COLUMNS": "88", "PYTHONPATH": str(ROOT), "PATH": ""}
        said = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        ).stdout
        if self.arguments:
            said = said.replace("python -m lficam_jax.main", "lficam")
        return [nodes.literal_block(said, said, language="none")]


def add_live(app: Sphinx) -> None:
    """Writes digits.html, unless what runs it in a browser cannot be downloaded."""
    try:
        lficam_jax.load("cluttered_digits").export("page", LIVE / "digits.html")
    except lficam_jax.UserError as error:
        print(f"digits.html is left out of the site: {error}", file=sys.stderr)


def link_live(app: Sphinx, doctree: nodes.document, name: str) -> None:
    """Makes the picture of digits.html a link to it."""
    if (LIVE / "digits.html").exists():
        for picture in list(doctree.findall(nodes.image)):
            if picture["uri"].endswith("page_digits.jpg"):
                link = nodes.reference(refuri=f"{'../' * name.count('/')}digits.html")
                picture.replace_self(link)
                link += picture


def setup(app: Sphinx) -> None:
    """Adds what the pages use beside the extensions."""
    app.add_directive("help", Help)
    app.connect("builder-inited", add_live)
    app.connect("doctree-resolved", link_live)
