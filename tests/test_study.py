"""The study: plan, paired statistics, and a whole miniature that is killed and goes on."""

import importlib
import json
import os
import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest

from configs.cluttered_digits import get_config
from configs.fashion_mnist import get_config as get_fashion_mnist
from lficam_jax.errors import UserError
from lficam_jax.models import create_model
from lficam_jax.study import document, summary
from lficam_jax.study.cells import differs, number, signed
from lficam_jax.study.claims import claims
from lficam_jax.study.formats import Table, html, latex, markdown, to_csv
from lficam_jax.study.headline import headline
from lficam_jax.study.plan import ABLATIONS, HEADS, VARIANTS, default_study, plan
from lficam_jax.study.tables import tables

ROOT = Path(__file__).parent.parent
MINIATURE = """
from configs.cluttered_digits import get_config as recipe
from lficam_jax.study.plan import default_study

def get_config(arg=""):
    base = recipe("smoke")
    base.data.dir, base.data.image_size = {data!r}, 16
    base.train.tensorboard = False
    study = default_study(base)
    study.models = {{n: study.models[n] for n in ("plain", "lfi")}}
    study.ablations = {{}}
    study.settings = {{f"s{{seed}}": {{"seed": seed}} for seed in range(3)}}
    study.measure.methods, study.measure.measures = ("own", "grad_cam"), ("confidence",)
    study.measure.limit, study.pictures = 16, 3
    return study
"""


@pytest.mark.parametrize("name", sorted(p.stem for p in (ROOT / "configs").glob("study_*.py")))
def test_every_study_can_be_planned_and_shrunk(name):
    module = importlib.import_module(f"configs.{name}")
    study = module.get_config()
    runs = plan(study)
    others = len(study.ablations) - 1  # the control is under every setting
    assert len(runs) == 5 * (len(study.models) + 1) + others * len(study.ablation_settings)
    assert sum(run.model == "uniform" for run in runs) == 5  # the control, under every setting
    assert len(plan(module.get_config("smoke"))) == 2 * (len(study.models) + 1)
    pages = re.findall(r"docs/results\S*\.md", module.__doc__)
    assert pages or "ot measured yet" in module.__doc__
    assert all((ROOT / page).is_file() for page in pages)


def test_the_second_edition_varies_seeds_or_settings_and_not_both():
    module = importlib.import_module("configs.study_second_edition")
    seeds, settings = (module.get_config(arg) for arg in ("", "vary=settings"))
    told = lambda study: {(r.config.seed, r.config.optim.lr) for r in plan(study)}  # noqa: E731
    assert {seed for seed, _ in told(seeds)} == {0, 1, 2, 3, 4} and len(told(seeds)) == 5
    assert {seed for seed, _ in told(settings)} == {0} and len(told(settings)) == 3
    assert {"classwise", "plain_x2", "lfi_trained"} <= {r.model for r in plan(seeds)}
    variants = module.get_config("vary=variants")
    assert len(plan(variants)) == 3 * (3 + len(VARIANTS) + 1)
    assert variants.measure.limit == 512 and variants.measure.method_limits.score_cam == 128
    with pytest.raises(UserError, match="vary='seed' is unknown.*'seeds'"):
        module.get_config("vary=seed")
    with pytest.raises(UserError, match="data='two' is unknown.*'two_digits'"):
        module.get_config("data=two")


@pytest.mark.parametrize(
    ("data", "epochs", "localised"),
    [("fashion_mnist", 12, False), ("elpv", 20, False), ("two_digits", 8, True)],
)
def test_the_second_edition_has_more_data_sets(data, epochs, localised):
    module = importlib.import_module("configs.study_second_edition")
    study = module.get_config(f"data={data}:vary=settings")
    (a, b) = (run.config for run in plan(study) if run.name in ("plain/a", "plain/b"))
    assert a.data.name == data and a.train.total_epochs == epochs == 4 * a.eval.every_epochs
    assert b.optim.lr == a.optim.lr / 2 and b.seed == a.seed
    assert ("localisation" in study.measure.measures) == localised
    runs = plan(module.get_config(f"data={data}"))
    assert {run.model for run in runs} == {"plain", "abn", "lfi", "classwise", "uniform"}
    assert {run.config.seed for run in runs} == {0, 1, 2} and len(runs) == 3 * 5


