"""One image, what the model said about it, and where it looked."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8

from lficam_jax.errors import check_whole
from lficam_jax.explaining import render
from lficam_jax.ops.maps import Place

TOP = 3  # classes that a notebook shows beside an image


@dataclass(frozen=True, repr=False, eq=False)  # arrays have no one answer to ==
class Explanation:
    """What one map says about one image.

    Attributes:
      id: names the image for ever, a file by what tells its path from the others'; files are named
        after it.
      name: what people read: a file name, or the id.
      picture: the image that the map is drawn on, as the network saw it; uint8.
      map: the attention on its own grid, in [0, 1].
      probabilities: of every class, summing to 1.
      label: index of the true class; None if nobody knows it.
      classes: names, in label order.
      mask: the object's pixels on `picture`; None if nobody knows them.
      method: how the map was made.
      class_index: the class that the map was asked about; None if the method asks none.
      notes: what is to be said of how the picture was read.
      box: top, left, height and width of what `picture` shows, in pixels of the original, upright;
        a padded picture begins above or left of it. None if nobody knows it.
      place: where the map's cells lie on the picture; None: by half-pixels.

    Example:
      >>> picture, hot = np.zeros((8, 8, 3), np.uint8), np.array([[0.0, 1.0], [0.0, 0.0]])
      >>> e = Explanation("1", "a.png", picture, hot, np.array([0.9, 0.1]), ("cat", "dog"))
      >>> e
      Explanation('a.png': 'cat' 90.0%, own map 2x2)
      >>> e.peak, e.overlay().size
      ((0, 6), (224, 224))
    """

    id: str
    name: str
    picture: UInt8[np.ndarray, "y x 3"]
    map: Float[np.ndarray, "h w"]
    probabilities: Float[np.ndarray, " k"]
    classes: tuple[str, ...]
    label: int | None = None
    mask: Bool[np.ndarray, "y x"] | None = None
    method: str = "own"
    class_index: int | None = None
    notes: tuple[str, ...] = ()
    box: tuple[float, float, float, float] | None = None
    place: Place | None = None

    @property
    def predicted(self) -> int:
        """Index of the most probable class."""
        return int(np.argmax(self.probabilities))

    @property
    def correct(self) -> bool | None:
        """Whether the prediction is right; None without a label."""
        return None if self.label is None else self.predicted == self.label

    @property
    def title(self) -> str:
        """Says how the map was made, and of which class if that is not the predicted one.

        >>> picture, probabilities = np.zeros((8, 8, 3), np.uint8), np.array([0.9, 0.1])
        >>> e = Explanation("1", "a.png", picture, np.zeros((2, 2)), probabilities, ("cat", "dog"),
        ...                 method="grad_cam", class_index=1)
        >>> e.title
        "grad_cam for 'dog'"
        """
        if self.class_index is None or self.class_index == self.predicted:
            return self.method
        return f"{self.method} for {self.classes[self.class_index]!r}"

    @property
    def peak(self) -> tuple[int, int]:
        """Row and column in `picture` where the map, brought to its size, is hottest."""
        full = render.upsample(self.map, self.picture.shape[:2], self.place)
        row, column = np.unravel_index(np.argmax(full), full.shape)
        return int(row), int(column)

    @property
    def peak_on_object(self) -> bool | None:
        """Whether the peak lies on the object: a hit of the pointing game; None without an object.

        A constant map points nowhere, which is a miss.
        """
        if self.mask is None or not self.mask.any():
            return None
        return bool(np.ptp(self.map) > 0 and self.mask[self.peak])

    def top(self, n: int = 5) -> list[tuple[str, float]]:
        """Returns the `n` most probable classes with their probabilities, best first."""
        check_whole("n", n)
        best = np.argsort(-self.probabilities, kind="stable")[:n]
        return [(self.classes[index], float(self.probabilities[index])) for index in best]

    def overlay(self, *, alpha: float = 0.5, cmap: str = render.COLOR_MAPS[0]) -> Any:
        """Returns a `PIL.Image` of the map over the image, large enough to look at.

        Small images are enlarged with their pixels kept square; the map stays smooth.

        Args:
          alpha: 0 shows the image, 1 the map alone.
          cmap: the colours, one of `explaining.render.COLOR_MAPS`.

        Raises:
          UserError: for another value of either.
        """
        picture = render.enlarge(self.picture)
        return render.as_image(render.overlay(picture, self.map, alpha, cmap, self.place))

    def __repr__(self) -> str:
        (name, share), *_ = self.top(1)
        size = "x".join(map(str, self.map.shape))
        (title,) = distinct([self.name])
        return f"Explanation({title!r}: {name!r} {share:.1%}, {self.title} map {size})"

    def _repr_html_(self) -> str:
        return card([self], *distinct([self.name]))


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
    first = same[0]
    pictures = [("image", first.picture)]
    pictures += [(item.title, np.asarray(item.overlay())) for item in same]
    shown = "".join(
        '<figure style="margin:0 8px 8px 0;display:inline-block;text-align:center">'
        f'<img src="{render.data_uri(picture)}" alt="{escape(name)}" '
        f'style="height:224px;width:auto;display:block;image-rendering:pixelated"><figcaption>{escape(name)}</figcaption>'
        "</figure>"
        for name, picture in pictures
    )
    notes = "".join(f"<p>{escape(note)}</p>" for note in first.notes)
    classes = ", ".join(f"<b>{escape(name)}</b> {share:.1%}" for name, share in first.top(TOP))
    return f"<div><p>{escape(title)}: {classes}</p>{notes}{shown}</div>"


def by_image(explanations: Sequence[Explanation]) -> list[list[Explanation]]:
    """Puts together what lies side by side: explanations of one image by different methods.

    They follow one another. Two images may share an id; a method that returns starts the second.
    """
    groups: list[list[Explanation]] = []
    for item in explanations:
        last = groups[-1] if groups else []
        if last and last[0].id == item.id and item.method not in [one.method for one in last]:
            last.append(item)
        else:
            groups.append([item])
    return groups
