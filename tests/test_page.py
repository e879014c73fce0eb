"""The page in a real browser: what one can press does what it says, and nothing goes wrong."""

import json
import re
import shutil

import numpy as np
import pytest

from lficam_jax.explaining import render, report
from lficam_jax.explaining.explanation import Explanation
from lficam_jax.measure.scoreboard import for_page, summarise
from lficam_jax.ops.maps import Axis, Place
from tests.browser import Browser, contrast

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Debian's chromium"),
]
MADE = "2026-01-31 12:00 UTC; lficam_jax 0.1.0 (1234, modified), jax 0.10.2; 8 x cpu"
ABOUT = {"title": "Maps", "details": {"model": "hand-made", "made": MADE}}
SHOWN = "[...document.querySelectorAll('article')].map(e => e.ariaLabel.split(':')[0])"
NASTY = "<img src=x onerror=console.error(1)>"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def show(browser, tmp_path):
    """Opens a page of some explanations; at the end nothing may have gone wrong in it."""

    def opened(items, measures=None, pairs=None, **window):
        path = tmp_path / "page.html"
        path.write_text(report.page(items, measures=measures, pairs=pairs, **ABOUT))
        browser.open(path, **window)
        return browser

    yield opened
    browser.settle()
    assert browser.errors == []


def explained(name, method, hot=(0, 0), label=0, **more):
    """A 2 x 2 map, hot in one cell, of an image whose class 0 is predicted."""
    heat = np.zeros((2, 2), np.float32)
    heat[hot] = 1
    mask = np.zeros((16, 16), bool)
    mask[:8, :8] = True
    about = {
        "id": name, "name": name, "picture": np.full((16, 16, 3), 128, np.uint8), "map": heat,
        "probabilities": np.array([0.75, 0.25]), "classes": ("cat", "dog"), "label": label,
        "mask": mask, "method": method,
    }  # fmt: skip
    return Explanation(**about | more)


# The methods agree on `same` and `third`; they differ on `other`, which is predicted wrongly.
ITEMS = [
    explained("same", "own"), explained("same", "grad_cam"),
    explained("other", "own", label=1), explained("other", "grad_cam", (1, 1), label=1),
    explained("third", "own"), explained("third", "grad_cam"),
]  # fmt: skip


def choose(browser, **values):
    """Sets controls as a hand would: the page hears of each."""
    for name, value in values.items():
        browser.run(
            f"{{ const e = form.elements['{name}'], v = {json.dumps(value)};"
            "if (typeof v === 'boolean') e.checked = v; else e.value = v;"
            "(e[0] ?? e).dispatchEvent(new Event('input', { bubbles: true })); }"
        )
    browser.settle()


def test_filters_orders_and_captions(show):
    browser = show(ITEMS)
    texts = "[...document.querySelectorAll('{}')].map(e => e.textContent)"
    assert browser.run(SHOWN) == ["same", "other", "third"]
    assert browser.run(texts.format("figcaption"))[:6] == [
        "image", "own\xa0✓", "grad_cam\xa0✓", "image", "own\xa0✓", "grad_cam\xa0✗"]  # fmt: skip
    assert browser.run(texts.format(".hits strong")) == ["100.0 %", "66.7 %"]
    choose(browser, order="disagreement")
    assert browser.run(SHOWN) == ["other", "same", "third"]
    choose(browser, order="given", differ="0.1")
    assert browser.run(SHOWN) == ["other"]
    choose(browser, differ="1", verdict="true")
    assert browser.run(SHOWN) == ["same", "third"]
    choose(browser, verdict="all", true="=dog")
    assert browser.run(SHOWN) == ["other"]
    choose(browser, verdict="true")
    assert browser.run("document.getElementById('none').hidden") is False
    browser.run("document.getElementById('reset').click()")
    assert len(browser.run(SHOWN)) == 3


def test_one_method_offers_no_disagreement(show):
    browser = show(ITEMS[::2])
    assert browser.run("[...form.elements.order.options].map(o => o.value)") == [
        "given", "sure", "unsure"]  # fmt: skip
    assert not browser.run("form.elements.differ.checkVisibility()")
    assert browser.run("document.querySelector('.foot').textContent") == "samepeak on object"


