"""Explanations as one page that needs no other file and no network."""

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from importlib.resources import files
from typing import Any

import numpy as np
from jaxtyping import Bool

from lficam_jax.explaining import render
from lficam_jax.explaining.explanation import (
    ON_PAGE,
    Explanation,
    View,
    by_image,
    distinct,
    view_or_seen,
)
from lficam_jax.methods import TRIVIAL
from lficam_jax.ops.maps import Place
from lficam_jax.workdir.results import plain

Skipped = Sequence[tuple[str, str]]  # (file, why it could not be explained)

STYLE, SCRIPTS = "page.css", ("maps.js", "gallery.js", "measures.js", "pairs.js")  # in this order
TOP = 3  # how many of the most probable classes are written


def page(explanations: Sequence[Explanation], **about: Any) -> str:
    """Returns one HTML page of explanations, those of one image one behind the other.

    The arguments are those of `laid_out`.
    """
    return laid_out([entry(same) for same in by_image(explanations)], **about)


def laid_out(
    images: Sequence[dict[str, Any]],
    *,
    title: str,
    details: Mapping[str, Any],
    skipped: Skipped = (),
    measures: Mapping[str, Any] | None = None,
    pairs: Mapping[str, Any] | None = None,
    blend: str = "fade",
    number: int = 1,
    last: bool = True,
) -> str:
    """Returns one HTML page that needs no other file and no network.

    The pictures and maps are data in the page; the files in `page/` lay them out. A map travels as
    the grey values of its own grid. The browser enlarges and colours those that are on the screen,
    so opacity, threshold and colours change without a new page.

    Args:
      images: each as `entry` gives it.
      title: headline.
      details: what made the maps.
      skipped: files that were not explained, each with the reason.
      measures: the table and curves above the images, as `scoreboard.for_page` gives them.
      pairs: how well the methods agree two by two, as `stability.for_page` gives it.
      blend: how maps lie over pictures at first, a key of `render.BLENDS`.
      number: of the page, if there are several; they link to each other.
      last: whether it is the last of them.
    """
    titles = distinct([image["name"] for image in images])
    maps = [m for image in images for m in image["maps"]]
    places = list(dict.fromkeys(m["place"] for m in maps if m["place"]))
    data = {
        "details": [[str(name), str(value)] for name, value in details.items()],
        "skipped": [[str(name), str(why)] for name, why in skipped],
        "colors": {
            name: render.base64_text(render.palette(name).tobytes()) for name in render.COLOR_MAPS
        },
        "blend": blend,
        "blends": render.BLENDS,
        "places": [list(map(list, place)) for place in places],
        "methods": list(dict.fromkeys(m["method"] for m in maps)),
        "measures": measures,
        "pairs": pairs,
        "pages": {
            "number": number,
            "before": page_name(number - 1) if number > 1 else None,
            "after": None if last else page_name(number + 1),
        },
        "images": [
            image | {"title": title, "maps": [_with_number(m, places) for m in image["maps"]]}
            for image, title in zip(images, titles, strict=True)
        ],
    }
    # `<` must not appear in the script, lest a name close it.
    text = json.dumps(plain(data), allow_nan=False).replace("<", "\\u003c")
    before, after = _template().split("{{data}}")
    return before.replace("{{title}}", escape(title)) + text + after


@cache
def style(name: str = STYLE) -> str:
    """Returns the CSS that all pages share, or that of one kind of page."""
    return read_part(name)


@cache
def _template() -> str:
    """Returns the page without its title and data."""
    parts = {
        "policy": "img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'",
        "style": style(), "script": "\n".join(map(read_part, SCRIPTS)),
    }  # fmt: skip
    template = read_part("head.html") + read_part("page.html")
    for name, text in parts.items():
        template = template.replace(f"{{{{{name}}}}}", text)
    return template


def read_part(name: str) -> str:
    """Returns a file of the folder `page`."""
    return files("lficam_jax.explaining").joinpath("page", name).read_text("utf-8")


def outline(mask: Bool[np.ndarray, "y x"]) -> str:
    """Returns the border of a mask as an SVG path in units of pixels."""
    level = [f"M{left} {row}h{length}" for row, left, length in _edges(mask)]
    upright = [f"M{column} {top}v{length}" for column, top, length in _edges(mask.T)]
    return "".join(level + upright)


