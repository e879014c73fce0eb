"""Does the map lie on the object? Maps are scaled at their own grid, then resized to the image."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from lficam_jax.ops.maps import min_max, resize


def on_image(maps: Float[Array, "b h w"], size: tuple[int, int]) -> Float[Array, "b y x"]:
    """Returns the maps min-maxed to [0, 1] at their native grid, then resized bilinearly."""
    return resize(min_max(maps.astype(jnp.float32)), size)


def constant(maps: Float[Array, "b h w"]) -> Bool[Array, " b"]:
    """Marks maps that say nothing: all values are equal."""
    return jnp.max(maps, axis=(1, 2)) == jnp.min(maps, axis=(1, 2))


def pointing_hit(maps: Float[Array, "b h w"], mask: Bool[Array, "b y x"]) -> Bool[Array, " b"]:
    """The pointing game: whether the map's largest value lies on the object.

    A constant map points nowhere and is a miss. Of equal peaks the first in reading order counts.
    Source: Zhang et al., "Top-down Neural Attention by Excitation Backprop", IJCV 2018.
    """
    flat = on_image(maps, mask.shape[1:]).reshape(mask.shape[0], -1)
    peak = jnp.argmax(flat, axis=1)[:, None]
    hit = jnp.take_along_axis(mask.reshape(flat.shape), peak, axis=1)[:, 0]
    return hit & ~constant(maps)


def energy(maps: Float[Array, "b h w"], mask: Bool[Array, "b y x"]) -> Float[Array, " b"]:
    """The share of the map's mass that lies on the object, in [0, 1]; 0 for an empty map.

    Source: Wang et al., "Score-CAM", CVPR workshops 2020 (energy-based pointing game).
    """
    scaled = on_image(maps, mask.shape[1:])
    total = jnp.sum(scaled, axis=(1, 2))
    inside = jnp.sum(scaled * mask, axis=(1, 2))
    return inside / jnp.where(total == 0, 1, total)
