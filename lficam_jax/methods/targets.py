"""What a map is asked about: a target reads one number per image from what the network answers.

A class is asked about by its number or name. Everything else is one of the targets below, or any
function of the answers. A target is a pytree: the numbers in it are arguments of a compiled
program, so that another class, region or embedding compiles nothing; only a function is part of
the program, so give the same function again, not a new lambda each time.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeVar, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jaxtyping import Array, Float, Int

from lficam_jax.errors import UserError, brief, check_whole

T = TypeVar("T")


class Target:
    """Reads one number per image, `[b]`, from what the network answers for a batch.

    Attributes:
      ranks: the axes that a field has for one image; one of more axes holds a value for each image.
      classes: the fields that number a class, so that a name may stand there, too.
    """

    ranks: ClassVar[dict[str, int]] = {}
    classes: ClassVar[tuple[str, ...]] = ()

    def score(self, outputs: Any) -> Array:
        """Returns the number asked about, of each image."""
        raise NotImplementedError

    def count(self, outputs: Any) -> int:
        """Returns how many classes the answers tell apart; only their shape counts.

        Raises:
          UserError: if they are of a kind that this target cannot read.
        """
        return count_classes(outputs)

    def title(self, name: Callable[[Any], str]) -> str:
        """Says what is asked, for people; `name` quotes a class."""
        raise NotImplementedError


@struct.dataclass
class Output(Target):
    """One output: a class, the logit of one label of several, or a number that is predicted.

    `target=3` and `target="cat"` say the same in short.

    Example:
      >>> Output(1).score(jnp.array([[1.0, 2.0]]))
      Array([2.], dtype=float32)
    """

    index: Any
    ranks = {"index": 0}
    classes = ("index",)

    def score(self, outputs: Any) -> Array:  # noqa: D102
        return _column(outputs, self.index)

    def title(self, name: Callable[[Any], str]) -> str:  # noqa: D102
        return name(self.index)


@struct.dataclass
class Difference(Target):
    """Why one class and not another: the difference of their logits.

    Example:
      >>> Difference(1, 0).score(jnp.array([[1.0, 5.0, 2.0]]))
      Array([4.], dtype=float32)
    """

    index: Any
    other: Any
    ranks = {"index": 0, "other": 0}
    classes = ("index", "other")

    def score(self, outputs: Any) -> Array:  # noqa: D102
        return _column(outputs, self.index) - _column(outputs, self.other)

    def title(self, name: Callable[[Any], str]) -> str:  # noqa: D102
        return f"{name(self.index)} and not {name(self.other)}"


@struct.dataclass
class Region(Target):
    """A segmentation network's logits of one class, summed over a region.

    Attributes:
      index: the class.
      mask: of the size of the network's answer, `[y x]`, or one for each image; what it is not
        zero on counts, times its value.

    Example: answers `[b y x k]`; `[b k y x]` are known by the size of the mask.
      >>> Region(0, np.array([[1, 0], [1, 0]])).score(jnp.ones((1, 2, 2, 5)))
      Array([2.], dtype=float32)
    """

    index: Any
    mask: Any
    ranks = {"index": 0, "mask": 2}
    classes = ("index",)

    def score(self, outputs: Any) -> Array:  # noqa: D102
        answers = jnp.moveaxis(_floats(outputs), self._channels(outputs), -1)
        mask = _rows(jnp.asarray(self.mask, jnp.float32), len(answers), 2)
        return _column(jnp.sum(answers * mask[..., None], axis=(1, 2)), self.index)

    def count(self, outputs: Any) -> int:  # noqa: D102
        return int(outputs.shape[self._channels(outputs)])

    def _channels(self, outputs: Any) -> int:
        size, shape = np.shape(self.mask)[-2:], getattr(outputs, "shape", ())
        found = next((axis for axis in (3, 1) if _without(axis, shape[1:]) == size), None)
        if len(shape) != 4 or found is None:
            raise UserError(
                f"target Region: the mask is {list(size)}, and the network answers "
                f"{_told(outputs)}; give a mask of the answer's rows and columns"
            )
        return found

    def title(self, name: Callable[[Any], str]) -> str:  # noqa: D102
        return f"{name(self.index)} in a region"


@struct.dataclass
class Similarity(Target):
    """The cosine of what the network answers, an embedding `[d]`, and a given one.

    Attributes:
      embedding: `[d]`, or one for each image.

    Example:
      >>> Similarity(np.array([0.0, 2.0])).score(jnp.array([[3.0, 4.0]]))
      Array([0.8], dtype=float32)
    """

    embedding: Any
    ranks = {"embedding": 1}

    def score(self, outputs: Any) -> Array:  # noqa: D102
        given = jnp.asarray(self.embedding, jnp.float32)
        answers = _floats(outputs)
        if answers.ndim != 2 or answers.shape[-1] != given.shape[-1]:
            raise UserError(
                f"target Similarity: the embedding has {given.shape[-1]} numbers, and the network "
                f"answers {_told(outputs)}; give one of this network's own embeddings"
            )
        lengths = jnp.linalg.norm(answers, axis=-1) * jnp.linalg.norm(given, axis=-1)
        product = jnp.sum(answers * _rows(given, len(answers), 1), axis=-1)
        return product / jnp.where(lengths == 0, 1, lengths)

    def title(self, name: Callable[[Any], str]) -> str:  # noqa: D102
        return "similarity"


@struct.dataclass
class Function(Target):
    """Whatever a function of the answers says, `[b]`: a bare function says the same in short.

    Attributes:
      function: outputs to one float per image, each from its own row alone.

    Example:
      >>> Function(lambda outputs: outputs[:, 0] + outputs[:, 1]).score(jnp.array([[1.0, 5.0]]))
      Array([6.], dtype=float32)
    """

    function: Callable[[Any], Any] = struct.field(pytree_node=False)

    def score(self, outputs: Any) -> Array:  # noqa: D102
        return cast(Array, self.function(outputs))

    def title(self, name: Callable[[Any], str]) -> str:  # noqa: D102
        return getattr(self.function, "__name__", type(self.function).__name__).strip("<>")


class Several:
    """Several questions at once: one forward pass, a map for each. For `lficam_jax.explain`.

    Args:
      targets: classes by name or number, targets, or functions.
    """

    def __init__(self, *targets: Any) -> None:
        if not targets:
            raise UserError("targets.Several: name one target at least")
        self.targets = targets


class Top:
    """The k most probable classes of each image, a map for each. For `lficam_jax.explain`."""

    def __init__(self, k: int) -> None:
        self.k = check_whole("targets.Top: k", k)


def pick(outputs: Any, target: Any) -> Float[Array, " b"]:
    """Returns each image's score, in float32: what `target` asks of the network's answers.

    Every method gets its scores here and its gradients from `Split.gradient`, and hands on the
    target as it came: so each of them can be asked about anything.

    Args:
      outputs: what the network answers for a batch, as a rule logits `[b k]`.
      target: class numbers `[b]`, a `Target`, or a function of the outputs.

    Raises:
      UserError: if the target does not give one float per image.

    Example:
      >>> logits = jnp.array([[1.0, 2.0], [3.0, 4.0]])
      >>> pick(logits, jnp.array([1, 0]))
      Array([2., 3.], dtype=float32)
      >>> pick(logits, lambda outputs: outputs.sum(axis=1))
      Array([3., 7.], dtype=float32)
    """
    target = as_target(target)
    batch = jax.tree.leaves(outputs)[0].shape[0]  # a symbol, while a network is exported
    try:
        scores = target.score(outputs)
    except (TypeError, KeyError, IndexError, AttributeError) as error:
        raise UserError(
            f"target {target.title(brief)} cannot read the network's answers, {_told(outputs)}: "
            + brief(error)
        ) from error
    shape, kind = getattr(scores, "shape", None), getattr(scores, "dtype", None)
    if kind is None or shape != (batch,) or not jnp.issubdtype(kind, jnp.floating):
        gave = brief(scores) if shape is None else f"{kind} {list(shape)}"
        raise UserError(
            f"target {target.title(brief)} must give one float for each of the {batch} images, "
            f"[{batch}], not {gave}; choose one number, or sum over the other axes"
        )
    found: Array = scores.astype(jnp.float32)
    return found


def rows(target: T, index: Int[Array, " n"]) -> T:
    """Returns a target for some of the images: for passes over a part of a batch, or repetitions.

    Args:
      target: that holds a value for each image, as `for_images` makes it.
      index: positions in the batch, any of them more than once.

    Example:
      >>> rows(jnp.array([7, 8, 9]), jnp.array([2, 2, 0]))
      Array([9, 9, 7], dtype=int32)
    """
    return cast(T, jax.tree.map(lambda leaf: leaf[index], target))


def as_target(given: Any) -> Target:
    """Returns a target of what stands for one in short: a class's number or name, a function."""
    if isinstance(given, Target):
        return given
    if isinstance(given, Several | Top):
        raise UserError(
            f"target: {type(given).__name__} asks for several maps, which "
            "lficam_jax.explain draws; give one target here"
        )
    return Function(given) if callable(given) else Output(given)


