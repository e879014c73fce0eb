"""A torch file becomes a run: what the command takes, prints and refuses, and where it leads."""

import json
import os
import pickle
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from test_interop import LFI8, Hostile, cifar, safetensors, state_of

from lficam_jax.errors import UserError
from lficam_jax.interop.torch import variables_from_torch
from lficam_jax.models import create_model
from lficam_jax.training.experiment import load_run
from lficam_jax.training.import_run import import_run
from lficam_jax.training.train import train
from lficam_jax.workdir.checkpoint import Checkpoints


def write(path, spec):
    """A safetensors file of a network; no torch is needed to make or to read one."""
    return safetensors(path, {k: v for k, v in state_of(spec).items() if v.ndim})


@pytest.fixture(scope="module")
def lfi_file(tmp_path_factory):
    return write(tmp_path_factory.mktemp("files") / "lfi.safetensors", LFI8)


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_the_weights_are_the_runs_step_zero(tiny, lfi_file, tmp_path):
    told = import_run(lfi_file, tiny, tmp_path / "run")
    assert told.splitlines() == [
        f"lfi.safetensors is step 0 of {tmp_path / 'run'}",
        "taken   226,010 of 226,010 parameters: classifier, head, last_stage, trunk",
    ]
    run = load_run(tiny, tmp_path / "run")
    assert run.step == 0
    same(run.variables, variables_from_torch(state_of(LFI8), run.model))


def test_a_plain_file_gives_its_backbone_and_the_rest_is_said_to_be_fresh(tiny, tmp_path):
    """As torchvision's ResNets: other classes, no attention.

    FIN and the classifier are 4 * (9 * 64 * 64 + 2 * 64) + 650 = 148,618 parameters.
    """
    path = write(tmp_path / "plain.safetensors", cifar(classes=1000))
    lines = import_run(path, tiny, tmp_path / "run").splitlines()
    assert lines[1] == "taken   77,392 of 226,010 parameters: last_stage, trunk"
    assert lines[2] == "fresh   head, classifier (random until trained)"
    assert lines[3] == "unused  fc.weight, fc.bias, which the model has no place for"


def test_training_starts_from_the_imported_weights(tiny, lfi_file, tmp_path, capsys):
    """With a learning rate of 0 they stay; every option that adds to the state is on."""
    tiny.optim.update(lr=0.0, freeze="trunk/.*", ema_decay=0.5)
    tiny.train.total_steps = tiny.eval.every_steps = 1
    import_run(lfi_file, tiny, tmp_path)
    before = load_run(tiny, tmp_path).variables
    train(tiny, tmp_path)
    assert "continuing at step 0 of 1" in capsys.readouterr().out
    same(load_run(tiny, tmp_path, step=1).variables["params"], before["params"])


@pytest.mark.torch
def test_a_released_pth_tar_is_read(tiny, tmp_path):
    torch = pytest.importorskip("torch")
    tensors = {f"module.{k}": torch.from_numpy(v) for k, v in state_of(LFI8).items()}
    torch.save({"epoch": 3, "state_dict": tensors}, tmp_path / "model_best.pth.tar")
    told = import_run(tmp_path / "model_best.pth.tar", tiny, tmp_path / "r")
    assert "226,010 of 226,010" in told and "names   without module. in front" in told


def refused(path, config, workdir):
    """The message; nothing is left that the command, put right, would stumble on."""
    with pytest.raises(UserError) as error:
        import_run(path, config, workdir)
    assert not (workdir / "config.json").exists() and not (workdir / "checkpoints").exists()
    return str(error.value)


def test_a_file_of_another_network_is_refused_with_all_that_differs(tiny, tmp_path):
    path = write(tmp_path / "deep.safetensors", cifar(count=2))
    text = refused(path, tiny, tmp_path / "run")
    assert "the torch weights are not of this model; say the backbone, depth" in text
    for stage in (1, 2, 3):
        assert f"only in the file: layer{stage}.1.conv1.weight" in text


def test_a_file_without_weights_or_that_is_not_there_is_refused(tiny, tmp_path):
    path = safetensors(tmp_path / "empty.safetensors", {})
    assert "empty.safetensors: the checkpoint holds no weights" in refused(
        path, tiny, tmp_path / "r"
    )
    assert "no such file" in refused(tmp_path / "absent.pth", tiny, tmp_path / "r")


def test_a_truncated_file_is_refused(tiny, lfi_file, tmp_path):
    path = tmp_path / "cut.safetensors"
    path.write_bytes(lfi_file.read_bytes()[:-1000])
    assert "cut.safetensors: damaged or truncated" in refused(path, tiny, tmp_path / "run")


@pytest.mark.torch
def test_a_truncated_torch_file_is_refused(tiny, tmp_path):
    torch = pytest.importorskip("torch")
    path = tmp_path / "cut.pth"
    torch.save({"a": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:2000])
    assert "cut.pth: damaged or truncated" in refused(path, tiny, tmp_path / "run")