def test_every_model_is_planned_under_every_setting():
    study = default_study(get_config())
    study.settings = {"a": {"seed": 7}, "b": {"optim": {"lr": 0.05}}}
    study.ablation_settings = ("b",)
    runs = plan(study)
    together = ["plain/a", "abn/a", "abn_one_loss/a", "lfi/a", "uniform/a"]
    assert [run.name for run in runs[:5]] == together
    assert len(runs) == 2 * (len(study.models) + 1) + len(study.ablations) - 1
    by_name = {run.name: run.config for run in runs}
    assert by_name["lfi/a"].seed == 7 and by_name["lfi/b"].optim.lr == 0.05
    assert by_name["abn_one_loss/b"].model.abn.loss == "perception"
    assert by_name["temperature_0.1/b"].model.fin.temperature == 0.1
    assert by_name["uniform/b"].optim.lr == 0.05  # an ablation changes lfi under the same setting
    assert study.base.optim.lr == 0.1  # the base is nobody's to change


VGG = {"backbone": "vgg", "depth": 16}  # has hidden layers between features and classes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": {"a": {}}}, "at least two"),
        ({"settings": {"a": {}, "b": {"optim": {"learning": 1}}}}, "learning"),
        ({"settings": {"a": {}, "b": {"optim": {"lr": -1.0}}}}, "plain/b.*optim.lr"),
        ({"ablation_settings": ("seed9",)}, "mean 'seed"),
        ({"settings": {"a": {"seed": 1}, "b": {"seed": 1}}}, "a and b are the same"),
        ({"pictures": -5}, "study.pictures=-5 must be a whole number, 0 at least"),
        ({"base": {"model": {"depth": 9}}}, "plain/seed0: .*depth"),
        ({"base": {"model": {"loss": "regression"}}}, "plain/seed0: .*regression"),
        ({"models": HEADS, "base": {"model": VGG}}, "tied/seed0: .*fin.kind='learned'"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_before_anything_is_trained(change, message):
    study = default_study(get_config())
    study.update(change)
    with pytest.raises(UserError, match=message):
        plan(study)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("methods", ("grad_cat",), "mean 'grad_cam'"),
        ("methods", ("cam",), "compared with own; add it"),
        ("measures", ("insertoin",), "mean 'insertion'"),
        ("method_limits", {"scorecam": 8}, "mean 'score_cam'"),
        ("method_limits", {"score_cam": 100}, "score_cam=100 must divide measure.limit=256"),
        ("limit", 0, "measure.limit=0 must be a whole number, 1 at least"),
        ("steps", 0, "measure.steps=0 must be a whole number, 1 at least"),
        ("split", "tset", "mean 'test'"),
    ],
)
def test_a_measurement_that_cannot_be_is_refused(key, value, message):
    study = default_study(get_config())
    study.measure[key] = value
    with pytest.raises(UserError, match=message):
        plan(study)


def test_boxes_have_a_threshold_for_each_network():
    """Network 0 finds all boxes at the first threshold, network 1 at the second: 100 %, not 50."""
    overlaps = np.array([[[1.0, 0.0]] * 4, [[0.0, 1.0]] * 4])
    found = summary._value({"a": overlaps[0], "b": overlaps[1]}, "max_box_acc")
    assert (found["value"], found["low"], found["high"]) == (100, 100, 100)
    worse = summary._difference(overlaps, np.zeros_like(overlaps), "max_box_acc")
    assert worse["value"] == 100


