"""What a study leaves to read: a page, tables in three forms and a Markdown report."""

import base64
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from lficam_jax.data.inside import inside
from lficam_jax.explaining.report import style
from lficam_jax.study import plots
from lficam_jax.study.claims import Claim, answers, claims, opening
from lficam_jax.study.comparisons import differences_csv
from lficam_jax.study.formats import FORMS, html, markdown
from lficam_jax.study.tables import tables
from lficam_jax.workdir.results import read_object, replace_text, teaching, understood

# Of each topic of the claims: its headline and its pictures with their captions.
SECTIONS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "accuracy": ("Accuracy", {
        "accuracy": "With 95 % intervals over settings and images; small dots: each setting."}),
    "maps": ("The maps", {
        "maps": "Orange: a model's own map. Black: drawn afterwards. Grey: trivial maps. With 95 % "
                "intervals over settings and images."}),
    "stability": ("Stability between settings", {
        "stability": "Orange: a model's own map. Tick: what chance gives, the images shuffled. "
                     "With 95 % intervals over settings and images."}),
    "fin": ("What FIN adds", {
        "fin": "lfi, and lfi with one thing changed. Dots: each setting."}),
}  # fmt: skip
# What the words on the page mean.
GLOSSARY: Mapping[str, str] = {
    "plain, abn, lfi": "A network without attention; with an Attention Branch; with LFI-CAM.",
    "plain_x2": "plain with its features times 2: is a gate more than that?",
    "lfi_trained, tied, prior, classwise": "lfi with a FIN that is helped to train; lfi whose "
    "channels the classifier's weights weigh, in two ways; a network with a map for each class.",
    "classwise_leaky, …_softmax, …_softmax_4, …_detached": "classwise with a map that also tells "
    "little evidence from less; that is a softmax over space, at temperature 1 and 4; that gets "
    "no gradient.",
    "FIN, uniform": "FIN weighs lfi's channels; uniform is lfi with all channels weighed equally.",
    "own": "The map that the network draws itself, in the pass that gives the class.",
    "cam, grad_cam, score_cam, …": "Maps computed from a network afterwards.",
    "mean_features, gaussian, random, fakecam": "Trivial maps. A measure in which one of them is "
    "ahead does not tell maps apart.",
    "setting": "One way to train: a seed, a learning rate, a batch size.",
    "deletion ↓, insertion ↑, road ↑": "How the class's probability falls when the pixels "
    "that a map calls important are taken away, and rises when they are brought back.",
    "average_drop ↓, average_gain ↑, adcc ↑": "What is left of the probability when the picture is "
    "weighed by its map.",
    "pointing_game ↑, energy ↑, max_box_acc ↑": "Does the map lie on the object?",
    "asked_over_other ↑": "Where a picture shows two objects and asks about one: how often does "
    "the map point at that one, if it points at either? 50 %: as often as not.",
    "stability": "Do maps of networks trained apart lie at the same place? 0: as chance has it, 1: "
    "equal.",
    "†": "Also after Holm's correction for the number of comparisons in the table.",
    "interval": "95 % over settings and images. A difference counts where its interval leaves out "
    "0.",
}


def report(workdir: Path) -> Path:
    """Writes everything that follows from `results/study.json`; returns the page.

    `results/tables/NAME.{md,csv,tex}`, `results/tables/differences.csv` (every difference that
    is corrected, with its p values), `results/{accuracy,maps,stability,fin}.png`,
    `results/study.md` and `results/index.html`.

    Raises:
      UserError: for a record that is damaged or of another version, or what cannot be written.
    """
    results = workdir / "results"
    path = results / "study.json"
    record = read_object(path)
    with understood(path):
        texts = {
            f"tables/{table.name}.{suffix}": written(table)
            for table in tables(record) for suffix, written in FORMS.items()
        }  # fmt: skip
        if "comparisons" in record:
            texts["tables/differences.csv"] = differences_csv(record)
        texts["study.md"] = as_markdown(record)
    plots.draw_all(record, results)  # what fails here is no damage: all tables could be written
    with understood(path):
        texts["index.html"] = page_of(record, results)
    with teaching(results):
        (results / "tables").mkdir(exist_ok=True)
        for name, text in texts.items():
            replace_text(inside(results, name, str(path)), text)
    return results / "index.html"


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


def page_of(record: Mapping[str, Any], results: Path) -> str:
    """Returns the page of a study; `results` holds its pictures."""
    run = "".join(
        f"<div><dt>{escape(n)}</dt><dd>{escape(v.strip('`'))}</dd></div>" for n, v in _about(record)
    )
    title = escape(f"Study: {record['name']}")
    lead = "".join(f"<p>{_led(sentence)}</p>" for sentence in opening(record))
    found = claims(record)
    grids = "".join(
        _picture(results / f"grid_{name}.png", f"The own map of {name}: one row per setting.")
        for name in record["maps"]
    )
    found_tables = tables(record)
    glance = "".join(html(table) for table in found_tables if table.name == "heads")
    sections = "".join(
        f"<h2>{headline}</h2><div class=claims>"
        f"{''.join(_answer(c) for c in found if c.topic == topic)}</div>"
        + "".join(_picture(results / f"{name}.png", text) for name, text in pictures.items())
        + (grids if topic == "stability" else "")
        for topic, (headline, pictures) in SECTIONS.items()
    )
    rest = "".join(html(table) for table in found_tables if table.name != "heads")
    words = "".join(f"<dt>{escape(n)}</dt><dd>{escape(v)}</dd>" for n, v in GLOSSARY.items())
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title>"
        "<meta name=viewport content='width=device-width, initial-scale=1'>"
        "<meta name=color-scheme content='light dark'>"
        f"<style>{style()}{style('study.css')}</style><main><section><header><div>"
        f"<h1>{title}</h1><dl>{run}</dl></div></header><div class=lead>{lead}</div>{glance}"
        f"{sections}"
        f"<h2>Words</h2><dl class=glossary>{words}</dl>"
        f"<h2>Tables</h2>{rest}</section></main></html>\n"
    )


def _led(sentence: str) -> str:
    topic, rest = sentence.split(":", 1)
    return f"<strong>{escape(topic)}:</strong>{escape(rest)}"


def _answer(claim: Claim) -> str:
    evidence = escape(claim.evidence.replace("**", ""))
    return (
        f"<div class='claim {claim.tone}'><span>{escape(claim.question)}</span>"
        f"<strong>{escape(claim.answer)}</strong><small>{evidence}</small></div>"
    )


def _picture(path: Path, caption: str) -> str:
    if not path.exists():  # a grid of a model that the study does not have
        return ""
    code = base64.b64encode(path.read_bytes()).decode("ascii")
    return (
        f"<figure class=shown><img alt='{escape(caption)}' src='data:image/png;base64,{code}'>"
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )
