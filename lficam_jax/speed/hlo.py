"""Reads the text of a program that was compiled for a TPU: its traffic, padding and collectives.

XLA's own count of bytes holds what stays in VMEM, the memory on the chip, between two operations.
The compiled text says of each array where it lies (`S(1)` is VMEM) and how it is tiled, so that the
traffic of HBM and the share of padding can be told apart.
"""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "collective-permute", "all-to-all")
# What moves nothing: names for what is there already.
FREE = ("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "iota", "after-all")
CALLS = ("while", "conditional", "call")  # operations whose work is that of other computations
PARTS = ("gather", "dynamic-slice", "slice")  # operations that read a part of their first operand
REDUCE = "all-reduce"  # the one operation whose -start gives its results alone
BITS = {"pred": 8}  # types whose name does not hold the number of bits

_ARRAY = re.compile(r"([a-z]\w*)\[([\d,]*)\](?:\{([\d,]*)(?::([^{}]*))?\})?")
_LINE = re.compile(r"\s+(?:ROOT )?%?([\w.\-]+) = (.*?) ([a-z][\w\-]*)\((.*)$")
_NAME = re.compile(r"%([\w.\-]+)")


@dataclass(frozen=True)
class Instruction:
    """One operation.

    Attributes:
      name: of its result.
      shape: of its result, with layouts, as XLA writes it.
      kind: of the operation.
      operands: names of what it takes.
      calls: names of other computations that it runs.
      number: of a parameter.
    """

    name: str
    shape: str
    kind: str
    operands: tuple[str, ...]
    calls: tuple[str, ...]
    number: int = -1


class Program:
    """A compiled program's text, read."""

    def __init__(self, text: str) -> None:
        self._computations: dict[str, list[Instruction]] = {}
        self._entry = ""
        for line in text.splitlines():
            if line.endswith("{") and not line.startswith(" "):
                name = line.removeprefix("ENTRY ").split(" ")[0].lstrip("%")
                self._computations[name] = body = []
                self._entry = name if line.startswith("ENTRY") else self._entry
            elif found := _LINE.match(line):
                body.append(_instruction(*found.groups()))

    def traffic(self) -> dict[str, int]:
        """Counts bytes that operations read and write, a loop's body once.

        Returns:
          `hbm`: through HBM, padding included; `padded` and `arrays`: of all arrays that
          operations read or write, wherever they lie, with and without padding.
        """
        found = {"hbm": 0, "padded": 0, "arrays": 0}
        for body, each in self._run(self._entry):
            for size, padded, in_hbm in self._moved(body, each):
                found["hbm"] += padded if in_hbm else 0
                found["padded"] += padded
                found["arrays"] += size
        return found

    def collectives(self) -> dict[str, dict[str, int]]:
        """Counts what chips send each other, and the bytes that come out of it."""
        found: dict[str, dict[str, int]] = {}
        for _, each in self._run(self._entry):
            kind = each.kind.removesuffix("-start")
            if kind in COLLECTIVES:
                entry = found.setdefault(kind, {"count": 0, "bytes": 0})
                entry["count"] += 1
                sizes = [size for size, *_ in arrays(each.shape)]
                if each.kind.endswith("-start") and kind != REDUCE:
                    sizes = sizes[len(sizes) // 2 :]  # operands stand before results
                entry["bytes"] += sum(sizes)
        return found

    def loops(self) -> int:
        """Counts the loops."""
        return sum(each.kind == "while" for _, each in self._run(self._entry))

    def _run(self, name: str) -> Iterator[tuple[dict[str, Instruction], Instruction]]:
        """Yields the operations of a computation and of those that it calls, with their peers."""
        body = {each.name: each for each in self._computations.get(name, [])}
        for each in body.values():
            yield body, each
            if each.kind in CALLS:
                for called in each.calls:
                    yield from self._run(called)

    def _moved(
        self, body: dict[str, Instruction], each: Instruction
    ) -> Iterator[tuple[int, int, bool]]:
        if each.kind in (*FREE, *CALLS) or each.kind.endswith("-done"):
            return
        if each.kind.endswith("-start") and not each.kind.startswith(REDUCE):
            yield from _started(each)
            return
        yield from arrays(each.shape)
        for place, name in enumerate(each.operands):
            shapes = [body[name].shape] if name in body else []
            if each.kind in PARTS and place == 0:
                shapes = [each.shape]
            elif each.kind == "fusion":
                shapes = self._parts(each.calls[0], place) or shapes
            for shape in shapes:
                yield from arrays(shape)

    def _parts(self, fused: str, place: int) -> list[str]:
        """Returns the shapes that a fusion reads of an operand; none if it reads it as a whole."""
        inside = self._computations.get(fused, [])
        names = {each.name for each in inside if each.number == place}
        shapes = []
        for each in inside:
            if not names & set(each.operands):
                continue
            if each.kind == "bitcast":
                names.add(each.name)
            elif each.kind in PARTS and each.operands[0] in names:
                shapes.append(each.shape)
            else:
                return []
        return shapes


def arrays(shape: str) -> Iterator[tuple[int, int, bool]]:
    """Yields bytes, bytes with padding, and whether it lies in HBM, of each array of a shape.

    >>> list(arrays("(f32[16,8]{1,0:T(8,128)S(1)}, bf16[3]{0:T(256)}, s32[])"))
    [(512, 8192, False), (6, 512, True), (4, 4, True)]
    """
    for kind, sides, order, rest in _ARRAY.findall(shape):
        bits = BITS.get(kind) or int(re.sub(r"\D", "", kind) or 0)
        lengths = [int(side) for side in sides.split(",") if side]
        size = math.prod(lengths)
        tile = re.search(r"T\(([\d,]+)\)", rest)
        if tile and order:
            minor_first = [int(axis) for axis in order.split(",")]
            steps = [int(step) for step in tile[1].split(",")][::-1]
            for axis, step in zip(minor_first, steps, strict=False):
                lengths[axis] = -(-lengths[axis] // step) * step
        yield size * bits // 8, math.prod(lengths) * bits // 8, not re.search(r"S\([1-9]", rest)


def _started(each: Instruction) -> Iterator[tuple[int, int, bool]]:
    """Yields what an asynchronous copy or slice moves; its result holds source, target and flag."""
    if each.kind == "slice-start":
        (_, _, in_hbm), (size, padded, to_hbm), *_ = arrays(each.shape)
        yield from ((size, padded, in_hbm), (size, padded, to_hbm))
    else:
        yield from arrays(each.shape)


def _instruction(name: str, shape: str, kind: str, rest: str) -> Instruction:
    # Operands come first, up to the bracket that closes them; names within know no brackets.
    inside, _, attributes = rest.partition(")")
    called = re.findall(r"(?:calls|body|condition|to_apply|branch_computations)=(\S+)", attributes)
    number = int(inside) if kind == "parameter" and inside.isdigit() else -1
    calls = tuple(name for words in called for name in _NAME.findall(words))
    return Instruction(name, shape, kind, tuple(_NAME.findall(inside)), calls, number)
