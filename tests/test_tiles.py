"""Pictures larger than the network's input: no seam, nothing lost, nothing moved."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import lficam_jax as lfi
from lficam_jax.errors import UserError
from lficam_jax.explaining.tiles import window_shares, window_starts
from lficam_jax.main import main
from lficam_jax.ops.maps import min_max

FED = lfi.Preprocess(image_size=8, mean=(0.0,) * 3, std=(1.0,) * 3)
WEIGHTS = np.array([[1.0, -1.0], [0.5, 2.0], [-1.0, 0.5]], np.float32)


def features(images):
    """Looks at each pixel alone, so a window's edge changes nothing."""
    return images


def classify(found):
    return found.mean((1, 2)) @ jnp.asarray(WEIGHTS)


def edged(images):
    """Sees its window's edges, as padding makes a network see them."""
    return images + jnp.pad(jnp.ones((1, 6, 6, 1)), ((0, 0), (1, 1), (1, 1), (0, 0)))


def coarse(images):
    return images.reshape(-1, 4, 2, 4, 2, 3).mean((2, 4))


def tiled(picture, network=(features, classify), **options):
    options = {"method": "hires_cam", "preprocess": FED, "batch_size": 8} | options
    return lfi.explain_tiled(network, picture, **options)[0]


def picture(rows=20, columns=28, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (rows, columns, 3), np.uint8)


@pytest.mark.parametrize(
    ("pixels", "window", "overlap"), [(20, 8, 0.5), (23, 8, 0.25), (9, 8, 0.0)]
)
def test_the_windows_shares_sum_to_one(pixels, window, overlap):
    starts = window_starts(pixels, window, overlap)
    shares = window_shares(pixels, window, starts)
    np.testing.assert_allclose(sum(shares.values()), 1, rtol=1e-12)
    for start, share in shares.items():
        assert not share[:start].any() and not share[start + window :].any()  # nothing outside
    assert starts[0] == 0 and starts[-1] == pixels - window


@pytest.mark.parametrize("overlap", [0.0, 0.3, 0.5])
def test_the_tiled_map_is_that_of_the_whole_picture(overlap):
    """What looks at each pixel alone sees the same through windows as at once."""
    shown = picture()
    found = tiled(shown, target=1, overlap=overlap)
    expected = (shown / 255.0) @ WEIGHTS[:, 1]
    np.testing.assert_allclose(found.map, min_max(jnp.asarray(expected)), atol=1e-5)
    assert found.map.shape == shown.shape[:2] == found.picture.shape[:2] and found.class_index == 1


def test_a_plain_picture_has_no_seam():
    found = tiled(np.full((21, 30, 3), 90, np.uint8), target=0)
    assert np.ptp(found.map) == 0
    # The maps of this one fall to 0 at their edges. Half a window apart the whole is the same from
    # window to window: where one ends its share is nothing, so there is no step.
    whole = tiled(np.full((40, 40, 3), 90, np.uint8), (edged, classify), target=0).map
    inner = whole[8:-8, 8:-8]
    np.testing.assert_allclose(inner[:, 4:], inner[:, :-4], atol=1e-5)
    assert np.abs(np.diff(inner, axis=1)).max() < 0.3 < whole.max()


def test_a_translation_by_one_tile_translates_the_map():
    wide = picture(16, 28)  # windows are 4 apart
    here, moved = (
        tiled(part, (coarse, classify), target=1, align="half_pixel").map
        for part in (wide[:, :24], wide[:, 4:])
    )
    # Away from the picture's ends, where one window looks alone; each map is scaled by itself.
    one, other = here[:, 8:20], moved[:, 4:16]
    slope, offset = np.polyfit(one.ravel(), other.ravel(), 1)
    np.testing.assert_allclose(slope * one + offset, other, atol=1e-5)