def for_images(target: Any, count: int) -> Target:
    """Returns a target that holds a value for each image, whatever was given for one or for all.

    Raises:
      UserError: for values that are no numbers, or of another count or shape.

    Example:
      >>> for_images(Difference(3, [4, 5]), 2).index
      Array([3, 3], dtype=int32)
    """
    target = as_target(target)
    found: dict[str, Any] = {}
    for name, rank in target.ranks.items():
        given, whole = getattr(target, name), name in target.classes
        wanted = _wanted(name, rank, count)
        try:
            value = jnp.asarray(given)
        except (TypeError, ValueError) as error:
            raise UserError(f"target: {wanted}, not {brief(given)}") from error
        kind = jnp.issubdtype(value.dtype, jnp.integer if whole else jnp.number)
        outer = value.shape[: max(value.ndim - rank, 0)]
        right = (kind or (rank == 2 and value.dtype == bool)) and value.ndim >= rank
        if not right or outer not in ((), (count,)):
            raise UserError(f"target: {wanted}, not {brief(given)}")
        found[name] = _rows(value.astype(jnp.int32 if whole else jnp.float32), count, rank)
    return cast(Target, target.replace(**found)) if found else target


def _wanted(name: str, rank: int, count: int) -> str:
    if rank == 0:
        return f"{name} must be the number of a class, or one for each of the {count} images"
    axes = {1: "[d]", 2: "[y x]"}[rank]
    return f"{name} must be numbers {axes}, or one such for each of the {count} images"


