"""The folder is whole or absent; the page is one file, and a name is never markup."""

import base64
import dataclasses
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from lficam_jax.errors import UserError
from lficam_jax.explaining import render, report, saving
from lficam_jax.explaining.explanation import Explanation
from lficam_jax.explaining.saving import save

CLASSES = ("cat", "dog", "bird", "frog")
ABOUT = {"title": "Where it looked", "details": {"model": "resnet-8", "step": 30}}
NASTY = '</script><script>alert("x")</script>'


def explained(id="7", name="test 7", label=1, mask=None, classes=CLASSES, **more):
    """The map is hot at the bottom right of 2 x 2; `dog` is predicted with 60 %."""
    return Explanation(
        id=id,
        name=name,
        picture=np.full((8, 8, 3), 200, np.uint8),
        map=np.array([[0, 0], [0, 1]], np.float32),
        probabilities=np.array([0.25, 0.6, 0.1, 0.05], np.float32),
        classes=classes,
        label=label,
        mask=mask,
        **more,
    )


def data_of(html):
    return json.loads(re.search(r'<script type="application/json"[^>]*>(.*?)</script>', html)[1])


class Tags(HTMLParser):
    """Collects what a browser would see."""

    def __init__(self, html):
        super().__init__()
        self.seen, self.text = [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def test_the_page_holds_picture_map_verdict_and_details():
    data = data_of(report.page([explained()], **ABOUT))
    (item,) = data["images"]
    assert (item["true"], item["predicted"], item["correct"]) == ("dog", "dog", True)
    assert item["probabilities"] == [["dog", 0.6], ["cat", 0.25], ["bird", 0.1]]
    assert item["picture"].startswith("data:image/png;base64,") and item["size"] == [8, 8]
    (drawn,) = item["maps"]
    assert drawn["grid"] == [2, 2] and list(base64.b64decode(drawn["grey"])) == [0, 0, 0, 255]
    hottest = base64.b64decode(data["colors"]["jet"])[-3:]
    assert tuple(hottest) == tuple(render.colorize(np.ones((1, 1)), "jet")[0, 0])
    assert data["details"] == [["model", "resnet-8"], ["step", "30"]]


def test_page_and_manifest_say_how_a_picture_was_read(tmp_path):
    notes, box = ("the first of several pages",), (-68.0, 0.0, 200.0, 200.0)
    items = [explained("1", notes=notes, box=box), explained("2")]
    folder = save(items, tmp_path / "out", **ABOUT)
    manifest = json.loads((folder / "manifest.json").read_text())
    page = data_of((folder / "index.html").read_text())
    assert [i["box"] for i in manifest["images"]] == [list(box), None]
    for held in (manifest, page):
        assert [i["notes"] for i in held["images"]] == [["the first of several pages"], []]


def test_the_true_class_is_shown_even_where_it_is_improbable():
    data = data_of(report.page([explained(label=3)], **ABOUT))
    assert data["images"][0]["probabilities"][-1] == ["frog", 0.05]
    assert data["images"][0]["correct"] is False


def test_without_label_and_mask_nothing_is_claimed():
    (item,) = data_of(report.page([explained(label=None)], **ABOUT))["images"]
    assert (
        item["true"] is item["correct"] is item["outline"] is item["maps"][0]["on_object"] is None
    )


@pytest.mark.parametrize(("start", "hit"), [(6, True), (0, False)])
def test_the_page_tells_whether_the_peak_is_on_the_object(start, hit):
    mask = np.zeros((8, 8), bool)
    mask[start : start + 2, start : start + 2] = True
    (item,) = data_of(report.page([explained(mask=mask)], **ABOUT))["images"]
    (drawn,) = item["maps"]
    assert drawn["on_object"] is hit
    assert min(drawn["peak"]) >= 6  # in the hot corner


def test_several_maps_of_an_image_share_its_card():
    own, asked = explained(), explained(method="grad_cam", class_index=2)
    flat = dataclasses.replace(explained(id="8"), map=np.zeros((2, 2), np.float32))
    other = dataclasses.replace(flat, map=np.ones((2, 2), np.float32), method="grad_cam")
    data = data_of(report.page([own, asked, flat, other], **ABOUT))
    assert data["methods"] == ["own", "grad_cam"]
    first, second = data["images"]
    assert [(m["method"], m["asked"], m["constant"]) for m in first["maps"]] == [
        ("own", None, False), ("grad_cam", "bird", False)]  # fmt: skip
    assert [m["constant"] for m in second["maps"]] == [True, True]
    assert (first["disagreement"], second["disagreement"]) == (0, 1)


def test_disagreement_is_the_mean_difference_over_pairs_and_leaves_out_trivial_maps():
    def shown(**maps):
        items = [explained(method=m) for m in maps]
        full = [np.full((2, 2), value, np.float32) for value in maps.values()]
        items = [dataclasses.replace(i, map=m) for i, m in zip(items, full, strict=True)]
        return data_of(report.page(items, **ABOUT))["images"][0]["disagreement"]

    assert shown(own=0.1, cam=0.5, grad_cam=0.2) == pytest.approx((0.4 + 0.1 + 0.3) / 3, abs=1e-4)
    assert shown(own=0.1, cam=0.5, random=0.9) == pytest.approx(0.4)
    assert shown(own=0.1, random=0.9) == pytest.approx(0.8)  # nothing else to compare
    assert shown(own=0.1) == 0


def test_a_map_names_its_class_unless_it_is_the_predicted_one():
    items = [explained("a", class_index=1), explained("b", class_index=2, method="cam")]
    same, other = data_of(report.page(items, **ABOUT))["images"]
    assert (same["maps"][0]["asked"], same["maps"][0]["title"]) == (None, "own")
    assert (other["maps"][0]["asked"], other["maps"][0]["title"]) == ("bird", "cam for 'bird'")


def test_files_of_several_maps_are_named_after_image_and_method(tmp_path):
    items = [explained(method=name, class_index=1) for name in ("own", "../cam")]
    folder = save([*items, explained("x")], tmp_path / "o", **ABOUT)
    rows = json.loads((folder / "manifest.json").read_text())["images"]
    assert [row["files"]["overlay"] for row in rows] == ["7.own.png", "7.cam.png", "x.png"]
    assert [row["asked_about"] for row in rows] == ["dog", "dog", None]
    with np.load(folder / "maps.npz") as arrays:
        assert sorted(arrays) == ["7.cam", "7.own", "x"]


def test_a_name_is_text_and_never_markup():
    harmless = report.page([explained()], **ABOUT)
    item = explained(name=NASTY, classes=(NASTY, "dog", "&lt;", "</title>"))
    html = report.page(
        [item], title=NASTY, details={NASTY: NASTY}, skipped=[(NASTY, "not an image")]
    )
    count = [tag for tag, _ in Tags(html).seen].count("script")
    assert count == [tag for tag, _ in Tags(harmless).seen].count("script") == 2
    data = data_of(html)
    assert data["images"][0]["name"] == NASTY and data["skipped"] == [[NASTY, "not an image"]]
    assert NASTY in Tags(html).text  # the title, unescaped by the browser


def test_the_page_fetches_nothing():
    html = report.page([explained()], **ABOUT)
    assert "default-src 'none'" in html
    for tag, attributes in Tags(html).seen:
        assert tag not in ("link", "iframe", "object", "embed")
        assert not {"src", "href", "srcset"} & set(attributes)
    addresses = set(re.findall(r"https?://[^\"' )]+", html))
    assert addresses == {"http://www.w3.org/2000/svg"}  # a name of SVG, never fetched


def test_every_control_has_a_name_to_read():
    html = report.page([explained()], **ABOUT)
    form = re.search(r"<form.*?</form>", html, re.S)[0]
    unlabelled = re.sub(r"<label.*?</label>", "", form, flags=re.S)
    assert "<input" not in unlabelled and "<select" not in unlabelled
    assert re.search(r'type="range" name="opacity"', form)


def test_an_outline_runs_round_the_object_and_its_hole():
    square = np.zeros((4, 4), bool)
    square[1:3, 1:3] = True
    assert report.outline(square) == "M1 1h2M1 3h2M1 1v2M3 1v2"
    ring = np.ones((3, 3), bool)
    ring[1, 1] = False
    assert report.outline(ring).count("M") == 8  # four sides outside, four inside
    assert report.outline(np.zeros((3, 3), bool)) == ""


def test_the_folder_holds_arrays_pictures_page_and_manifest(tmp_path):
    items = [explained("a/b.png", name="a/b.png"), explained("A_B.PNG", label=None)]
    folder = save(items, tmp_path / "out", skipped=[("x.txt", "not an image")], **ABOUT)
    manifest = json.loads((folder / "manifest.json").read_text())
    first, second = manifest["images"]
    assert first["label"] == "dog" and second["label"] is None
    assert [name for name, _ in first["probabilities"]] == ["dog", "cat", "bird", "frog"]
    assert manifest["skipped"] == [{"file": "x.txt", "reason": "not an image"}]
    assert {"jax", "numpy"} <= set(manifest["versions"])
    with np.load(folder / "maps.npz") as arrays:
        for row, item in zip(manifest["images"], items, strict=True):
            np.testing.assert_array_equal(arrays[row["files"]["array"].split(":")[1]], item.map)
            with Image.open(folder / row["files"]["overlay"]) as overlay:
                assert min(overlay.size) >= 224
    named = {f for row in manifest["images"] for f in row["files"].values() if "npz" not in f}
    assert {p.name for p in folder.iterdir()} == named | {"index.html", "manifest.json", "maps.npz"}


def test_a_name_cannot_leave_the_folder(tmp_path):
    save([explained("../../evil"), explained("..\\x"), explained("é")], tmp_path / "o", **ABOUT)
    assert [p.name for p in tmp_path.iterdir()] == ["o"]
    assert {p.name for p in (tmp_path / "o").glob("*.map.png")} == {
        "evil.map.png", "x.map.png", "image.map.png"
    }  # fmt: skip


def full_disk(*args, **options):
    raise OSError(28, "No space left on device")


def test_a_failure_leaves_the_earlier_folder_and_no_debris(tmp_path, monkeypatch):
    save([explained("1")], tmp_path / "out", **ABOUT)
    before = {p.name for p in (tmp_path / "out").iterdir()}

    monkeypatch.setattr(saving, "laid_out", full_disk)
    with pytest.raises(UserError, match="cannot write .*out: No space left"):
        save([explained("2")], tmp_path / "out", **ABOUT)
    assert {p.name for p in (tmp_path / "out").iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_the_page_is_filled():
    html = report.page([explained(name="{{style}} {{data}}")], **ABOUT)
    assert html.count("{{") == 2 * 2 and "{{style}} {{data}}" in html  # its name and its title


def test_a_complete_folder_is_replaced_whole(tmp_path):
    save([explained("1")], tmp_path / "out", **ABOUT)
    save([explained("2")], tmp_path / "out", **ABOUT)
    assert [p.name for p in (tmp_path / "out").glob("*.map.png")] == ["2.map.png"]
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_the_leftovers_of_a_killed_run_are_no_obstacle(tmp_path):
    (tmp_path / ".out.partial").mkdir()
    (tmp_path / ".out.partial" / "half.png").write_text("")
    (tmp_path / ".out.partial" / saving.MARK).touch()  # is written first
    folder = save([explained()], tmp_path / "out", **ABOUT)
    assert not (folder / "half.png").exists() and [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_save_killed_between_its_renames_lost_nothing(tmp_path, monkeypatch):
    save([explained("1")], tmp_path / "out", **ABOUT)
    (tmp_path / "out").rename(tmp_path / ".out.former")

    monkeypatch.setattr(saving, "laid_out", full_disk)
    with pytest.raises(UserError, match="No space left"):
        save([explained("2")], tmp_path / "out", **ABOUT)
    assert (tmp_path / "out" / "1.map.png").exists()


def test_a_folder_of_something_else_is_not_touched(tmp_path):
    (tmp_path / "thesis.tex").write_text("all my work")
    with pytest.raises(UserError, match="holds other files"):
        save([explained()], tmp_path, **ABOUT)
    assert (tmp_path / "thesis.tex").read_text() == "all my work"
