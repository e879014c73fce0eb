"""The table of measures as an object: rows and columns for programs, a table for people."""

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from lficam_jax.errors import check_word
from lficam_jax.measure.scoreboard import COLUMNS, NOTES, cells, table

WIDTH = 100  # of the printed table; what does not fit goes below


class Measures(Mapping[str, Mapping[str, float]]):
    """Methods × measures; it shows itself as a table with 95 % intervals, here or in a notebook.

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
        """Returns the 95 % interval over images: bootstrap, of shares Wilson's.

        Raises:
          UserError: for a method or a measure that is not in the table.
        """
        check_word("method", method, self._found)
        check_word("measure", measure, self._found[method]["measures"])
        summary = self._found[method]["measures"][measure]
        return float(summary["low"]), float(summary["high"])

    def __repr__(self) -> str:
        return table(self._found, WIDTH).strip("\n")

    def _repr_html_(self) -> str:
        head, *rows = cells(self._found)
        top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
        body = "".join(
            f"<tr><th>{escape(name)}</th>"
            + "".join(f'<td style="white-space:nowrap">{escape(cell)}</td>' for cell in row)
            + "</tr>"
            for name, *row in rows
        )
        notes = "".join(f"<p>{escape(note)}</p>" for note in NOTES)
        return (
            '<div style="overflow-x:auto"><table><thead><tr>'
            f"{top}</tr></thead><tbody>{body}</tbody></table></div>{notes}"
        )
