"""What a study leaves to read: a page, tables in three forms and a Markdown report."""

import base64
import json
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from lficam_jax.study import plots
from lficam_jax.study.claims import Claim, answers, claims
from lficam_jax.study.formats import FORMS, html, markdown
from lficam_jax.study.tables import tables

# Of each topic of the claims: its headline and its pictures with their captions.
SECTIONS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "accuracy": ("Accuracy", {
        "accuracy": "With 95 % intervals over settings and images; small dots: each setting."}),
    "maps": ("The maps", {
        "maps": "Orange: a model's own map. Black: drawn afterwards. Grey: trivial maps. With 95 % "
                "intervals over settings and images."}),
    "stability": ("Stability between settings", {
        "stability": "Orange: a model's own map. Bar: what chance gives, the images shuffled. "
                     "With 95 % intervals over settings and images.",
        "grid_abn": "The own map of abn: one row per setting.",
        "grid_abn_one_loss": "The own map of abn_one_loss: one row per setting.",
        "grid_lfi": "The own map of lfi: one row per setting."}),
    "fin": ("What FIN adds", {
        "fin": "lfi, and lfi with one thing changed. Dots: each setting."}),
}  # fmt: skip
STYLE = """
:root { color-scheme: light dark; --ink: #1b1b1f; --soft: #5c5c66; --line: #dedee4; --paper: #fff }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e9e9ee; --soft: #a3a3ad; --line: #3a3a42; --paper: #17171a }
}
body { margin: 0 auto; padding: 2rem 1.2rem 4rem; max-width: 68rem; color: var(--ink);
       background: var(--paper); font: 16px/1.55 system-ui, sans-serif }
h1 { font-size: 1.7rem; margin: 0 0 .3rem } h2 { font-size: 1.15rem; margin: 2.6rem 0 .6rem }
.soft, caption { color: var(--soft); font-size: .88rem }
dl { display: grid; grid-template-columns: minmax(12rem, 20rem) 1fr; gap: .7rem 1.5rem }
dt { font-weight: 600 } dd { margin: 0 } dd p { margin: .15rem 0 0 }
figure { margin: 1rem 0 } .scroll { overflow-x: auto }
figure img { max-width: 100%; background: #fff; border-radius: 6px }
table { border-collapse: collapse; font-size: .82rem; font-variant-numeric: tabular-nums }
caption { text-align: left; padding: .4rem 0; max-width: 60rem }
caption b { color: var(--ink) }
th, td { padding: .3rem .6rem; text-align: right; border-bottom: 1px solid var(--line);
         white-space: nowrap }
th { font-weight: 600 } th:first-child, td:first-child { text-align: left }
@media (max-width: 40rem) { dl { grid-template-columns: 1fr } dd { margin-bottom: .6rem } }
"""


def report(workdir: Path) -> Path:
    """Writes everything that follows from `results/study.json`; returns the page.

    `results/tables/NAME.{md,csv,tex}`, `results/{accuracy,maps,stability,fin}.png`,
    `results/study.md` and `results/index.html`.
    """
    results = workdir / "results"
    record = json.loads((results / "study.json").read_text(encoding="utf-8"))
    plots.draw_all(record, results)
    (results / "tables").mkdir(exist_ok=True)
    for table in tables(record):
        for suffix, written in FORMS.items():
            path = results / "tables" / f"{table.name}.{suffix}"
            path.write_text(written(table), encoding="utf-8")
    (results / "study.md").write_text(as_markdown(record), encoding="utf-8")
    page = results / "index.html"
    page.write_text(_page(record, results), encoding="utf-8")
    return page


def as_markdown(record: Mapping[str, Any]) -> str:
    """Returns what was run, what it says to each claim, and all tables."""
    return "\n".join([about(record), *map(markdown, [answers(record), *tables(record)])])


def about(record: Mapping[str, Any]) -> str:
    """Returns command, date, hardware, versions and sizes as a Markdown list."""
    return "".join(f"- {name}: {value}\n" for name, value in _about(record))


def _about(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    versions = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    done, planned = len(record["runs"]), record["planned"]
    counted = f"{done}" if done == planned else f"{done} of {planned}: the study is not finished"
    return [
        ("command", f"`{record['command']}`"),
        ("date", record["date"]),
        ("hardware", record["hardware"]),
        ("versions", versions),
        ("runs", f"{counted}; trained and measured in {record['time']}"),
        (
            "images",
            f"{record['test_examples']:,} for accuracy, {record['images']} of them for maps",
        ),
    ]


def _page(record: Mapping[str, Any], results: Path) -> str:
    run = "".join(f"<br>{escape(n)}: {escape(v.strip('`'))}" for n, v in _about(record))
    title = f"Study: {record['name']}"
    found = claims(record)
    sections = "".join(
        f"<h2>{headline}</h2><dl>{''.join(_answer(c) for c in found if c.topic == topic)}</dl>"
        + "".join(_picture(results / f"{name}.png", text) for name, text in pictures.items())
        for topic, (headline, pictures) in SECTIONS.items()
    )
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title>"
        f"<meta name=viewport content='width=device-width'><style>{STYLE}</style>"
        f"<h1>{escape(title)}</h1><p class=soft>{run.removeprefix('<br>')}</p>"
        f"<p>A difference counts where its paired 95 % interval leaves out 0.</p>{sections}"
        f"<h2>Tables</h2>{''.join(map(html, tables(record)))}</html>\n"
    )


def _answer(claim: Claim) -> str:
    evidence = escape(claim.evidence.replace("**", ""))
    return (
        f"<dt>{escape(claim.question)}</dt>"
        f"<dd>{escape(claim.answer)}<p class=soft>{evidence}</p></dd>"
    )


def _picture(path: Path, caption: str) -> str:
    if not path.exists():  # a grid of a model that the study does not have
        return ""
    code = base64.b64encode(path.read_bytes()).decode("ascii")
    return (
        f"<figure><img alt='{escape(caption)}' src='data:image/png;base64,{code}'>"
        f"<figcaption class=soft>{escape(caption)}</figcaption></figure>"
    )
