"""Real handwritten digits among clutter: the data sets that this project makes itself, offline.

An image of `cluttered_digits` shows one whole digit of scikit-learn's copy of the UCI digits, one
of `two_digits` two of different classes. They lie at random places, in random scales and colours,
on smooth colour noise and among fragments of other digits. Every stroke is bright and has a dark
outline, as on a sticker, so that it can be read on any ground. The pixels of each digit, outline
included, are known, so a map can be judged by where it points. Fragments are inked like the digits:
only the shape tells them apart.

Of two digits one is asked for. Both are drawn and placed alike, and each ordered pair of classes
comes equally often, so nothing in the picture tells which.
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from scipy import ndimage

SIZE = 48  # pixels per side
COUNTS = {"train": 6_000, "validation": 1_000, "test": 2_000}
SHARES = {"train": 0.7, "validation": 0.1, "test": 0.2}  # of each class's source digits
OUTLINE = 3  # pixels around the strokes
FRAGMENTS = (3, 5)  # per image, both included
TRIES = 8  # to find a free place
INK_CONTRAST = 0.35  # an ink is brighter than the mean ground under it by this, in luma (0..1)
BRIGHTEST = 0.99  # luma that every ground may be inked with, however bright it is
SHADE = 0.75  # share of the ground's light that an outline takes
SEED = 1  # one per version: the pixels of a version never change
# Of each data set: how many digits an image shows, and how high their strokes are, in pixels, both
# included.
DESIGNS = {"cluttered_digits": (1, (20, 28)), "two_digits": (2, (14, 18))}

Window = tuple[slice, slice]

_LUMA = np.array([0.299, 0.587, 0.114])
_DISC = np.hypot(*np.ogrid[-OUTLINE : OUTLINE + 1, -OUTLINE : OUTLINE + 1]) < OUTLINE + 0.5
# Spreads one random number every 4 pixels into a Gaussian of 5 pixels' standard deviation.
_BLUR = np.exp(-(((np.arange(SIZE)[:, None] - np.arange(-4, SIZE + 5, 4)) / 5) ** 2) / 2)
_CITATION = """\
@misc{alpaydin1998optical,
  author = {Alpaydin, E. and Kaynak, C.},
  title = {Optical Recognition of Handwritten Digits},
  howpublished = {UCI Machine Learning Repository},
  year = {1998},
  doi = {10.24432/C50P49},
}
"""

with tfds.core.registered.skip_registration():

    class Builder(tfds.core.GeneratorBasedBuilder):
        """Makes the TFDS data set `cluttered_digits`; reads nothing but scikit-learn's digits."""

        name = "cluttered_digits"
        VERSION = tfds.core.Version("1.0.0")
        RELEASE_NOTES = {"1.0.0": "First release."}

        def _info(self) -> tfds.core.DatasetInfo:
            features = {
                "image": tfds.features.Image(shape=(SIZE, SIZE, 3)),
                "label": tfds.features.ClassLabel(num_classes=10),
                "mask": tfds.features.Image(shape=(SIZE, SIZE, 1)),
                "bbox": tfds.features.BBoxFeature(),
                "id": tfds.features.Scalar(np.int32),
            }
            if DESIGNS[self.name][0] == 2:
                features |= {f"other_{key}": features[key] for key in ("label", "mask", "bbox")}
            return tfds.core.DatasetInfo(
                builder=self,
                description=f"{__doc__}\nThe digits are licensed CC BY 4.0; `mask` is 255 on the "
                "pixels of the digit; train, validation and test share no source digit. Where "
                "there are two, `label`, `mask` and `bbox` are those of the digit asked for.",
                features=tfds.features.FeaturesDict(features),
                supervised_keys=("image", "label"),
                homepage="https://archive.ics.uci.edu/dataset/80",
                citation=_CITATION,
                license="CC BY 4.0 (source digits)",
            )

        def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[Any]]:
            return {split: self._generate_examples(d) for split, d in drawers(self.name).items()}

        def _generate_examples(self, drawer: "Drawer") -> Iterator[tuple[int, dict[str, Any]]]:
            for i in range(COUNTS[drawer.split]):
                image, masks, labels = drawer.scene(i)
                row = {"image": _png(image), "id": i}
                for prefix, mask, label in zip(("", "other_"), masks, labels, strict=False):
                    row |= {
                        f"{prefix}mask": _png(mask.astype(np.uint8) * 255),
                        f"{prefix}label": label,
                        f"{prefix}bbox": _bounding_box(mask),
                    }
                yield i, row

    class TwoDigits(Builder):
        """Makes the TFDS data set `two_digits`."""

        name = "two_digits"


