"""Explanations as a folder: whole or not at all, page after page; foreign files stay."""

import json

import numpy as np
import pytest
from test_report import ABOUT, data_of, explained

from lficam_jax.errors import UserError
from lficam_jax.explaining import saving
from lficam_jax.explaining.saving import Folder, save


@pytest.mark.parametrize("manifest", ['{"name": "web app", "images": []}', "[]", "", "[" * 5000])
def test_a_manifest_of_something_else_does_not_make_a_folder_ours(tmp_path, manifest):
    """Every web app has a manifest.json."""
    (tmp_path / "manifest.json").write_text(manifest)
    (tmp_path / "src").mkdir()
    with pytest.raises(UserError, match="holds other files"):
        save([explained()], tmp_path, **ABOUT)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["manifest.json", "src"]


def test_what_a_user_put_beside_the_explanations_stays(tmp_path):
    out = tmp_path / "out"
    save([explained("1")], out, **ABOUT)
    (out / "notes.txt").write_text("look at 1 again")
    (out / "2.png").write_text("a file of the user's that has the name of a new picture")
    save([explained("2")], out, **ABOUT)
    assert (out / "notes.txt").read_text() == "look at 1 again"
    assert (out / "2.png.kept").read_text().startswith("a file of the user's")
    assert not (out / "1.png").exists()
    (tmp_path / ".out.former").mkdir()  # as a kill leaves it before the last move
    (tmp_path / ".out.former" / "more.txt").write_text("kept")
    save([explained("2")], out, **ABOUT)
    assert (out / "more.txt").exists() and (out / "notes.txt").exists()


def test_many_images_are_written_page_by_page(tmp_path, monkeypatch):
    monkeypatch.setattr(saving, "PER_PAGE", 2)
    with Folder(tmp_path / "out", **ABOUT) as folder:
        folder.add([explained("1"), explained("2"), explained("3")])
        folder.add([explained("1"), explained("5")])  # an id that is taken
        folder.skipped.append(("x.txt", "not an image"))
    manifest = json.loads((folder.target / "manifest.json").read_text())
    assert manifest["pages"] == ["index.html", "page-2.html", "page-3.html"]
    pages = [data_of((folder.target / name).read_text()) for name in manifest["pages"]]
    assert [[i["id"] for i in page["images"]] for page in pages] == [["1", "2"], ["3", "1"], ["5"]]
    assert [page["pages"]["after"] for page in pages] == ["page-2.html", "page-3.html", None]
    assert [page["pages"]["before"] for page in pages] == [None, "index.html", "page-2.html"]
    with np.load(folder.target / "maps.npz") as arrays:
        assert sorted(arrays) == ["1", "1-2", "2", "3", "5"]
    save([explained("1")], tmp_path / "out", **ABOUT)  # fewer pages now
    assert not list((tmp_path / "out").glob("page-*"))


def test_a_page_ends_before_its_pictures_are_too_many_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(saving, "PAGE_LETTERS", 1)
    save([explained("1"), explained("2")], tmp_path / "out", **ABOUT)
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["pages"] == [
        "index.html", "page-2.html"]  # fmt: skip


def test_a_file_in_the_place_of_the_folder_is_told(tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(UserError, match="out is a file; choose a folder"):
        save([explained()], tmp_path / "out", **ABOUT)


def test_a_hidden_folder_of_somebody_else_is_not_removed(tmp_path):
    (tmp_path / ".out.partial").mkdir()
    (tmp_path / ".out.partial" / "thesis.txt").write_text("all my work")
    with pytest.raises(UserError, match="not ours to remove; move it elsewhere"):
        save([explained()], tmp_path / "out", **ABOUT)
    assert (tmp_path / ".out.partial" / "thesis.txt").read_text() == "all my work"


@pytest.mark.parametrize("place", [".", "..", "/"])
def test_the_folder_that_one_is_in_is_not_pulled_away(tmp_path, monkeypatch, place):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(UserError, match="is the current folder, or holds it"):
        save([explained()], place, **ABOUT)


def test_a_bucket_is_no_folder_called_gs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="in a bucket; save to a folder here"):
        save([explained()], "gs://bucket/out", **ABOUT)
    assert not list(tmp_path.iterdir())