@pytest.mark.parametrize("blend", ["fade", "mix"])
@pytest.mark.parametrize(
    ("cmap", "place"),
    [("inferno", None), ("jet", None), ("jet", Place(Axis(0.5 / 16, 0.25), Axis(0.5 / 12, 0.25)))],
)
def test_a_drawn_tile_is_the_librarys_own_overlay(show, cmap, place, blend):
    """To the rounding of the map's grey values: one of 256, which is up to 8 of a colour's."""
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (16, 12, 3), np.uint8)
    drawn_map = rng.random((4, 3), np.float32)
    item = explained("it", "own", picture=picture, map=drawn_map, mask=None, place=place)
    browser = show([item])
    browser.run("document.querySelectorAll('.stack').forEach(e => { e.style.width = '168px'; })")
    choose(browser, colors=cmap, blend=blend)
    assert browser.run("+form.elements.opacity.value") == round(100 * render.BLENDS[blend])
    large = render.enlarge(picture, 160)
    up = render.upsample(item.map, large.shape[:2], place)
    for opacity, cut in ((0, 0), (55, 0), (100, 0), (80, 40)):
        choose(browser, opacity=opacity, threshold=cut)
        drawn = browser.pixels(".stack:has(canvas)").astype(int)
        expected = render.overlay(large, item.map, opacity / 100, cmap, place, blend)
        expected = np.where((up < cut / 100)[..., None], large, expected)
        clear = np.abs(up - cut / 100) > 0.01
        assert drawn.shape == (224, 168, 3)
        assert np.abs(drawn - expected)[clear].max() <= 8
    choose(browser, colors="spotlight", threshold=0)
    assert browser.pixels(".stack:has(canvas)").mean() < picture.mean()


def test_outline_and_peak_are_seen_and_can_be_hidden(show):
    browser = show(ITEMS[:1])
    outlined = browser.pixels(".stack:has(canvas)").astype(int)
    choose(browser, outline=False)
    bare = browser.pixels(".stack:has(canvas)").astype(int)
    choose(browser, peak=True)
    peak = browser.pixels(".stack:has(canvas)").astype(int)
    white = [(abs(x - bare).max(axis=-1) > 60).mean() for x in (outlined, peak)]
    assert white[0] > 0.01 and 0 < white[1] < white[0]


def test_keys_go_from_image_to_image_and_open_one(show):
    browser = show(ITEMS)
    focused = "document.activeElement.closest('article')?.ariaLabel.split(':')[0]"
    browser.press("j")
    assert browser.run(focused) == "same"
    assert browser.run("getComputedStyle(document.activeElement).outlineWidth") == "2px"
    for key, name in (("ArrowRight", "other"), ("j", "third"), ("j", "third"), ("k", "other"),
                      ("ArrowUp", "same"), ("End", "third"), ("Home", "same")):  # fmt: skip
        browser.press(key)
        assert browser.run(focused) == name
    browser.press("Enter")
    opened = "single.open && document.getElementById('single-name').textContent"
    assert browser.run(opened) == "same"
    assert browser.run("[...single.querySelectorAll('canvas')].every(c => c.width >= 320)")
    browser.press("ArrowRight")
    assert browser.run(opened) == "other"
    assert browser.run("single.querySelector('.badge').textContent") == "✗ wrong"
    browser.press("Escape")
    assert browser.run("single.open") is False and browser.run(focused) == "other"
    assert browser.run("form.contains(look)")  # the sliders are back
    browser.press("?")
    assert browser.run("help.open")
    browser.press("Escape", "o", "c")
    assert not browser.run("help.open || form.elements.outline.checked")
    assert browser.run("form.elements.colors.value") == render.COLOR_MAPS[1]
    browser.run("form.elements.opacity.focus()")
    browser.press("ArrowLeft")  # a slider keeps its keys
    assert browser.run("form.elements.opacity.value") == "79"


