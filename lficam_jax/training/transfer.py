"""Weights from one network into another: the backbone must fit, head and classifier may start anew.

The one rule for torch files and for runs of this project: a group of the model that does not fit in
full, because the classes, the head or its options differ, is taken whole from its fresh start.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from flax.traverse_util import flatten_dict, unflatten_dict

from lficam_jax.errors import UserError
from lficam_jax.structs import Variables

MAY_START_FRESH = ("head", "classifier")


def group(path: str) -> str:
    """Returns the part of the model that a path is in.

    >>> group("params/trunk/stem/conv/kernel"), group("head/fin/conv0")
    ('trunk', 'head')
    """
    parts = path.split("/")
    return parts[1] if parts[0] in ("params", "batch_stats") else parts[0]


def transfer(source: Variables, fresh: Variables) -> tuple[Variables, tuple[str, ...]]:
    """Puts another network's weights in the place of fresh ones.

    Args:
      source: variables of a network with the same backbone.
      fresh: variables of the network to fill, as `init` draws them.

    Returns:
      The variables, and the groups (`head`, `classifier`) that stayed fresh.

    Raises:
      UserError: listing every name and shape of the backbone that does not match.
    """
    found, wanted = flatten_dict(dict(source), sep="/"), flatten_dict(dict(fresh), sep="/")
    problems = _problems(found, wanted)
    stay = tuple(g for g in MAY_START_FRESH if g in {group(path) for path in problems})
    lines = [text for path, text in problems.items() if group(path) not in MAY_START_FRESH]
    if lines:
        raise UserError("the backbones differ:\n  " + "\n  ".join(lines))
    taken = {path: leaf for path, leaf in found.items() if path in wanted}
    kept = {path: leaf for path, leaf in wanted.items() if group(path) in stay}
    present = {group(path) for path in wanted}
    return unflatten_dict({**taken, **kept}, sep="/"), tuple(g for g in stay if g in present)


def told(fresh: Iterable[str]) -> str:
    """Writes which groups start fresh, for the end of a line.

    >>> told(["head", "classifier"])
    '; fresh: head, classifier'
    """
    return "; fresh: " + ", ".join(fresh) if fresh else ""


def _problems(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, str]:
    """Returns our path -> what is wrong with it."""
    problems = {}
    for path in sorted({*found, *wanted}):
        theirs, ours = (list(t[path].shape) if path in t else None for t in (found, wanted))
        if theirs is None:
            problems[path] = f"{path}: {ours} here, absent there"
        elif ours is None:
            problems[path] = f"{path}: {theirs} there, absent here"
        elif theirs != ours:
            problems[path] = f"{path}: {theirs} there, {ours} here"
    return problems
