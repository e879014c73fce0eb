"""Draws photographs and where EfficientNet-Lite0 looked: docs/photographs.jpg, docs/gallery.jpg.

  pip install '.[pretrained]' scikit-image
  python docs/gallery.py [METHOD …]

The photographs come with scikit-image and are free of copyright: Chelsea the cat (CC0, Stéfan van
der Walt), coffee (CC0, Rachel Michetti, Pikolo Espresso Bar), the launch of DSCOVR (public domain,
SpaceX), Eileen Collins (public domain, NASA). The network and its weights: docs/models.md.
"""

import sys
from pathlib import Path

import skimage
from PIL import Image, ImageDraw, ImageFont

import lficam_jax as lfi
from lficam_jax.explaining.explanation import Explanation, drawn

PHOTOGRAPHS = ("chelsea.png", "coffee.png", "rocket.jpg", "astronaut.png")
# The last two look 1,280 times at each photograph: minutes. Name others if there is no time.
METHODS = (
    "cam", "grad_cam", "grad_cam_pp", "xgrad_cam", "hires_cam", "layer_cam", "eigen_cam",
    "score_cam", "ablation_cam",
)  # fmt: skip
FIRST = ("grad_cam",)  # on the first screen of the README
HEIGHT, GAP, LINE = 150, 6, 22  # pixels: of a picture, between two, of a line of text
HERE = Path(__file__).parent


def main() -> None:
    """Explains the photographs and draws both pictures."""
    folder = Path(skimage.__file__).parent / "data"
    methods = tuple(sys.argv[1:]) or METHODS
    found = lfi.load("efficientnet_lite0").explain(
        [folder / name for name in PHOTOGRAPHS], method=[*{*methods, *FIRST}]
    )
    for chosen, name in ((methods, "gallery"), (FIRST, "photographs")):
        images = [[next(e for e in same if e.method == m) for m in chosen] for same in found.images]
        sheet(images, chosen, HERE / f"{name}.jpg")


def sheet(images: list[list[Explanation]], methods: tuple[str, ...], path: Path) -> None:
    """Writes a picture: one column for each photograph, one row for each method."""
    columns = [column(same) for same in images]
    left = 90
    width = left + sum(one.width + GAP for one in columns)
    whole = Image.new("RGB", (width, columns[0].height), "white")
    for i, name in enumerate(("", *methods)):
        place = 4, LINE + i * (HEIGHT + GAP) + HEIGHT // 2
        ImageDraw.Draw(whole).text(place, name, "black", ImageFont.load_default(13), "lm")
    for one in columns:
        whole.paste(one, (left, 0))
        left += one.width + GAP
    whole.save(path, quality=82)


def column(same: list[Explanation]) -> Image.Image:
    """Lays one photograph and its maps out below each other, its class above."""
    view = same[0].view(most=640)
    pictures = [Image.fromarray(p) for p in (view.picture, *(drawn(e, view) for e in same))]
    width = round(HEIGHT * pictures[0].width / pictures[0].height)
    whole = Image.new("RGB", (width, LINE + len(pictures) * (HEIGHT + GAP) - GAP), "white")
    (name, share), *_ = same[0].top(1)
    text = f"{name.split(',')[0]} {share:.0%}"
    ImageDraw.Draw(whole).text((0, 3), text, "black", ImageFont.load_default(14))
    for i, picture in enumerate(pictures):
        small = picture.resize((width, HEIGHT), Image.Resampling.LANCZOS)
        whole.paste(small, (0, LINE + i * (HEIGHT + GAP)))
    return whole


if __name__ == "__main__":
    main()
