"""Settings that must stand before jax is imported: CPU, eight devices, a compilation cache."""

import copy
import os
from importlib.util import find_spec
from pathlib import Path

# jax 0.10 starves its thread pool when eight virtual devices wait in a collective on few cores.
os.environ.setdefault("NPROC", "16")
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "")
    + " --xla_force_host_platform_device_count=8 --xla_cpu_collective_timeout_seconds=60"
)
CACHE = Path(__file__).parent / ".cache" / "jax"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(CACHE))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
# Compiling costs more than running here; tests that need full optimisation are tolerant instead.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_enable_checks", True)

# --doctest-modules imports every file here; torch is not a dependency.
collect_ignore = (
    []
    if find_spec("torch")
    else [
        "tests/torch_reference.py",
        "tests/torch_imagenet.py",
        "tests/test_torch_imagenet.py",
        "tests/test_torch_parity.py",
        "tests/test_methods_torch.py",
        "tests/test_methods_crosscheck.py",
        "tests/test_metrics_crosscheck.py",
        "tests/test_networks_crosscheck.py",
    ]
)

if find_spec("equinox") is None:  # of networks that people make with it; no dependency
    collect_ignore.append("lficam_jax/interop/networks/equinox_module.py")


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """A data directory with a small cluttered_digits: 96, 40 and 50 examples."""
    from lficam_jax.data.builders import cluttered_digits
    from lficam_jax.prepare import prepare

    path = tmp_path_factory.mktemp("digits")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluttered_digits, "COUNTS", {"train": 96, "validation": 40, "test": 50})
        prepare("cluttered_digits", path)
    return path


@pytest.fixture(scope="session")
def tiny_config(digits):
    """A config that runs in seconds: four steps of 16 images at 16 pixels. Not to be changed."""
    from configs.cluttered_digits import get_config

    config = get_config("smoke")
    config.data.dir = str(digits)
    config.data.image_size = 16
    config.train.tensorboard = False
    return config


@pytest.fixture
def tiny(tiny_config):
    """A copy of `tiny_config` for a test to change."""
    return copy.deepcopy(tiny_config)


@pytest.fixture(scope="session")
def trained(tiny_config, tmp_path_factory):
    """The folder of a run as training leaves it, at its first step. Not to be changed."""
    from lficam_jax.config import as_json
    from lficam_jax.data import dataset_info, resolved
    from lficam_jax.training.experiment import initial_variables, make_model, make_recipe
    from lficam_jax.workdir.checkpoint import Checkpoints
    from lficam_jax.workdir.folder import claim

    workdir = tmp_path_factory.mktemp("runs") / "a"
    info = dataset_info(tiny_config.data)
    config = copy.deepcopy(tiny_config)
    config.data = resolved(config.data, info)
    variables = initial_variables(make_model(config, info), config, info)
    claim(workdir, as_json(config))
    with Checkpoints(workdir, as_json(config)) as checkpoints:
        state = make_recipe(config, steps_per_epoch=4).state(variables)
        checkpoints.save(state, metrics={"accuracy": 0.5})
    return workdir


@pytest.fixture(scope="module")
def run(trained):
    """The trained run, as Python loads it."""
    import lficam_jax as lfi  # here, so that a test of what importing costs sees a fresh start

    return lfi.load(trained)


@pytest.fixture(autouse=True)
def _where_examples_run(request, tmp_path, monkeypatch):
    """Examples in docstrings find a run in runs/quickstart, and photo.png beside it."""
    if not isinstance(request.node, pytest.DoctestItem):
        return
    if any("runs/quickstart" in example.source for example in request.node.dtest.examples):
        from PIL import Image

        (tmp_path / "runs").mkdir()
        (tmp_path / "runs" / "quickstart").symlink_to(request.getfixturevalue("trained"))
        Image.new("RGB", (64, 48), (200, 120, 40)).save(tmp_path / "photo.png")
        monkeypatch.chdir(tmp_path)
