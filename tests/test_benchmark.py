"""`--mode benchmark`: what its numbers mean, and that it needs neither data nor most libraries."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from lficam_jax.errors import UserError
from lficam_jax.models import create_model
from lficam_jax.speed import benchmark, timing

ROOT = Path(__file__).parent.parent
# Runs the program where nothing but jax, flax, optax, ml_collections and absl can be imported.
BARE = """
import sys
ABSENT = {
    "tensorflow", "tensorflow_datasets", "grain", "orbax", "matplotlib", "PIL", "sklearn",
    "tensorboardX", "array_record", "torch", "cv2", "simplejpeg",
}
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ABSENT:
            raise ImportError(f"{name} is absent")
sys.meta_path.insert(0, Absent())
from lficam_jax import cli, main
cli.run(main.main)
"""


def bare(*flags):
    command = [sys.executable, "-c", BARE, "--config", "configs/cluttered_digits.py:smoke", *flags]
    command.append("--config.data.image_size=16")
    environment = os.environ | {"XLA_FLAGS": ""}  # one device
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def nowhere(tiny, tmp_path):
    """A config whose data are not there."""
    tiny.data.dir = str(tmp_path)
    return tiny


@pytest.fixture
def once(monkeypatch):
    """One round of everything: here only the arithmetic counts."""
    monkeypatch.setattr(timing, "LEAST", 1)
    monkeypatch.setattr(timing, "MOST", 1)
    monkeypatch.setattr(timing, "SHORT", 0)


def test_describe_on_a_bare_machine():
    assert "parameters" in bare("--mode", "describe")


def test_benchmark_on_a_bare_machine(tmp_path):
    """Data are not needed; where they cannot be read, the table says so."""
    where = ["--mode", "benchmark", "--workdir", str(tmp_path), "--config.model.head=plain"]
    where += [f"--config.data.dir={tmp_path}"]  # nothing is prepared there
    told = bare(*where, "--sections", "forward,pipeline")
    assert "forward: logits" in told and "pipeline: left out" in told
    found = json.loads((tmp_path / "results" / "benchmark.json").read_text())
    rows = {row["name"]: row for row in found["rows"]}
    assert rows["logits"]["ratio"] == 1 and rows["logits"]["batch"] == 16
    assert "left out" in found["facts"]["pipeline"]


def test_speeds_agree_with_times(nowhere, once, capsys):
    found = benchmark.run(nowhere, ["methods", "measures"], ["gaussian"], ["sparseness"])
    names = [(row["section"], row["name"]) for row in found["rows"]]
    assert names == [
        ("methods", "logits"), ("methods", "gaussian"), ("measures", "own and one masked pass"),
        ("measures", "sparseness"),
    ]  # fmt: skip
    for row in found["rows"]:
        assert row["ms"] == pytest.approx(row["ms_per_image"] * row["batch"])
        assert row["images_per_second"] == pytest.approx(1e3 / row["ms_per_image"])
    assert "methods: gaussian" in capsys.readouterr().out


def test_waiting_for_data_is_a_share(tiny, once):
    found = benchmark.run(tiny, ["pipeline"])
    names = [row["name"] for row in found["rows"]]
    assert names == ["step on random images", "data alone", "data and step"]
    share = float(found["facts"]["waiting for data"].partition("%")[0])
    assert 0 <= share < 100


def test_a_map_that_the_network_cannot_give_is_named(nowhere, once, monkeypatch):
    nowhere.model.backbone, nowhere.model.depth = "cifar_densenet", 10
    monkeypatch.setattr(benchmark, "METHODS", ("cam", "gaussian"))
    found = benchmark.run(nowhere, ["methods"])
    assert [row["name"] for row in found["rows"]] == ["logits", "gaussian"]
    assert "without cam" in found["facts"]
    with pytest.raises(UserError, match="cam"):
        benchmark.run(nowhere, ["methods"], ["cam"])


def test_a_typo_is_told(nowhere):
    with pytest.raises(UserError, match="did you mean 'forward'"):
        benchmark.run(nowhere, ["forwrad"])


def test_programs_take_turns(monkeypatch):
    """Two calls of each that do not count, then one of each per round."""
    monkeypatch.setattr(timing, "SHORT", 0)
    calls = []
    programs = {name: lambda name=name: calls.append(name) for name in "ab"}
    times = timing.in_turn(programs, seconds=0)
    assert "".join(calls) == "ab" + "ab" + "ababab"
    assert [len(t) for t in times.values()] == [3, 3]


def test_flops_of_a_matrix_product():
    """[8 16] times [16 4]: 8 * 4 sums of 16 products, 2 operations each."""
    lowered = jax.jit(jnp.dot).lower(jnp.ones((8, 16)), jnp.ones((16, 4)))
    assert timing.flops(lowered) == 2 * 8 * 16 * 4


def test_peak_of_a_known_and_an_unknown_device(monkeypatch):
    monkeypatch.setitem(timing.MATRIX, "cpu", 64)
    timing.peak_flops.cache_clear()
    assert "measured" in timing.peak_flops("float32")[1]

    class Device:
        device_kind = "NVIDIA H100 80GB HBM3"

    monkeypatch.setattr(jax, "devices", lambda: [Device])
    assert timing.peak_flops("bfloat16") == (989e12, "data sheet of NVIDIA H100")
    timing.peak_flops.cache_clear()


def test_compiling_leaves_the_cache_as_it_was():
    before = jax.config.jax_compilation_cache_dir
    seconds, compiled = timing.compile_seconds(lambda: jax.jit(jnp.sin).lower(jnp.ones(3)))
    assert set(seconds) == {"trace", "cold", "warm"} and min(seconds.values()) > 0
    assert compiled(jnp.zeros(3)).tolist() == [0, 0, 0]
    assert jax.config.jax_compilation_cache_dir == before


@pytest.mark.torch
@pytest.mark.parametrize(
    ("family", "depth", "pixels"), [("cifar_resnet", 8, 32), ("resnet", 18, 64)]
)
def test_torch_is_measured_on_the_same_network(family, depth, pixels, monkeypatch):
    """As many parameters, and a map of the same size."""
    torch = pytest.importorskip("torch")
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    from torch_network import LFINetwork

    theirs = LFINetwork(depth, family == "cifar_resnet", classes=10)
    model, images = create_model(family, depth, num_classes=10), jnp.zeros((2, pixels, pixels, 3))
    variables = jax.eval_shape(lambda: model.init(jax.random.key(0), images))
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables["params"]))
    assert sum(p.numel() for p in theirs.parameters()) == count
    ours = jax.eval_shape(lambda v: model.apply(v, images), variables)
    logits, attention = theirs(torch.zeros(2, 3, pixels, pixels))
    assert (tuple(logits.shape), tuple(attention.shape)) == (
        ours.logits.shape, ours.attention.shape,
    )  # fmt: skip


@pytest.mark.torch
def test_comparison_with_torch_prints_ratios():
    pytest.importorskip("torch")
    command = [sys.executable, "benchmarks/compare_torch.py", "--cases", "resnet8:16:8"]
    command += ["--eager_only", "--seconds", "0.1"]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    last = told.splitlines()[-1].split()
    assert last[:2] == ["resnet8:16:8", "step"] and float(last[-2]) > 0 and last[-1] == "-"