def measured():
    """Own deletes best but for the trivial row; nothing is known of cam's deletion."""

    def rows(deletion):
        values = np.array(deletion)
        flat = np.zeros(len(values))
        return {
            "after": flat, "deletion": values, "deletion_curve": np.linspace(1, values, 5).T,
            "insertion": np.full(2, np.nan), "insertion_curve": np.full((2, 5), 0.5),
            "constant": flat, "not_finite": flat,
        }  # fmt: skip

    values = {"cam": [np.nan] * 2, "grad_cam": [0.5, 0.7], "own": [0.2, 0.4], "fakecam": [0.1] * 2}
    table = {method: rows(deletion) for method, deletion in values.items()}
    return for_page(summarise(table, ["deletion", "insertion"]))


def test_the_table_is_sorted_by_mouse_and_keyboard(show):
    browser = show(ITEMS, measured())
    methods = "[...document.querySelectorAll('tbody th')].map(e => e.textContent)"
    states = "[...document.querySelectorAll('th[aria-sort]')].map(e => e.ariaSort)"
    assert browser.run(methods) == ["cam", "grad_cam", "own", "fakecam"]
    browser.run("document.querySelectorAll('th[aria-sort] button')[1].focus()")
    browser.press("Enter")  # deletion: the least is best, and first
    assert browser.run(methods) == ["fakecam", "own", "grad_cam", "cam"]
    assert browser.run(states) == ["none", "ascending", "none"]
    browser.press("Enter")
    assert browser.run(methods) == ["grad_cam", "own", "fakecam", "cam"]  # no value: last
    assert browser.run(states) == ["none", "descending", "none"]
    browser.run("document.querySelectorAll('th[aria-sort] button')[2].click()")  # no values
    assert browser.run(methods) == ["cam", "grad_cam", "own", "fakecam"]
    cells = browser.run("[...document.querySelectorAll('tbody td')].map(e => e.innerText)")
    assert [re.sub(r"\s", "", text) for text in cells] == [
        "–", "–", "0.600±0.100", "–", "0.300*±0.100", "–", "0.100!", "–"]  # fmt: skip
    assert browser.run("document.querySelector('.trivial th').textContent") == "fakecam"


@pytest.mark.parametrize("dark", [False, True])
def test_curves_can_be_told_apart_and_one_be_singled_out(show, dark):
    browser = show(ITEMS, measured(), dark=dark)
    drawn = browser.run("[...document.querySelectorAll('#curves svg')].map(e => e.ariaLabel)")
    assert len(drawn) == 2 and "own from 1.00 to 0.30" in drawn[0]
    lines = browser.run(
        "[...document.querySelectorAll('.curve > :first-child')].map(e => "
        "[getComputedStyle(e).stroke, e.getAttribute('stroke-dasharray')])"
    )
    assert len(lines) == 3 + 4 and len({tuple(line) for line in lines}) == 4  # of a method: alike
    back = browser.run("getComputedStyle(document.querySelector('#curves figure')).backgroundColor")
    assert min(contrast(color, back) for color, _ in lines) >= 3  # WCAG 2.1, 1.4.11
    ink = browser.run("getComputedStyle(document.body).color")
    assert contrast(ink, back) >= 7
    browser.run("document.querySelector('#legend [data-method=own]').focus()")
    faded = "[...document.querySelectorAll('.curve')].map(e => getComputedStyle(e).opacity < .5)"
    assert sum(browser.run(faded)) == 2 + 3
    browser.press("Enter")  # holds it
    browser.run("document.activeElement.blur()")
    assert sum(browser.run(faded)) == 2 + 3


def test_how_each_two_runs_agree_is_a_square_of_numbers(show):
    cell = {"value": 0.8, "chance": 0.2, "adjusted": 0.75}
    none = cell | {"value": np.nan, "adjusted": np.nan}
    mean = {"name": "iou_auc", "adjusted": {"value": 0.75, "low": 0.5, "high": 0.9}}
    squares = [[None, cell, none], [cell, None, none], [none, none, None]]
    browser = show(
        ITEMS,
        pairs={"runs": ["own", "grad_cam", NASTY], "statistics": [mean | {"squares": squares}]},
    )
    text = "document.querySelector('#squares').innerText"
    assert "iou auc" in browser.run(text) and "mean 0.75, 95 % 0.50 to 0.90" in browser.run(text)
    assert f"3 {NASTY}" in browser.run(text)
    cells = "[...document.querySelectorAll('#squares td[title]')]"
    assert browser.run(f"{cells}.map(e => e.innerText)") == ["0.75", "–", "0.75", "–", "–", "–"]
    assert browser.run(f"{cells}[0].title") == "own and grad_cam: 0.80, by chance 0.20"
    assert browser.run("document.getElementById('measures').hidden")
    assert not show(ITEMS).run("document.querySelectorAll('#squares figure').length")


