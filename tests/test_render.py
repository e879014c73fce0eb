"""Pictures mean what they show: hot is hot, the ends of the opacity are the ends."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from lficam_jax.errors import UserError
from lficam_jax.explaining import render
from lficam_jax.ops import maps


def corner(size=4):
    """A map that is hot at the top left and cold everywhere else."""
    attention = np.zeros((size, size), np.float32)
    attention[0, 0] = 1
    return attention


def test_hot_is_hot_and_cold_is_cold():
    red, green, blue = render.colorize(corner(), "jet")[0, 0].astype(int)
    assert red > green + 100 and red > blue + 100  # dark red
    red, green, blue = render.colorize(corner(), "jet")[3, 3].astype(int)
    assert blue > green + 100 and blue > red + 100  # dark blue


@pytest.mark.parametrize("cmap", [c for c in render.COLOR_MAPS if c not in ("jet", "turbo")])
def test_brightness_grows_with_attention(cmap):
    ramp = np.linspace(0, 1, 9, dtype=np.float32)[None]
    brightness = render.colorize(ramp, cmap)[0] @ np.array([0.2126, 0.7152, 0.0722])
    assert np.all(np.diff(brightness) > 0)


def test_values_outside_the_range_are_clipped_and_nan_is_cold():
    drawn = render.colorize(np.array([[-1, 0, 1, 7, np.nan]], np.float32))[0]
    assert (drawn[0] == drawn[1]).all() and (drawn[3] == drawn[2]).all()
    assert (drawn[4] == drawn[0]).all()


def test_an_unknown_color_map_names_the_nearest():
    with pytest.raises(UserError, match="infreno.*did you mean 'inferno'"):
        render.colorize(corner(), "infreno")


def test_upsampling_has_half_pixel_centres():
    # Centres of 4 pixels over 2: at 0.25 and 0.75 between the two values, the ends held.
    np.testing.assert_allclose(
        render.upsample(np.array([[0, 1]], np.float32), (1, 4)), [[0, 0.25, 0.75, 1]], atol=1e-6
    )


def test_upsampling_is_the_librarys_resize():
    attention = np.random.default_rng(0).random((3, 5), np.float32)
    expected = maps.resize(attention, (17, 11))
    np.testing.assert_allclose(render.upsample(attention, (17, 11)), expected, atol=1e-6)


def test_a_saved_picture_is_read_back_exactly(tmp_path):
    picture = np.random.default_rng(0).integers(0, 256, (8, 6, 3), np.uint8)
    render.save_png(render.enlarge(picture), tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as read:
        np.testing.assert_array_equal(np.asarray(read), render.enlarge(picture))


def test_opacity_0_is_the_picture_and_1_the_map():
    picture = np.random.default_rng(0).integers(0, 256, (8, 6, 3), np.uint8)
    attention = corner(2)
    np.testing.assert_array_equal(render.overlay(picture, attention, alpha=0), picture)
    np.testing.assert_array_equal(
        render.overlay(picture, attention, alpha=1, blend="mix"),
        render.colorize(render.upsample(attention, (8, 6))),
    )


def test_half_opacity_reddens_the_hot_corner_only():
    grey = np.full((8, 8, 3), 128, np.uint8)
    drawn = render.overlay(grey, corner(), alpha=0.5, cmap="jet", blend="mix").astype(int)
    assert drawn[0, 0, 0] > drawn[0, 0, 2] + 50  # red over blue
    assert drawn[7, 7, 2] > drawn[7, 7, 0] + 50  # blue over red


def test_what_is_cold_is_the_bare_picture():
    grey = np.full((8, 8, 3), 128, np.uint8)
    drawn = render.overlay(grey, corner()).astype(int)
    hot = render.palette("inferno")[255].astype(float)
    np.testing.assert_allclose(drawn[0, 0], 0.2 * 128 + 0.8 * hot, atol=1)
    assert (drawn[4:] == 128).all() and (drawn[:, 4:] == 128).all()


def test_a_map_lies_in_its_box_and_nowhere_else():
    grey, all_hot = np.full((6, 10, 3), 128, np.uint8), np.array([[1, 1], [1, 0.9]], np.float32)
    touched = (render.overlay(grey, all_hot, box=(1, 2, 4, 5)) != 128).any(axis=-1)
    assert touched[1:5, 2:7].all() and touched.sum() == 4 * 5
    padded = render.overlay(
        grey, all_hot, box=(-2, 0, 10, 10)
    )  # the network saw more than there is
    np.testing.assert_array_equal(
        padded, render.overlay(np.full((10, 10, 3), 128, np.uint8), all_hot)[2:8]
    )


def test_a_constant_map_says_so():
    grey = np.full((224, 224, 3), 128, np.uint8)
    assert (render.overlay(grey, np.zeros((4, 4), np.float32)) != 128).any(axis=-1).sum() > 200


def test_an_unknown_blend_names_the_nearest():
    with pytest.raises(UserError, match="blend 'fades' is unknown.*'fade'"):
        render.overlay(np.zeros((2, 2, 3), np.uint8), corner(), blend="fades")


@pytest.mark.parametrize("alpha", [-0.1, 1.5])
def test_an_opacity_outside_0_to_1_is_refused(alpha):
    with pytest.raises(UserError, match=r"must be in \[0, 1\]"):
        render.overlay(np.zeros((2, 2, 3), np.uint8), corner(), alpha=alpha)


def test_stretch_uses_the_whole_range_and_makes_grey_rgb():
    drawn = render.stretch(np.array([[[-2.0], [0.0], [2.0]]]))
    assert drawn.tolist() == [[[0] * 3, [128] * 3, [255] * 3]]
    assert render.stretch(np.full((2, 2, 3), 7.0)).tolist() == np.zeros((2, 2, 3)).tolist()


def test_enlarging_keeps_pixels_square_and_leaves_large_pictures_alone():
    small = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    large = render.enlarge(small, least=5)
    assert large.shape == (6, 9, 3)
    np.testing.assert_array_equal(large[::3, ::3], small)
    assert render.enlarge(large, least=6) is large


def test_a_contact_sheet_reads_left_to_right_on_white():
    tiles = [np.full((2, 3, 3), value, np.uint8) for value in (1, 2, 3)]
    sheet = render.contact_sheet(tiles, columns=2, gap=1)
    assert sheet.shape == (2 + 1 + 2, 3 + 1 + 3, 3)
    assert (sheet[:2, :3] == 1).all() and (sheet[:2, 4:] == 2).all() and (sheet[3:, :3] == 3).all()
    assert (sheet[2] == 255).all() and (sheet[3:, 4:] == 255).all()


@pytest.mark.parametrize(("side", "kind", "error"), [(28, "png", 0), (224, "jpeg", 3)])
def test_a_data_uri_holds_the_picture(side, kind, error):
    ramp = np.linspace(0, 255, side).astype(np.uint8)
    picture = np.broadcast_to(ramp[:, None, None], (side, side, 3)).copy()
    head, body = render.data_uri(picture).split(",")
    assert head == f"data:image/{kind};base64"
    read = np.asarray(Image.open(io.BytesIO(base64.b64decode(body))))
    assert np.abs(read.astype(int) - picture).max() <= error


@pytest.mark.parametrize("k", [2, 10, 30, 600])
def test_a_confusion_matrix_of_any_size_is_a_readable_picture(tmp_path, k):
    confusion = np.diag(np.full(k, 40)) + np.eye(k, k=1, dtype=int) * 10
    render.confusion_picture(confusion, [f"cla$s {i}" for i in range(k)], tmp_path / "c.png")
    with Image.open(tmp_path / "c.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    assert 400 < pixels.shape[0] < 1400 and 400 < pixels.shape[1] < 2200
    dark_blue = (pixels[..., 2] > 90) & (pixels[..., 0] < 40) & (pixels[..., 1] < 90)
    assert dark_blue.sum() > 500  # the diagonal, 80 % of every row


def test_an_empty_class_does_not_divide_by_zero(tmp_path):
    render.confusion_picture(np.array([[3, 0], [0, 0]]), ["a", "b"], tmp_path / "c.png")
    assert (tmp_path / "c.png").stat().st_size > 0


def test_rare_mistakes_among_many_classes_stay_visible():
    share = np.zeros((5, 5))
    share[4, 1] = 0.5
    assert render._largest(share, 2).tolist() == [[0, 0, 0], [0, 0, 0], [0.5, 0, 0]]


def test_a_picture_that_cannot_be_written_is_one_line(tmp_path):
    with pytest.raises(UserError, match="cannot write .*absent/c.png: No such file"):
        render.confusion_picture(np.eye(2, dtype=int), ["a", "b"], tmp_path / "absent" / "c.png")
