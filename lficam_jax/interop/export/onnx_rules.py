"""How each of jax's primitives is said in ONNX."""

from typing import Any

import numpy as np

from lficam_jax.errors import UserError
from lficam_jax.interop.export.onnx_graph import Graph, Rule, Value

_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def _same(kind: str) -> Rule:
    return lambda graph, equation, *inputs: graph.add(kind, *inputs)


def _negated(kind: str) -> Rule:
    return lambda graph, equation, *inputs: graph.add("Not", graph.add(kind, *inputs))


def _identity(graph: Graph, equation: Any, value: Value) -> Value:
    return value


def _cast(graph: Graph, equation: Any, value: Value) -> Value:
    old, new = equation.invars[0].aval.dtype, equation.params["new_dtype"]
    return value if old == new else graph.cast(value, new)


def _rsqrt(graph: Graph, equation: Any, value: Value) -> Value:
    return graph.add("Reciprocal", graph.add("Sqrt", value))


def _square(graph: Graph, equation: Any, value: Value) -> Value:
    return graph.add("Mul", value, value)


def _power(graph: Graph, equation: Any, value: Value) -> Value:
    exponent = np.asarray(equation.params["y"], equation.invars[0].aval.dtype)
    return graph.add("Pow", value, exponent)


def _log1p(graph: Graph, equation: Any, value: Value) -> Value:
    return graph.add("Log", graph.add("Add", value, np.float32(1)))  # type: ignore[arg-type]


def _erfc(graph: Graph, equation: Any, value: Value) -> Value:
    return graph.add("Sub", np.asarray(1, np.float32), graph.add("Erf", value))


def _clamp(graph: Graph, equation: Any, low: Value, value: Value, high: Value) -> Value:
    return graph.add("Max", low, graph.add("Min", value, high))


def _select(graph: Graph, equation: Any, which: Value, *cases: Value) -> Value:
    if len(cases) != 2 or equation.invars[0].aval.dtype != bool:
        raise UserError("a choice among more than two is not exported to ONNX")
    return graph.add("Where", which, cases[1], cases[0])


def _reshape(graph: Graph, equation: Any, value: Value) -> Value:
    new = equation.outvars[0].aval.shape
    if sum(not isinstance(size, int) for size in new) == 1:  # the one that follows from the others
        wanted: Value = np.array([n if isinstance(n, int) else -1 for n in new], np.int64)
    else:
        wanted = graph.shape(new)
    return graph.add("Reshape", value, wanted)


def _broadcast(graph: Graph, equation: Any, value: Value) -> Value:
    old, new = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
    axes = equation.params["broadcast_dimensions"]
    there = dict(zip(axes, old, strict=True))
    spread = [there.get(i, 1) for i in range(len(new))]
    if len(old) < len(new):
        added = [i for i in range(len(new)) if i not in axes]
        value = graph.add("Unsqueeze", value, np.array(added, np.int64))
    return value if spread == list(new) else graph.add("Expand", value, graph.shape(new))


def _squeeze(graph: Graph, equation: Any, value: Value) -> Value:
    return graph.add("Squeeze", value, np.array(equation.params["dimensions"], np.int64))


def _transpose(graph: Graph, equation: Any, value: Value) -> Value:
    return graph.add("Transpose", value, perm=list(equation.params["permutation"]))


def _reduce(kind: str) -> Rule:
    def rule(graph: Graph, equation: Any, value: Value) -> Value:
        return graph.add(kind, value, np.array(equation.params["axes"], np.int64), keepdims=0)

    return rule


def _place(kind: str) -> Rule:
    def rule(graph: Graph, equation: Any, value: Value) -> Value:
        (axis,) = equation.params["axes"]
        found = graph.add(kind, value, axis=int(axis), keepdims=0)
        return graph.cast(found, equation.outvars[0].aval.dtype)

    return rule


def _dot(graph: Graph, equation: Any, left: Value, right: Value) -> Value:
    (sum_left, sum_right), (same_left, same_right) = equation.params["dimension_numbers"]
    shapes = [variable.aval.shape for variable in equation.invars]
    names = iter(_LETTERS)
    first = [next(names) for _ in shapes[0]]
    second = [next(names) for _ in shapes[1]]
    for i, j in zip((*sum_left, *same_left), (*sum_right, *same_right), strict=True):
        second[j] = first[i]
    free = [a for i, a in enumerate(first) if i not in (*sum_left, *same_left)]
    free += [a for i, a in enumerate(second) if i not in (*sum_right, *same_right)]
    out = [first[i] for i in same_left] + free
    text = f"{''.join(first)},{''.join(second)}->{''.join(out)}"
    return graph.add("Einsum", left, right, equation=text)


def _turned(graph: Graph, value: Value, order: Any) -> Value:
    order = list(order)
    if order == sorted(order):
        return value
    if isinstance(value, str):
        return graph.add("Transpose", value, perm=order)
    return np.ascontiguousarray(np.transpose(value, order))


