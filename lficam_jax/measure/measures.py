"""The table of measures as an object: rows and columns for programs, a table for people."""

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from lficam_jax.measure.scoreboard import COLUMNS, table


class Measures(Mapping[str, Mapping[str, float]]):
    """Methods × measures; printing it shows the table, with 95 % intervals.

    `measures["grad_cam"]["deletion"]` is the mean over the images. `rows` suits a table of any
    library: one flat dict for each method.

    Args:
      result: what `measure.faithfulness.faithfulness` returned.

    Attributes:
      result: as given; `result["methods"]` also holds the curves.

    Example:
      >>> cell = {"value": 0.25, "low": 0.2, "high": 0.3, "n": 8}
      >>> own = {"trivial": False, "images": 8, "constant": 0, "not_finite": 0,
      ...        "measures": {"deletion": cell}, "curves": {}}
      >>> measures = Measures({"methods": {"own": own}})
      >>> measures["own"]["deletion"], measures.interval("own", "deletion"), measures.columns
      (0.25, (0.2, 0.3), ['deletion'])
    """

    def __init__(self, result: Mapping[str, Any]) -> None:
        self.result = dict(result)
        self._found: Mapping[str, Mapping[str, Any]] = result["methods"]

    def __getitem__(self, method: str) -> Mapping[str, float]:
        measures = self._found[method]["measures"]
        return {name: float(summary["value"]) for name, summary in measures.items()}

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    @property
    def columns(self) -> list[str]:
        """The measures that any method has, in the order of the table."""
        return [c for c in COLUMNS if any(c in m["measures"] for m in self._found.values())]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """One dict for each method: its name, whether it is trivial, and its measures."""
        return [
            {"method": name, "trivial": method["trivial"], **self[name]}
            for name, method in self._found.items()
        ]

    def interval(self, method: str, measure: str) -> tuple[float, float]:
        """Returns the 95 % bootstrap interval over images."""
        summary = self._found[method]["measures"][measure]
        return float(summary["low"]), float(summary["high"])

    def __repr__(self) -> str:
        return table(self._found).strip("\n")

    def _repr_html_(self) -> str:
        arrows = {1: "↑", -1: "↓"}
        head = "".join(f"<th>{escape(c)} {arrows[COLUMNS[c]]}</th>" for c in self.columns)
        body = "".join(f"<tr><th>{escape(name)}</th>{self._cells(name)}</tr>" for name in self)
        return f"<table><tr><th>method</th>{head}</tr>{body}</table>"

    def _cells(self, method: str) -> str:
        values = [self[method].get(column) for column in self.columns]
        return "".join(f"<td>{'' if v is None else f'{v:.4g}'}</td>" for v in values)
