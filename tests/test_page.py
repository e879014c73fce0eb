"""The page in a real browser: what one can press does what it says, and nothing goes wrong."""

import json
import re
import shutil
import subprocess
from html import unescape

import numpy as np
import pytest
from PIL import Image

from lficam_jax import report
from lficam_jax.explanation import Explanation

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Debian's chromium"),
]
WATCH = """<script>
window.errors = [];
for (const kind of ["error", "securitypolicyviolation", "unhandledrejection"])
  addEventListener(kind, event =>
    errors.push(kind + ": " + (event.message || event.violatedDirective)), true);
const logged = console.error;
console.error = (...words) => { errors.push(words.join(" ")); logged(...words); };
</script>"""
HELPERS = """
const form = document.getElementById("controls");
const set = (name, value) => {
  form.elements[name].value = value;
  form.dispatchEvent(new Event("input", { bubbles: true }));
};
const texts = where => [...document.querySelectorAll(where)].map(e => e.textContent);
const shown = () => texts("article .foot > :first-child");
"""


def explained(name, method, hot, label=0):
    """A 2 x 2 map, hot in one cell, of an image whose class 0 is predicted."""
    heat = np.zeros((2, 2), np.float32)
    heat[hot] = 1
    mask = np.zeros((16, 16), bool)
    mask[:8, :8] = True
    return Explanation(
        id=name, name=name, picture=np.full((16, 16, 3), 128, np.uint8), map=heat,
        probabilities=np.array([0.75, 0.25]), classes=("cat", "dog"), label=label, mask=mask,
        method=method,
    )  # fmt: skip


# The methods agree on `same`, and differ on `other`, which is predicted wrongly.
ITEMS = [
    explained("same", "own", (0, 0)),
    explained("same", "grad_cam", (0, 0)),
    explained("other", "own", (0, 0), label=1),
    explained("other", "grad_cam", (1, 1), label=1),
]


def chromium(tmp_path, html, *words):
    page = tmp_path / "page.html"
    page.write_text(html)
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
               "--disable-background-networking", "--hide-scrollbars", "--window-size=1200,900",
               f"--user-data-dir={tmp_path / 'profile'}", *words, page.as_uri()]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def with_script(script, items=ITEMS):
    html = report.page(items, title="Maps", details={"model": "hand-made"})
    html = html.replace("<head>", "<head>" + WATCH, 1)
    return html.replace("</body>", f"<script>{{{HELPERS}{script}}}</script></body>")


def ask(tmp_path, script, items=ITEMS):
    """Returns what the script's function returns, after looking that nothing went wrong."""
    html = with_script(
        f"const found = (() => {{ {script} }})();"
        "document.body.append(make('pre', { id: 'found' }, JSON.stringify([found, errors])));",
        items,
    )
    found = re.search(r'<pre id="found">(.*?)</pre>', chromium(tmp_path, html, "--dump-dom"))
    answer, errors = json.loads(unescape(found[1]))
    assert errors == []
    return answer


def test_filters_orders_and_captions(tmp_path):
    answer = ask(
        tmp_path,
        """
        const found = { at_first: shown(), captions: texts("figcaption") };
        found.hits = texts(".hits strong");
        const tiles = getComputedStyle(document.querySelector(".tiles"));
        found.columns = tiles.gridTemplateColumns.split(" ").length;
        set("order", "disagreement"); found.by_disagreement = shown();
        set("order", "given"); set("verdict", "false"); found.wrong = shown();
        set("verdict", "all"); set("true", "=cat"); found.cats = shown();
        return found;
        """,
    )
    assert answer["at_first"] == answer["by_disagreement"][::-1] == ["same", "other"]
    assert answer["wrong"] == ["other"] and answer["cats"] == ["same"]
    assert answer["captions"] == ["picture", "own\xa0✓", "grad_cam\xa0✓",
                                  "picture", "own\xa0✓", "grad_cam\xa0✗"]  # fmt: skip
    assert answer["hits"] == ["100.0 %", "50.0 %"] and answer["columns"] == 3


def test_one_method_offers_no_disagreement(tmp_path):
    answer = ask(
        tmp_path,
        """return { orders: [...form.elements.order.options].map(o => o.value),
                    captions: texts("figcaption"), foot: texts(".foot") };""",
        ITEMS[::2],
    )
    assert answer["orders"] == ["given", "sure", "unsure"] and answer["captions"] == []
    assert answer["foot"] == ["samepeak on object", "otherpeak on object"]


def test_the_sliders_change_pixels(tmp_path):
    def pixels(script):
        file = tmp_path / "shot.png"
        chromium(tmp_path, with_script(script), f"--screenshot={file}")
        return np.asarray(Image.open(file).convert("RGB")).astype(int)

    clear, opaque, jet = (
        pixels(f'set("opacity", {opacity}); set("colors", "{colors}");')
        for opacity, colors in ((0, "inferno"), (100, "inferno"), (100, "jet"))
    )
    assert (np.abs(clear - opaque).max(axis=-1) > 60).mean() > 0.05
    assert (np.abs(jet - opaque).max(axis=-1) > 60).mean() > 0.05
    blue = (jet[..., 2] > 100) & (jet[..., 0] < 20) & (jet[..., 1] < 20)
    assert blue.mean() > 0.05  # jet's cold end
