"""A table of text as Markdown, CSV, LaTeX and HTML."""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from html import escape

from lficam_jax.workdir.table import csv_text

NONE = "–"  # where there is no number
_NUMBER = rf"([+-]?[\d.]+|{NONE})"
# As `cells.with_interval` and `signed` write it.
INTERVAL = re.compile(rf"(?:\*\*)?{_NUMBER} \[{_NUMBER}, {_NUMBER}\]†?(?:\*\*)?")


@dataclass(frozen=True)
class Table:
    """Text in rows.

    Attributes:
      name: of its file.
      title: its headline.
      caption: how to read it.
      header: of each column.
      rows: the cells.
    """

    name: str
    title: str
    caption: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def markdown(table: Table) -> str:
    """Writes a table with its title and caption."""

    def row(cells: Iterable[str]) -> str:
        return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"

    head = f"{row(table.header)}|{'|'.join(['---'] * len(table.header))}|\n"
    rows = "".join(map(row, table.rows))
    return f"**{table.title}.** {table.caption}\n\n{head}{rows}"


def to_csv(table: Table) -> str:
    """Writes header and rows; an estimate with its interval has three columns, all of numbers."""
    columns: list[list[str]] = []
    for name, *cells in zip(table.header, *table.rows, strict=True):
        found = [INTERVAL.fullmatch(cell) for cell in cells]
        if not any(found):
            columns.append([name, *("" if cell == NONE else cell.strip("*") for cell in cells)])
            continue
        for place, end in enumerate(("", " low", " high"), 1):
            numbers = (m[place].removeprefix("+").replace(NONE, "") if m else "" for m in found)
            columns.append([name + end, *numbers])
    return csv_text(list(zip(*columns, strict=True)))


def latex(table: Table) -> str:
    """Writes a `table` environment that needs the package booktabs."""
    lines = [" & ".join(map(_tex, row)) + r" \\" for row in (table.header, *table.rows)]
    columns = "l" + "r" * (len(table.header) - 1)
    return "\n".join([
        r"\begin{table}", r"\centering", rf"\caption{{{_tex(table.title)}. {_tex(table.caption)}}}",
        rf"\label{{tab:{table.name}}}", rf"\begin{{tabular}}{{{columns}}}", r"\toprule",
        lines[0], r"\midrule", *lines[1:], r"\bottomrule", r"\end{tabular}", r"\end{table}", "",
    ])  # fmt: skip


def html(table: Table) -> str:
    """Writes a figure with a caption; the page brings the style."""

    def row(cells: Iterable[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{_marked(cell)}</{tag}>" for cell in cells) + "</tr>"

    body = "".join(row(cells, "td") for cells in table.rows)
    return (
        f"<figure class=scroll><table><caption><b>{escape(table.title)}.</b> "
        f"{escape(table.caption)}</caption><thead>{row(table.header, 'th')}</thead>"
        f"<tbody>{body}</tbody></table></figure>"
    )


# File suffix to how a table is written there.
FORMS: Mapping[str, Callable[[Table], str]] = {"md": markdown, "csv": to_csv, "tex": latex}


def _tex(text: str) -> str:
    for mark, written in (("\\", r"\textbackslash{}"), ("_", r"\_"), ("%", r"\%"), ("&", r"\&"),
                          ("↑", r"$\uparrow$"), ("↓", r"$\downarrow$"), ("–", "--"),
                          ("†", r"$\dagger$")):  # fmt: skip
        text = text.replace(mark, written)
    return rf"\textbf{{{text[2:-2]}}}" if _bold(text) else text


def _marked(text: str) -> str:
    return f"<b>{escape(text[2:-2])}</b>" if _bold(text) else escape(text)


def _bold(text: str) -> bool:
    return text.startswith("**") and text.endswith("**")
