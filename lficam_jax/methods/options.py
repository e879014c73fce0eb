"""The options that a method alone has, such as `samples` of `rise`: which, and of what kind."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax

from lficam_jax.errors import UserError, brief, check_whole, check_word, is_number, nearest
from lficam_jax.methods.loops import SCORES

_OF_ALL = ("split", "target", "project", "key", "chunk_size")
_WHOLE = ("samples", "cells")
_SHARES = ("window", "share")


def names(method: Callable[..., Any]) -> tuple[str, ...]:
    """Returns the names of a method's own options.

    >>> def rise(split, target, *, key=None, samples=1000, cells=7): ...
    >>> names(rise)
    ('samples', 'cells')
    """
    return tuple(name for name in inspect.signature(method).parameters if name not in _OF_ALL)


def check(methods: Mapping[str, Callable[..., Any]], options: Mapping[str, Any]) -> None:
    """Checks options that are given to several methods: each goes to those that have it.

    Raises:
      UserError: for an option that none of them has, or a value of another kind.
    """
    own = {name: names(method) for name, method in methods.items()}
    for key, value in options.items():
        known = tuple(dict.fromkeys(option for found in own.values() for option in found))
        if key not in known:
            near = nearest(str(key), known)
            near = f"{near} " if "did you mean" in near else ": "  # all of them follow
            raise UserError(f"option {brief(key)} is unknown{near}{told(own)}")
        if not isinstance(value, jax.core.Tracer):
            _check_value(key, value)


def told(own: Mapping[str, tuple[str, ...]]) -> str:
    """Says which options methods have.

    >>> told({"rise": ("samples", "cells"), "grad_cam": ()})
    'rise has samples, cells; grad_cam has no options'
    """
    return "; ".join(
        f"{name} has {', '.join(found) if found else 'no options'}" for name, found in own.items()
    )


def _check_value(key: str, value: Any) -> None:
    if key in _WHOLE:
        check_whole(key, value)
    elif key == "score":
        check_word(key, value, SCORES)
    elif not is_number(value) or value < 0 or (key in _SHARES and not 0 < value <= 1):
        wanted = "a share above 0 and up to 1" if key in _SHARES else "a number, 0 or more"
        raise UserError(f"option {key} must be {wanted}, not {brief(value)}")
