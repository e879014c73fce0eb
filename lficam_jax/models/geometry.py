"""Where on the image the cells of a network's maps are centred, followed through its computation.

A 3x3 convolution of stride 2 that pads one pixel on each side looks at the pixels around 0, 2, 4,
…: the middle of its first cell is pixel 0, not the half-pixel 0.5. Each such layer moves a map by
half of its own stride, up to (stride - 1) / 2 pixels of the image in all.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import cache, lru_cache
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.extend
import jax.numpy as jnp
import numpy as np

from lficam_jax.config import CHOICES
from lficam_jax.errors import UserError, nearest
from lficam_jax.ops.maps import Axis, Place
from lficam_jax.structs import Outputs

ALIGNMENTS = CHOICES["explain.align"]
# By the grid of a map, rows and columns. A grid that is missing is placed by half-pixels.
Places = Mapping[tuple[int, ...], Place]

# What takes cells elsewhere, or repeats a computation: nothing is known of where they lie then.
_LOST = (
    "rev", "sort", "gather", "scatter", "scatter-add", "dynamic_slice", "dynamic_update_slice",
    "scan", "while", "cond", "fft",
)  # fmt: skip


LOST = (
    "where the cells of this network look cannot be followed through its computation: its maps "
    "lie by half-pixels, and may be some pixels off (said once)"
)


def check_alignment(align: str) -> None:
    """Raises a UserError for a word that is none of `ALIGNMENTS`; it names the nearest."""
    if align not in ALIGNMENTS:
        raise UserError(f"align={align!r} is unknown{nearest(str(align), ALIGNMENTS)}")


def places(model: nn.Module, size: Sequence[int], align: str = "centres") -> Places:
    """Returns where the maps of a network lie on an image; computed once for network and size.

    The shapes, strides and paddings are read from the program that jax traces; nothing is computed
    and no weight counts. It is exact for convolutions, pooling, slicing and padding, whoever wrote
    the network. Assumed: a window's centre is the middle of what it covers; where branches that
    meet have other centres, theirs is the mean; the border is as the inside (cells there look
    at padding, too); what pools all of the image moves nothing. A map whose cells cannot be
    followed (gathered, scanned, or mixed by a matrix over space) has no entry, which is said once.

    Args:
      model: any module that returns `Outputs`.
      size: rows and columns of the image.
      align: `centres`, or `half_pixel`: no entries.

    Example:
      >>> from lficam_jax.models import create_model
      >>> model = create_model("cifar_resnet", 8, num_classes=10)
      >>> places(model, (16, 16))[4, 4].rows  # in shares of the image: pixels 0, 4, 8 and 12
      Axis(first=0.03125, step=0.25)
    """
    if align == "half_pixel":
        return {}
    asked = model, int(size[0]), int(size[1])
    try:
        return _followed(*asked)
    except TypeError:  # a module of the user's with a list in it, say, is not hashable
        return _followed.__wrapped__(*asked)


class Line(NamedTuple):
    """Places along one side of the image, in pixels: cell i is centred on `first + step * i`."""

    side: int  # 0: rows, 1: columns
    first: float
    step: float

    def shares(self, pixels: int) -> Axis:
        """Returns the same in shares of a side of so many pixels."""
        return Axis((self.first + 0.5) / pixels, self.step / pixels)


Lines = tuple[Line | None, ...]  # of each axis of an array; None: it does not run along the image


@lru_cache(maxsize=64)
def _followed(model: nn.Module, rows: int, columns: int) -> Places:
    def outputs(images: Any) -> dict[str, Any]:
        found: Outputs = model.init_with_output(jax.random.key(0), images, train=False)[0]
        maps = {name: getattr(found, name) for name in ("features", "attended", "attention")}
        return {name: one for name, one in maps.items() if one is not None}

    image = jax.ShapeDtypeStruct((1, rows, columns, 3), jnp.float32)
    found: dict[tuple[int, ...], Place] = {}
    lines = follow(outputs, image)
    lost = set()
    names = ("features", "attended", "attention")  # a map lies where the features do
    for each in (lines[name] for name in names if name in lines):
        if (place := each.place(rows, columns)) is None:
            lost.add(each.shape[1:3])
        else:
            found.setdefault(each.shape[1:3], place)
    if lost - {*found}:
        _say_lost()
    return found


@cache
def _say_lost() -> None:
    print(LOST, file=sys.stderr, flush=True)


class Followed(NamedTuple):
    """An array of a program.

    Attributes:
      shape: of it.
      lines: how each axis runs along the image.
    """

    shape: tuple[int, ...]
    lines: Lines

    def place(self, rows: int, columns: int, axes: tuple[int, int] = (1, 2)) -> Place | None:
        """Returns where a map with these axes lies on an image of so many pixels."""
        y, x = (self.lines[axis] for axis in axes)
        if y is None or x is None or (y.side, x.side) != (0, 1):
            return None
        return Place(y.shares(rows), x.shares(columns))


def follow(
    function: Callable[..., Mapping[str, Any]], images: Any, *others: Any
) -> dict[str, Followed]:
    """Follows the rows and columns of images to the arrays that a function makes of them.

    Args:
      function: `(images, *others)` to arrays by name; it is traced, not run.
      images: shape and type of `[b y x c]`.
      others: trees of whatever else it takes.
    """
    traced, shapes = jax.make_jaxpr(function, return_shape=True)(images, *others)
    start: list[Lines] = [(None, Line(0, 0.0, 1.0), Line(1, 0.0, 1.0), None)]
    start += [(None,) * len(leaf.shape) for leaf in jax.tree.leaves(others)]
    lines = iter(_walk(traced.jaxpr, start))
    # The leaves of a dictionary lie in the order of its keys.
    return {name: Followed(shapes[name].shape, next(lines)) for name in sorted(shapes)}


def _walk(jaxpr: Any, given: Sequence[Lines]) -> list[Lines]:
    """Follows the lines of a program's arguments to its results."""
    known = dict(zip(jaxpr.invars, given, strict=True))

    def of(value: Any) -> Lines:
        literal = isinstance(value, jax.extend.core.Literal)
        return (None if literal else known.get(value)) or (None,) * len(value.aval.shape)

    for equation in jaxpr.eqns:
        inputs = [of(value) for value in equation.invars]
        known |= zip(equation.outvars, _step(equation, inputs), strict=True)
    return [of(value) for value in jaxpr.outvars]


