"""Maps and matrices as pictures: the only place that draws with PIL or matplotlib.

A picture is uint8 `[y x 3]`; a map is float `[h w]` in [0, 1] on a grid of any size.
"""

import base64
import io
import zlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from lficam_jax.errors import UserError, brief, check_word, is_number
from lficam_jax.ops import maps
from lficam_jax.workdir.results import replacing, teaching

COLOR_MAPS = ("inferno", "viridis", "turbo", "jet", "gray")  # the first is the default
# How a map lies over its picture, and how opaque it is where hottest if nobody says. fade: opacity
# follows the map, so that what is cold is the bare picture; mix: it is the same everywhere.
BLENDS = {"fade": 0.8, "mix": 0.55}

Picture = UInt8[np.ndarray, "y x 3"]
Box = tuple[float, float, float, float]  # top, left, height, width, in pixels


def color_table(cmap: str, size: int = 256) -> Float[np.ndarray, "n 3"]:
    """Returns the RGB values in [0, 1] that `size` even steps from cold to hot get.

    Raises:
      UserError: for a colour map that is not in `COLOR_MAPS`.
    """
    check_word("colour map", cmap, COLOR_MAPS)
    from matplotlib import colormaps

    return np.asarray(colormaps[cmap](np.linspace(0, 1, size)))[:, :3]


def colorize(attention: Float[np.ndarray, "h w"], cmap: str = COLOR_MAPS[0]) -> Picture:
    """Colours a map on its own grid; values outside [0, 1] are clipped, NaN counts as cold."""
    colours: Picture = palette(cmap).take(to_bytes(attention), axis=0)
    return colours


@lru_cache
def palette(cmap: str) -> UInt8[np.ndarray, "256 3"]:
    """Returns the colour of each grey value, cold to hot."""
    table = np.round(color_table(cmap) * 255).astype(np.uint8)
    table.setflags(write=False)  # it is cached
    return table


def to_bytes(values: Float[np.ndarray, "*shape"]) -> UInt8[np.ndarray, "*shape"]:
    """Scales [0, 1] to 0..255, rounding; values outside are clipped, NaN becomes 0."""
    levels: np.ndarray = np.round(np.clip(np.nan_to_num(values, nan=0.0), 0, 1) * 255)
    levels = levels.astype(np.uint8)
    return levels


def upsample(
    attention: Float[np.ndarray, "h w"], size: tuple[int, int], place: maps.Place | None = None
) -> Float[np.ndarray, "y x"]:
    """Brings a map to the size of its picture: `ops.maps.resize`, without a trip to the device."""
    down, across = place or (None, None)
    below, above, share = maps.taps(attention.shape[0], size[0], down)
    attention = np.asarray(attention, np.float32)
    with np.errstate(invalid="ignore"):  # infinity less infinity
        rows = attention[below] + share[:, None] * (attention[above] - attention[below])
        left, right, share = maps.taps(attention.shape[1], size[1], across)
        full: np.ndarray = rows[:, left] + share * (rows[:, right] - rows[:, left])
    return full


def overlay(
    picture: Picture,
    attention: Float[np.ndarray, "h w"],
    alpha: float | None = None,
    cmap: str = COLOR_MAPS[0],
    place: maps.Place | None = None,
    blend: str = "fade",
    box: Box | None = None,
) -> Picture:
    """Lays the coloured map over the picture.

    Args:
      picture: what lies below.
      attention: a constant map is labelled as such.
      alpha: the opacity of the map, of its hottest places with `fade`; None: as `BLENDS` says.
      cmap: a key of `COLOR_MAPS`.
      place: where the map's cells lie in the box; None: by half-pixels.
      blend: a key of `BLENDS`.
      box: where the map lies, and may reach beyond the picture; None: on all of it.
    """
    check_word("blend", blend, BLENDS)
    alpha = BLENDS[blend] if alpha is None else alpha
    if not is_number(alpha) or not 0 <= alpha <= 1:
        raise UserError(f"alpha={brief(alpha)} must be in [0, 1]")
    top, left, height, width = map(round, box or (0, 0, *picture.shape[:2]))
    drawn = picture.copy()
    under = drawn[max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)]
    full = upsample(attention, (height, width), place)[max(-top, 0) :, max(-left, 0) :]
    full = full[: under.shape[0], : under.shape[1]]
    opacity = np.full((1, 1, 1), alpha, np.float32)
    if blend == "fade":
        opacity = opacity * to_bytes(full)[..., None] / np.float32(255)
    mixed = under + opacity * (colorize(full, cmap) - under.astype(np.float32))
    under[:] = np.rint(mixed, out=mixed)
    return drawn if np.ptp(attention) > 0 else written(drawn, "constant")


