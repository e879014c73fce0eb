"""What pages say of the studies, outside generated tables, follows from the records."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from configs.cluttered_digits import get_config
from lficam_jax.study import plots, record
from lficam_jax.study.claims import claims
from lficam_jax.study.headline import headline
from lficam_jax.study.plan import default_study

DOCS = Path(__file__).parent.parent / "docs"
SECOND = DOCS / "results" / "second_edition"
BLIND = ("gaussian", "random", "fakecam")


def read(name):
    return json.loads((SECOND / f"{name}.json").read_text())


@pytest.mark.parametrize("head", ["lfi", "abn", "classwise"])
def test_the_data_page_says_of_two_digits_what_the_record_does(head):
    found = read("two_digits")
    own = found["maps"][head]["own"]
    places = [own[c]["value"] for c in ("pointing_game", "asked_over_other", "energy")]
    row = f"| `{head}` | {found['accuracy'][head]['value']:.2f} % | "
    row += " | ".join(f"{value:.1f} %" for value in places)
    assert row in (DOCS / "datasets.md").read_text()


def test_the_page_of_measures_says_which_of_them_rank_how_sparse_a_map_is():
    rows = [
        each for maps in read("cluttered_digits")["maps"].values()
        for name, each in maps.items() if name not in BLIND
    ]  # fmt: skip

    def ranks(column):
        return np.argsort(np.argsort([each[column]["value"] for each in rows]))

    told = {
        column: f"{np.corrcoef(ranks('gini'), ranks(column))[0, 1]:.2f}".replace("-", "−")
        for column in ("energy", "average_drop", "adcc", "max_box_acc")
    }
    said = " ".join((DOCS / "measures.md").read_text().split())
    assert f"Over the {len(rows)} maps" in said
    assert f"energy with `gini` is {told['energy']}" in said
    assert f"average drop it is {told['average_drop']}, with ADCC {told['adcc']}" in said
    assert f"`max_box_acc` {told['max_box_acc']}" in said


def test_the_results_count_the_empty_maps_and_classwise_lfi_cams_losses():
    said = " ".join((DOCS / "results.md").read_text().split())
    cells = read("elpv")
    own, pictures = cells["maps"]["classwise"]["own"], cells["images"] * len(cells["settings"])
    assert f"For {own['constant']} of the {pictures:,} pictures" in said
    assert f"empty for {100 * own['constant'] / pictures:.0f} %" in said
    lost = read("fashion_mnist")["heads"]["accuracy"]["lfi"]
    assert lost["p_holm"] < 0.05 and lost["high"] < 0
    assert f"on Fashion-MNIST, by {-lost['value']:.2f} points†" in said


def test_an_answer_has_a_dagger_where_its_difference_has_one():
    found = read("two_digits")
    answers = {claim.question: (claim.answer, claim.tone) for claim in claims(found)}
    asked = "Do lfi's own maps agree more between settings than {}?"
    # iou: +0.060, no †; iou_equal_area: -0.076†; iou_auc: nothing
    told, tone = answers[asked.format("plain's grad_cam")]
    assert told == "iou: yes; iou_equal_area: no, less†; iou_auc: no detectable difference"
    assert tone == "mixed"
    found["accuracy"]["abn"]["difference"] |= {
        "value": 1.0,
        "low": 0.5,
        "high": 1.5,
        "p_holm": 0.01,
    }
    (claim,) = (c for c in claims(found) if c.question == "Is abn more accurate than plain?")
    assert (claim.answer, claim.tone) == ("yes†", "yes")


def test_side_by_side_stands_what_all_studies_have():
    """`tied` was trained on the cluttered digits alone; only two digits ask for one of two."""
    names = "cluttered_digits", "two_digits"
    found = headline({name: read(name) for name in names})
    rows = {row[0]: row[1:] for row in found.rows}
    assert found.header == ("", *names) and not any("tied" in name for name in rows)
    asked = "asked_over_other ↑: classwise's own map minus lfi's own"
    assert rows[asked][0] == "–" and rows[asked][1].startswith("**+50.58 [")
    alone = {row[0] for row in headline({"cluttered_digits": read("cluttered_digits")}).rows}
    assert asked not in alone and "accuracy: tied minus plain" in alone


def test_the_figure_has_every_mean_activation_and_the_blind_maps_once():
    found = read("two_digits")
    names = [name for name, _, _ in plots._map_rows(found)]
    assert all(f"{model} mean_features" in names for model in found["maps"])
    assert [n for n in names if n.split()[1] in BLIND] == [f"lfi {each}" for each in BLIND]


def test_no_pictures_draws_no_grid_and_opens_no_data(tmp_path):
    study = default_study(get_config())
    study.pictures, study.base.data.dir = 0, str(tmp_path / "nowhere")
    record._draw_grids(study, tmp_path)
    assert not list(tmp_path.iterdir())


def test_every_record_is_named_on_the_page():
    linked = re.findall(
        r"\]\(results/second_edition/(\w+)\.json\)", (DOCS / "results.md").read_text()
    )
    assert sorted(linked) == sorted(path.stem for path in SECOND.glob("*.json"))
