"""From a jaxpr to an ONNX graph: values, constants, sizes that stay open, and the walk.

A small converter of our own: `jax2onnx` cannot be installed beside current flax and optax, its
older release fails on max-pooling, and the two dozen primitives that these networks are made of
take one page each way. What it does not know it refuses, by name.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.extend
import numpy as np

from lficam_jax.errors import UserError

OPSET = 18
Value = str | np.ndarray  # the name of a tensor, or a constant
MOST_FOLDED = 1 << 16  # numbers; a constant is not blown up beyond that


class Graph:
    """An ONNX graph as it is built.

    Attributes:
      nodes: in the order of computation.
      constants: by name.
    """

    def __init__(self) -> None:
        import onnx

        self._onnx = onnx
        self.nodes: list[Any] = []
        self.constants: dict[str, np.ndarray] = {}
        self._count = 0
        self._known: dict[Any, str] = {}  # constants and sizes that are there already
        self._sizes: dict[str, tuple[str, int]] = {}  # symbol: the input and axis that tell it

    def tell_sizes(self, name: str, shape: Sequence[Any]) -> None:
        """Notes which axis of an input tells each symbol."""
        for axis, size in enumerate(shape):
            if not isinstance(size, int):
                self._sizes.setdefault(str(size), (name, axis))

    def add(self, kind: str, *inputs: Value, **attributes: Any) -> str:
        """Adds a node of one output, and returns that output's name."""
        (name,) = self.add_many(1, kind, *inputs, **attributes)
        return name

    def add_many(self, count: int, kind: str, *inputs: Value, **attributes: Any) -> list[str]:
        """Adds a node of several outputs, and returns their names."""
        self._count += 1
        name = f"{kind.lower()}_{self._count}"
        found = [name, *(f"{name}_{i}" for i in range(1, count))]
        names = [self.name(value) for value in inputs]
        self.nodes.append(self._onnx.helper.make_node(kind, names, found, name, **attributes))
        return found

    def name(self, value: Value) -> str:
        """Returns the name of a value; a constant becomes part of the file once."""
        if isinstance(value, str):
            return value
        array = np.asarray(value)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._known:
            self._known[key] = name = f"constant_{len(self.constants)}"
            self.constants[name] = array
        return self._known[key]

    def cast(self, value: Value, dtype: Any) -> Value:
        """Changes the type of a value."""
        if not isinstance(value, str):
            return np.asarray(value).astype(dtype)
        kind = self._onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        return self.add("Cast", value, to=kind)

    def size(self, size: Any) -> Value:
        """Returns one size, int64 [1]: a number, or read from an input while it runs."""
        if isinstance(size, int):
            return np.array([size], np.int64)
        if str(size) not in self._sizes:
            raise UserError(f"the size {size} depends on the picture in a way that is not exported")
        if str(size) not in self._known:
            name, axis = self._sizes[str(size)]
            shape = self.add("Shape", name)
            self._known[str(size)] = self.add("Gather", shape, np.array([axis], np.int64), axis=0)
        return self._known[str(size)]

    def shape(self, sizes: Sequence[Any]) -> Value:
        """Returns a shape, int64 [n]."""
        if all(isinstance(size, int) for size in sizes):
            return np.array(sizes, np.int64)
        return self.add("Concat", *map(self.size, sizes), axis=0)


Rule = Callable[..., Any]


def walk(graph: Graph, jaxpr: Any, given: Sequence[Value], rules: dict[str, Rule]) -> list[Value]:
    """Adds a program to a graph and returns its results.

    Args:
      graph: to add to.
      jaxpr: the program, without constants of its own.
      given: its arguments.
      rules: primitive: `(graph, equation, *inputs)` to a value, or several.

    Raises:
      UserError: for a primitive that has no rule.
    """
    known: dict[Any, Value] = dict(zip(jaxpr.invars, given, strict=True))

    def read(variable: Any) -> Value:
        if isinstance(variable, jax.extend.core.Literal):
            aval: Any = variable.aval
            return np.asarray(variable.val, aval.dtype)
        return known[variable]

    for equation in jaxpr.eqns:
        inputs = [read(variable) for variable in equation.invars]
        known |= zip(equation.outvars, _step(graph, equation, inputs, rules), strict=True)
    return [read(variable) for variable in jaxpr.outvars]


def _step(
    graph: Graph, equation: Any, inputs: list[Value], rules: dict[str, Rule]
) -> Sequence[Value]:
    for key in ("jaxpr", "call_jaxpr"):  # a function within: jit, relu's own gradient
        if key in equation.params:
            inner = equation.params[key]
            consts = [np.asarray(c) for c in getattr(inner, "consts", ())]
            body = getattr(inner, "jaxpr", inner)
            if not body.constvars:
                return walk(graph, body, inputs, rules)
            body = body.replace(constvars=(), invars=[*body.constvars, *body.invars])
            return walk(graph, body, [*consts, *inputs], rules)
    if _foldable(equation, inputs):
        found = equation.primitive.bind(*inputs, **equation.params)
        return [np.asarray(a) for a in (found if equation.primitive.multiple_results else [found])]
    name = equation.primitive.name
    if name not in rules:
        raise UserError(f"the operation {name} of this network is not exported to ONNX")
    found = rules[name](graph, equation, *inputs)
    return found if isinstance(found, list) else [found]


def _foldable(equation: Any, inputs: Sequence[Value]) -> bool:
    """Tells whether it can be computed now: of constants, and not blown up."""
    shapes = [variable.aval.shape for variable in equation.outvars]
    if any(isinstance(v, str) for v in inputs) or not all(
        isinstance(n, int) for s in shapes for n in s
    ):
        return False
    most = max([MOST_FOLDED, *(np.size(value) for value in inputs)])
    return equation.primitive.name != "dim_as_value" and all(np.prod(s) <= most for s in shapes)