@dataclass(frozen=True)
class Drawer:
    """Draws the examples of one split from its own source digits.

    Attributes:
      split: train, validation or test.
      digits: how many of them an image shows, one or two.
      heights: least and most of a digit's strokes, pixels.
      strokes: source digits, float [n 8 8] in 0..1.
      labels: their classes, int [n].
      fragments: pieces of them, each as `_draw` gives a whole one.
    """

    split: str
    digits: int
    heights: tuple[int, int]
    strokes: np.ndarray
    labels: np.ndarray
    fragments: list[np.ndarray]

    def example(self, i: int) -> tuple[np.ndarray, np.ndarray, int]:
        """Returns `scene`'s image, with mask [48 48] and label of the digit that is asked for."""
        image, masks, labels = self.scene(i)
        return image, masks[0], labels[0]

    def scene(self, i: int) -> tuple[np.ndarray, np.ndarray, list[int]]:
        """Returns image uint8 [48 48 3], masks bool [n 48 48] of the n digits, and their labels.

        A pure function of `i`, the split and the version's seed. Asked for is the first digit,
        whose label is `i % 10`; the other nine take turns beside it: classes and pairs are
        balanced.
        """
        labels, sources, generator = self._chosen(i)
        drawn, windows, free = self._placed(sources, generator)
        image = _smooth_noise(generator)
        for _ in range(generator.integers(*FRAGMENTS, endpoint=True)):
            piece = self.fragments[generator.integers(len(self.fragments))]
            _paste_where_free(image, piece, free, generator)
        masks = np.zeros((len(labels), SIZE, SIZE), bool)
        for mask, digit, window in zip(masks, drawn, windows, strict=True):
            _ink(image[window], digit, generator)
            mask[window] = digit[1] > 0.5
        return np.round(image * 255).astype(np.uint8), masks, labels

    def source(self, i: int) -> int:
        """Returns the place in `strokes` of the digit that example `i` asks for.

        Examples of one source digit are no independent images: a network that cannot read the digit
        errs in all of them.
        """
        return self._chosen(i)[1][0]

    def _chosen(self, i: int) -> tuple[list[int], list[int], np.random.Generator]:
        generator, label = _generator(self.split, "example", i), i % 10
        labels = [label, (label + 1 + i // 10 % 9) % 10][: self.digits]
        sources = [int(generator.choice(np.flatnonzero(self.labels == one))) for one in labels]
        return labels, sources, generator

    def _placed(
        self, sources: Sequence[int], generator: np.random.Generator
    ) -> tuple[list[np.ndarray], list[Window], np.ndarray]:
        """Draws the digits and their windows until these share no pixel; and what is left free."""
        while True:  # two that are large may fit nowhere
            drawn = [_draw(self.strokes[at], self.heights, generator) for at in sources]
            for _ in range(TRIES):
                windows = [_window(digit, generator) for digit in drawn]
                free = np.ones((SIZE, SIZE), bool)
                for window in windows:
                    free[window] = False
                if free.sum() == free.size - sum(digit[0].size for digit in drawn):
                    return drawn, windows, free


def drawers(name: str = "cluttered_digits") -> dict[str, Drawer]:
    """Shares the source digits out, class by class, so that no digit serves two splits.

    They are shared out alike for every data set of `DESIGNS`.
    """
    from sklearn.datasets import load_digits

    digits = load_digits()
    generator = np.random.default_rng(SEED)
    places: dict[str, list[np.ndarray]] = {split: [] for split in SHARES}
    for label in range(10):
        own = generator.permutation(np.flatnonzero(digits.target == label))
        cuts = np.round(np.cumsum([*SHARES.values()])[:-1] * len(own)).astype(int)
        for split, part in zip(SHARES, np.split(own, cuts), strict=True):
            places[split].append(part)
    chosen = {split: np.concatenate(parts) for split, parts in places.items()}
    return {
        split: _drawer(split, name, digits.images[at] / 16, digits.target[at])
        for split, at in chosen.items()
    }


def sources(name: str, split: str) -> np.ndarray:
    """Returns which source digit each example of a split asks for, int `[n]`, by its id."""
    drawer = drawers(name)[split]
    return np.array([drawer.source(i) for i in range(COUNTS[split])])


def _drawer(split: str, name: str, strokes: np.ndarray, labels: np.ndarray) -> Drawer:
    """Cuts two fragments of every source digit, once: cutting costs more than pasting."""
    (digits, heights), generator = DESIGNS[name], _generator(split, "fragments")
    pieces = [_fragment(stroke, heights, generator) for stroke in (*strokes, *strokes)]
    large = [piece for piece in pieces if piece.size > 12]
    return Drawer(split, digits, heights, strokes, labels, large)


def _generator(split: str, purpose: str, i: int = 0) -> np.random.Generator:
    """Returns a generator of its own for each split, purpose and example."""
    return np.random.default_rng([SEED, [*COUNTS].index(split), purpose == "example", i])


def _draw(
    stroke: np.ndarray, heights: tuple[int, int], generator: np.random.Generator
) -> np.ndarray:
    """Scales an 8×8 stroke up, keeping its shape.

    Returns:
      Coverage of the strokes, and of the strokes with their outline: float [2 y x] in 0..1, without
      margin.
    """
    height = int(generator.integers(*heights, endpoint=True))
    width = int(round(height * generator.uniform(0.85, 1.15)))
    picture = Image.fromarray(np.pad(stroke, 1).astype(np.float32))
    scaled = np.asarray(
        picture.resize((width * 10 // 8, height * 10 // 8), Image.Resampling.BICUBIC)
    )
    strokes = np.pad(np.clip((scaled - 0.2) / 0.4, 0, 1), OUTLINE)
    return _trim(np.stack([strokes, ndimage.grey_dilation(strokes, footprint=_DISC)]))


def _fragment(
    stroke: np.ndarray, heights: tuple[int, int], generator: np.random.Generator
) -> np.ndarray:
    """Cuts half a disc out of a digit: strokes like its own, but no loop and too little to read."""
    whole = _draw(stroke, heights, generator)
    diameter = int(min(whole.shape[1:]) * generator.uniform(0.55, 0.75))
    y, x = (generator.integers(0, n - diameter + 1) for n in whole.shape[1:])
    offset = np.arange(diameter) - (diameter - 1) / 2
    angle = generator.uniform(0, 2 * np.pi)
    beyond = np.cos(angle) * offset[:, None] + np.sin(angle) * offset > 0
    disc = np.hypot(offset[:, None], offset) < diameter / 2
    return _trim(whole[:, y : y + diameter, x : x + diameter] * (disc & beyond))


def _trim(coverage: np.ndarray) -> np.ndarray:
    """Cuts off the empty margin."""
    rows, columns = (np.flatnonzero(coverage[1].any(axis)) for axis in (1, 0))
    if not len(rows):
        return coverage[:, :0, :0]
    return coverage[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _paste_where_free(
    image: np.ndarray, piece: np.ndarray, free: np.ndarray, generator: np.random.Generator
) -> None:
    """Inks `piece` at the first of a few random places that is free, and marks it taken."""
    for _ in range(TRIES):
        window = _window(piece, generator)
        if free[window].all():
            free[window] = False
            _ink(image[window], piece, generator)
            return


def _window(coverage: np.ndarray, generator: np.random.Generator) -> Window:
    """Returns a random place in the image for a piece or a digit."""
    height, width = coverage.shape[1:]
    top, left = (generator.integers(0, SIZE - n + 1) for n in (height, width))
    return slice(top, top + height), slice(left, left + width)


def _ink(window: np.ndarray, coverage: np.ndarray, generator: np.random.Generator) -> None:
    """Paints over `window`, in place, in a random colour that is brighter than the ground there."""
    least = min(window.mean((0, 1)) @ _LUMA + INK_CONTRAST, BRIGHTEST)
    while True:
        colours = generator.uniform(0, 1, (32, 3))  # of which a good part will do
        apart = colours @ _LUMA > least
        if apart.any():
            break
    strokes, outlined = coverage[..., None]
    window *= 1 - SHADE * outlined
    window += strokes * (colours[apart.argmax()] - window)


def _smooth_noise(generator: np.random.Generator) -> np.ndarray:
    """Returns a cloudy ground, float [48 48 3] in 0..1, around a random colour."""
    cells = generator.normal(size=(3, _BLUR.shape[1], _BLUR.shape[1]))
    noise = (_BLUR @ cells @ _BLUR.T).transpose(1, 2, 0)
    ground: np.ndarray = generator.uniform(0.15, 0.5, 3) + 0.1 * noise / noise.std()
    return ground.clip(0, 1)


def _bounding_box(mask: np.ndarray) -> tfds.features.BBox:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return tfds.features.BBox(
        ymin=rows[0] / SIZE,
        xmin=columns[0] / SIZE,
        ymax=(rows[-1] + 1) / SIZE,
        xmax=(columns[-1] + 1) / SIZE,
    )


def _png(array: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(array).save(content, format="png", compress_level=1)
    return content.getvalue()
