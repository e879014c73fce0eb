"""One forward pass, and the maps of each method; the programs are compiled once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from lficam_jax import methods as maps
from lficam_jax.errors import UserError
from lficam_jax.explaining.asking import check_range
from lficam_jax.methods.loops import CHUNK_SIZE
from lficam_jax.methods.split import Split, split_model
from lficam_jax.methods.targets import Output, Target
from lficam_jax.models.answers import kind_of, told
from lficam_jax.models.fit import check_network
from lficam_jax.models.geometry import Places, places
from lficam_jax.ops.maps import Place, min_max, resize
from lficam_jax.workdir.watch import each, watching

BATCH = 64
FUSIONS = ("mean", "max")


class Source(Protocol):
    """A network, cut in one place or several. It can be hashed, as a rule."""

    def check(self, weights: Any, image_shape: tuple[int, ...]) -> None:
        """Raises a UserError for weights that are another network's."""
        ...

    def splits(self, weights: Any, images: Array) -> Sequence[Split]:
        """Cuts the network in each place, after one forward pass."""
        ...

    def lie(self, weights: Any, image_shape: tuple[int, ...], align: str) -> Sequence[Places]:
        """Returns where the maps of each place lie on an image."""
        ...


@dataclass(frozen=True)
class Ours:
    """A network of `create_model`, cut where its classifier begins."""

    model: nn.Module

    @property
    def classwise(self) -> bool:
        """Whether each class looks through a map of its own."""
        return bool(getattr(self.model, "classwise", False))

    @property
    def kind(self) -> str:
        """What the network answers: `models.answers.kind_of`."""
        return kind_of(self.model)

    def check(self, weights: Any, image_shape: tuple[int, ...]) -> None:  # noqa: D102
        check_network(self.model, weights, image_shape)

    def splits(self, weights: Any, images: Array) -> Sequence[Split]:  # noqa: D102
        return [split_model(self.model, weights, images)]

    def lie(  # noqa: D102
        self, weights: Any, image_shape: tuple[int, ...], align: str
    ) -> Sequence[Places]:
        return [places(self.model, image_shape[:2], align)]


class Seen(NamedTuple):
    """What a network says of images, and where it looks.

    Attributes:
      share: probabilities, or the predicted numbers; of no class, `[n 0]`, for a network that is no
        classifier.
      chosen: the most probable classes, best first, as many as were asked about.
      maps: of each method, one for each question; of a method that asks none, one.
    """

    share: Any  # Float[n k]
    chosen: Any  # Int[n t]
    maps: dict[str, Any]  # Float[n t h w]


class Plan(NamedTuple):
    """What a program is compiled for; equal plans share one.

    Attributes:
      source: the network.
      methods: keys of `methods.METHODS`; None: `own` if there is one, else `grad_cam`.
      top: how many of the most probable classes are asked about, if no targets are given.
      chunk_size: masked images in one forward pass.
      fuse: how maps of several layers become one.
      align: where they lie then.
      options: names and values; each goes to the methods that have it.
      raw: whether maps stay as the method makes them, and are not scaled to [0, 1].
      watched: whether it tells how far it is (`workdir.watch`).
    """

    source: Source
    methods: tuple[str, ...] | None = None
    top: int = 1
    chunk_size: int = CHUNK_SIZE
    fuse: str = FUSIONS[0]
    align: str = "centres"
    options: tuple[tuple[str, Any], ...] = ()
    raw: bool = False
    watched: bool = False