def test_a_study_needs_what_everything_is_compared_with():
    study = default_study(get_config())
    study.models = {n: study.models[n] for n in ("abn", "lfi")}
    with pytest.raises(UserError, match="study.models: everything is compared with plain"):
        plan(study)
    with pytest.raises(UserError, match="measure.measures: .*localisation needs data"):
        plan(default_study(get_fashion_mnist()))


def test_a_paired_difference_sees_what_two_intervals_do_not():
    rng = np.random.default_rng(0)
    hard = rng.normal(0, 5, (1, 100)) + rng.normal(0, 0.01, (4, 100))
    found = summary._difference(hard + 0.1, hard)
    assert found["low"] > 0.09 and found["high"] < 0.11 and differs(found)
    assert not differs(summary._difference(hard, hard))


def test_a_document_is_filled_from_the_record_alone(tmp_path):
    records = sorted((ROOT / "docs" / "results").rglob("*.json"))
    assert records
    (tmp_path / "study.json").write_bytes(records[0].read_bytes())
    text = "# Mine\n<!-- study.json accuracy -->\nmade up\n<!-- end -->\nMy words.\n"
    filled = document.filled(text, tmp_path)
    assert "made up" not in filled and filled.endswith("<!-- end -->\nMy words.\n")
    accuracy = json.loads(records[0].read_text())["accuracy"]["lfi"]["value"]
    assert f"| lfi | {accuracy:.2f} [" in filled and document.filled(filled, tmp_path) == filled
    with pytest.raises(UserError, match="mean 'accuracy'"):
        document.filled(text.replace("accuracy", "acuracy"), tmp_path)
    with pytest.raises(UserError, match="cannot read .*other.json"):
        document.filled(text.replace("study.json", "other.json"), tmp_path)


@pytest.mark.parametrize(
    "mark", ["<!-- study.json accuracy --> \n", "<!-- study.json accuracy -->"]
)
def test_no_mark_leaves_an_old_table(tmp_path, mark):
    (record, *_) = sorted((ROOT / "docs" / "results").rglob("*.json"))
    (tmp_path / "study.json").write_bytes(record.read_bytes())
    filled = document.filled(f"{mark}stale<!-- end -->", tmp_path)
    assert "stale" not in filled and "| lfi |" in filled
    assert document.filled(filled, tmp_path) == filled


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("empty.json", "damaged, or of another version"), ("/*.json", "finds no files")],
)
def test_studies_that_cannot_be_laid_side_by_side_are_named(tmp_path, pattern, message):
    (tmp_path / "empty.json").write_text("{}")
    with pytest.raises(UserError, match=message):
        document.filled(f"<!-- {pattern} headline -->\n<!-- end -->", tmp_path)


OPEN, END = "<!-- study.json accuracy -->\n", "<!-- end -->\n"


@pytest.mark.parametrize(
    "text",
    [
        f"{OPEN}My words.\n{OPEN}old\n{END}",  # they would be lost
        f"{OPEN}My words.\n",
        f"{OPEN}old\n{END}My words.\n{END}",
        f"{END}{OPEN}old\n{END}",
    ],
)
def test_a_document_with_a_mark_too_few_or_too_many_stays_as_it_is(tmp_path, text, capsys):
    (record, *_) = sorted((ROOT / "docs" / "results").rglob("*.json"))
    (tmp_path / "study.json").write_bytes(record.read_bytes())
    page = tmp_path / "page.md"
    page.write_text(text)
    assert document.main([str(page)]) == 2
    assert page.read_text() == text
    assert f"error: {page}: " in (told := capsys.readouterr().err) and told.count("\n") == 1


