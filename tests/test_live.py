"""The page that runs the network, in a real browser: its numbers are Python's."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

import lficam_jax as lfi
from lficam_jax.explaining import live
from lficam_jax.explaining.export import export
from tests.browser import Browser

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    try:
        live._runtime("")
    except lfi.UserError as error:
        pytest.skip(f"onnxruntime-web is not here and cannot be downloaded: {error}")
    folder = tmp_path_factory.mktemp("page")
    (path,) = export(lfi.load("cluttered_digits"), "page", folder / "a.html")
    return path


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


def said(browser):
    return browser.run("by('says').textContent")


def give(browser, image):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    text = base64.b64encode(file.getvalue()).decode()
    browser.run(f"told = null; open(new File([bytes('{text}')], 'a.png', {{ type: 'image/png' }}))")
    browser.wait("told !== null && !busy", 60)
    return browser.run("({ share: [...told.probabilities], map: [...told.map], grid: told.grid })")


@pytest.mark.parametrize(("height", "width", "off"), [(48, 48, 1e-5), (80, 130, 2e-3)])
def test_its_numbers_are_those_of_python(page, browser, height, width, off):
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    browser.open(page)
    browser.wait("engine !== null", 60)
    found = give(browser, image)
    (told,) = lfi.load("cluttered_digits").explain(image)
    np.testing.assert_allclose(found["share"], told.probabilities, atol=off)
    if off < 1e-4:  # a grey value that rounds the other way may move a map's extremes
        np.testing.assert_allclose(found["map"], told.map.ravel(), atol=off)
    assert tuple(found["grid"]) == told.map.shape
    assert said(browser).startswith(told.classes[told.predicted] + ", ")
    seen = browser.run("stage.querySelector('.seen').style.cssText")
    assert ("left: 19.2308%" in seen) == (width == 130)  # (130 - 80) / 2 of 130
    assert not browser.errors  # nothing was fetched: the page's policy would have told


def test_one_draws_and_it_answers(page, browser):
    browser.open(page, dark=True)
    browser.wait("engine !== null", 60)
    browser.run("by('pad').click()")
    assert said(browser) == "Draw with a finger or the mouse"
    left, top, width, height = browser.run(
        "(() => { const { left, top, width, height } = tablet.getBoundingClientRect();"
        " return [left, top, width, height]; })()"
    )
    for i, (x, y) in enumerate([(0.5, 0.2), (0.5, 0.5), (0.5, 0.8)]):
        kind, at = "mouseMoved" if i else "mousePressed", (left + x * width, top + y * height)
        about = {"x": at[0], "y": at[1], "button": "left", "buttons": 1, "clickCount": 1}
        browser._send("Input.dispatchMouseEvent", type=kind, **about)
    browser.wait("told !== null && !busy", 60)
    assert "%" in said(browser) and browser.run("overlay.width") > 400
    before = browser.pixels("#stage")
    browser.run("form.elements.opacity.value = 0; form.dispatchEvent(new Event('input'))")
    assert np.abs(before.astype(int) - browser.pixels("#stage")).max() > 30  # the bare drawing
    browser.run("by('clear').click()")
    assert said(browser) == "Draw with a finger or the mouse" and not browser.errors


def test_it_fits_a_phone_and_a_file_that_is_no_picture_is_told(page, browser):
    browser.open(page, 390, 844)
    browser.wait("engine !== null", 60)
    assert browser.run("document.documentElement.scrollWidth") <= 390
    browser.run("open(new File(['text'], 'notes.txt'))")
    browser.wait("by('says').textContent.startsWith('notes.txt is no picture')")
    assert "a 7 with a bar" in browser.run("by('hint').textContent")
    assert browser.run("by('says').getAttribute('aria-live')") == "polite"