def test_a_phone_needs_no_sideways_scrolling(show):
    browser = show(ITEMS, measured(), width=390, height=800)
    assert browser.run("document.documentElement.scrollWidth") == 390
    assert not browser.run("form.elements.opacity.checkVisibility()")  # folded away
    browser.run("document.querySelector('summary').click()")
    assert browser.run("form.elements.opacity.checkVisibility()")
    assert browser.run("bar.offsetHeight") <= 400  # half of the screen
    assert browser.run("form.elements.opacity.getBoundingClientRect().right") < 390
    assert browser.run("document.documentElement.scrollWidth") == 390


@pytest.mark.parametrize("width", [390, 1200])
def test_nothing_in_the_header_stands_alone_on_its_line(show, width):
    browser = show(ITEMS, width=width, height=800)
    if width < 640:
        browser.run("document.querySelector('summary').click()")
    middle = (
        "(e => { const { top, bottom } = e.getBoundingClientRect(); return (top + bottom) / 2 })"
    )
    ask = browser.run(f"{middle}(document.getElementById('ask'))")
    first = browser.run(f"{middle}(form.elements.blend)")
    assert abs(ask - first) < 10
    made = "[...document.querySelectorAll('.made span')].map(e => [e.textContent, e.offsetHeight])"
    parts, heights = zip(*browser.run(made), strict=True)
    assert parts == ("2026-01-31 12:00 UTC;", "lficam_jax 0.1.0 (1234, modified),", "jax 0.10.2;",
                     "8 x cpu")  # fmt: skip
    assert max(heights) < 30  # no part is broken


def photograph(name, method, **more):
    """A picture of 120 x 200, of whose middle 60 x 60 the network saw 16 x 16 pixels."""
    whole = np.full((120, 200, 3), 128, np.uint8)
    return explained(
        name, method, mask=None, box=(30.0, 70.0, 60.0, 60.0), source=lambda: whole, **more
    )


def test_a_map_lies_on_the_original_where_the_network_looked(show):
    hot = np.ones((2, 2), np.float32) - np.eye(2, dtype=np.float32) / 10
    browser = show([photograph("it", "own", map=hot)])
    browser.run("grid.style.width = '440px'")  # or the second tile is cut off
    browser.run("document.querySelectorAll('.stack').forEach(e => { e.style.width = '200px'; })")
    drawn = browser.pixels(".stack:has(canvas)").astype(int)
    assert drawn.shape == (120, 200, 3)
    touched = abs(drawn - 128).max(axis=-1) > 10
    assert touched[32:88, 72:128].all()  # within the frame
    assert not touched[:28].any() and not touched[:, :68].any() and not touched[92:].any()
    assert drawn[60, 70].min() > 200  # the frame is white
    choose(browser, outline=False)
    assert browser.pixels(".stack:has(canvas)")[60, 70].min() < 200
    assert "part of the image that the network saw" in browser.run("about.textContent")


def test_paper_shows_every_card(show):
    items = [photograph(f"image {i}", m) for i in range(40) for m in ("own", "cam")]
    browser = show(items)
    empty = "document.querySelectorAll('article:empty').length"
    assert browser.run(empty) > 20
    text = browser.print()
    assert browser.run(empty) == 0 and text > 5
    browser.wait("[...document.querySelectorAll('canvas')].filter(c => c.width).length < 70")
    assert browser.run("grid.firstChild.querySelector('canvas').width") > 0


@pytest.mark.parametrize("width", [390, 1200])
def test_the_badge_stays_on_the_line_of_a_long_class_name(show, width):
    long = ("Egyptian cat, black-and-tan coonhound, short-haired domestic", "dog")
    browser = show([explained("it", m, classes=long) for m in ("own", "cam")], width=width)
    small, badge = browser.run(
        "['.verdict small', '.badge'].map(e => document.querySelector(e)).map(e => "
        "e.getBoundingClientRect().top)"
    )
    assert abs(small - badge) < 8
    assert browser.run("document.querySelector('.badge').offsetHeight") < 30
    assert browser.run("document.documentElement.scrollWidth") == width