def test_studies_are_laid_side_by_side(tmp_path):
    first = ROOT / "docs" / "results" / "first_edition"
    whole = json.loads((first / "cluttered_digits.json").read_text())
    small = whole | {"accuracy": dict(whole["accuracy"]), "versus": {}}
    del small["accuracy"]["abn"]
    found = headline({"whole": whole, "small": small})  # both of cluttered_digits
    assert found.header == ("", "whole", "small")
    rows = {name: cells for name, *cells in found.rows}
    assert rows["accuracy: abn minus plain"][1] == "–" != rows["accuracy: abn minus plain"][0]
    assert rows["accuracy: lfi minus plain"][0] == rows["accuracy: lfi minus plain"][1]
    with pytest.raises(UserError, match="cannot read"):
        document.filled("<!-- no*.json headline -->\n<!-- end -->", tmp_path)


def test_every_table_of_the_results_follows_from_the_committed_records():
    pages = [ROOT / "docs" / "results.md", *(ROOT / "docs" / "results").glob("*.md")]
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert document.PLACE.search(text)
        assert document.filled(text, page.parent) == text


def test_numbers_are_written_for_reading():
    telling = {"value": 0.52, "low": 0.1, "high": 0.9}
    assert signed(telling, 2) == "**+0.52 [0.10, 0.90]**"
    assert signed({"value": -0.5, "low": -1.0, "high": 0.1}, 1) == "-0.5 [-1.0, 0.1]"
    assert signed(None) == "–" and number(12.3456) == "12.35"


def test_a_table_in_four_forms():
    table = Table("t", "A title", "All 5 %.", ("model_a", "x ↑"), (("lfi", "**1**"), ("<b>", "2")))
    assert markdown(table).endswith("| model_a | x ↑ |\n|---|---|\n| lfi | **1** |\n| <b> | 2 |\n")
    assert to_csv(table) == "model_a,x ↑\nlfi,1\n<b>,2\n"
    assert r"model\_a & x $\uparrow$ \\" in latex(table) and r"lfi & \textbf{1} \\" in latex(table)
    assert "All 5 \\%." in latex(table)
    assert "<td><b>1</b></td>" in html(table) and "<td>&lt;b&gt;</td>" in html(table)


def start(config, workdir, *more):
    program = [sys.executable, "-m", "lficam_jax.main", "study"]
    command = [*program, "--config", config, "--workdir", workdir]
    return subprocess.Popen(
        [*map(str, command), *more], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, env=os.environ | {"XLA_FLAGS": ""},
    )  # fmt: skip


@pytest.fixture(scope="module")
def study(digits, tmp_path_factory):
    """A miniature, killed while it trains its third run, and given again to two processes."""
    workdir = tmp_path_factory.mktemp("study")
    config = workdir / "miniature.py"
    config.write_text(MINIATURE.format(data=str(digits)))
    with start(config, workdir) as program:
        for line in program.stdout:
            if line.startswith("[4/6]"):  # lfi is compiled, so its next setting comes first
                program.send_signal(signal.SIGKILL)
    finished = workdir / "runs" / "lfi" / "s0" / "results" / "train.json"
    stamp = finished.stat().st_mtime_ns
    assert not (workdir / "results").exists()
    programs = [start(config, workdir) for _ in range(2)]
    said = [program.communicate(timeout=300)[0] for program in programs]
    assert [program.returncode for program in programs] == [0, 0], "".join(said)
    assert finished.stat().st_mtime_ns == stamp  # what was done was not done again
    return workdir, said


def parameters(fin):
    """The number of FIN's parameters, and whether a network with it can be trained."""
    model = create_model("cifar_resnet", 8, "lfi", fin=fin, num_classes=10)
    images = jax.ShapeDtypeStruct((2, 16, 16, 3), "float32")
    variables = jax.eval_shape(partial(model.init, jax.random.key(0)), images)

    def loss(variables, images):
        return model.apply(variables, images).logits.sum()

    gradients = jax.eval_shape(jax.grad(loss), variables, images)
    assert jax.tree.structure(gradients) == jax.tree.structure(variables)
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"].get("head", {})))


