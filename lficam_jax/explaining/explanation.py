"""One image, what the model said about it, and where it looked."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8

from lficam_jax.errors import UserError, check_flag
from lficam_jax.explaining import render
from lficam_jax.explaining.answer import Answer
from lficam_jax.ops.maps import Place, cell_centres

TOP = 3  # classes that a notebook shows beside an image
IN_NOTEBOOK = 672  # pixels of the longer side of a picture there, and on a page
ON_PAGE = 1600


class View(NamedTuple):
    """What a map is drawn on.

    Attributes:
      picture: uint8 RGB.
      box: where the map lies, in pixels of `picture`; it may reach beyond.
    """

    picture: UInt8[np.ndarray, "y x 3"]
    box: render.Box

    @property
    def is_part(self) -> bool:
        """Whether some of the picture lies outside the box: the network did not see it."""
        top, left, height, width = self.box
        y, x = self.picture.shape[:2]
        return top >= 1 or left >= 1 or y - top - height >= 1 or x - left - width >= 1


@dataclass(frozen=True, repr=False, eq=False)  # arrays have no one answer to ==
class Explanation:
    """What one map says about one image.

    Attributes:
      id: names the image for ever, a file by what tells its path from the others'; files are named
        after it.
      name: what people read: a file name, or the id.
      picture: the image as the network saw it; uint8.
      map: the attention on its own grid, in [0, 1].
      probabilities: of every class, summing to 1; of several labels, each its own; of a
        regression the number itself, `[1]`; empty of a network that answers something else.
      label: index of the true class; a 0, 1 or NaN for each of several labels; or the number. None
        if nobody knows it.
      classes: names, in label order.
      mask: the object's pixels on `picture`; None if nobody knows them.
      method: how the map was made.
      class_index: the class that the map was asked about; None if it was no class, or nothing.
      notes: what is to be said of how the picture was read.
      box: top, left, height and width of what `picture` shows, in pixels of the original, upright;
        a padded picture begins above or left of it. None if nobody knows it.
      place: where the map's cells lie on the picture; None: by half-pixels.
      kind: what the network answers: a `class`, `several` labels or a `number`.
      source: reads the original, uint8 RGB; files are read anew whenever they are drawn, so that
        explaining many needs no memory for them. None where `picture` is all there is.
      asked: what the map was asked about, if it was no class: `'cat' and not 'dog'`.

    Example:
      >>> picture, hot = np.zeros((8, 8, 3), np.uint8), np.array([[0.0, 1.0], [0.0, 0.0]])
      >>> e = Explanation("1", "a.png", picture, hot, np.array([0.9, 0.1]), ("cat", "dog"))
      >>> e
      Explanation('a.png': 'cat' 90.0%, own map 2x2)
      >>> e.peak, e.overlay().size
      ((2, 6), (224, 224))
    """

    id: str
    name: str
    picture: UInt8[np.ndarray, "y x 3"]
    map: Float[np.ndarray, "h w"]
    probabilities: Float[np.ndarray, " k"]
    classes: tuple[str, ...]
    label: Any = None
    mask: Bool[np.ndarray, "y x"] | None = None
    method: str = "own"
    class_index: int | None = None
    notes: tuple[str, ...] = ()
    box: render.Box | None = None
    place: Place | None = None
    kind: str = "class"
    source: Callable[[], UInt8[np.ndarray, "y x 3"]] | None = None
    asked: str = ""

    @property
    def answer(self) -> Answer:
        """What the network said, in words, beside the truth."""
        return Answer(self.probabilities, self.classes, self.kind, self.label)

    @property
    def predicted(self) -> int | None:
        """Index of the most probable class or label; None of a network that is no classifier."""
        return self.answer.predicted

    @property
    def correct(self) -> bool | None:
        """Whether the class, or every label, is right; None without a label, and of a number."""
        return self.answer.correct

    @property
    def about(self) -> str | None:
        """What the map was asked about, in words; None if the method asks nothing."""
        return self.asked or (None if self.class_index is None else self.classes[self.class_index])

    @property
    def title(self) -> str:
        """Says how the map was made, and of which class if that is not the predicted one.

        >>> picture, probabilities = np.zeros((8, 8, 3), np.uint8), np.array([0.9, 0.1])
        >>> e = Explanation("1", "a.png", picture, np.zeros((2, 2)), probabilities, ("cat", "dog"),
        ...                 method="grad_cam", class_index=1)
        >>> e.title
        "grad_cam for 'dog'"
        """
        if self.asked:
            return f"{self.method} for {self.asked}"
        if self.class_index is None or not self.asks_another:
            return self.method
        return f"{self.method} for {self.classes[self.class_index]!r}"

    @property
    def asks_another(self) -> bool:
        """Whether the map is about something that the prediction does not say by itself."""
        asked = None if self.kind == "number" else self.class_index
        return asked is not None and (asked != self.predicted or self.kind == "several")

    @property
    def peak(self) -> tuple[int, int]:
        """Row and column in `picture` on which the map's hottest cell is centred."""
        rows, columns = cell_centres(self.map.shape, self.picture.shape[:2], self.place)
        row, column = np.unravel_index(np.argmax(self.map), self.map.shape)
        return int(rows[row]), int(columns[column])

    @property
    def peak_on_object(self) -> bool | None:
        """Whether the peak lies on the object: a hit of the pointing game; None without an object.

        A constant map points nowhere, which is a miss.
        """
        if self.mask is None or not self.mask.any():
            return None
        return bool(np.ptp(self.map) > 0 and self.mask[self.peak])

    def top(self, n: int = 5) -> list[tuple[str, float]]:
        """Returns the `n` most probable classes or labels and their probabilities, best first."""
        return self.answer.top(n)

    def view(self, *, original: bool = True, most: int | None = None) -> View:
        """Returns what the map is drawn on, and where it lies there.

        Args:
          original: the whole picture that was brought, not the part that the network saw.
          most: pixels that its longer side may have; None: as it is.

        Raises:
          UserError: if the original cannot be read any more, or is another by now.
        """
        check_flag("original", original)
        height, width = self.picture.shape[:2]
        if not original or self.source is None or self.box is None:
            return View(self.picture, (0, 0, height, width))
        picture = self.source()
        # Whatever the fit, the network looks at the middle.
        ends = [2 * start + side for start, side in zip(self.box[:2], self.box[2:], strict=True)]
        if not np.allclose(ends, picture.shape[:2]):
            raise UserError(
                f"{self.name} is another picture than when it was explained; explain it again, or "
                "draw with original=False on what the network saw"
            )
        smaller = picture if most is None else render.shrink(picture, most)
        scale = [new / old for new, old in zip(smaller.shape[:2], picture.shape[:2], strict=True)]
        top, left, height, width = (n * s for n, s in zip(self.box, 2 * scale, strict=True))
        return View(smaller, (top, left, height, width))

    def overlay(
        self, *, original: bool = True, alpha: float | None = None,
        cmap: str = render.COLOR_MAPS[0], blend: str = "fade",
    ) -> Any:  # fmt: skip
        """Returns a `PIL.Image` of the map over the image, large enough to look at.

        A file, PIL image or array is drawn whole and in full size; the part that the network saw is
        outlined, and nothing outside it is coloured. Small images are enlarged with their pixels
        kept square; the map stays smooth. A constant map, which says nothing, is labelled.

        Args:
          original: False: draw on what the network saw, alone and in its size.
          alpha: opacity of the map, from 0 to 1; default: 0.8 with `fade`, 0.55 with `mix`.
          cmap: the colours, one of `explaining.render.COLOR_MAPS`.
          blend: `fade`: opacity follows the map, so that what is cold is the bare image; `mix`: it
            is the same everywhere.

        Raises:
          UserError: for another value of these, or if the original file is gone or has changed.
        """
        return render.as_image(drawn(self, self.view(original=original), alpha, cmap, blend))

    def __repr__(self) -> str:
        size = "x".join(map(str, self.map.shape))
        (title,) = distinct([self.name])
        said = "" if self.predicted is None else f"{self.answer.text!r} {self.answer.shares()}"
        said = f"{said.strip()}, " if said else ""
        return f"Explanation({title!r}: {said}{self.title} map {size})"

    def _repr_html_(self) -> str:
        return card([self], *distinct([self.name]))