@pytest.mark.torch
def test_a_file_that_would_run_code_is_refused_and_does_not_run(tiny, tmp_path):
    pytest.importorskip("torch")
    path, witness = tmp_path / "evil.pth", tmp_path / "it_ran"
    path.write_bytes(pickle.dumps(Hostile(witness)))
    assert "evil.pth: refused" in refused(path, tiny, tmp_path / "run")
    assert not witness.exists()


def test_a_depth_that_does_not_exist_names_the_nearest(tiny, lfi_file, tmp_path):
    tiny.model.depth = 9
    assert "6n + 2, nearest: 8, 14" in refused(lfi_file, tiny, tmp_path / "run")


def test_a_run_is_never_overwritten(tiny, lfi_file, tmp_path):
    import_run(lfi_file, tiny, tmp_path)
    with pytest.raises(UserError, match="holds a run already; import into another --workdir"):
        import_run(lfi_file, tiny, tmp_path)
    tiny.model.head = "plain"
    with pytest.raises(UserError, match="another config.*\n  model.head: lfi -> plain"):
        import_run(lfi_file, tiny, tmp_path)
    with Checkpoints(tmp_path) as checkpoints:
        assert list(checkpoints.manager.all_steps()) == [0]


@pytest.fixture
def command(digits):
    """Runs `python -m lficam_jax.NAME` on one CPU device; returns its code and what it printed."""

    def run(name, *words):
        environment = {**os.environ, "XLA_FLAGS": ""}
        words = [str(word).replace("DIGITS", str(digits)) for word in words]
        return subprocess.run(
            [sys.executable, "-m", f"lficam_jax.{name}", *words],
            env=environment, text=True, capture_output=True, timeout=240,
        )  # fmt: skip

    return run


CONFIG = ("--config", "configs/cluttered_digits.py:smoke", "--config.train.tensorboard=False",
          "--config.data.dir=DIGITS")  # fmt: skip


def test_the_command_teaches_and_tells_mistakes_in_one_line(command, tmp_path):
    out = command("import_torch", "--help").stdout
    for word in ("FILE is one of", "--workdir", "Examples:", "init_from"):
        assert word in out
    for words, message in [
        ([*CONFIG, "--workdir", tmp_path], "give one FILE to import, not 0"),
        (["file.pth", "--workdir", tmp_path], "--config is missing"),
        (["file.pth", *CONFIG], "--workdir is missing"),
        (
            ["file.pth", *CONFIG, "--workdri", tmp_path],
            "unknown flag --workdri — did you mean '--workdir'?",
        ),
        (["file.pth", *CONFIG, "--workdir", tmp_path], "error: file.pth: no such file"),
    ]:
        done = command("import_torch", *words)
        assert done.returncode == 2 and message in done.stderr
        assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


@pytest.mark.slow
@pytest.mark.torch
def test_from_a_released_file_to_a_fine_tuned_network(command, tmp_path):
    """The commands of docs/models.md, on a checkpoint as the released code saves it."""
    torch = pytest.importorskip("torch")
    from torch_reference import Network, randomise

    network = randomise(Network("cifar_resnet", 8, "lfi", 10), seed=3).eval()
    state = {f"module.{name}": tensor for name, tensor in network.state_dict().items()}
    released = {"epoch": 300, "arch": "resnet", "state_dict": state, "best_acc": np.float64(90.1)}
    torch.save(released, tmp_path / "model_best.pth.tar")
    source, tuned = tmp_path / "imported", tmp_path / "tuned"

    def succeeds(name, *words):
        done = command(name, *words)
        assert done.returncode == 0, done.stderr
        return done.stdout

    arguments = (tmp_path / "model_best.pth.tar", *CONFIG, "--workdir", source)
    assert "226,010 of 226,010 parameters" in succeeds("import_torch", *arguments)
    assert "test at step 0" in succeeds("main", *CONFIG, "--workdir", source, "--mode", "evaluate")
    assert json.loads((source / "results" / "evaluate.json").read_text())["step"] == 0
    succeeds("main", *CONFIG, "--workdir", source, "--mode", "explain")
    assert next(source.glob("explanations/*/index.html")).stat().st_size > 1000

    tune = (f"--config.init_from={source}", "--config.optim.freeze=trunk/.*")
    out = succeeds("main", *CONFIG, *tune, "--workdir", tuned)
    assert f"starting from step 0 of {source}" in out and "step 4/4" in out
    before, after = (kernels(workdir) for workdir in (source, tuned))
    moved = {path for path in before if not np.array_equal(before[path], after[path])}
    assert moved and not any(path.startswith("trunk/") for path in moved)

    images = torch.zeros(1, 3, 32, 32)  # the same network still, seen from torch
    model = create_model("cifar_resnet", 8, num_classes=10)
    with Checkpoints(source) as checkpoints:
        outputs = model.apply(checkpoints.restore_model(None, 0), jnp.zeros((1, 32, 32, 3)))
    np.testing.assert_allclose(
        outputs.logits, network(images)["logits"].detach(), rtol=1e-4, atol=1e-4
    )


def kernels(workdir):
    """Parameters of a run's newest step, by path."""
    with Checkpoints(workdir) as checkpoints:
        step = max(checkpoints.manager.all_steps())
        return flatten_dict(checkpoints.restore_model(None, step)["params"], sep="/")