def test_each_ablation_changes_what_its_name_says():
    whole = parameters({})
    changed = {n: parameters(change["model"]["fin"]) - whole for n, change in ABLATIONS.items()}
    assert changed.pop("uniform") == -whole  # nothing is left to learn
    nine_to_one, one_conv = 4 * 8 * 64 * 64, 9 * 64 * 64 + 2 * 64  # kernels; a kernel and a norm
    assert changed.pop("kernel_1") == -nine_to_one
    assert changed.pop("kernel_5") == 4 * (25 - 9) * 64 * 64
    assert changed.pop("shallow") == -2 * one_conv
    assert changed.pop("narrow") < -nine_to_one / 2
    assert changed.pop("learned_temperature") == 1
    assert changed == {"no_softmax": 0, "temperature_0.1": 0, "no_mask_image": 0}


@pytest.mark.slow
def test_a_killed_study_goes_on_and_ends_whole(study):
    workdir, said = study
    trained = re.findall(r"^\[./6\] (\S+): training", "".join(said), re.MULTILINE)
    assert sorted(trained) == ["lfi/s1", "lfi/s2", "plain/s1", "plain/s2"]  # each by one of the two
    assert all("2 of 6 runs are done" in each for each in said)
    assert sum("comparing 6 runs" in each for each in said) == 1
    assert any("left of the study" in each for each in said)
    record = json.loads((workdir / "results" / "study.json").read_text())
    assert " -m lficam_jax.main study --config" in record["command"]
    assert set(record["runs"]) == {f"{m}/s{s}" for m in ("plain", "lfi") for s in range(3)}
    assert record["test_examples"] == 50 and record["images"] == 16
    for model in ("plain", "lfi"):  # the same correct answers, counted by another program
        for setting, percent in record["accuracy"][model]["per_setting"].items():
            expected = 100 * record["runs"][f"{model}/{setting}"]["accuracy"]
            assert percent == pytest.approx(expected)
    assert set(record["stability"]) == {"plain", "lfi"}
    assert set(record["maps"]["plain"]) >= {"grad_cam", "fakecam", "gaussian", "mean_features"}
    trained = record["accuracy"]["lfi"]["difference"]
    assert trained["p"] <= trained["p_holm"] <= 1 and record["comparisons"]["accuracy"] == 1
    assert "own" not in record["maps"]["plain"] and "own" in record["maps"]["lfi"]


@pytest.mark.slow
def test_the_report_follows_from_the_record_alone(study):
    workdir, _ = study
    results = workdir / "results"
    record = json.loads((results / "study.json").read_text())
    for table in tables(record):
        assert (results / "tables" / f"{table.name}.md").read_text() == markdown(table)
    former = (results / "study.md").read_text()
    (results / "study.md").unlink()
    program = start(workdir / "miniature.py", workdir, "--report")
    program.communicate(timeout=120)
    assert (results / "study.md").read_text() == former
    page = (results / "index.html").read_text()
    for claim in claims(record):
        assert claim.question.replace("'", "&#x27;") in page
    assert "http" not in page.replace("http-equiv", "")
    assert {p.stem for p in results.glob("*.png")} == {
        "accuracy", "maps", "stability", "fin", "grid_lfi",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("program", "config", "message"),
    [
        ("main", "configs/study_cluttered_digits.py", "give it to lficam study"),
        ("study", "configs/cluttered_digits.py", "give it to lficam train"),
    ],
)
def test_a_config_of_the_other_program_is_told(program, config, message, tmp_path):
    command = [sys.executable, "-m", f"lficam_jax.{program}", "--config", config]
    done = subprocess.run(
        [*command, "--workdir", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2 and message in done.stderr and "Traceback" not in done.stderr


def test_a_report_without_a_study_says_so(tmp_path):
    program = start("configs/study_cluttered_digits.py", tmp_path, "--report")
    said, _ = program.communicate(timeout=60)
    assert program.returncode == 2 and "study.json is not there" in said
    assert "Traceback" not in said
