"""Maps of what people bring lie on their own picture, where the network looked."""

import numpy as np
import pytest
from PIL import Image

from lficam_jax.data import Preprocess
from lficam_jax.errors import UserError
from lficam_jax.explaining.explain import explain
from lficam_jax.explaining.explanation import ON_PAGE, drawn
from lficam_jax.explaining.inputs import fit_files
from tests.test_explain import MODEL, VARIABLES


@pytest.fixture
def photo(tmp_path):
    """A grey picture of 60 x 100 with a bright square of 20 in the middle of its left half."""
    pixels = np.full((60, 100, 3), 40, np.uint8)
    pixels[20:40, 30:50] = 250
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def look(images, **fit):
    plain = {"mean": (0, 0, 0), "std": (1, 1, 1)}
    return explain(MODEL, VARIABLES, images, preprocess=Preprocess(image_size=16, **plain, **fit))[
        0
    ]


def test_an_overlay_is_the_whole_picture_and_the_map_where_the_network_looked(photo):
    overlay = np.asarray(look(photo).overlay()).astype(int)
    assert overlay.shape == (60 * 4, 100 * 4, 3)  # enlarged to 224 or more
    before = np.asarray(Image.open(photo)).repeat(4, axis=0).repeat(4, axis=1)
    changed = (overlay != before).any(axis=-1)
    assert not changed[:, : 20 * 4].any() and not changed[:, 80 * 4 :].any()  # outside the crop
    assert changed[:, 20 * 4].all() and changed[:, 80 * 4 - 1].all()  # its frame
    rows, columns = np.nonzero(changed[4:-4, 84:316])
    assert abs(rows.mean() / 4 + 1 - 30) < 3 and abs(columns.mean() / 4 + 21 - 40) < 4  # the square


@pytest.mark.parametrize("fit", ["pad", "stretch"])
def test_what_the_network_saw_whole_has_no_frame(photo, fit):
    e = look(photo, fit=fit)
    view = e.view()
    assert view.picture.shape == (60, 100, 3) and not view.is_part
    heat = np.asarray(e.overlay()).astype(int)[::4, ::4] - view.picture
    rows, columns = np.nonzero(abs(heat).max(axis=-1) > 60)
    assert abs(rows.mean() - 30) < 4 and abs(columns.mean() - 40) < 4


def test_it_can_be_drawn_on_what_the_network_saw(photo):
    e = look(photo)
    assert e.overlay(original=False).size == (224, 224)
    with pytest.raises(UserError, match="original"):
        e.overlay(original="yes")


def test_pil_images_and_arrays_are_originals_too(photo):
    pixels = np.asarray(Image.open(photo))
    expected = np.asarray(look(photo).overlay())
    for image in (Image.open(photo), pixels, pixels[..., :1], pixels / np.float32(255)):
        np.testing.assert_array_equal(np.asarray(look(image).overlay()), expected)


def test_a_camera_that_lay_on_its_side(tmp_path, photo):
    """EXIF orientation 6: what the file stores must be turned clockwise."""
    stored = Image.open(photo).rotate(90, expand=True)
    exif = stored.getexif()
    exif[274] = 6
    stored.save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(
        np.asarray(look(tmp_path / "turned.png").overlay()), np.asarray(look(photo).overlay())
    )


def test_a_file_that_is_gone_or_another_is_told_and_a_page_shows_what_was_seen(photo, tmp_path):
    e = look(photo)
    Image.new("RGB", (30, 30)).save(photo)
    with pytest.raises(UserError, match="photo.png is another picture.*original=False"):
        e.overlay()
    photo.unlink()
    with pytest.raises(UserError, match="photo.png"):
        e.overlay()
    assert e.overlay(original=False).size == (224, 224)
    assert 'src="data:image/png' in e._repr_html_()


def test_a_view_for_a_screen_is_no_larger_than_that(tmp_path):
    Image.new("RGB", (3000, 1000), "white").save(tmp_path / "wide.png")
    e = look(tmp_path / "wide.png")
    view = e.view(most=ON_PAGE)
    assert view.picture.shape == (533, 1600, 3)
    np.testing.assert_allclose(view.box, (0, 1600 / 3, 533, 533), atol=0.5)
    assert drawn(e, view).shape == (533, 1600, 3) and e.overlay().size == (3000, 1000)


def test_reading_many_files_keeps_none_of_them_in_memory(tmp_path):
    """Of a file of 12 MB as pixels only what the network is fed is kept."""
    import tracemalloc

    for i in range(6):
        Image.new("RGB", (2000, 2000), (i, i, i)).save(tmp_path / f"{i}.png")
    tracemalloc.start()
    inputs = fit_files(sorted(tmp_path.glob("*.png")), Preprocess(image_size=16))
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(inputs.sources) == 6 and kept < 2e6 and peak < 4 * 12e6
