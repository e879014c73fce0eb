"""What is to be said of pictures while they are read."""

import re
import sys
import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path


class Notes:
    """Says each note once, of the first picture that it is true of; threads may share it.

    Notes that differ by a percentage alone count as one.
    """

    def __init__(self) -> None:
        self._said: set[str] = set()
        self._lock = threading.Lock()

    def tell(self, name: str, notes: Sequence[str]) -> None:
        """Says on standard error what was not said of a picture before."""
        for note in notes:
            with self._lock:
                kind = re.sub(r"\d+ %", "%", note)
                if kind not in self._said:
                    self._said.add(kind)
                    print(f"{name}: {note} (said once)", file=sys.stderr, flush=True)


@cache
def notes_of(folder: Path) -> Notes:
    """Returns what says the notes of a folder, whose splits are opened apart."""
    return Notes()
