"""What `explain` returns: explanations that show themselves in a notebook and save themselves."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

from lficam_jax.explaining.answer import heads
from lficam_jax.explaining.explanation import Explanation, by_image, card, distinct
from lficam_jax.explaining.saving import save
from lficam_jax.workdir.origin import told_origin
from lficam_jax.workdir.table import aligned

SHOWN = 12  # images that a notebook cell shows


def told_skipped(skipped: Sequence[tuple[str, str]]) -> str:
    """Says how many files could not be read.

    >>> told_skipped([("a.png", "is not an image")])
    '1 file skipped, see .skipped'
    """
    return f"{len(skipped)} file{'s' * (len(skipped) != 1)} skipped, see .skipped"


class Explanations(Sequence[Explanation]):
    """Explanations of images, those of one image by several methods one behind the other.

    Indexing gives an `Explanation`, a slice gives `Explanations`. The length counts explanations:
    of two images by three methods there are six; `len(e.images)` counts the images. In a notebook
    each image is shown beside its maps, with the most probable classes.

    Attributes:
      details: what made them (model, data, step), for the page.
      skipped: files that could not be read, each with the reason; a slice keeps them all.

    Example:
      >>> import lficam_jax as lfi
      >>> e = lfi.load("runs/quickstart").explain("photo.png", method=["own", "grad_cam"])
      >>> len(e), e.methods, e[0].map.shape
      (2, ['own', 'grad_cam'], (4, 4))
      >>> e.save("out").name
      'index.html'
    """

    def __init__(
        self, items: Sequence[Explanation], *, details: Mapping[str, Any] | None = None,
        skipped: Sequence[tuple[str, str]] = (),
    ) -> None:  # fmt: skip
        self._items = tuple(items)
        self.details, self.skipped = dict(details or {}), list(skipped)

    @overload
    def __getitem__(self, place: int) -> Explanation: ...

    @overload
    def __getitem__(self, place: slice) -> "Explanations": ...

    def __getitem__(self, place: int | slice) -> "Explanation | Explanations":
        if isinstance(place, slice):
            return Explanations(self._items[place], details=self.details, skipped=self.skipped)
        return self._items[place]

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Explanation]:
        return iter(self._items)

    @property
    def images(self) -> list[list[Explanation]]:
        """The explanations of each image."""
        return by_image(self._items)

    @property
    def methods(self) -> list[str]:
        """How the maps were made."""
        return list(dict.fromkeys(item.method for item in self._items))

    def save(
        self, directory: str | Path, *, title: str = "Where the model looked", blend: str = "fade"
    ) -> Path:
        """Writes a page (`index.html`), PNGs, `maps.npz` and `manifest.json`; returns the page.

        Args:
          directory: a new or an empty folder, or one that was written like this before.
          title: headline of the page.
          blend: how maps lie over the images, as for `Explanation.overlay`; on the page it can be
            changed.

        Raises:
          UserError: if the folder holds something else, or cannot be written.
        """
        details = self.details | {"made": told_origin()}
        folder = save(
            self._items, directory, title=title, details=details, skipped=self.skipped, blend=blend
        )
        return folder / "index.html"

    def __repr__(self) -> str:
        images = self.images
        rows = [["image", *(heads(self[0].kind, self[0].classes) if images else ())]]
        for (item, *_), title in zip(images[:SHOWN], self._titles(), strict=False):
            rows.append([title, item.answer.text, item.answer.shares()])
        head = f"{len(images)} image{'s' * (len(images) != 1)}, maps: {', '.join(self.methods)}"
        more = [f"… and {len(images) - SHOWN} more"] if len(images) > SHOWN else []
        lost = [told_skipped(self.skipped)] if self.skipped else []
        return "\n".join([head, aligned(rows), *more, *lost])

    def _repr_html_(self) -> str:
        images = self.images
        shown = zip(images[:SHOWN], self._titles(), strict=False)
        cards = "".join(card(same, title) for same, title in shown)
        more = f"<p>… and {len(images) - SHOWN} more</p>" if len(images) > SHOWN else ""
        lost = f"<p>{told_skipped(self.skipped)}</p>" if self.skipped else ""
        return f"<div>{cards}{more}{lost}</div>"

    def _titles(self) -> list[str]:
        return distinct([same[0].name for same in self.images])