def _step(equation: Any, inputs: list[Lines]) -> list[Lines]:
    name, shapes = equation.primitive.name, [out.aval.shape for out in equation.outvars]
    if name in _LOST:
        return [(None,) * len(shape) for shape in shapes]
    for key in ("jaxpr", "call_jaxpr"):  # a function within: jit, remat, relu's own gradient
        if key in equation.params:
            inner = equation.params[key]
            return _walk(getattr(inner, "jaxpr", inner), inputs)
    rule = _RULES.get(name)
    if rule is None and name.startswith("reduce_window"):
        rule = _pool
    if rule is None and "axes" in equation.params:  # a sum, a maximum, its place
        rule = _reduce
    return [rule(equation, *inputs)] if rule else [_each(equation, inputs, s) for s in shapes]


def _each(equation: Any, inputs: Sequence[Lines], shape: tuple[int, ...]) -> Lines:
    """What is done to each number alone: arguments of the result's shape meet."""
    same = [a for a, v in zip(inputs, equation.invars, strict=True) if v.aval.shape == shape]
    return tuple(map(_meet, zip(*same, strict=True))) if same else (None,) * len(shape)


def _meet(lines: Sequence[Line | None]) -> Line | None:
    there = [line for line in lines if line is not None]
    if not there or len({line.side for line in there}) > 1:
        return None
    if len(set(there)) == 1:
        return there[0]
    first, step = np.mean([line[1:] for line in there], axis=0).tolist()
    return Line(there[0].side, first, step)