def safe_name(name: str, taken: dict[str, int]) -> str:
    """Returns a file name stem: harmless on any system, and unlike those that are taken.

    Args:
      name: what the file is about.
      taken: stem in lower case -> how often it was asked for; this one is added.

    >>> taken = {}
    >>> [safe_name(name, taken) for name in ("../a b.png", "A_B.PNG", "", "ok")]
    ['a_b_png', 'A_B_PNG-2', 'image', 'ok']
    """
    base = re.sub(r"[^A-Za-z0-9-]+", "_", name).strip("_-")[:80] or "image"
    stem = base
    while stem.lower() in taken:
        taken[base.lower()] += 1
        stem = f"{base}-{taken[base.lower()]}"
    taken[stem.lower()] = 1
    return stem


def page_name(number: int) -> str:
    """Returns the file name of the n-th page, from 1."""
    return "index.html" if number == 1 else f"page-{number}.html"


def entry(same: Sequence[Explanation], view: View | None = None) -> dict[str, Any]:
    """Returns what a page shows of one image.

    Args:
      same: its explanations.
      view: what they are drawn on; None: the original, at a size for screens.
    """
    item = same[0]
    view = view_or_seen(item, ON_PAGE) if view is None else view
    said, rows = item.answer, item.top(TOP)
    told = [name for name, _ in rows]
    more = [name for name in said.right + said.wrong if name not in told]
    rows += [(name, float(item.probabilities[item.classes.index(name)])) for name in more]
    return {
        "id": item.id,
        "name": item.name,
        "notes": item.notes,
        "kind": said.kind,
        "true": said.true,
        "predicted": None if said.predicted is None else said.text,
        "correct": said.correct,
        "right": said.right,
        "wrong": said.wrong,
        "error": said.error,
        "number": said.classes[0] if said.kind == "number" else None,
        "probabilities": [[name, round(share, 5)] for name, share in rows],
        "picture": render.data_uri(view.picture),
        "size": list(view.picture.shape[:2]),
        "box": [round(n, 2) for n in view.box],
        "part": view.is_part,
        "seen": list(item.picture.shape[:2]),
        "outline": None if item.mask is None else outline(item.mask),
        "maps": [_map_for_page(one) for one in same],
        "disagreement": round(_disagreement(same), 4),
    }


def _with_number(shown: Mapping[str, Any], places: Sequence[Place]) -> dict[str, Any]:
    """Names the place of a map by its number: many share it."""
    place = shown["place"]
    return {**shown, "place": None if place is None else places.index(place)}


def _map_for_page(item: Explanation) -> dict[str, Any]:
    return {
        "method": item.method,
        "title": item.title,
        "grid": list(item.map.shape),
        "place": item.place,
        "grey": render.base64_text(render.to_bytes(item.map).tobytes()),
        "peak": list(item.peak),
        "on_object": item.peak_on_object,
        "constant": not np.ptp(item.map) > 0,  # or NaN
        "asked": None if item.title == item.method else item.about,
    }


def _disagreement(same: Sequence[Explanation]) -> float:
    """Returns the mean absolute difference of an image's maps over all pairs; 0 for one map.

    At the finest of their grids. Trivial maps are left out where two others remain: a random one
    disagrees with anything.
    """
    honest = [item for item in same if item.method not in TRIVIAL]
    told = honest if len(honest) > 1 else same
    size = max(item.map.shape[0] for item in told), max(item.map.shape[1] for item in told)
    n = len(told)
    full = np.stack([np.nan_to_num(render.upsample(e.map, size, e.place)) for e in told])
    # In ascending order, value i is the larger of i pairs and the smaller of n - 1 - i.
    weight = 2 * np.arange(n) - (n - 1)
    total = np.tensordot(weight, np.sort(full, axis=0), axes=1).mean()
    return float(total / max(1, n * (n - 1) / 2))


def _edges(mask: Bool[np.ndarray, "y x"]) -> list[tuple[int, int, int]]:
    """Returns (row, left, length) of each run of borders between one row and the next."""
    padded = np.pad(mask, ((1, 1), (0, 0)))
    borders = np.pad(padded[1:] != padded[:-1], ((0, 0), (1, 1))).astype(np.int8)
    turns = np.diff(borders, axis=1)
    rows, lefts = np.nonzero(turns == 1)
    _, rights = np.nonzero(turns == -1)
    return [(int(r), int(a), int(b - a)) for r, a, b in zip(rows, lefts, rights, strict=True)]
