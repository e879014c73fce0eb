"""Geometry and colour between the file and the network."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest

from lficam_jax.data import DATASETS, denormalise, fit_box, fit_image, normalise
from lficam_jax.data.transforms import (
    Preprocess,
    crop_flip,
    crop_scale,
    cut_note,
    mirror,
    random_box,
    resample,
)

CIFAR = DATASETS["cifar10"]


def picture(height, width, channels=3, seed=0):
    shape = (height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_a_picture_of_the_right_size_is_left_alone():
    image = picture(32, 32)
    np.testing.assert_array_equal(fit_image(image, CIFAR), image)


def test_evaluation_looks_at_the_central_square():
    image = np.zeros((100, 200, 3), np.uint8)
    image[:, 50:150] = 200  # exactly the central square
    fitted = fit_image(image, CIFAR)
    np.testing.assert_array_equal(fitted[:, 1:-1], 200)
    assert (fitted[:, [0, -1]] > 150).all()  # the filter reaches a little over the edge
    assert fit_box(100, 200, CIFAR) == (0, 50, 100, 100)


@pytest.mark.parametrize("long_side", [0, 1])
def test_an_object_at_the_end_of_a_long_picture_is_padded_or_stretched_into_view(long_side):
    """64 x 200, with one bright spot around 180: the central square ends at 132."""
    image, mask = np.zeros((64, 200, 3), np.uint8), np.zeros((64, 200, 1), np.uint8)
    image[24:40, 172:188], mask[24:40, 172:188] = 250, 1
    if long_side == 0:
        image, mask = image.transpose(1, 0, 2).copy(), mask.transpose(1, 0, 2).copy()
    for fit, box in (("crop", None), ("pad", (-68, 0, 200, 200)), ("stretch", (0, 0, 64, 200))):
        dataset = replace(CIFAR, image_size=100, fit=fit)
        fitted = fit_image(image, dataset)
        assert fitted.shape == (100, 100, 3)
        if fit == "crop":
            assert fitted.max() == 0
            continue
        top, left, height, width = found = fit_box(*image.shape[:2], dataset)
        turn = slice(None) if long_side else slice(None, None, -1)
        assert (found[:2][turn], found[2:][turn]) == (box[:2], box[2:])
        fed = resample(mask, found, (100, 100), "nearest")[..., 0]
        bright = fitted[..., 1] > 170
        assert (bright[fed == 1]).mean() > 0.9 and not bright[fed == 0].any()
        rows, columns = np.nonzero(fed)  # the box is the way back
        back = top + (rows.mean() + 0.5) / 100 * height, left + (columns.mean() + 0.5) / 100 * width
        assert back == pytest.approx((32, 180)[turn], abs=1)
    outside = fit_image(image, replace(CIFAR, image_size=100, fit="pad"))[0, 0]
    assert (np.abs(normalise(outside[None, None], CIFAR)) < 0.01).all()  # the mean: no signal


@pytest.mark.parametrize(
    ("shape", "size", "share", "said"),
    [((100, 150), 32, 1, "33 %"), ((100, 109), 32, 1, ""), ((100, 112), 32, 1, "11 %"),
     ((100, 100), 32, 224 / 256, ""), ((100, 200), 32, 224 / 256, "62 %"),
     ((64, 200), (64, 200), 1, ""), ((100, 100), (32, 64), 1, "50 %")],
)  # fmt: skip
def test_what_a_shape_costs_is_said_with_its_share(shape, size, share, said):
    told = cut_note(picture(*shape), Preprocess(image_size=size, crop_share=share))
    assert [note.split(" of it")[0] for note in told] == ([said] if said else [])


def test_a_picture_that_is_square_is_fitted_alike_by_all():
    image = picture(40, 40)
    crop, pad, stretch = (fit_image(image, replace(CIFAR, fit=fit))
                          for fit in ("crop", "pad", "stretch"))  # fmt: skip
    np.testing.assert_array_equal(crop, pad)
    np.testing.assert_array_equal(crop, stretch)


@pytest.mark.parametrize("shape", [(1, 300), (300, 1), (7, 5), (33, 32)])
def test_pictures_of_any_shape_can_be_padded(shape):
    for channels in (1, 3):
        fitted = fit_image(picture(*shape, channels), replace(CIFAR, fit="pad"))
        assert fitted.shape == (32, 32, 3)


def test_after_resized_crops_the_square_is_seven_eighths():
    dataset = replace(CIFAR, image_size=224, crop_share=224 / 256)
    top, left, height, width = fit_box(256, 300, dataset)
    assert (top, left, height, width) == pytest.approx((16, 38, 224, 224))
    assert fit_image(picture(256, 300), dataset).shape == (224, 224, 3)


def test_greyscale_sets_drop_colour_from_a_photo():
    red = np.zeros((28, 28, 3), np.uint8)
    red[..., 0] = 255
    fitted = fit_image(red, DATASETS["fashion_mnist"])
    assert fitted.shape == (28, 28, 3)
    np.testing.assert_array_equal(fitted, 76)  # the luma of pure red


def test_resample_interpolates_pictures_and_picks_from_masks():
    step = np.repeat(np.array([0, 0, 200, 200], np.uint8)[None, :, None], 4, 0)
    assert 0 < resample(step, (0, 0, 4, 4), (8, 8))[0, 3, 0] < 200
    mask = resample(step, (0, 0, 4, 4), (8, 8), "nearest")[..., 0]
    np.testing.assert_array_equal(mask, [[0] * 4 + [200] * 4] * 8)


def test_random_boxes_stay_inside_and_differ():
    generator = np.random.default_rng(0)
    boxes = [random_box(generator, 60, 90) for _ in range(200)]
    for top, left, height, width in boxes:
        assert top >= 0 and left >= 0 and top + height <= 60 and left + width <= 90
        assert 3 / 4 - 0.1 < width / height < 4 / 3 + 0.1
    areas = [height * width / 5400 for *_, height, width in boxes]
    assert min(areas) < 0.15 and max(areas) > 0.6
    assert random_box(generator, 1000, 2) == (499, 0, 2, 2)  # nothing fits: the centre


def smooth(height, width):
    y, x = np.mgrid[:height, :width] / max(height, width)
    channels = [y, x, 0.5 + 0.5 * np.sin(9 * x * y)]
    return (np.stack(channels, -1) * 255).astype(np.uint8)


@pytest.mark.parametrize("box", [(10, 30, 60, 90), (0, 0, 300, 400), (5, 0, 30, 20)])
def test_training_crops_show_what_the_careful_filter_shows(box):
    image = smooth(300, 400)
    fast, careful = crop_scale(image, box, (48, 48)), resample(image, box, (48, 48))
    assert fast.shape == (48, 48, 3) and fast.dtype == np.uint8
    assert abs(fast.astype(int) - careful).mean() < 1.5  # of 255


def test_training_crops_average_what_they_shrink():
    noise = picture(400, 400)
    shrunk = crop_scale(noise, (0, 0, 400, 400), (50, 50))  # each pixel is the mean of 8x8
    blocks = noise.reshape(50, 8, 50, 8, 3).mean((1, 3))
    np.testing.assert_allclose(shrunk, blocks, atol=1)


def test_scaling_is_the_same_on_every_machine():
    ramp = np.arange(4, dtype=np.uint8)[None, :, None].repeat(2, 0) * 60  # 0 60 120 180
    enlarged = crop_scale(ramp, (0, 0, 2, 4), (8, 8))[0, :, 0]
    assert enlarged.tolist() == [0, 15, 45, 75, 105, 135, 165, 180]  # centres at (i + 0.5) / 2


def test_mirror():
    for channels in (1, 3):
        image = picture(4, 5, channels)
        np.testing.assert_array_equal(mirror(image), image[:, ::-1])


@pytest.mark.parametrize("xp", [np, jnp])
def test_crop_flip_is_pad_slice_mirror(xp):
    images = np.stack([picture(5, 6, seed=s) for s in range(3)])
    index, top, left = np.array([2, 0]), np.array([0, 4]), np.array([3, 1])
    flip = np.array([False, True])
    result = crop_flip(*(xp.asarray(a) for a in (images, index, top, left, flip)), 2)
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)))
    expected = [padded[2, 0:5, 3:9], padded[0, 4:9, 1:7][:, ::-1]]
    np.testing.assert_array_equal(result, expected)
    assert result.dtype == np.uint8


@pytest.mark.parametrize("xp", [np, jnp])
def test_normalise_is_undone(xp):
    image = picture(4, 4)
    fed = normalise(xp.asarray(image), CIFAR)
    assert fed.dtype == np.float32
    expected = (image[1, 2] / 255 - np.array(CIFAR.mean)) / CIFAR.std
    np.testing.assert_allclose(fed[1, 2], expected, rtol=1e-5)
    np.testing.assert_array_equal(denormalise(fed, CIFAR), image)


def test_grey_is_repeated_before_normalisation():
    dataset = replace(DATASETS["fashion_mnist"], mean=(0.1, 0.2, 0.3))
    fed = normalise(np.full((2, 28, 28, 1), 255, np.uint8), dataset)
    assert fed.shape == (2, 28, 28, 3)
    np.testing.assert_allclose(fed[0, 0, 0], (1 - np.array([0.1, 0.2, 0.3])) / 0.353, rtol=1e-5)
