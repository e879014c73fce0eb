"""What people bring (files, PIL images, arrays) as the pixels that a network is fed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from lficam_jax.data import (
    Dataset,
    Preprocess,
    denormalise,
    find_images,
    fit_image,
    normalise,
    read_image,
)
from lficam_jax.errors import UserError, brief, check_flag, legible
from lficam_jax.explaining.explanation import distinct
from lficam_jax.explaining.render import stretch, to_bytes

CHANNELS = (1, 3, 4)  # of an array that is a picture: grey, RGB, RGBA
_MULTIPLIED = {"La": "LA", "RGBa": "RGBA"}  # colours that were multiplied by their opacity
SHAPES = "[y x], [y x c], [c y x], or a batch of these with c = 1, 3 or 4"


@dataclass(frozen=True)
class Inputs:
    """Images, ready to be explained.

    Attributes:
      images: as the network is fed.
      pictures: what maps are drawn on.
      names: what people read: file names, or numbers.
      skipped: files that could not be read, each with the reason.
    """

    images: Float[np.ndarray, "n y x 3"]
    pictures: UInt8[np.ndarray, "n y x 3"]
    names: list[str]
    skipped: list[tuple[str, str]] = field(default_factory=list)

    @property
    def ids(self) -> list[str]:
        """What the files of an explanation are named after: see `distinct`."""
        return distinct(self.names)


def read_inputs(
    images: Any, dataset: Dataset | Preprocess | None, *, normalised: bool = False
) -> Inputs:
    """Brings images of any kind to what the network is fed.

    Args:
      images: a path, a folder, a glob, a PIL image, an array, or a list of these. An array holds
        one image or a batch, with the channels last or first: uint8, or floats in 0..1.
        Transparent pixels lie on white.
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
            "say how images become what the network is fed: preprocess=…, or normalised=True if "
            "they are as it is fed"
        )
    parts: list[Inputs] = []
    for item in images if _is_list(images) else [images]:
        place = sum(len(part.images) for part in parts)
        if isinstance(item, str | Path):
            parts.append(fit_files(find_images([item]), dataset))
            continue
        pixels = [fit_image(picture, dataset) for picture in _pictures(item, place)]
        names = [legible(getattr(item, "filename", "") or place + i) for i in range(len(pixels))]
        parts.append(_inputs(pixels, names, [], dataset))
    skipped = [lost for part in parts for lost in part.skipped]
    names = [name for part in parts for name in part.names]
    if skipped and not names:
        lines = "\n  ".join(f"{name}: {why}" for name, why in skipped)
        raise UserError(f"none of the {len(skipped)} files can be read:\n  {lines}")
    if not names:
        raise UserError("there is no image to look at: the list is empty")
    fed, pictures = (np.concatenate([getattr(part, kind) for part in parts])
                     for kind in ("images", "pictures"))  # fmt: skip
    return Inputs(fed, pictures, names, skipped)


def fit_files(paths: Sequence[Path], dataset: Dataset | Preprocess) -> Inputs:
    """Reads files as `read_inputs` does; of those that cannot be read, none may be left."""
    pixels, names, skipped = [], [], []
    for path in paths:
        name = legible(path)
        try:
            pixels.append(fit_image(read_image(path), dataset))
            names.append(name)
        except UserError as error:
            skipped.append((name, legible(error).removeprefix(f"{name} ")))
    return _inputs(pixels, names, skipped, dataset)


def _inputs(
    pixels: Sequence[np.ndarray],
    names: list[str],
    skipped: list[tuple[str, str]],
    dataset: Dataset | Preprocess,
) -> Inputs:
    size = dataset.image_size
    stack = np.stack(pixels) if pixels else np.zeros((0, size, size, 3), np.uint8)
    return Inputs(np.asarray(normalise(stack, dataset)), stack, names, skipped)


def _normalised(images: Any, dataset: Dataset | Preprocess | None) -> Inputs:
    arrays = images if _is_list(images) else [images]
    if any(isinstance(item, str | Path) or _is_pil(item) for item in arrays):
        raise UserError("normalised=True is for arrays; leave it out for files and PIL images")
    batch = [image for place, item in enumerate(arrays) for image in _batch(item, place)]
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
    _check_finite(stack)
    pictures = (
        np.stack([stretch(i) for i in stack]) if dataset is None else denormalise(stack, dataset)
    )
    return Inputs(stack, pictures, [str(i) for i in range(len(stack))])


