"""Does the map depend on what was learnt, and not on noise that nobody sees?"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lficam_jax.metrics.localisation import constant, on_image
from lficam_jax.ops.maps import Place
from lficam_jax.ops.similarity import spearman, ssim
from lficam_jax.structs import Key, Variables

Explain = Callable[[Float[Array, "b y x c"]], Float[Array, "b h w"]]


def max_sensitivity(
    explain: Explain, images: Float[Array, "b y x c"], keys: Key, *, radius: float = 0.02,
    draws: int = 10,
) -> Float[Array, " b"]:  # fmt: skip
    """Returns the largest `‖A(x + d) - A(x)‖ / ‖A(x)‖` over random d; lower is better.

    Args:
      explain: images to maps.
      images: normalised.
      keys: one PRNG key per image `[b]`, so that a batch's other images change nothing.
      radius: d is uniform in [-radius, radius], in units of the normalised image.
      draws: how many d; each costs one explanation.

    Returns:
      One value per image; NaN where the map is all zero. Source: Yeh et al., "On the (in)fidelity
      and sensitivity of explanations", NeurIPS 2019; captum's `sensitivity_max` is the same.
    """
    first = explain(images)
    norm = jnp.sqrt(jnp.sum(first**2, axis=(1, 2)))

    def change(draw: Array) -> Array:
        each = jax.vmap(lambda key: jax.random.fold_in(key, draw))(keys)
        draw_one = partial(
            jax.random.uniform, shape=images.shape[1:], minval=-radius, maxval=radius
        )
        noise = jax.vmap(draw_one)(each)
        return jnp.sqrt(jnp.sum((explain(images + noise) - first) ** 2, axis=(1, 2)))

    largest = jnp.max(jax.lax.map(change, jnp.arange(draws)), axis=0)
    return jnp.where(norm == 0, jnp.nan, largest / jnp.where(norm == 0, 1, norm))


def cascade(trained: Variables, fresh: Variables) -> Iterator[tuple[str, Variables]]:
    """Re-initialises a `Classifier` from the top down, and its head (FIN) apart.

    Args:
      trained: `params` and `batch_stats`.
      fresh: the same network, freshly drawn.

    Yields:
      Name and variables: `head` (the head alone, the backbone as trained), if it has parameters;
      then `classifier`, `final`, `last_stage` and the stages of the trunk from the last to the
      stem, each together with all before it, the head as trained.

    Source: Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018.
    """
    if "head" in trained["params"]:
        yield "head", _replaced(trained, fresh, [("head",)])
    tops = [(n,) for n in ("classifier", "final", "last_stage") if n in trained["params"]]
    trunk = [("trunk", name) for name in sorted(trained["params"]["trunk"], key=_depth)]
    done: list[tuple[str, ...]] = []
    for path in tops + trunk:
        done.append(path)
        yield "/".join(path), _replaced(trained, fresh, done)


def parameter_randomisation(
    explain: Callable[[Variables, Array], Any],
    trained: Variables, fresh: Variables, images: Float[Array, "b y x c"],
    places: Mapping[tuple[int, ...], Place] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Compares the map of the trained network with those of `cascade`.

    A map that hardly changes shows the image and not what the network learnt.

    Args:
      explain: variables and images to maps `[b h w]`, or to a dictionary of maps by method. To
        be compiled by the caller.
      trained: `params` and `batch_stats`.
      fresh: the same network, freshly drawn.
      images: normalised.
      places: where maps lie on the image, by their grid; others: by half-pixels.

    Returns:
      name -> `spearman` and `ssim` of the maps at the image's size to the first, and whether the
      map is `constant`; one value per image (for each method, if `explain` gave several). NaN
      where a map is constant (`spearman`) or not finite. Quantus' MPRT keeps the sign of the map;
      these maps have none.
    """
    first, size = explain(trained, images), images.shape[1:3]

    def likeness(a: Array, b: Array) -> dict[str, Array]:
        found: dict[str, Array] = _likeness(a, b, size, (places or {}).get(a.shape[1:]))
        return found

    return {
        name: jax.tree.map(likeness, first, explain(variables, images))
        for name, variables in cascade(trained, fresh)
    }


@partial(jax.jit, static_argnames=("size", "place"))
def _likeness(
    first: Float[Array, "b h w"], maps: Float[Array, "b h w"], size: tuple[int, ...],
    place: Place | None,
) -> dict[str, Array]:  # fmt: skip
    finite = jnp.isfinite(first).all(axis=(1, 2)) & jnp.isfinite(maps).all(axis=(1, 2))
    a, b = on_image(first, size, place), on_image(maps, size, place)
    found = {"spearman": spearman(a, b), "ssim": ssim(a, b)}
    found = {name: jnp.where(finite, value, jnp.nan) for name, value in found.items()}
    return found | {"constant": constant(maps)}


def _replaced(
    trained: Variables, fresh: Variables, paths: Sequence[tuple[str, ...]]
) -> dict[str, Any]:
    """Returns `trained` with the groups at `paths` of `fresh`: parameters and statistics."""
    return {kind: _merge(trained[kind], fresh[kind], paths) for kind in trained}


def _merge(ours: Variables, theirs: Variables, paths: Sequence[tuple[str, ...]]) -> dict[str, Any]:
    merged = dict(ours)
    for name, *rest in paths:
        if name in merged:  # statistics lack groups without BatchNorm
            inner = _merge(merged[name], theirs[name], [tuple(rest)]) if rest else theirs[name]
            merged[name] = inner
    return merged


def _depth(name: str) -> tuple[int, bool]:
    """Sorts the parts of a trunk from the last stage to the stem."""
    number = re.search(r"(stage|transition)(\d+)", name)
    # a transition comes after the stage of its number
    return (-int(number[2]), number[1] == "stage") if number else (0, True)
