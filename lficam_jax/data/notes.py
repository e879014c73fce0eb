"""What is to be said of pictures while they are read."""

import sys
import threading
from collections.abc import Sequence


class Notes:
    """Says each note once, of the first picture that it is true of; threads may share it."""

    def __init__(self) -> None:
        self._said: set[str] = set()
        self._lock = threading.Lock()

    def tell(self, name: str, notes: Sequence[str]) -> None:
        """Says on standard error what was not said of a picture before."""
        for note in notes:
            with self._lock:
                if note not in self._said:
                    self._said.add(note)
                    print(f"{name}: {note} (said once)", file=sys.stderr, flush=True)