def written(picture: Picture, text: str) -> Picture:
    """Writes a word at the lower left, white on black."""
    from PIL import ImageDraw, ImageFont

    image = as_image(picture)
    size = max(8, min(picture.shape[:2]) // 12)
    place, draw = (size / 2, picture.shape[0] - size / 2), ImageDraw.Draw(image)
    font = ImageFont.load_default(size)
    left, top, right, bottom = draw.textbbox(place, text, font=font, anchor="lb")
    draw.rectangle((left - size / 4, top - size / 4, right + size / 4, bottom + size / 4), "black")
    draw.text(place, text, "white", font=font, anchor="lb")
    return np.array(image)


def outlined(picture: Picture, box: Box) -> Picture:
    """Draws the border of a box, white between black lines."""
    from PIL import ImageDraw

    image = as_image(picture)
    line, (top, left, height, width) = max(1, min(picture.shape[:2]) // 300), map(round, box)
    for inset, colour in ((0, "black"), (line, "white"), (2 * line, "black")):
        corners = (left + inset, top + inset, left + width - 1 - inset, top + height - 1 - inset)
        ImageDraw.Draw(image).rectangle(corners, outline=colour, width=line)
    return np.array(image)


def shrink(picture: Picture, most: int) -> Picture:
    """Scales a picture down, antialiased, until its longer side has `most` pixels."""
    if max(picture.shape[:2]) <= most:
        return picture
    image = as_image(picture)
    image.thumbnail((most, most), reducing_gap=3)
    return np.array(image)


def stretch(image: Float[np.ndarray, "y x c"]) -> Picture:
    """Makes a picture of a normalised image: its own range becomes 0..255, grey becomes RGB."""
    image = np.asarray(image, np.float32)
    low, span = image.min(), np.ptp(image)
    scaled = to_bytes((image - low) / np.where(span == 0, 1, span))
    return np.ascontiguousarray(np.broadcast_to(scaled, (*scaled.shape[:2], 3)))


def enlarge(picture: Picture, least: int = 224) -> Picture:
    """Repeats pixels a whole number of times until the shorter side has `least` or more."""
    factor = -(-least // min(picture.shape[:2]))
    return picture.repeat(factor, axis=0).repeat(factor, axis=1) if factor > 1 else picture


def contact_sheet(tiles: Sequence[Picture], columns: int = 8, gap: int = 2) -> Picture:
    """Lays pictures of one size out in rows, left to right, on white."""
    height, width = tiles[0].shape[:2]
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    sheet_size = rows * (height + gap) - gap, columns * (width + gap) - gap, 3
    sheet = np.full(sheet_size, 255, np.uint8)
    for index, tile in enumerate(tiles):
        top, left = (index // columns) * (height + gap), (index % columns) * (width + gap)
        sheet[top : top + height, left : left + width] = tile
    return sheet


def as_image(pixels: UInt8[np.ndarray, "y x *c"]) -> Any:
    """Returns a `PIL.Image.Image` of a picture, or of a grey `[y x]` array."""
    from PIL import Image

    return Image.fromarray(pixels)


def data_uri(picture: Picture) -> str:
    """Encodes a picture for an HTML page: PNG, or JPEG for photographs, where PNG is heavy."""
    photograph = min(picture.shape[:2]) > 96
    name, options = ("jpeg", {"quality": 90}) if photograph else ("png", {})
    stream = io.BytesIO()
    as_image(picture).save(stream, name, **options)
    return f"data:image/{name};base64,{base64_text(stream.getvalue())}"


def base64_text(data: bytes) -> str:
    """Writes bytes as text that JSON and HTML can hold."""
    return base64.b64encode(data).decode("ascii")


def save_png(pixels: UInt8[np.ndarray, "y x *c"] | Any, path: str | Path) -> None:
    """Writes a picture, or a PIL image, as PNG.

    Run lengths suit pixels that repeat: as small as PNG's default here, and six times as fast.
    """
    image = as_image(pixels) if isinstance(pixels, np.ndarray) else pixels
    image.save(path, "png", compress_type=zlib.Z_RLE)


def confusion_picture(
    confusion: Int[np.ndarray, "k k"], classes: Sequence[str], path: str | Path
) -> None:
    """Draws a confusion matrix (rows: true class; columns: predicted) as a PNG.

    The colour is the share of the true class, on a square-root scale, so that rare mistakes show.
    Up to 20 classes every cell carries its count; up to 50 every class its name; above 20 the most
    frequent mistakes are also listed.

    Args:
      confusion: counts.
      classes: names, in label order.
      path: the file to write.

    Raises:
      UserError: if it cannot be written.
    """
    from matplotlib.colors import PowerNorm

    k = len(classes)
    figure, axes, beside = _confusion_axes(k)
    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    # A cell of 1000 x 1000 is less than a dot: each dot shows the largest of the cells it covers.
    drawn = axes.imshow(
        _largest(share, -(-k // 250)), cmap="Blues", norm=PowerNorm(0.5, vmin=0, vmax=1),
        interpolation="nearest", extent=(-0.5, k - 0.5, k - 0.5, -0.5),
    )  # fmt: skip
    figure.colorbar(drawn, ax=axes, shrink=0.8, label="share of the true class")
    right = np.trace(confusion) / max(1, confusion.sum())
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.set_title(f"{100 * right:.2f} % of {confusion.sum():,} right")
    _label_classes(axes, classes)
    if k <= 20:
        _write_counts(axes, confusion, share)
    if beside is not None:
        _list_mistakes(beside, confusion, classes)
    with teaching(Path(path)), replacing(path) as scratch:
        figure.savefig(scratch, dpi=110, bbox_inches="tight")


def _confusion_axes(k: int) -> tuple[Any, Any, Any | None]:
    """Returns a figure, the axes of the matrix and, above 20 classes, those of a list beside it."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    side, listed = min(10.0, max(4.0, 0.55 * k if k <= 20 else 0.24 * k)), k > 20
    figure = Figure(figsize=(side + 6 if listed else side + 1.5, side + 0.8), layout="constrained")
    FigureCanvasAgg(figure)  # needs no screen, whatever backend the user has set
    if not listed:
        return figure, figure.add_subplot(), None
    grid = figure.add_gridspec(1, 2, width_ratios=(side, 4))
    return figure, figure.add_subplot(grid[0]), figure.add_subplot(grid[1])


def _largest(matrix: Float[np.ndarray, "k k"], fold: int) -> Float[np.ndarray, "m m"]:
    """Returns the largest value of each `fold` x `fold` block; the last blocks may be smaller."""
    starts = np.arange(0, len(matrix), fold)
    return np.maximum.reduceat(np.maximum.reduceat(matrix, starts, axis=0), starts, axis=1)


def _label_classes(axes: Any, classes: Sequence[str]) -> None:
    if len(classes) > 50:
        return  # matplotlib's own numbers: names would overlap
    names = [_short(name) for name in classes]
    turned = sum(map(len, names)) > 5 * len(names) or len(names) > 20
    axes.set_xticks(range(len(names)), names, rotation=90 if turned else 0, parse_math=False)
    axes.set_yticks(range(len(names)), names, parse_math=False)


def _write_counts(
    axes: Any, confusion: Int[np.ndarray, "k k"], share: Float[np.ndarray, "k k"]
) -> None:
    size = 9 if confusion.max() < 1000 else 7
    for row, column in zip(*np.nonzero(confusion), strict=True):
        ink = "white" if share[row, column] > 0.3 else "black"
        count = f"{confusion[row, column]}"
        axes.text(column, row, count, ha="center", va="center", color=ink, fontsize=size)


def _list_mistakes(
    axes: Any, confusion: Int[np.ndarray, "k k"], classes: Sequence[str], most: int = 24
) -> None:
    wrong = confusion * (1 - np.eye(len(classes), dtype=confusion.dtype))
    worst = np.argsort(-wrong, axis=None, kind="stable")[:most]
    lines = ["most frequent mistakes", "count  true → predicted", ""]
    for flat in worst[wrong.flat[worst] > 0]:
        row, column = divmod(int(flat), len(classes))
        lines.append(f"{wrong.flat[flat]:5d}  {_short(classes[row])} → {_short(classes[column])}")
    axes.axis("off")
    axes.text(
        0, 1, "\n".join(lines), va="top", family="monospace", fontsize=9, linespacing=1.5,
        transform=axes.transAxes, parse_math=False,
    )  # fmt: skip


def _short(name: str, most: int = 18) -> str:
    name = name.encode(errors="backslashreplace").decode()  # no font draws a stray byte
    half = most // 2
    return name if len(name) <= most else f"{name[: half - 1]}…{name[-half:]}"