def look(
    plan: Plan, weights: Any, images: Float[np.ndarray, "n y x c"],
    targets: tuple[Target, ...] | None = None, *, batch_size: int = BATCH, first: int = 0,
) -> Seen:  # fmt: skip
    """Returns probabilities and maps; the programs are compiled once.

    Args:
      plan: what is done.
      weights: of the network.
      images: as the network is fed.
      targets: what is asked, with a value for each image; None: the most probable classes.
      batch_size: images in one forward pass.
      first: place of the first image among all; the map `random` of an image follows from its own.

    Raises:
      UserError: for weights that are not the network's, a class that it does not know, or an answer
        of NaN.
    """
    count = len(images)
    plan.source.check(weights, images.shape[1:])
    size = min(batch_size, _program_size(count))
    plan = plan._replace(watched=watching())
    draw, weights, targets = _program(plan), jax.device_put(weights), jax.device_get(targets)
    parts: list[Any] = []
    for start in each(range(0, count, size), -(-count // size)):
        # The last batch is filled up with repetitions of the last image.
        rows = np.minimum(np.arange(start, start + size), count - 1)
        asked = jax.tree.map(lambda leaf, rows=rows: leaf[rows], targets)
        seen, counts = jax.device_get(draw(weights, images[rows], first + rows, asked))
        _check_targets(targets, counts)
        parts.append(seen)
    names = plan.methods or tuple(parts[0].maps)  # a tree has its names in the order of letters
    found = jax.tree.map(lambda *leaves: np.concatenate(leaves)[:count], *parts)
    _check_told(found.share, weights)
    return Seen(found.share, found.chosen, {name: found.maps[name] for name in names})


def _check_told(share: Float[np.ndarray, "n k"], weights: Any) -> None:
    """Raises a UserError if the network says NaN of an image, and whose fault it is."""
    lost = ~np.isfinite(share).all(axis=1)
    if not lost.any():
        return
    if any(not jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(weights)):
        raise UserError(
            "the network answers NaN, for its weights hold NaN or infinity; load another step, or "
            "train again with a lower learning rate"
        )
    raise UserError(
        f"the network answers NaN for {lost.sum()} of {len(share)} images, the first of them image "
        f"{lost.argmax()}: its values overflow; give images normalised as the network was trained"
    )


def _program_size(count: int) -> int:
    """Returns a batch size for so many images: few sizes, so that few programs are compiled.

    >>> [_program_size(count) for count in (1, 2, 3, 5, 8, 9, 60)]
    [1, 2, 4, 8, 8, 16, 64]
    """
    if count > 8:
        return -(-count // 8) * 8
    return next(size for size in (1, 2, 4, 8) if count <= size)


def _check_targets(targets: tuple[Target, ...] | None, counts: Sequence[Any]) -> None:
    for target, count in zip(targets or (), counts, strict=False):
        for name in target.classes:
            check_range("target", np.asarray(getattr(target, name)).tolist(), int(count))


def _draw(
    plan: Plan, weights: Any, images: Array, positions: Array, targets: tuple[Target, ...] | None
) -> tuple[Seen, list[int]]:
    """Returns what is seen of a batch, and how many classes each target can choose from."""
    splits = plan.source.splits(weights, images)
    split, names = splits[-1], plan.methods
    if names is None:
        names = ("grad_cam",) if split.attention is None else ("own",)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), positions)
    chosen = jnp.zeros((len(images), 0), jnp.int32)
    if targets is None and any(maps.asks(name, split) for name in names):
        chosen = _most(split, plan.top)
        targets = tuple(Output(chosen[:, place]) for place in range(plan.top))
    lie = plan.source.lie(weights, images.shape[1:], plan.align)

    def draw(name: str, target: Target | None) -> Array:
        asked: dict[str, Any] = {"key": keys, "chunk_size": plan.chunk_size, "raw": plan.raw}
        asked |= maps.options_of(name, dict(plan.options))
        found = [maps.draw(name, s, target, **asked) for s in splits]
        at = [
            maps.place_of(name, one.shape[1:], place) for one, place in zip(found, lie, strict=True)
        ]
        return (
            found[0]
            if len(found) == 1
            else _fused(found, at, (images.shape[1], images.shape[2]), plan.fuse)
        )

    drawn = {
        name: jnp.stack([draw(name, one) for one in _questions(name, split, targets)], axis=1)
        for name in names
    }
    counts = [one.count(split.shape) if one.classes else 0 for one in targets or ()]
    return Seen(_shares(split), chosen, drawn), counts


def _questions(
    name: str, split: Split, targets: tuple[Target, ...] | None
) -> Sequence[Target | None]:
    return targets if targets is not None and maps.asks(name, split) else (None,)


def _most(split: Split, count: int) -> Int[Array, "b t"]:
    """Returns the most probable classes, best first."""
    if count == 1:
        return split.predicted()[:, None]
    classes = maps.targets.count_classes(split.shape)
    if count > classes:
        raise UserError(f"target: the {count} most probable of {classes} classes; ask for fewer")
    return jax.lax.top_k(split.answers().reshape(-1, classes), count)[1]


def _shares(split: Split) -> Float[Array, "b k"]:
    """Returns probabilities or numbers; nothing where the answers are no logits of several."""
    answers = split.answers()
    if split.kind == "class" and (getattr(answers, "ndim", 0) != 2 or answers.shape[1] < 2):
        return jnp.zeros((len(split.features), 0), jnp.float32)
    return told(split.kind, answers)


def _fused(
    found: Sequence[Array], at: Sequence[Place | None], size: tuple[int, int], fuse: str
) -> Float[Array, "b y x"]:
    """Returns one map of several layers', each in [0, 1], at the size of the image.

    `mean`: of all. `max`: `tanh(2 max)`, of Jiang et al., "LayerCAM", IEEE TIP 2021, eq. 9.
    """
    layers = jnp.stack([resize(one, size, place) for one, place in zip(found, at, strict=True)])
    fused = jnp.mean(layers, axis=0) if fuse == "mean" else jnp.tanh(2 * jnp.max(layers, axis=0))
    return jnp.clip(min_max(fused), 0, 1)


_kept = jax.jit(_draw, static_argnums=0)  # one for all calls: a second compiles nothing


def _program(plan: Plan) -> Callable[..., tuple[Seen, list[int]]]:
    try:
        hash(plan)
    except TypeError:  # a module of the user's with a list in it, say
        return jax.jit(partial(_draw, plan))
    return partial(_kept, plan)
