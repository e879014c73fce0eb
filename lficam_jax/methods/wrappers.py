"""What may stand behind a method's name: `grad_cam+smoothed`, `grad_cam+augmented`, or both."""

import inspect
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from lficam_jax.errors import UserError
from lficam_jax.methods.split import Maps, Split
from lficam_jax.methods.targets import Region, Target
from lficam_jax.ops.maps import Axis, Place

WRAPPERS = ("smoothed", "augmented")
BRIGHTNESS = (0.9, 1.0, 1.1)  # as pytorch-grad-cam has it


def parts(name: str) -> tuple[str, tuple[str, ...]]:
    """Returns the method's own name and the words behind it.

    >>> parts("grad_cam+augmented")
    ('grad_cam', ('augmented',))
    """
    base, *words = str(name).split("+")
    return base, tuple(words)


def check_smoothed(name: str, method: Callable[..., Maps]) -> None:
    """Raises a UserError if a method's map is no sum over channels."""
    if "project" not in inspect.signature(method).parameters:
        raise UserError(
            f"{name}+smoothed: smoothed takes the first principal component of terms that a map "
            f"sums over channels, and {name} sums none; leave it out, or choose a CAM, grad_cam say"
        )


def augmented(
    draw: Callable[[Split], Maps],
    split: Split,
    target: Target,
    brightness: tuple[float, ...] = BRIGHTNESS,
) -> Maps:
    """Returns the mean of the maps of six images: as it is and mirrored, of three brightnesses.

    Args:
      draw: a split's maps, scaled.
      split: with `images` and `again`.
      target: for a message.
      brightness: factors of the image as the network is fed.

    Raises:
      UserError: if the split cannot be made again of other images, or of a region, which would
        have to be mirrored, too.

    Source: `aug_smooth` of pytorch-grad-cam.
    """
    if split.images is None or split.again is None:
        raise UserError("augmented looks at changed images; give Split(images=..., again=...)")
    if isinstance(target, Region):
        raise UserError(
            "augmented mirrors images, and the target's region is not mirrored with them; leave "
            "+augmented out, or ask about a class"
        )
    images, again = split.images, split.again

    def look(change: tuple[Array, Array]) -> Maps:
        mirror, factor = change
        found = draw(again(_mirrored(images, mirror) * factor))
        return _mirrored(found, mirror)

    factors = jnp.asarray(brightness * 2, images.dtype)
    mirrors = jnp.arange(len(factors)) >= len(brightness)
    found: Array = jax.lax.map(look, (mirrors, factors))
    return found.mean(axis=0)


def place_of_augmented(place: Place, columns: int) -> Place:
    """Returns where the mean of a map and that of the mirrored image lies.

    Mirrored, the cells are centred elsewhere, unless they were centred symmetrically; the mean's
    centres are taken to be in the middle between the two, as where branches of a network meet.
    """
    step = place.columns.step
    return Place(place.rows, Axis((1 - (columns - 1) * step) / 2, step))


def _mirrored(values: Array, mirror: Array) -> Array:
    return jnp.where(mirror, values[:, :, ::-1], values)