def _conv(graph: Graph, equation: Any, image: Value, kernel: Value) -> Value:
    p = equation.params
    if set(p["lhs_dilation"]) != {1} or p["batch_group_count"] != 1:
        raise UserError("a convolution that enlarges is not exported to ONNX")
    numbers = p["dimension_numbers"]
    image, kernel = (
        _turned(graph, image, numbers.lhs_spec),
        _turned(graph, kernel, numbers.rhs_spec),
    )
    found = graph.add(
        "Conv", image, kernel, strides=list(p["window_strides"]),
        dilations=list(p["rhs_dilation"]), group=p["feature_group_count"],
        pads=[low for low, _ in p["padding"]] + [high for _, high in p["padding"]],
    )  # fmt: skip
    return _turned(graph, found, np.argsort(numbers.out_spec).tolist())


def _window(equation: Any) -> dict[str, Any]:
    """Returns the attributes of pooling over rows and columns of `[b y x d]`."""
    p = equation.params
    window = p["window_dimensions"]
    dilations = {1, *p.get("base_dilation", ()), *p.get("window_dilation", ())}
    if len(window) != 4 or window[0] != 1 or window[3] != 1 or dilations != {1}:
        raise UserError(f"pooling over {tuple(window)} is not exported to ONNX")
    edges = p["padding"][1:3]
    return {
        "kernel_shape": list(window[1:3]), "strides": list(p["window_strides"][1:3]),
        "pads": [low for low, _ in edges] + [high for _, high in edges],
    }  # fmt: skip


def _pool(kind: str, **more: int) -> Rule:
    def rule(graph: Graph, equation: Any, image: Value) -> Value:
        window = _window(equation)
        found = graph.add(kind, _turned(graph, image, (0, 3, 1, 2)), **window, **more)
        if kind == "AveragePool":  # jax sums
            size = np.prod(window["kernel_shape"])
            found = graph.add("Mul", found, np.asarray(size, np.float32))
        return _turned(graph, found, (0, 2, 3, 1))

    return rule


def _unpool(graph: Graph, equation: Any, new: Value, image: Value) -> Value:
    """The gradient of max-pooling: each goes to where the largest is, of equals to the first."""
    if equation.params["select_prim"].name != "ge":
        raise UserError("the gradient of this pooling is not exported to ONNX")
    new, image = (_turned(graph, value, (0, 3, 1, 2)) for value in (new, image))
    shape, line = graph.add("Shape", image), np.array([-1], np.int64)
    _, places = graph.add_many(2, "MaxPool", image, **_window(equation))  # in the flat image
    zeros = graph.add("ConstantOfShape", graph.add("Shape", graph.add("Reshape", image, line)))
    places, new = (graph.add("Reshape", value, line) for value in (places, new))
    found = graph.add("ScatterElements", zeros, places, new, axis=0, reduction="add")
    return _turned(graph, graph.add("Reshape", found, shape), (0, 2, 3, 1))


def _concatenate(graph: Graph, equation: Any, *values: Value) -> Value:
    return graph.add("Concat", *values, axis=equation.params["dimension"])


def _slice(graph: Graph, equation: Any, value: Value) -> Value:
    p, shape = equation.params, equation.invars[0].aval.shape
    strides = p["strides"] or (1,) * len(shape)
    cut = [
        (i, start, limit, stride)
        for i, (start, limit, stride) in enumerate(
            zip(p["start_indices"], p["limit_indices"], strides, strict=True)
        )
        if not (start == 0 and limit == shape[i] and stride == 1)
    ]
    if not cut:
        return value
    axes, starts, limits, steps = (np.array(column, np.int64) for column in zip(*cut, strict=True))
    return graph.add("Slice", value, starts, limits, axes, steps)


def _pad(graph: Graph, equation: Any, value: Value, filling: Value) -> Value:
    edges = equation.params["padding_config"]
    if apart := [axis for axis, (_, _, inner) in enumerate(edges) if inner]:
        value = _spread(graph, equation, value, filling, apart)
    pads = [low for low, _, _ in edges] + [high - inner for _, high, inner in edges]
    return graph.add("Pad", value, np.array(pads, np.int64), filling)


def _spread(graph: Graph, equation: Any, value: Value, filling: Value, axes: list[int]) -> Value:
    """Puts the filling behind each value along some axes, as often as `pad` wants it between."""
    inner = [int(inner) for _, _, inner in equation.params["padding_config"]]
    added = np.array([axis + 1 + i for i, axis in enumerate(axes)], np.int64)
    pads = np.zeros((2, len(inner) + len(axes)), np.int64)
    pads[1, added] = [inner[axis] for axis in axes]
    value = graph.add("Pad", graph.add("Unsqueeze", value, added), pads.ravel(), filling)
    sizes = [size * (1 + n) for size, n in zip(equation.invars[0].aval.shape, inner, strict=True)]
    return graph.add("Reshape", value, graph.shape(sizes))