def test_tiles_of_two_methods_fill_their_row(show):
    browser = show(ITEMS, width=1500)
    ends = browser.run(
        "[document.querySelector('article'), document.querySelector('article figure:last-child')]"
        ".map(e => e.getBoundingClientRect().right)"
    )
    assert ends[0] - ends[1] < 5


def test_the_page_says_what_own_is_and_that_a_map_is_constant(show):
    flat = np.zeros((2, 2), np.float32)
    browser = show([explained("it", "own", map=flat), explained("it", "cam")])
    assert "own: the map that the network draws itself" in browser.run("about.textContent")
    assert browser.run("[...document.querySelectorAll('.constant')].map(e => e.textContent)") == [
        "constant: says nothing"]  # fmt: skip
    assert "own:" not in show([explained("it", "cam")]).run("about.textContent")


def test_a_class_that_was_asked_about_is_in_the_caption(show):
    browser = show([explained("one", "cam", class_index=1)])
    assert browser.run("document.querySelector('figcaption').textContent") == "cam for 'dog'"
    assert "by cam for 'dog'" in browser.run("document.querySelector('canvas').ariaLabel")


def test_names_are_text_and_every_image_has_words(show):
    classes = (NASTY, "dog")
    noted = explained(NASTY, NASTY, classes=classes, notes=(NASTY, "read as 12 bits"))
    browser = show([noted, explained(NASTY, "cam")])
    notes = "[...document.querySelectorAll('article .note')].map(e => e.textContent)"
    assert browser.run(notes) == [NASTY, "read as 12 bits"]
    browser.press("j", "Enter")
    assert browser.run("document.querySelectorAll('img[src=x]').length") == 0
    alts = browser.run(
        "[...document.querySelectorAll('img')].map(e => e.alt || e.parentElement."
        "querySelector('canvas').ariaLabel)"
    )
    assert len(alts) == 6 and all(NASTY in alt for alt in alts)


def test_what_does_not_exist_is_said_and_breaks_nothing(show):
    nan = np.full((2, 2), np.nan, np.float32)
    broken = explained("it", "own", map=nan, probabilities=np.full(2, np.nan), label=None)
    rows = {"after": nan[0], "deletion": nan[0], "deletion_curve": nan,
            "constant": nan[0] == nan[0], "not_finite": nan[0] != nan[0]}  # fmt: skip
    browser = show([broken], for_page(summarise({"own": rows}, ["deletion"])))
    assert "0 to" not in browser.run("document.querySelector('#curves svg').ariaLabel")
    assert browser.run("document.querySelectorAll('.curve').length") == 0
    assert "0 constant, 2 not finite" in browser.run("document.getElementById('notes').innerText")
    assert browser.run("document.querySelector('.chances').innerText").count("–") == 2
    assert "says nothing" in browser.run("document.querySelector('article').innerText")


def test_a_page_of_five_thousand_maps_draws_only_what_is_seen(show):
    rng = np.random.default_rng(0)
    picture = render.stretch(render.upsample(rng.random((6, 6)), (48, 48))[..., None])
    maps = rng.random((10, 12, 12), np.float32)
    items = [
        explained(f"image {i}", f"method {m}", picture=picture, map=maps[m], mask=None)
        for i in range(500) for m in range(10)
    ]  # fmt: skip
    assert len(report.page(items, **ABOUT)) < 10e6
    browser = show(items)
    held = "[...document.querySelectorAll('canvas')].filter(c => c.width > 0).length"
    browser.wait(f"{held} > 0")
    filled = "document.querySelectorAll('article:not(:empty)').length"
    assert len(browser.run(SHOWN)) == 500 and browser.run(filled) < 25
    browser.press("j", "End")
    browser.wait("grid.lastChild.querySelector('canvas')?.width > 0")
    assert browser.run("grid.firstChild.querySelector('canvas').width") == 0  # freed
    assert browser.run(held) < 250 and browser.run(filled) < 50
    choose(browser, order="disagreement", threshold=50)
    assert browser.run(held) < 250
