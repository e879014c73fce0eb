"""The page of a study, made from a record in docs/: it answers first, in colour, on any screen."""

import json
import re
import shutil
from html import unescape
from pathlib import Path

import pytest

from lficam_jax.study import page
from lficam_jax.study.claims import claims, opening, tone
from tests.browser import Browser, contrast

FIRST = Path(__file__).parents[1] / "docs" / "results" / "first_edition"
RECORD = json.loads((FIRST / "cluttered_digits.json").read_text())


def difference(value, low, high):
    return {"value": value, "low": low, "high": high}


def test_it_opens_with_three_sentences_that_answer(tmp_path):
    html = page.page_of(RECORD, tmp_path)
    lead = unescape(re.search(r"<div class=lead>(.*?)</div>", html)[1])
    assert re.findall("<strong>(.*?)</strong>", lead) == ["Accuracy:", "Maps:", "Stability:"]
    assert "lfi is more accurate than plain (+4.64 [0.60, 8.68] points)" in lead
    assert "agree more than abn's own" in lead and "**" not in lead


def test_the_sentences_follow_the_numbers():
    worse = RECORD | {"accuracy": {"lfi": {"difference": difference(-2, -3, -1)}}}
    worse |= {"accuracy_versus": {}, "versus": {}, "stability_versus": {}}
    assert opening(worse) == [
        "Accuracy: lfi is less accurate than plain (-2.00 [-3.00, -1.00] points)."
    ]
    even = worse | {"accuracy": {"lfi": {"difference": difference(1, -1, 3)}}}
    assert "is not measurably more accurate than plain" in opening(even)[0]


def test_verdicts_have_the_colour_of_what_they_say(tmp_path):
    html = page.page_of(RECORD, tmp_path)
    shown = re.findall(r"<div class='claim (\w+)'>.*?<strong>(.*?)</strong>", html)
    assert len(shown) == len(claims(RECORD))
    assert {kind for kind, _ in shown} == {"yes", "open", "mixed"}
    for kind, answer in shown:
        if answer.startswith("better in"):
            better, worse, _ = map(int, re.findall(r"\d+", answer))
            assert kind == ("mixed" if better and worse else "yes" if better else "open")
    assert tone("no, less") == "no"


def test_its_words_are_explained(tmp_path):
    html = page.page_of(RECORD, tmp_path)
    words = re.findall(r"<dt>([^<]*)</dt>", html.split("class=glossary")[1])
    assert {"own", "setting", "stability", "interval"} <= set(words)


@pytest.mark.browser
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Debian's chromium")
@pytest.mark.parametrize(("width", "dark"), [(1200, False), (1200, True), (390, False)])
def test_it_fits_the_screen_and_the_verdicts_can_be_read(tmp_path, width, dark):
    (tmp_path / "index.html").write_text(page.page_of(RECORD, tmp_path))
    browser = Browser(tmp_path / "profile")
    try:
        browser.open(tmp_path / "index.html", width=width, dark=dark)
        assert browser.run("document.documentElement.scrollWidth") == width
        colours = browser.run(
            "['.yes strong', '.mixed strong', '.open strong', '.claim'].map(e => "
            "document.querySelector(e)).map((e, i) => getComputedStyle(e)"
            "[i == 3 ? 'backgroundColor' : 'color'])"
        )
        *inks, back = colours
        assert len({*inks}) == 3 and min(contrast(ink, back) for ink in inks) >= 4.5
        assert browser.errors == []
    finally:
        browser.close()
