"""What explaining and measuring begin and end alike."""

import json

import jax
import numpy as np
import pytest

from lficam_jax.config import as_json
from lficam_jax.data import dataset_info
from lficam_jax.errors import UserError
from lficam_jax.explaining.session import Session
from lficam_jax.measure.faithfulness import faithfulness
from lficam_jax.measure.sanity import sanity
from lficam_jax.methods import TRIVIAL
from lficam_jax.structs import Run
from lficam_jax.training.experiment import initial_variables, make_model


@pytest.fixture
def fresh(tiny, tmp_path):
    """An untrained network as a run; its folder does not exist yet."""
    info = dataset_info(tiny.data)
    model = make_model(tiny, info)
    return Run(tmp_path / "run", tiny, model, initial_variables(model, tiny, info), step=7)


def test_a_run_is_named_after_its_network(fresh):
    assert fresh.title == "cifar_resnet-8 with lfi head"
    session = Session(fresh, "validation")
    data = "cluttered_digits, validation split"
    told = session.details
    assert "jax" in told.pop("made")
    assert told == {"model": fresh.title, "data": data, "step": 7, "align": "centres"}
    assert Session(fresh, None).details["data"] == "images of your own"


def test_methods_are_those_asked_for_else_what_the_network_can_give(fresh):
    default = ("own", "cam")
    assert Session(fresh).methods(*default) == ["own", "cam"]
    asked = Session(fresh, methods=["random", "cam", "cam"])
    assert asked.methods(*default) == ["random", "cam"]
    assert asked.with_trivial(*default)[:2] == ["random", "cam"]
    assert {*asked.with_trivial()} == {"random", "cam", *TRIVIAL}
    fresh.config.model.head = "plain"
    assert Session(fresh).methods(*default) == ["cam"]
    with pytest.raises(UserError, match="did you mean 'grad_cam'"):
        Session(fresh, methods=["grad_cm"])


def test_one_process_measures(fresh, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(UserError, match="in one process.*leave out --distributed"):
        Session(fresh)


def test_a_batch_is_shared_by_the_devices_and_its_rows_have_places(fresh):
    session = Session(fresh, "test", 10, batch_size=3)  # on eight devices
    assert session.size == 8
    first, last = session.batches()
    assert first["rows"].tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert last["rows"].tolist() == [8, 9, 0, 0, 0, 0, 0, 0] and last["valid"].sum() == 2
    assert Session(fresh, "test", 10).size == 16  # not 64


def test_only_write_leaves_a_file(fresh):
    session = Session(fresh, "test", 8, ["own"])
    result = session.result({"accuracy": np.float32(0.5)})
    assert result == {
        "data": "cluttered_digits",
        "split": "test",
        "images": 8,
        "step": 7,
        "align": "centres",
        "seconds": 0,
        "accuracy": 0.5,
    }
    assert not fresh.workdir.exists()
    written = session.write("mine", result)
    assert written == fresh.workdir / "results" / "mine.json"
    stored = json.loads(written.read_text())
    assert stored.pop("made_by")["config"] == as_json(fresh.config)
    assert stored == result
    assert "images" not in Session(fresh, None).result({})


def test_measuring_returns_its_result_and_writes_nothing(fresh):
    session = Session(fresh, "test", 8, ["own"])
    rows = faithfulness(session, ["sparseness"])["methods"]
    assert list(rows) == ["own", *TRIVIAL] and rows["own"]["measures"]["gini"]["n"] == 8
    stages = sanity(session)["stages"]
    assert list(stages["head"]["methods"]) == ["own", *TRIVIAL]
    assert not fresh.workdir.exists()
