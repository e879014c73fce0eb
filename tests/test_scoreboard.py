"""The two modes on trained runs, and the table on scores written by hand."""

import csv
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import lficam_jax
from lficam_jax import modes
from lficam_jax.data import open_source
from lficam_jax.data.sample import Sample
from lficam_jax.errors import UserError
from lficam_jax.explaining.explain import explain
from lficam_jax.explaining.session import Session
from lficam_jax.measure import scoreboard
from lficam_jax.measure import stability as comparison
from lficam_jax.measure.faithfulness import Measurement, chosen, faithfulness, stream
from lficam_jax.measure.measures import Measures
from lficam_jax.measure.scoreboard import COLUMNS, GROUPS, NOTES, for_page, marks, summarise, table
from lficam_jax.measure.watchers import Gallery
from lficam_jax.methods import TRIVIAL
from lficam_jax.metrics import stability
from lficam_jax.metrics.pairs import Agreement
from lficam_jax.training.experiment import load_run
from lficam_jax.workdir.folder import read_config
from lficam_jax.workdir.table import aligned

QUICK = {"limit": 10, "split": "test"}


def test_faithfulness_measures_what_it_says(tiny, trained, capsys):
    asked = {"groups": ["adcc", "localisation"], "baseline": "mean", "methods": ["own"]}
    assert modes.faithfulness(tiny, str(trained), **QUICK, **asked) == 0
    out = capsys.readouterr().out
    result = json.loads((trained / "results" / "faithfulness.json").read_text())
    assert list(result["methods"]) == ["own", "mean_features", "gaussian", "random", "fakecam"]
    own = result["methods"]["own"]
    assert own["images"] == 10 == own["measures"]["adcc"]["n"]
    pointing = own["measures"]["pointing_game"]
    assert pointing["low"] <= pointing["value"] <= pointing["high"] <= 100
    for name in ("pointing_game ↑ %", "(fakecam)", "constant", "max_box_acc ↑ %"):
        assert name in out
    with (trained / "results" / "faithfulness.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 5 * 4 and lines[0]["measure"] == "adcc"
    assert float(lines[0]["value"]) == pytest.approx(own["measures"]["adcc"]["value"])

    with (trained / "results" / "faithfulness_images.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 10 * 5 and len({row["id"] for row in rows}) == 10
    assert {row["method"] for row in rows} == set(result["methods"])
    ours = [row for row in rows if row["method"] == "own"]
    for column in ("adcc", "pointing_game", "energy"):
        mean = np.mean([float(row[column]) for row in ours])
        assert mean == pytest.approx(own["measures"][column]["value"])
    assert all(row["predicted"] == row["class"] for row in ours)  # the class that is asked about
    assert 0 < float(ours[0]["probability"]) <= 1

    html = (trained / "results" / "faithfulness.html").read_text()
    assert out.splitlines()[-1].endswith("faithfulness.html")
    page = json.loads(re.search(r'type="application/json"[^>]*>(.*?)</script>', html)[1])
    assert f"lficam_jax {lficam_jax.__version__}" in dict(page["details"])["made"]
    told = {image["id"]: (image["true"], image["predicted"]) for image in page["images"]}
    assert told == {row["id"]: (row["label"], row["predicted"]) for row in ours}
    assert page["methods"] == list(result["methods"]) and len(page["images"]) == 10
    assert page["measures"]["rows"][0]["cells"][0]["value"] == own["measures"]["adcc"]["value"]
    assert page["images"][0]["outline"] and page["images"][0]["maps"][3]["method"] == "random"

    with pytest.raises(UserError, match="did you mean 'grad_cam'"):
        modes.faithfulness(tiny, str(trained), **QUICK, **asked | {"methods": ["grad_cm"]})


def test_numbers_that_cannot_be_written_are_printed_before_that_is_said(
    tiny, trained, tmp_path, capsys
):
    """A folder that one may only read: here, a file stands where the results would go."""
    run = tmp_path / "run"
    shutil.copytree(trained, run, ignore=shutil.ignore_patterns("results"))
    (run / "results").write_text("in the way")
    for mode, asked, told in (
        (modes.evaluate, {"split": "test"}, "pointing_game"),
        (modes.faithfulness, QUICK | {"groups": ["sparseness"], "methods": ["own"]}, "gini ↑"),
        (modes.sanity, QUICK | {"methods": ["own"]}, "classifier"),
    ):
        with pytest.raises(UserError, match="cannot write .*results"):
            mode(tiny, str(run), **asked)
        assert told in capsys.readouterr().out


def test_the_class_is_the_models_own_or_the_true_one(tiny, trained):
    run = load_run(tiny, trained)
    (batch,) = (sample := Sample(tiny.data, "test", 16)).batches(16)
    seen = {}
    for target in ("predicted", "label"):
        measure = Measurement(run.model, sample.info, ["sparseness"], "mean", 2, target)
        seen[target] = {k: np.asarray(v) for k, v in measure.see(run.variables, batch).items()
                        if k in ("share", "class", "before")}  # fmt: skip
    own, true = seen["predicted"], seen["label"]
    np.testing.assert_array_equal(own["class"], own["share"].argmax(axis=1))
    np.testing.assert_array_equal(own["before"], own["share"].max(axis=1))
    np.testing.assert_array_equal(true["class"], batch["label"])
    np.testing.assert_array_equal(
        true["before"], true["share"][np.arange(16), batch["label"]])  # fmt: skip
    assert (own["class"] != true["class"]).any()  # else this test would show nothing


def test_the_gallery_keeps_the_very_maps_that_were_measured(tiny, trained):
    run = load_run(tiny, trained)
    session = Session(run, "test", 20, ["own", "cam"], batch_size=8)
    measure = Measurement(run.model, session.info, [], "mean", 2, "label")
    gallery = Gallery(session.sample, session.places, session.run.model, 4)
    stream(measure, session, session.methods(), [gallery.add])
    found = gallery.explanations
    assert [e.method for e in found] == ["own", "cam"] * 4
    (batch,) = session.sample.batches(20)
    assert [e.id for e in found[::2]] == [str(batch["id"][i]) for i in (0, 5, 10, 15)]
    again = explain(
        run.model, run.variables, batch["image"], preprocess=session.info, method=["own", "cam"],
        target=batch["label"].tolist(), batch_size=8,
    )  # fmt: skip
    for i in range(4):
        for one, other in zip(found[2 * i : 2 * i + 2], again[10 * i : 10 * i + 2], strict=True):
            np.testing.assert_allclose(one.map, other.map, atol=1e-5)
            assert one.class_index == other.class_index and one.label == batch["label"][5 * i]


def test_a_broken_network_has_no_measures_and_says_so(tiny, trained, tmp_path, capsys):
    run = load_run(tiny, trained)
    broken = jax.tree.map(lambda leaf: leaf * np.nan, dict(run.variables))
    session = Session(replace(run, variables=broken), **QUICK, methods=["own"])
    found = faithfulness(session, ["sparseness"])["methods"]["own"]
    assert found["not_finite"] == 10 and found["measures"]["gini"]["n"] == 0
    assert np.isnan(found["measures"]["gini"]["value"])


def test_stability_of_a_run_with_its_copy(tiny, trained, tmp_path, capsys):
    shutil.copytree(trained, tmp_path / "b")
    runs = [str(trained), str(tmp_path / "b")]
    assert modes.compare(tiny, str(tmp_path / "out"), runs, **QUICK) == 0
    out = capsys.readouterr().out
    assert "official_rowwise" in out and "chance" in out and "2 models, 1 pair, 10 images" in out
    found = json.loads((tmp_path / "out" / "results" / "stability.json").read_text())
    assert found["statistics"]["iou_equal_area"]["value"] == 1
    assert found["statistics"]["iou_equal_area"]["chance"] < 1
    html = (tmp_path / "out" / "results" / "stability.html").read_text()
    page = json.loads(re.search(r'type="application/json"[^>]*>(.*?)</script>', html)[1])
    names = page["pairs"]["runs"]
    assert page["methods"] == names and len(names) == 2 and names[1].endswith("b")
    assert len(page["images"]) == 10 and len(page["images"][0]["maps"]) == 2
    assert all(image["disagreement"] == 0 for image in page["images"])
    square = {each["name"]: each["squares"] for each in page["pairs"]["statistics"]}
    (own, cell), (same, _) = square["iou_equal_area"]
    assert own is None and cell == same and cell["value"] == cell["adjusted"] == 1
    with Image.open(tmp_path / "out" / "results" / "stability.png") as picture:
        assert picture.width > 300
    with pytest.raises(UserError, match="two or more"):
        modes.compare(tiny, str(tmp_path), runs[:1], **QUICK)
    with pytest.raises(UserError, match="holds no run"):
        modes.compare(tiny, str(tmp_path), [runs[0], str(tmp_path / "none")], **QUICK)


def test_the_squares_hold_each_pair_twice_and_images_are_found_by_their_id():
    """Three runs, one of which read the examples in another order and knows other classes."""
    same, other = np.zeros((2, 8, 8), np.float32), np.zeros((2, 8, 8), np.float32)
    same[:, :4], other[:, 4:] = 1, 1
    shown = [{"id": 7, "name": "a.png", "image": np.zeros((8, 8, 3), np.uint8), "label": 1}]
    share = np.array([[0.2, 0.8], [0.9, 0.1]], np.float32)
    look = comparison.Look([7, 3], ("cat", "dog"), same, share, 0, shown)
    turned = replace(look, ids=[3, 7], maps=other, probabilities=share[::-1])
    looks = {"x/a": look, "x/b": turned, "x/c": replace(look, classes=("dog", "cat"))}
    assert comparison.short_names(list(looks)) == ["a", "b", "c"]
    agreement = Agreement({name: each.maps for name, each in looks.items()})
    result = {"runs": looks, "pairs": agreement.pairs(), "statistics": agreement.statistics()}
    found = comparison.for_page(result, ["a", "b", "c"])
    (iou,) = [each for each in found["statistics"] if each["name"] == "iou"]
    values = [[cell and cell["value"] for cell in row] for row in iou["squares"]]
    assert values == [[None, 0, 1], [0, None, 0], [1, 0, None]]
    maps = comparison.explanations(looks, ["a", "b", "c"])
    assert [item.method for item in maps] == ["a", "b", "c"] and maps[0].name == "a.png"
    assert maps[0].probabilities == pytest.approx([0.2, 0.8]) and maps[0].correct
    np.testing.assert_array_equal(maps[1].map, other[0])


def test_a_config_file_that_is_not_ours(tmp_path):
    (tmp_path / "config.json").write_text('{"colour": 1}')
    with pytest.raises(UserError, match="cannot read"):
        read_config(tmp_path)


def test_a_sample_is_spread_over_the_split_and_padded(tiny):
    sample = Sample(tiny.data, "test", 10)
    batches = list(sample.batches(4))
    assert len(sample) == 10 and len(batches) == 3
    ids = np.concatenate([b["id"][b["valid"]] for b in batches])
    source = open_source(tiny.data, "test")  # of 50
    assert ids.tolist() == [source[i]["id"] for i in range(0, 50, 5)]
    np.testing.assert_array_equal(batches[-1]["valid"], [True, True, False, False])
    assert batches[0]["image"].shape == (4, 16, 16, 3) and batches[0]["mask"].any()
    assert len(Sample(tiny.data, "test", 1000)) == 50


def test_what_can_be_measured_depends_on_the_data():
    groups, note = chosen([], has_mask=False)
    assert "localisation" not in groups and "left out" in note and "sensitivity" not in groups
    assert chosen([], has_mask=True) == ([g for g in GROUPS if g != "sensitivity"], "")
    assert chosen(["road"], has_mask=False) == (["road"], "")
    with pytest.raises(UserError, match="needs data that know"):
        chosen(["localisation"], has_mask=False)
    with pytest.raises(UserError, match="did you mean 'deletion'"):
        chosen(["deleton"], has_mask=True)


def rows(after, deletion, constant=0, broken=0):
    count = len(after)
    return {
        "after": np.array(after), "deletion": np.array(deletion, float),
        "deletion_curve": np.ones((count, 3)), "constant": np.arange(count) < constant,
        "not_finite": np.arange(count) < broken,
    }  # fmt: skip


def test_the_best_honest_value_is_marked_and_a_trivial_one_never_wins_silently():
    found = summarise(
        {
            "own": rows([0.5, 0.5], [0.2, 0.4]),
            "cam": rows([0.4, 0.5], [0.5, 0.5], constant=1),
            "fakecam": rows([0.9, 0.9], [0.1, 0.1]),
        },
        ["deletion"],
    )
    assert found["own"]["measures"]["deletion"]["value"] == pytest.approx(0.3)
    assert found["cam"]["constant"] == 1
    assert marks(found) == {("own", "deletion"): "*", ("fakecam", "deletion"): "!"}
    text = table(found)
    assert "0.300±" in text and "(fakecam)" in text and "0.100±0.000!" in text


def test_a_wide_table_is_folded_under_its_first_column():
    rows = [["method", "a", "b", "c"], ["own", "1", "22", "3"]]
    assert aligned(rows, 12) == (
        "method  a\nown     1\n\nmethod   b\nown     22\n\nmethod  c\nown     3"
    )
    assert aligned(rows, 13) == "method  a   b\nown     1  22\n\nmethod  c\nown     3"
    assert aligned(rows, 3).count("method") == 3  # a column is never cut


def test_measures_fit_a_terminal_and_a_notebook_shows_the_same():
    groups = [name for name in GROUPS if name != "sensitivity"]
    columns = [c for group in groups for c in GROUPS[group] if c not in ("win", "max_box_acc")]
    scores = {"own": 0.3, "grad_cam": 0.2, "mean_features": 0.1}
    found = {n: rows([0.5] * 2, [0]) | {c: np.array([v, v + 0.2]) for c in columns}
             for n, v in scores.items()}  # fmt: skip
    measures = Measures({"methods": summarise(found, groups)})
    lines, html = repr(measures).splitlines(), measures._repr_html_()
    assert max(map(len, lines)) <= 100 and len([line for line in lines if line[:4] == "own "]) > 2
    cells = [re.findall("<t[hd][^>]*>([^<]*)", row) for row in html.split("<tr>")[1:]]
    assert [len(row) for row in cells] == [len(cells[0])] * 4
    printed = {cell for line in lines for cell in re.split(" {2,}", line.strip())}
    shown = {cell.strip() for row in cells for cell in row}
    assert shown - printed == set() and "(mean_features)" in shown
    assert "0.400±0.100*" in shown and "0.200±0.100!" in shown  # intervals and marks
    assert html.count("<p>") == len(NOTES) and "tell maps apart" in html
    with pytest.raises(UserError, match="did you mean 'grad_cam'"):
        measures.interval("gradcam", "deletion")
    with pytest.raises(UserError, match="did you mean 'deletion'"):
        measures.interval("own", "deltion")


def test_the_page_gets_values_marks_and_curves():
    table = {"own": rows([0.5], [0.2]), "cam": rows([0.5], [np.nan], broken=1),
             "fakecam": rows([0.5], [0.1])}  # fmt: skip
    page = for_page(summarise(table, ["deletion", "sparseness"]))
    assert page["columns"] == [{"name": "deletion", "group": "deletion", "sign": -1, "unit": ""}]
    own, cam, fake = page["rows"]
    assert own["cells"] == [{"value": 0.2, "low": 0.2, "high": 0.2, "n": 1, "mark": ""}]
    assert cam["cells"] == [None] and cam["not_finite"] == 1
    assert fake["trivial"] and fake["cells"][0]["mark"] == "!"
    assert page["curves"] == {"deletion": dict.fromkeys(table, [1.0, 1.0, 1.0])}


def test_win_is_against_the_other_honest_methods():
    a, b, c = rows([0.9, 0.5], [0, 0]), rows([0.5, 0.5], [0, 0]), rows([1, 1], [0, 0])
    found = summarise({"own": a, "cam": b, "random": c}, ["confidence"])
    assert found["own"]["measures"]["win"]["value"] == 75  # one win, one tie
    assert found["cam"]["measures"]["win"]["value"] == 25
    assert found["random"]["measures"]["win"]["value"] == 100


def test_the_interval_of_a_share_that_is_whole_has_a_width():
    """200 of 200: [98.1, 100] by Wilson, where a bootstrap says [100, 100]."""
    rows = {c: np.ones(200) for c in ("pointing_game", "energy")} | {"increase": np.full(200, 0.0)}
    found = {c: scoreboard._summary(c, values) for c, values in rows.items()}
    assert found["pointing_game"]["low"] == pytest.approx(98.1, abs=0.05)
    assert found["pointing_game"]["high"] == pytest.approx(100)
    assert found["energy"]["low"] == 100  # no hit or miss: the bootstrap
    assert found["increase"]["high"] == pytest.approx(1.9, abs=0.05)


def test_maps_that_are_not_finite_are_counted_and_left_out():
    broken = rows([np.nan, 0.5], [np.nan, 0.4], broken=1)
    found = summarise({"own": broken}, ["deletion"])["own"]
    assert found["not_finite"] == 1 and found["images"] == 2
    assert found["measures"]["deletion"] == {"value": 0.4, "low": 0.4, "high": 0.4, "n": 1}
    none = summarise({"own": rows([np.nan], [np.nan], broken=1)}, ["deletion"])["own"]
    assert none["measures"]["deletion"]["n"] == 0 and " - " in table({"own": none})


def test_the_documentation_names_every_measure_and_statistic():
    text = Path("docs/measures.md").read_text()
    names = [*COLUMNS, *stability.STATISTICS, *TRIVIAL]
    shared = {"average_drop_50", "average_drop_15", "increase_50", "increase_15"}  # `_50`, `_15`
    assert not [name for name in names if f"`{name}`" not in text and name not in shared]