def drawn(
    item: Explanation, view: View, alpha: float | None = None, cmap: str = render.COLOR_MAPS[0],
    blend: str = "fade",
) -> UInt8[np.ndarray, "y x 3"]:  # fmt: skip
    """Draws a map on a view of its image; the arguments are those of `Explanation.overlay`."""
    picture = render.enlarge(view.picture)
    scale = len(picture) / len(view.picture)
    top, left, height, width = (scale * n for n in view.box)
    box = top, left, height, width
    laid = render.overlay(picture, item.map, alpha, cmap, item.place, blend, box)
    return render.outlined(laid, box) if view.is_part else laid


def view_or_seen(item: Explanation, most: int) -> View:
    """Returns a view of the original; of what the network saw, if the file is gone meanwhile."""
    try:
        return item.view(most=most)
    except UserError:
        return item.view(original=False)


def distinct(names: Sequence[str]) -> list[str]:
    """Returns the last part of each path, and what stands before it where that is in two paths.

    >>> distinct(["photos/cats/a.jpg", "photos/dogs/a.jpg", "photos/dogs/b.jpg", "7"])
    ['cats/a.jpg', 'dogs/a.jpg', 'b.jpg', '7']
    """
    parts = {name: name.split("/") for name in names}
    shown = {name: split[-1] or name for name, split in parts.items()}
    for length in range(2, max(map(len, parts.values()), default=0) + 1):
        count = Counter(shown.values())
        alike = [name for name, text in shown.items() if count[text] > 1]
        shown |= {name: "/".join(parts[name][-length:]) for name in alike}
    return [shown[name] for name in names]