def _iota(graph: Graph, equation: Any) -> Value:
    p = equation.params
    axis, shape = p["dimension"], equation.outvars[0].aval.shape
    end = graph.add("Squeeze", graph.size(shape[axis]))
    zero, one = np.asarray(0, np.int64), np.asarray(1, np.int64)
    line = graph.cast(graph.add("Range", zero, end, one), p["dtype"])
    if len(shape) == 1:
        return line
    added = np.array([i for i in range(len(shape)) if i != axis], np.int64)
    return graph.add("Expand", graph.add("Unsqueeze", line, added), graph.shape(shape))


def _size(graph: Graph, equation: Any) -> Value:
    size = graph.add("Squeeze", graph.size(equation.params["dim"]))
    return graph.cast(size, equation.outvars[0].aval.dtype)


def _one_each(graph: Graph, window: Any, axes: Any, places: Value) -> Value:
    """Returns the indices of `take_along_axis`, which reads one number for each."""
    if window or len(axes) != 1:
        raise UserError("gathering more than single numbers is not exported to ONNX")
    return graph.add("Squeeze", graph.cast(places, np.int64), np.array([-1], np.int64))


def _gather(graph: Graph, equation: Any, values: Value, places: Value) -> Value:
    numbers = equation.params["dimension_numbers"]
    axes = numbers.start_index_map
    if isinstance(places, np.ndarray) and places.size == 1 and numbers.collapsed_slice_dims == axes:
        return graph.add("Gather", values, places.reshape(()).astype(np.int64), axis=axes[0])
    shape, rank = equation.invars[0].aval.shape, equation.invars[1].aval.ndim
    whole = equation.params["slice_sizes"][1:] == shape[1:]
    rows = axes == numbers.collapsed_slice_dims == (0,) and not numbers.operand_batching_dims
    if rows and whole and numbers.offset_dims == tuple(range(rank - 1, rank + len(shape) - 2)):
        at = graph.add("Squeeze", graph.cast(places, np.int64), np.array([-1], np.int64))
        return graph.add("Gather", values, at, axis=0)
    places = _one_each(graph, numbers.offset_dims, axes, places)
    return graph.add("GatherElements", values, places, axis=axes[0])


def _scatter(graph: Graph, equation: Any, values: Value, places: Value, new: Value) -> Value:
    numbers = equation.params["dimension_numbers"]
    axes = numbers.scatter_dims_to_operand_dims
    places = _one_each(graph, numbers.update_window_dims, axes, places)
    return graph.add("ScatterElements", values, places, new, axis=axes[0], reduction="add")


RULES: dict[str, Rule] = {
    "add": _same("Add"), "add_any": _same("Add"), "sub": _same("Sub"), "mul": _same("Mul"),
    "div": _same("Div"), "max": _same("Max"), "min": _same("Min"), "pow": _same("Pow"),
    "neg": _same("Neg"), "exp": _same("Exp"), "log": _same("Log"), "tanh": _same("Tanh"),
    "logistic": _same("Sigmoid"), "sqrt": _same("Sqrt"), "abs": _same("Abs"),
    "floor": _same("Floor"), "ceil": _same("Ceil"), "round": _same("Round"), "sign": _same("Sign"),
    "erf": _same("Erf"), "and": _same("And"), "or": _same("Or"), "not": _same("Not"),
    "eq": _same("Equal"), "ne": _negated("Equal"), "lt": _same("Less"),
    "le": _same("LessOrEqual"), "gt": _same("Greater"), "ge": _same("GreaterOrEqual"),
    "stop_gradient": _identity, "copy": _identity, "copy_p": _identity,
    "convert_element_type": _cast, "rsqrt": _rsqrt, "square": _square, "integer_pow": _power,
    "log1p": _log1p, "erfc": _erfc, "clamp": _clamp, "select_n": _select, "reshape": _reshape,
    "broadcast_in_dim": _broadcast, "squeeze": _squeeze, "transpose": _transpose,
    "reduce_sum": _reduce("ReduceSum"), "reduce_max": _reduce("ReduceMax"),
    "reduce_min": _reduce("ReduceMin"), "argmax": _place("ArgMax"), "argmin": _place("ArgMin"),
    "dot_general": _dot, "conv_general_dilated": _conv, "concatenate": _concatenate,
    "reduce_window_max": _pool("MaxPool"),
    "reduce_window_sum": _pool("AveragePool", count_include_pad=1), "slice": _slice, "pad": _pad,
    "iota": _iota, "dim_as_value": _size, "gather": _gather,
    "scatter-add": _scatter, "select_and_scatter_add": _unpool,
}  # fmt: skip
