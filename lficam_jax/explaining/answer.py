"""What a network said of one picture, in words."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from lficam_jax.errors import UserError, brief, check_whole, is_number
from lficam_jax.explaining.asking import each_of
from lficam_jax.metrics.answers import PRESENT


@dataclass(frozen=True, eq=False)
class Answer:
    """A class, several labels or a number, beside the truth where it is known.

    Attributes:
      values: probability of each class or label, or the number `[1]`; empty of no answer at all.
      classes: names, in label order; of a number its name.
      kind: what was asked, of `models.answers.kind_of`.
      truth: the class; 0 or 1 for each label, NaN if that one is unknown; or the number. None if
        nobody knows it.

    Example:
      >>> said = Answer(np.array([0.9, 0.2, 0.7]), ("red", "green", "blue"), "several", (1, 1, 0))
      >>> said.text, said.true, said.correct, said.right, said.wrong
      ('red, blue', 'red, green', False, ['red', 'green'], ['blue'])
      >>> Answer(np.array([36.62]), ("width",), "number", 36).text
      '36.62'
    """

    values: Float[np.ndarray, " k"]
    classes: Sequence[str]
    kind: str = "class"
    truth: Any = None

    @property
    def predicted(self) -> int | None:
        """Index of the most probable class or label; 0 of a number; None of no answer at all."""
        return int(np.argmax(self.values)) if len(self.values) else None

    @property
    def present(self) -> list[int]:
        """The labels that are at least as probable as not; of a class, the predicted one."""
        if self.kind == "several":
            found: list[int] = np.flatnonzero(self.values >= PRESENT).tolist()
            return found
        return [] if self.predicted is None else [self.predicted]

    @property
    def text(self) -> str:
        """The class, the labels that are present, or the number."""
        return "–" if self.predicted is None else self._written(self.present, self.values[0])

    @property
    def true(self) -> str | None:
        """The same of the truth; None without one."""
        if self.truth is None:
            return None
        unknown = f" ({len(self.unknown)} unknown)" if self.unknown else ""
        return self._written(self._true, self.number) + unknown

    @property
    def correct(self) -> bool | None:
        """Whether the class, or every known label, is right; None if none is, and of a number."""
        if self.truth is None or self.predicted is None or self.kind == "number":
            return None
        if len(self.unknown) == len(self.classes):
            return None
        return not self.wrong and {*self._true} <= {*self.present}

    @property
    def right(self) -> list[str]:
        """Names of the true class, or of the labels that are there."""
        known = self.truth is not None and self.kind != "number"
        return [self.classes[i] for i in self._true] if known else []

    @property
    def wrong(self) -> list[str]:
        """Names that were predicted and are not true."""
        if self.truth is None or self.kind == "number":
            return []
        false = [self.classes[i] for i in self.present if i not in self._true]
        return [name for name in false if name not in self.unknown]

    @property
    def unknown(self) -> list[str]:
        """Names of the labels, of several, whose truth nobody knows, where that of others is."""
        if self.truth is None or self.kind != "several":
            return []
        of_labels = zip(self.classes, np.isnan(np.asarray(self.truth, float)), strict=True)
        return [name for name, unknown in of_labels if unknown]

    @property
    def error(self) -> float | None:
        """How far a number is above the true one; None without that."""
        known = self.kind == "number" and self.truth is not None
        return float(self.values[0]) - self.number if known else None

    def top(self, n: int) -> list[tuple[str, float]]:
        """Returns the `n` most probable classes or labels, best first; of a number none."""
        check_whole("n", n)
        if self.kind == "number":
            return []
        best = np.argsort(-self.values, kind="stable")[:n]
        return [(self.classes[index], float(self.values[index])) for index in best]

    def shares(self) -> str:
        """Writes how probable that is, of several labels each; of a number nothing."""
        if self.predicted is None or self.kind == "number":
            return "–" if self.predicted is None else ""
        said = self.present or [self.predicted]
        shares = ", ".join(f"{self.values[i]:.1%}" for i in said)
        return shares if self.present else f"{self.classes[said[0]]} {shares}"

    @property
    def number(self) -> float:
        """The true number, or class; of several labels the first."""
        return float(np.ravel(self.truth)[0])

    @property
    def _true(self) -> list[int]:
        if self.kind != "several":
            return [int(self.number)]
        found: list[int] = np.flatnonzero(np.asarray(self.truth) > 0.5).tolist()
        return found

    def _written(self, present: Sequence[int], number: float) -> str:
        if self.kind == "number":
            return f"{float(number):.4g}"
        return ", ".join(self.classes[i] for i in present) or "none"


def heads(kind: str, classes: Sequence[str]) -> list[str]:
    """Returns what stands above columns of `text` and `shares`."""
    if kind == "number":
        return [classes[0], ""]
    return ["labels" if kind == "several" else "class", "probability"]


def true_values(given: Any, kind: str, classes: Sequence[str], count: int) -> list[Any]:
    """Returns the truth of each image, where it is several labels or a number.

    Args:
      given: for each image the names of its labels, or a 0 or 1 for each label (NaN: unknown); or
        its number; or None where nobody knows. None: of none.
      kind: which it is.
      classes: names of the labels.
      count: of images.

    Raises:
      UserError: for another count, an unknown name, or something else.
    """
    if given is None:
        return [None] * count
    read = _number if kind == "number" else _labels
    each = each_of("labels", given, count)
    return [None if one is None else read(one, classes) for one in each]


def _number(given: Any, classes: Sequence[str]) -> float:
    values = given.tolist() if hasattr(given, "tolist") else given  # of an array
    one = values[0] if isinstance(values, list | tuple) and len(values) == 1 else values
    if not is_number(one):
        raise UserError(f"labels: give a number for each image, not {brief(given)}")
    return float(one)


def _labels(given: Any, classes: Sequence[str]) -> tuple[float, ...]:
    try:
        each = [given] if isinstance(given, str) else list(given)
    except TypeError:
        each = [given]
    if all(isinstance(one, str) and one in classes for one in each):
        return tuple(int(name in each) for name in classes)
    numbers = not any(isinstance(one, str) for one in each)
    if numbers and len(each) == len(classes) and all(one in (0, 1) or one != one for one in each):
        return tuple(float(one) if one != one else int(one) for one in each)
    raise UserError(
        f"labels: give the names of an image's labels, of {', '.join(classes)}, or a 0 or 1 for "
        f"each of the {len(classes)} (NaN if unknown), not {brief(given)}"
    )