def card(same: Sequence[Explanation], title: str) -> str:
    """Returns HTML for a notebook: one image, its maps and the most probable classes."""
    first, view = same[0], view_or_seen(same[0], IN_NOTEBOOK)
    pictures = [("image", view.picture)]
    pictures += [(item.title, drawn(item, view)) for item in same]
    shown = "".join(
        '<figure style="margin:0 8px 8px 0;display:inline-block;text-align:center">'
        f'<img src="{render.data_uri(picture)}" alt="{escape(name)}" '
        f'style="height:224px;width:auto;display:block;image-rendering:pixelated"><figcaption>{escape(name)}</figcaption>'
        "</figure>"
        for name, picture in pictures
    )
    notes = "".join(f"<p>{escape(note)}</p>" for note in first.notes)
    classes = ", ".join(f"<b>{escape(name)}</b> {share:.1%}" for name, share in first.top(TOP))
    if first.kind == "number":
        classes = f"{escape(first.classes[0])} <b>{first.answer.text}</b>"
    head = f"{escape(title)}: {classes}" if classes else escape(title)
    return f"<div><p>{head}</p>{notes}{shown}</div>"


def by_image(explanations: Sequence[Explanation]) -> list[list[Explanation]]:
    """Puts together what lies side by side: explanations of one image by methods and questions.

    They follow one another. Two images may share an id; the same question to the same method
    starts the second.
    """
    groups: list[list[Explanation]] = []
    for item in explanations:
        last = groups[-1] if groups else []
        if last and last[0].id == item.id and _question(item) not in map(_question, last):
            last.append(item)
        else:
            groups.append([item])
    return groups


def _question(item: Explanation) -> tuple[str, int | None, str]:
    return item.method, item.class_index, item.asked