def _window(
    line: Line | None, size: int, stride: int, before: int, spread: int = 1, dilation: int = 1
) -> Line | None:
    """Slides a window of `size` cells, `dilation` apart, over cells set `spread` apart."""
    if line is None:
        return None
    middle = ((size - 1) * dilation / 2 - before) / spread
    return Line(line.side, line.first + line.step * middle, line.step * stride / spread)


def _conv(equation: Any, image: Lines, _: Lines) -> Lines:
    p, found = equation.params, list[Line | None]([None] * len(image))
    numbers, kernel = p["dimension_numbers"], equation.invars[1].aval.shape
    for i, (source, target) in enumerate(
        zip(numbers.lhs_spec[2:], numbers.out_spec[2:], strict=True)
    ):
        found[target] = _window(
            image[source], kernel[numbers.rhs_spec[2 + i]], p["window_strides"][i],
            p["padding"][i][0], p["lhs_dilation"][i], p["rhs_dilation"][i],
        )  # fmt: skip
    return tuple(found)


def _pool(equation: Any, image: Lines, *_: Lines) -> Lines:
    p = equation.params
    windows = zip(
        image, p["window_dimensions"], p["window_strides"], [low for low, _ in p["padding"]],
        p["base_dilation"], p["window_dilation"], strict=True,
    )  # fmt: skip
    return tuple(_window(*window) for window in windows)


def _reduce(equation: Any, image: Lines, *_: Lines) -> Lines:
    return tuple(line for i, line in enumerate(image) if i not in equation.params["axes"])


def _squeeze(equation: Any, image: Lines) -> Lines:
    return tuple(line for i, line in enumerate(image) if i not in equation.params["dimensions"])


def _transpose(equation: Any, image: Lines) -> Lines:
    return tuple(image[i] for i in equation.params["permutation"])


def _reshape(equation: Any, image: Lines, *_: Lines) -> Lines:
    """An axis stays if its length does, and the number of cells before it."""
    old, new = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
    before = {(np.prod(old[:i]), old[i]): line for i, line in enumerate(image) if line}
    return tuple(before.get((np.prod(new[:i]), new[i])) for i in range(len(new)))


def _broadcast(equation: Any, image: Lines, *_: Lines) -> Lines:
    old, new = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
    places = equation.params["broadcast_dimensions"]
    kept = {to: line for line, to, n in zip(image, places, old, strict=True) if n == new[to]}
    return tuple(kept.get(i) for i in range(len(new)))


def _dot(equation: Any, left: Lines, right: Lines) -> Lines:
    (sum_left, sum_right), (same_left, same_right) = equation.params["dimension_numbers"]
    both = [_meet([left[i], right[j]]) for i, j in zip(same_left, same_right, strict=True)]
    free = [line for i, line in enumerate(left) if i not in (*sum_left, *same_left)]
    free += [line for i, line in enumerate(right) if i not in (*sum_right, *same_right)]
    return (*both, *free)


def _concatenate(equation: Any, *inputs: Lines) -> Lines:
    joined = equation.params["dimension"]
    met = map(_meet, zip(*inputs, strict=True))
    return tuple(None if i == joined else line for i, line in enumerate(met))


def _slice(equation: Any, image: Lines) -> Lines:
    starts = equation.params["start_indices"]
    strides = equation.params["strides"] or (1,) * len(starts)
    return tuple(_window(a, 1, n, -i) for a, i, n in zip(image, starts, strides, strict=True))


def _pad(equation: Any, image: Lines, _: Lines) -> Lines:
    edges = zip(image, equation.params["padding_config"], strict=True)
    return tuple(_window(line, 1, 1, low, spread=1 + inner) for line, (low, _, inner) in edges)


_RULES: dict[str, Callable[..., Lines]] = {
    "conv_general_dilated": _conv, "squeeze": _squeeze, "transpose": _transpose,
    "reshape": _reshape, "broadcast_in_dim": _broadcast, "dot_general": _dot,
    "concatenate": _concatenate, "slice": _slice, "pad": _pad,
}  # fmt: skip
