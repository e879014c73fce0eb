"""A table of text as Markdown, CSV, LaTeX and HTML."""

import csv
import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from html import escape


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
    """Writes header and rows."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([table.header, *table.rows])
    return stream.getvalue()


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
                          ("↑", r"$\uparrow$"), ("↓", r"$\downarrow$"), ("–", "--")):  # fmt: skip
        text = text.replace(mark, written)
    return rf"\textbf{{{text[2:-2]}}}" if _bold(text) else text


def _marked(text: str) -> str:
    return f"<b>{escape(text[2:-2])}</b>" if _bold(text) else escape(text)


def _bold(text: str) -> bool:
    return text.startswith("**") and text.endswith("**")
