"""Classes are compared by name, whatever their order."""

import difflib
from collections.abc import Sequence

from lficam_jax.errors import UserError

_SHOWN = 20  # names in a message


def places(
    found: Sequence[str], classes: Sequence[str], where: str, whose: str = "the run"
) -> list[int]:  # fmt: skip
    """Returns where each of a data set's class names stands among those of a run, or of `whose`.

    >>> places(["cat", "ant"], ["ant", "bee", "cat"], "photos")
    [2, 0]

    Raises:
      UserError: for names that are not among them; both lists are shown.
    """
    unknown = [name for name in found if name not in classes]
    if unknown:
        told = ", ".join(repr(name) + _nearest(name, classes) for name in unknown[:_SHOWN])
        raise UserError(
            f"{where} has classes that {whose} does not know: {told}{_more(unknown)}\n"
            f"  there: {listed(found)}\n  {whose}: {listed(classes)}"
        )
    order = {name: place for place, name in enumerate(classes)}
    return [order[name] for name in found]


def _nearest(name: str, classes: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, classes, n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


def listed(names: Sequence[str]) -> str:
    """Writes class names, of many the first."""
    return ", ".join(names[:_SHOWN]) + _more(names)


def _more(names: Sequence[str]) -> str:
    return f", … ({len(names)})" if len(names) > _SHOWN else ""