def test_what_is_said_of_the_picture_is_the_mean_over_windows():
    shown = picture()
    item = tiled(shown, overlap=0.0, names=["mine"], classes=["cat", "dog"])
    logits = [
        (shown[y : y + 8, x : x + 8] / 255.0).mean((0, 1)) @ WEIGHTS
        for y in (0, 8, 12) for x in (0, 8, 16, 20)
    ]  # fmt: skip
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(item.probabilities, shares.mean(0), rtol=1e-4)
    assert item.class_index == item.predicted and item.name == "mine"
    assert item.classes == ("cat", "dog") and item.overlay().size[0] >= 28


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        ({"overlap": 1.0}, "overlap must be at least 0 and less than 1, not 1.0"),
        ({"overlap": "half"}, "overlap must be"),
        ({"target": [0, 1]}, "target"),
        ({"target": lfi.targets.Top(2)}, "takes a single target"),
        ({"layer": ["a", "b"]}, "at one layer"),
        ({"method": "grad"}, "'grad' is unknown"),
        ({"preprocess": lfi.Preprocess(image_size=64)}, "20 x 28 pixels, and a window 64 x 64"),
        ({"preprocess": None}, "say how images become"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_what_cannot_be_is_told(options, fragment):
    with pytest.raises(UserError, match=fragment):
        tiled(picture(), **options)


def test_a_map_that_asks_nothing_needs_no_class():
    """Of a network that tells one number, too."""

    def one_number(found):
        return found.mean((1, 2, 3))

    found = tiled(picture(8, 8), (features, one_number), method="eigen_cam")
    assert found.map.shape == (8, 8) and found.class_index is None
    with pytest.raises(UserError, match="leave target out"):
        tiled(picture(), (features, one_number), method="eigen_cam", target=0)


def test_a_run_is_explained_as_its_config_says(run):
    from dataclasses import replace

    half = replace(run, config=run.config.copy_and_resolve_references())
    half.config.explain.align = "half_pixel"
    shown = picture(24, 20)
    found = lfi.explain_tiled(half, shown, method="grad_cam")
    assert found.details["align"] == "half_pixel" and found.details["model"] == run.title
    other = lfi.explain_tiled(half, shown, method="grad_cam", align="centres")
    assert not np.array_equal(found[0].map, other[0].map)
    with pytest.raises(UserError, match="leave target out"):  # the default map of LFI asks nothing
        lfi.explain_tiled(run, shown, target=3)
    with pytest.raises(UserError, match="names has 0 entries"):
        lfi.explain_tiled(run, shown, names=[])


def test_the_command_looks_at_files_in_their_full_size(trained, run, tmp_path, capsys):
    """A picture smaller than a window, and a file that is none, are named and left out."""
    for name, (y, x) in {"large": (24, 20), "small": (24, 10)}.items():
        Image.fromarray(picture(y, x)).save(tmp_path / f"{name}.png")
    (tmp_path / "text.png").write_text("no picture")
    words = ["explain", "--workdir", str(trained), "--tiles", "--methods=grad_cam"]
    words += ["--out", str(tmp_path / "out"), "--images"]
    assert main([*words, *(str(tmp_path / f"{n}.png") for n in ("large", "small", "text"))]) == 1
    said = capsys.readouterr().out
    assert "small.png: the picture has 24 x 10 pixels, and a window 16 x 16; explain it" in said
    assert "without --tiles" in said
    assert "text.png: is not an image" in said and "images explained  1, 2 skipped" in said
    about = json.loads((tmp_path / "out" / "manifest.json").read_text())["details"]
    assert about["windows"] == "16 x 16 pixels, overlap 0.5" and about["maps"] == "grad_cam"
    (drawn,) = np.load(tmp_path / "out" / "maps.npz").values()
    alone = lfi.explain_tiled(run.model, run.variables, picture(24, 20), preprocess=run.dataset)
    assert alone.methods == ["own"]  # of a module and its weights, too
    same = lfi.explain_tiled(run, picture(24, 20), method="grad_cam")[0].map
    np.testing.assert_allclose(drawn, same, atol=1e-5)
    with pytest.raises(UserError, match="none of the 1 files among --images can be explained"):
        main([*words, str(tmp_path / "small.png")])
    with pytest.raises(UserError, match="^target: class 11"):
        main([*words, str(tmp_path / "large.png"), "--target=11"])
    with pytest.raises(UserError, match="in their full size; say which"):
        main(words[:4])
