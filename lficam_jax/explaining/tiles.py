"""Pictures larger than a network's input, explained in their own size: `explain_tiled`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from lficam_jax import methods as maps
from lficam_jax.data import Dataset, Preprocess, fit_image, normalise
from lficam_jax.errors import UserError, brief, check_whole, is_number, words
from lficam_jax.explaining.asking import (
    Asked,
    asked_of,
    class_names,
    names_of,
    of_network,
    options_asked,
)
from lficam_jax.explaining.explanation import Explanation
from lficam_jax.explaining.explanations import Explanations
from lficam_jax.explaining.inputs import beside_and_images, read_inputs
from lficam_jax.explaining.look import BATCH, Plan, look
from lficam_jax.explaining.sources import source_of
from lficam_jax.methods.loops import CHUNK_SIZE
from lficam_jax.methods.targets import Output
from lficam_jax.models.geometry import ALIGNMENTS, check_alignment
from lficam_jax.ops.maps import resize

Picture = UInt8[np.ndarray, "y x 3"]


def explain_tiled(
    network: Any, *inputs: Any, overlap: float = 0.5, method: str | Sequence[str] | None = None,
    target: Any = None, layer: Any = None, reshape: Callable[[Array], Array] | None = None,
    layout: str = "", preprocess: Dataset | Preprocess | None = None, classes: Sequence[str] = (),
    names: Sequence[str] | None = None, batch_size: int = BATCH, chunk_size: int = CHUNK_SIZE,
    align: str = "", options: Mapping[str, Any] | None = None,
) -> Explanations:  # fmt: skip
    """Explains large pictures through windows that are as large as the network's input.

    Windows overlap, and the raw map of each fades out at its edges: at each pixel the shares sum to
    one, and only the whole map is scaled to [0, 1]. Probabilities are means over the windows.

    Args:
      network: a run, as `lficam_jax.load` opens it; or a network, as `explain` takes it.
      *inputs: as for `explain`, and so is what is not named here; the images are pixels.
      overlap: of neighbours, a share of a window below 1; the last one ends with the picture.
      target, layer: one question for all images, asked of every window at one layer.
      preprocess, batch_size: the size of a window, and windows in one forward pass.

    Returns:
      One explanation per image and method, the map as large as the picture, which is not scaled.

    Raises:
      UserError: as `explain` does, and for a picture smaller than a window.

    Example:
      >>> import lficam_jax as lfi
      >>> run = lfi.load("runs/quickstart")
      >>> e = lfi.explain_tiled(run, "photo.png", method="grad_cam")
      >>> e[0].map.shape
      (48, 64)
    """
    details: dict[str, Any] = {}
    if hasattr(network, "dataset"):  # a run
        details, align = dict(network.about), align or network.config.explain.align
        inputs, preprocess = (network.variables, *inputs), network.dataset
        network, classes = network.model, network.classes
    align = align or ALIGNMENTS[0]
    maps.check(*(chosen := words("method", method)))
    extra = options_asked(chosen, options)
    check_alignment(align)
    _check(overlap, layer, batch_size, chunk_size)
    beside, images = beside_and_images("explain_tiled", inputs)
    read = read_inputs(images, preprocess)
    assert preprocess is not None  # or read_inputs would have said so
    cut = {"layer": layer, "reshape": reshape, "layout": layout}
    source, weights = source_of(network, beside, read.images.shape[1:], **cut)
    plan = Plan(source, chosen or None, 1, chunk_size, align=align, options=extra, raw=True)
    maps.check_asked(target if chosen else None, chosen, source)
    asked = _single(target, given := class_names(classes))
    shown = read.names if names is None else names_of(names, len(read.names))
    tiler = Tiler(plan, weights, preprocess, float(overlap), batch_size)
    items = [
        item for i, name in enumerate(shown)
        for item in _items(tiler, read.sources[i](), asked, given, read.ids[i], name)
    ]  # fmt: skip
    maps.check_asked(target, [item.method for item in items], source)  # of the default method
    drawn = {"maps": ", ".join(dict.fromkeys(item.method for item in items)), "align": align}
    drawn["windows"] = f"{tiler.size[0]} x {tiler.size[1]} pixels, overlap {overlap:g}"
    return Explanations(items, details=details | drawn, skipped=read.skipped)


def _single(target: Any, classes: tuple[str, ...]) -> Asked:
    asked = asked_of(target, classes, 1)
    if asked.top > 1 or len(asked.targets or ()) > 1:
        raise UserError("explain_tiled takes a single target; call it once for each")
    return asked


def _check(overlap: Any, layer: Any, batch_size: int, chunk_size: int) -> None:
    for what, size in (("batch_size", batch_size), ("chunk_size", chunk_size)):
        check_whole(what, size)
    if not is_number(overlap) or not 0 <= overlap < 1:
        raise UserError(f"overlap must be at least 0 and less than 1, not {brief(overlap)}")
    if isinstance(layer, list | tuple):
        raise UserError("windows are explained at one layer; give one of them, or use explain")


def _items(
    tiler: "Tiler", picture: Picture, asked: Asked, classes: tuple[str, ...], id: str, name: str
) -> Iterator[Explanation]:
    try:
        share, drawn, index = tiler.look(picture, asked)
    except UserError as error:
        raise UserError(f"{name}: {error}") from error
    known = of_network(classes, len(share))
    for method, found in drawn.items():
        asks = maps.asks(method, tiler.plan.source)
        title = asked.title(0, 0, known) if asks and asked.targets else ""
        yield Explanation(
            id=id, name=name, method=method, picture=picture, map=found, probabilities=share,
            classes=known, class_index=index if asks else None, asked=title,
            kind=getattr(tiler.plan.source, "kind", "class"),
        )  # fmt: skip


@dataclass
class Tiler:
    """Looks at a picture through windows.

    Attributes:
      plan: what is drawn, raw.
      weights: of the network.
      fed: how a window becomes what the network is fed.
      overlap: of neighbours, as a share of a window.
      batch_size: windows at once.
      size: rows and columns of a window.
    """

    plan: Plan
    weights: Any
    fed: Dataset | Preprocess
    overlap: float
    batch_size: int
    size: tuple[int, int] = field(init=False)

    def __post_init__(self) -> None:
        fed = self.fed
        self.size = (fed.size[0], fed.size[1])
        self.fed = Preprocess(
            image_size=self.size, mean=fed.mean, std=fed.std, channels=fed.channels, fit="stretch",
            interpolation=fed.interpolation,
        )  # fmt: skip

    def look(
        self, picture: Picture, asked: Asked
    ) -> tuple[Float[np.ndarray, " k"], dict[str, Float[np.ndarray, "y x"]], int | None]:
        """Returns probabilities, the map of each method, and the class asked about, if it is one.

        Raises:
          UserError: for a picture smaller than a window, or if nothing is asked of a network that
            tells no classes apart.
        """
        sides = picture.shape[:2]
        if any(side < window for side, window in zip(sides, self.size, strict=True)):
            raise UserError(
                f"the picture has {sides[0]} x {sides[1]} pixels, and a window "
                f"{self.size[0]} x {self.size[1]}; explain it without windows (on the command "
                "line: without --tiles)"
            )
        starts = [window_starts(*pair, self.overlap) for pair in zip(sides, self.size, strict=True)]
        target = asked.targets[0] if asked.targets else None
        share, methods = None, self.plan.methods
        asks = methods is None or any(maps.asks(name, self.plan.source) for name in methods)
        if target is None and asks:
            quiet = self.plan._replace(methods=(), options=())
            share = self._mean_share(self._windows(picture, starts), quiet)
            if not len(share):
                raise UserError("target: say what is asked of a network that is no classifier")
            target = Output(np.array([share.argmax()], np.int32))
        drawn, told = self._draw(picture, starts, target)
        index = int(np.asarray(target.index)[0]) if isinstance(target, Output) else None
        return (told if share is None else share), drawn, index

    def _windows(self, picture: Picture, starts: list[list[int]]) -> Iterator[tuple[Any, Any]]:
        """Yields so many corners, and what the network is fed there."""
        corners, (height, width) = list(product(*starts)), self.size
        for first in range(0, len(corners), self.batch_size):
            some = corners[first : first + self.batch_size]
            cut = [picture[y : y + height, x : x + width] for y, x in some]
            yield some, normalise(np.stack([fit_image(one, self.fed) for one in cut]), self.fed)

    def _mean_share(self, windows: Iterator[tuple[Any, Any]], plan: Plan) -> Any:
        shares = [
            look(plan, self.weights, np.asarray(fed), batch_size=self.batch_size).share
            for _, fed in windows
        ]
        return np.concatenate(shares).mean(axis=0)

    def _draw(
        self, picture: Picture, starts: list[list[int]], target: Any
    ) -> tuple[dict[str, Any], Any]:
        (height, width), whole = self.size, picture.shape[:2]
        down, across = (window_shares(*one) for one in zip(whole, self.size, starts, strict=True))
        full: dict[str, np.ndarray] = {}
        shares, first = [], 0
        (lie,) = self.plan.source.lie(self.weights, (*self.size, 3), self.plan.align)
        for corners, fed in self._windows(picture, starts):
            every = None if target is None else (
                target.replace(
                    **{k: np.repeat(getattr(target, k), len(corners), 0) for k in target.ranks}
                ),
            )  # fmt: skip
            seen = look(
                self.plan, self.weights, np.asarray(fed), every, batch_size=self.batch_size,
                first=first,
            )  # fmt: skip
            shares.append(seen.share)
            first += len(corners)
            for name, found in seen.maps.items():
                place = maps.place_of(name, found.shape[2:], lie)
                large = np.asarray(resize(jnp.asarray(found[:, 0]), self.size, place))
                total = full.setdefault(name, np.zeros(whole, np.float32))
                for (y, x), one in zip(corners, large, strict=True):
                    part = np.outer(down[y][y : y + height], across[x][x : x + width])
                    total[y : y + height, x : x + width] += part * one
        done = {
            name: np.asarray(maps.scaled(jnp.asarray(one)[None]))[0] for name, one in full.items()
        }
        return done, np.concatenate(shares).mean(axis=0)


def window_starts(pixels: int, window: int, overlap: float) -> list[int]:
    """Returns where the windows of one side begin; the last ends with the picture.

    >>> window_starts(10, 4, 0.5), window_starts(9, 4, 0.0), window_starts(4, 4, 0.5)
    ([0, 2, 4, 6], [0, 4, 5], [0])
    """
    stride = max(1, round(window * (1 - overlap)))
    starts = list(range(0, pixels - window, stride))
    return [*starts, pixels - window]


def window_shares(
    pixels: int, window: int, starts: list[int]
) -> dict[int, Float[np.ndarray, " n"]]:
    """Returns each window's share at every pixel of one side: largest in its middle; they sum to 1.

    >>> window_shares(3, 2, [0, 1])
    {0: array([1. , 0.5, 0. ]), 1: array([0. , 0.5, 1. ])}
    """
    place = np.arange(pixels) + 0.5
    tents = {
        start: np.clip(np.minimum(place - start, start + window - place), 0, None)
        for start in starts
    }
    total = np.sum(list(tents.values()), axis=0)
    return {start: tent / total for start, tent in tents.items()}
