"""Does the map depend on what was learnt, and not on noise that nobody sees?"""

import re
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lficam_jax.ops.maps import min_max
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
        shape, limits = images.shape[1:], {"minval": -radius, "maxval": radius}
        noise = jax.vmap(lambda key: jax.random.uniform(key, shape, **limits))(each)
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
    explain: Callable[[Variables, Array], Float[Array, "b h w"]],
    trained: Variables, fresh: Variables, images: Float[Array, "b y x c"],
) -> dict[str, dict[str, Float[Array, " b"]]]:  # fmt: skip
    """Compares the map of the trained network with those of `cascade`.

    A map that hardly changes shows the image and not what the network learnt.

    Returns:
      name -> `spearman` and `ssim` to the first map, one value per image; NaN where a map is
      constant (`spearman`). Quantus' MPRT keeps the sign of the map; these maps have none.
    """
    explain = jax.jit(explain)
    first = min_max(explain(trained, images))
    found = {}
    for name, variables in cascade(trained, fresh):
        maps = min_max(explain(variables, images))
        found[name] = {"spearman": spearman(first, maps), "ssim": ssim(first, maps)}
    return found


def _replaced(
    trained: Variables, fresh: Variables, paths: Sequence[tuple[str, ...]]
) -> dict[str, dict]:
    """Returns `trained` with the groups at `paths` of `fresh`: parameters and statistics."""
    return {kind: _merge(trained[kind], fresh[kind], paths) for kind in trained}


def _merge(ours: dict, theirs: dict, paths: Sequence[tuple[str, ...]]) -> dict:
    merged = dict(ours)
    for name, *rest in paths:
        if name in merged:  # statistics lack groups without BatchNorm
            inner = _merge(merged[name], theirs[name], [tuple(rest)]) if rest else theirs[name]
            merged[name] = inner
    return merged


def _depth(name: str) -> tuple[int, str]:
    """Sorts the parts of a trunk from the last stage to the stem."""
    number = re.search(r"(stage|block|transition)(\d+)", name)
    return (-int(number.group(2)), name) if number else (0, name)
