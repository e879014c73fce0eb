"""Equations of traced programs: which mark a layer, which hold a program, how to run one."""

from collections.abc import Sequence
from typing import Any

from jax.extend.core import ClosedJaxpr, Jaxpr

PREFIX = "lficam_jax:"  # of the names of marks
LOOPS = ("scan", "while", "cond")


def name_of(equation: Any) -> str | None:
    """Returns the name that an equation marks its value with."""
    name = equation.params.get("name") if equation.primitive.name == "name" else None
    return name.removeprefix(PREFIX) if isinstance(name, str) and PREFIX in name else None


def inner_of(equation: Any) -> tuple[Jaxpr, Sequence[Any]] | None:
    """Returns the program within an equation that can be run in its place."""
    if equation.primitive.name in LOOPS:
        return None
    for key in ("jaxpr", "call_jaxpr", "call"):
        inner = equation.params.get(key)
        if isinstance(inner, ClosedJaxpr):
            return inner.jaxpr, inner.consts
        if isinstance(inner, Jaxpr):
            return inner, ()
    return None


def bound(equation: Any, values: Sequence[Any]) -> Sequence[Any]:
    """Does what an equation says."""
    given = equation.primitive.get_bind_params(equation.params)
    # Some versions of jax keep functions apart from the other parameters.
    functions, params = given if isinstance(given, tuple) else ((), given)
    result = equation.primitive.bind(*functions, *values, **params)
    return result if equation.primitive.multiple_results else [result]
