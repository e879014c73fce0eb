"""What the fuzz tests share: how many inputs they try, and bytes with a few of them changed."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

# Of each fuzz test the default run tries the same few inputs each time, `-m long` fifty times as
# many, and others at each run.
times = pytest.mark.parametrize("times", [1, pytest.param(50, marks=pytest.mark.long)])


def fuzz(check: Callable[[Any], None], examples: int, times: int) -> None:
    """Calls a check with hypothesis's `data`, from which it draws its input.

    Args:
      check: fails by raising.
      examples: in the default run.
      times: as many in this one.
    """
    settings(
        max_examples=examples * times, derandomize=times == 1, database=None, deadline=None,
        suppress_health_check=list(HealthCheck),
    )(given(st.data())(check))()  # fmt: skip


def damaged(data: Any, content: bytes) -> bytes:
    """Returns content with a few bytes changed, cut, or lengthened."""
    found = bytearray(content)
    places = st.integers(0, max(0, len(found) - 1))
    for place, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=6)):
        if found:
            found[place] = value
    cut = data.draw(st.one_of(st.just(len(found)), st.integers(0, len(found))))
    return bytes(found[:cut]) + data.draw(st.binary(max_size=8))
