"""Scans of a traced network written out turn by turn, so that the layers within are seen."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from lficam_jax.interop.networks.equations import LOOPS, PREFIX, bound, inner_of, name_of

MOST = 64  # turns: a longer scan stays as it is, and its layers are not seen


def written_out(traced: ClosedJaxpr) -> tuple[ClosedJaxpr, dict[str, str]]:
    """Returns a program without marks in loops, and each mark's name before.

    A layer within a scan is named `layer[0]`, `layer[1]`, … after the turns. In other loops, and in
    a scan of more than `MOST` turns, layers lose their marks.
    """
    if not any(_holds_marks(e) for e in _equations(traced.jaxpr) if e.primitive.name in LOOPS):
        return traced, {}
    before: dict[str, str] = {}
    play = partial(_play, traced.jaxpr, traced.consts, at=(), before=before)
    return jax.make_jaxpr(lambda *args: play(args))(*traced.in_avals), before


def call(path: str, count: int) -> str:
    """Returns the name of a layer's call: the second is `path#2`."""
    return path if count == 1 else f"{path}#{count}"


def _play(
    jaxpr: Jaxpr, consts: Sequence[Any], args: Sequence[Any], *, at: tuple[int, ...] | None,
    before: dict[str, str],
) -> list[Any]:  # fmt: skip
    """Runs equations in the turns `at` of the scans around them; None: without marks."""
    known: dict[Any, Any] = dict(zip(jaxpr.constvars, consts, strict=True))
    known |= zip(jaxpr.invars, args, strict=True)

    def of(value: Any) -> Any:
        return value.val if isinstance(value, Literal) else known[value]

    for equation in jaxpr.eqns:
        name, inner = name_of(equation), inner_of(equation)
        values = [of(v) for v in equation.invars]
        if name is not None:
            outs: Sequence[Any] = [_marked(name, values[0], at, before)]
        elif inner is not None and _holds_marks(equation):
            outs = _play(*inner, values, at=at, before=before)
        elif equation.primitive.name in LOOPS and _holds_marks(equation):
            short = equation.primitive.name == "scan" and 0 < equation.params["length"] <= MOST
            if short and at is not None:
                outs = _turns(equation.params, values, at, before)
            else:
                outs = bound(_without_marks(equation), values)
        else:
            outs = bound(equation, values)
        known |= zip(equation.outvars, outs, strict=True)
    return [of(v) for v in jaxpr.outvars]


def _marked(name: str, value: Any, at: tuple[int, ...] | None, before: dict[str, str]) -> Any:
    if at is None:
        return value
    path = name.partition("#")[0] + "".join(f"[{turn}]" for turn in at)
    # Numbered anew: a scan may be traced more than once, and only the last time counts.
    new = next(n for i in range(1, len(before) + 2) if (n := call(path, i)) not in before)
    before[new] = name
    return checkpoint_name(value, PREFIX + new)


def _turns(
    params: Any, values: Sequence[Any], at: tuple[int, ...], before: dict[str, str]
) -> list[Any]:
    """Runs a scan turn by turn."""
    body, (fixed, kept) = params["jaxpr"], _counts(params)
    same, carry, rows = values[:fixed], values[fixed : fixed + kept], values[fixed + kept :]
    turns = range(params["length"])
    stacked: dict[int, list[Any]] = {}
    for turn in reversed(turns) if params["reverse"] else turns:
        each = [jax.lax.index_in_dim(row, turn, keepdims=False) for row in rows]
        args = [*same, *carry, *each]
        outs = _play(body.jaxpr, body.consts, args, at=(*at, turn), before=before)
        carry, stacked[turn] = outs[:kept], outs[kept:]
    return [
        *carry,
        *(jnp.stack(list(one)) for one in zip(*(stacked[t] for t in turns), strict=True)),
    ]


def _counts(params: Any) -> tuple[int, int]:
    """Returns how many values a scan has that stay the same, and how many it carries on."""
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    fixed, kept, _ = params["ft_in"].unpack()  # since jax 0.11
    return len(fixed), len(kept)


def _without_marks(equation: Any) -> Any:
    def clean(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(clean, value))
        if not isinstance(value, ClosedJaxpr):
            return value
        play = partial(_play, value.jaxpr, value.consts, at=None, before={})
        return jax.make_jaxpr(lambda *args: play(args))(*value.in_avals)

    return equation.replace(params={key: clean(value) for key, value in equation.params.items()})


def _holds_marks(equation: Any) -> bool:
    return any(name_of(e) is not None for inner in _within(equation) for e in _equations(inner))


def _equations(jaxpr: Jaxpr) -> Iterator[Any]:
    """Yields the equations of a program and of all programs within."""
    for equation in jaxpr.eqns:
        yield equation
        for inner in _within(equation):
            yield from _equations(inner)


def _within(equation: Any) -> Iterator[Jaxpr]:
    for value in equation.params.values():
        for one in value if isinstance(value, tuple | list) else (value,):
            if isinstance(one, ClosedJaxpr):
                yield one.jaxpr
            elif isinstance(one, Jaxpr):
                yield one