def _rows(value: Array, count: int, rank: int) -> Array:
    """Repeats what holds for all images."""
    return jnp.broadcast_to(value, (count, *value.shape[value.ndim - rank :]))


def count_classes(outputs: Any) -> int:
    """Returns how many classes logits `[b k]` tell apart; one number per image, `[b]`, is one.

    Raises:
      UserError: if the answers are no such array.
    """
    shape: tuple[int, ...] = getattr(outputs, "shape", ())
    if len(shape) not in (1, 2):
        raise UserError(
            f"target: the network answers {_told(outputs)}, which is no number per class; use "
            "lficam_jax.targets.Region, or a function that gives one number per image"
        )
    return int(shape[1]) if len(shape) == 2 else 1


def _told(outputs: Any) -> str:
    shape = getattr(outputs, "shape", None)
    return f"a {type(outputs).__name__}" if shape is None else str(list(shape))


def _floats(outputs: Any) -> Array:
    return jnp.asarray(outputs, jnp.float32)


def _without(axis: int, shape: Sequence[int]) -> tuple[int, ...]:
    return (*shape[: axis - 1], *shape[axis:])


def _column(outputs: Any, index: Any) -> Array:
    """Returns one output of each image, in float32; of answers `[b]` the only one."""
    count = count_classes(outputs)
    answers = _floats(outputs).reshape(-1, count)
    chosen = _rows(jnp.asarray(index), answers.shape[0], 0)
    return jnp.take_along_axis(answers, chosen[:, None], axis=1).squeeze(1)