def _pictures(item: Any, place: int) -> Iterable[UInt8[np.ndarray, "y x 3"]]:
    """Yields the images of a PIL image or an array, as uint8 RGB."""
    if _is_pil(item):
        yield _on_white(_pil_pixels(item, place))
        return
    for image in _batch(item, place):
        yield _on_white(_to_bytes(image))


def _pil_pixels(item: Any, place: int) -> UInt8[np.ndarray, "y x c"]:
    from PIL import ImageOps

    if 0 in item.size:
        raise UserError(f"image {place} has no pixels: its size is {item.size}")
    try:
        turned = ImageOps.exif_transpose(item)
        if turned.mode in _MULTIPLIED:  # Pillow turns them into nothing else
            turned = turned.convert(_MULTIPLIED[turned.mode])
        clear = turned.mode in ("LA", "PA", "RGBA") or "transparency" in turned.info
        return np.asarray(turned.convert("RGBA" if clear else "RGB"))
    # Its decoders raise almost anything for a torn file, and a picture may be closed.
    except (OSError, ValueError, SyntaxError, IndexError, TypeError) as error:
        raise UserError(
            f"image {place}, a PIL image of mode {item.mode}, cannot be read: {error}"
        ) from error


def _batch(item: Any, place: int) -> Sequence[np.ndarray]:
    """Returns the images of an array, each [y x c]."""
    try:
        array = np.asarray(item)
    except Exception as error:
        raise UserError(f"image {place} is no array ({type(item).__name__}): {error}") from error
    if array.dtype.kind not in "buif":
        raise UserError(
            f"image {place} is a {type(item).__name__}; give paths, PIL images or arrays of numbers"
        )
    if array.ndim == 2:
        array = array[None, ..., None]
    elif array.ndim == 3 and array.shape[-1] in CHANNELS:
        array = array[None]
    elif array.ndim == 3 and array.shape[0] in CHANNELS:
        array = array.transpose(1, 2, 0)[None]
    elif array.ndim == 4 and array.shape[-1] not in CHANNELS and array.shape[1] in CHANNELS:
        array = array.transpose(0, 2, 3, 1)
    if array.ndim != 4 or array.shape[-1] not in CHANNELS or 0 in array.shape[1:]:
        shape = list(np.shape(item))
        raise UserError(f"image {place} has the shape {shape}; give {SHAPES}")
    return list(array)


def _to_bytes(image: np.ndarray) -> UInt8[np.ndarray, "y x c"]:
    """Returns uint8 of an image of any number type, whose range its type or its values tell."""
    kind = image.dtype
    if kind == np.uint8:
        return image
    if kind == np.uint16:
        return np.round(image / 257).astype(np.uint8)
    if kind.kind == "b":
        return image.astype(np.uint8) * 255
    _check_finite(image)
    low, high = float(image.min()), float(image.max())
    if kind.kind in "iu":
        if low < 0 or high > 255:
            raise UserError(f"whole numbers must lie in 0..255; these lie in {low:g}..{high:g}")
        return image.astype(np.uint8)
    if low < -1e-4 or high > 1 + 1e-4:
        raise UserError(
            f"float images must lie in 0..1; these lie in {low:.3g}..{high:.3g}. Give uint8 if "
            "they are pixels up to 255; say normalised=True if they are as the network is fed"
        )
    return to_bytes(image)


def _on_white(image: UInt8[np.ndarray, "y x c"]) -> UInt8[np.ndarray, "y x 3"]:
    if image.shape[-1] == 4:
        share = image[..., 3:] / 255
        image = np.round(image[..., :3] * share + 255 * (1 - share)).astype(np.uint8)
    return np.broadcast_to(image, (*image.shape[:2], 3))


def _check_finite(array: np.ndarray) -> None:
    if not np.isfinite(array).all():
        raise UserError("an image holds NaN or infinity; give finite numbers")


def _is_list(images: Any) -> bool:
    """Tells a list of images from one image that is written as nested lists of numbers."""
    if not isinstance(images, list | tuple):
        return False
    return not images or not isinstance(images[0], list | tuple | int | float)


def _is_pil(item: Any) -> bool:
    from PIL import Image

    return isinstance(item, Image.Image)
