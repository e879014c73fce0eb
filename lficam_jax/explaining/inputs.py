"""What people bring (files, PIL images, arrays) as the pixels that a network is fed."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Shaped, UInt8

from lficam_jax.data import (
    Dataset,
    Picture,
    Preprocess,
    denormalise,
    find_images,
    fit_box,
    fit_image,
    normalise,
    read_image,
)
from lficam_jax.data.arrays import NoPicture, check_finite, laid_out, on_background, to_pixels
from lficam_jax.data.images import from_pillow
from lficam_jax.data.transforms import Box, cut_note
from lficam_jax.errors import UserError, brief, check_flag, legible
from lficam_jax.explaining.explanation import distinct
from lficam_jax.explaining.render import stretch

Source = Callable[[], UInt8[np.ndarray, "y x 3"]]  # reads an original again


@dataclass(frozen=True)
class Inputs:
    """Images, ready to be explained.

    Attributes:
      images: as the network is fed.
      pictures: what maps are drawn on.
      names: what people read: file names, or numbers.
      skipped: files that could not be read, each with the reason.
      notes: what is to be said of each image; empty: nothing of any.
      boxes: the part of each that the network is fed, `data.fit_box`; empty: all.
      sources: read each original again; empty: there is none.
    """

    images: Float[np.ndarray, "n y x 3"]
    pictures: UInt8[np.ndarray, "n y x 3"]
    names: list[str]
    skipped: list[tuple[str, str]] = field(default_factory=list)
    notes: list[tuple[str, ...]] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)

    @property
    def ids(self) -> list[str]:
        """What the files of an explanation are named after: see `distinct`."""
        return distinct(self.names)


def beside_and_images(function: str, inputs: Sequence[Any]) -> tuple[tuple[Any, ...], Any]:
    """Returns what stands between a network and its images, weights say, and the images.

    Raises:
      UserError: if there are no images; it shows how `function` is called.
    """
    if not inputs:
        raise UserError(f"give the images: {function}(network, images)")
    *beside, images = inputs
    return tuple(beside), images


def read_inputs(
    images: Any, dataset: Dataset | Preprocess | None, *, normalised: bool = False
) -> Inputs:
    """Brings images of any kind to what the network is fed.

    Args:
      images: a path, a folder, a glob, a PIL image, an array, or a list of these. An array holds
        one image or a batch, with the channels last or first: uint8, or floats in 0..1.
        uint16 as docs/datasets.md says. Transparent pixels lie on `dataset.background`.
      dataset: says the size, the crop, mean and deviation; None if all is normalised already.
      normalised: arrays are floats as the network is fed, `[n y x 3]`; nothing is done to them.

    Raises:
      UserError: if there is no image, one cannot be read or is none, or holds NaN.
    """
    check_flag("normalised", normalised)
    if not isinstance(dataset, Dataset | Preprocess | None):
        raise UserError(
            f"preprocess must be a Preprocess or the dataset of a run, not {brief(dataset)}"
        )
    if normalised:
        return _normalised(images, dataset)
    if dataset is None:
        raise UserError(
            "say how images become what the network is fed: preprocess=lfi.Preprocess(image_size=…)"
            ", or normalised=True if they are normalised already"
        )
    parts: list[Inputs] = []
    skipped: list[tuple[str, str]] = []
    lost = skipped if _is_list(images) else None
    for item in images if _is_list(images) else [images]:
        place = sum(len(part.images) for part in parts)
        if isinstance(item, str | Path):
            parts.append(fit_files(find_images([item], lost), dataset))
            skipped += parts[-1].skipped
        else:
            parts.append(_inputs(_brought(item, place, dataset), [], dataset))
    names = [name for part in parts for name in part.names]
    if skipped and not names:
        lines = "\n  ".join(f"{name}: {why}" for name, why in skipped)
        raise UserError(f"none of the {len(skipped)} files can be read:\n  {lines}")
    if not names:
        raise UserError("there is no image to look at: the list is empty")
    fed, pictures = (np.concatenate([getattr(part, kind) for part in parts])
                     for kind in ("images", "pictures"))  # fmt: skip
    notes, boxes, sources = ([one for part in parts for one in getattr(part, kind)]
                             for kind in ("notes", "boxes", "sources"))  # fmt: skip
    return Inputs(fed, pictures, names, skipped, notes, boxes, sources)


def fit_files(paths: Sequence[Path], dataset: Dataset | Preprocess) -> Inputs:
    """Reads files as `read_inputs` does; of those that cannot be read, none may be left."""
    skipped: list[tuple[str, str]] = []

    def read() -> Iterator[tuple[str, Picture, Source]]:
        for path in paths:
            name = legible(path)
            try:
                picture = read_image(path, background=dataset.background)
            except UserError as error:
                skipped.append((name, legible(error).removeprefix(f"{name} ")))
                continue
            yield name, picture, partial(_original, path, dataset.background)

    return _inputs(read(), skipped, dataset)


def _inputs(
    read: Iterable[tuple[str, Picture, Source]],
    skipped: list[tuple[str, str]],
    dataset: Dataset | Preprocess,
) -> Inputs:
    """Fits pictures as they come: of each only what the network is fed stays in memory."""
    names, pixels, notes, boxes, sources = [], [], [], [], []
    for name, picture, source in read:
        height, width = picture.pixels.shape[:2]
        names.append(name)
        pixels.append(fit_image(on_background(picture.pixels, dataset.background), dataset))
        notes.append(picture.notes + cut_note(picture.pixels, dataset))
        boxes.append(fit_box(height, width, dataset))
        sources.append(source)
    stack = np.stack(pixels) if pixels else np.zeros((0, *dataset.size, 3), np.uint8)
    fed = np.asarray(normalise(stack, dataset))
    return Inputs(fed, stack, names, skipped, notes, boxes, sources)


def _brought(
    item: Any, place: int, dataset: Dataset | Preprocess
) -> Iterator[tuple[str, Picture, Source]]:
    """Yields the images of a PIL image, which stays with who brought it, or an array."""
    pil = _is_pil(item)
    for i, picture in enumerate(_pictures(item, place)):
        name = legible(getattr(item, "filename", "") or place + i)
        kept = item if pil else picture.pixels
        yield name, picture, partial(_original, kept, dataset.background)


def _original(kept: Any, background: str) -> UInt8[np.ndarray, "y x 3"]:
    """Returns the pixels of a path, a PIL image or an array, in colour."""
    if isinstance(kept, str | Path):
        return read_image(kept, background=background).pixels
    pixels = from_pillow(kept, "the image").pixels if _is_pil(kept) else kept
    pixels = on_background(pixels, background)
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))


def _normalised(images: Any, dataset: Dataset | Preprocess | None) -> Inputs:
    arrays = images if _is_list(images) else [images]
    if any(isinstance(item, str | Path) or _is_pil(item) for item in arrays):
        raise UserError("normalised=True is for arrays; leave it out for files and PIL images")
    batch = [image for place, item in enumerate(arrays) for image in _array(item, place)]
    if not batch:
        raise UserError("there is no image to look at: the list is empty")
    if len(shapes := {image.shape for image in batch}) > 1:
        raise UserError(f"normalised images must be of one size; these are {sorted(shapes)}")
    if kinds := {image.dtype.name for image in batch if image.dtype.kind != "f"}:
        raise UserError(
            f"normalised images are floats, and these are {', '.join(sorted(kinds))}; leave out "
            "normalised=True for pixels"
        )
    stack = np.stack(batch).astype(np.float32)
    if stack.shape[-1] == 4:
        raise UserError("normalised images have 1 or 3 channels, not 4")
    stack = np.broadcast_to(stack, (*stack.shape[:3], 3))
    try:
        check_finite(stack)
    except NoPicture as error:
        raise UserError(f"an image {error.problem}; {error.remedy}") from error
    pictures = (
        np.stack([stretch(i) for i in stack]) if dataset is None else denormalise(stack, dataset)
    )
    return Inputs(stack, pictures, [str(i) for i in range(len(stack))])


def _pictures(item: Any, place: int) -> list[Picture]:
    """Returns the images of a PIL picture or an array."""
    if _is_pil(item):
        return [from_pillow(item, f"image {place}")]
    images = _array(item, place)
    try:
        pixels, notes = to_pixels(images, file=False)
    except NoPicture as error:
        raise UserError(f"image {place} {error.problem}; {error.remedy}") from error
    return [Picture(image, notes) for image in pixels]


def _array(item: Any, place: int) -> Shaped[np.ndarray, "n y x c"]:
    """Returns the images of an array."""
    try:
        array = np.asarray(item)
    except Exception as error:
        raise UserError(f"image {place} is no array ({type(item).__name__}): {error}") from error
    if array.dtype.kind not in "buif":
        raise UserError(
            f"image {place} is a {type(item).__name__}; give paths, PIL images or arrays of numbers"
        )
    try:
        return laid_out(array)
    except NoPicture as error:
        raise UserError(f"image {place} {error.problem}; {error.remedy}") from error


def _is_list(images: Any) -> bool:
    """Tells a list of images from one image that is written as nested lists of numbers."""
    if not isinstance(images, list | tuple):
        return False
    return not images or not isinstance(images[0], list | tuple | int | float)


def _is_pil(item: Any) -> bool:
    from PIL import Image

    return isinstance(item, Image.Image)
