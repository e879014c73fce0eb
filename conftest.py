"""Settings that must stand before jax is imported: CPU, eight devices, a compilation cache."""

import copy
import gc
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


def pytest_collection_finish():
    """Leaves what is imported by now out of every later search for garbage: a sixth of the time."""
    gc.collect()
    gc.freeze()


MOST_MAPS = 10_000  # Linux lets a process have 65,530 (vm.max_map_count)


@pytest.fixture(autouse=True, scope="module")
def few_programs():
    """Frees the programs of a file that is done, once there are many.

    Each takes several mappings of memory, and where Linux gives no more, XLA ends the process with
    a segmentation fault.
    """
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and len(maps.read_text().splitlines()) > MOST_MAPS:
        jax.clear_caches()
        gc.collect()


@pytest.fixture(scope="session")
def few_digits(tmp_path_factory):
    """Prepares a data set of digits with few examples in each split; returns its directory."""
    from lficam_jax.data.builders import cluttered_digits
    from lficam_jax.prepare import prepare

    def prepared(train, validation, test, name="cluttered_digits"):
        path = tmp_path_factory.mktemp("digits")
        counts = {"train": train, "validation": validation, "test": test}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cluttered_digits, "COUNTS", counts)
            prepare(name, path)
        return path

    return prepared


@pytest.fixture(scope="session")
def digits(few_digits):
    """A data directory with a small cluttered_digits: 96, 40 and 50 examples."""
    return few_digits(96, 40, 50)


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
        checkpoints.save(state)
        checkpoints.note(0, {"accuracy": 0.5})
    return workdir


@pytest.fixture(scope="module")
def run(trained):
    """The trained run, as Python loads it."""
    import lficam_jax as lfi  # here, so that a test of what importing costs sees a fresh start

    return lfi.load(trained)


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """A TFDS set `shades`: 10 pictures, in one split, in files not in order. Not to be changed."""
    import io

    import numpy as np
    import tensorflow_datasets as tfds
    from PIL import Image

    def jpeg(shade):
        content = io.BytesIO()
        Image.new("RGB", (20, 10), (shade,) * 3).save(content, "jpeg")
        return content.getvalue()

    directory = tmp_path_factory.mktemp("tfds")
    with tfds.core.registered.skip_registration():

        class Shades(tfds.core.GeneratorBasedBuilder):
            VERSION = tfds.core.Version("1.0.0")

            def _info(self):
                features = {
                    "image": tfds.features.Image(),
                    "label": tfds.features.ClassLabel(names=["dark", "light"]),
                    "segmentation_mask": tfds.features.Image(shape=(None, None, 1)),
                    "id": tfds.features.Text(),
                }
                return tfds.core.DatasetInfo(
                    builder=self, features=tfds.features.FeaturesDict(features)
                )

            def _split_generators(self, dl_manager):
                return {"train": self._generate_examples()}

            def _generate_examples(self):
                trimap = Image.fromarray(np.repeat(np.uint8([[1, 2, 3, 2]]), 5, 0))
                for i in range(10):
                    picture = b"broken" if i == 7 else jpeg(25 * i)
                    row = {"image": io.BytesIO(picture), "label": int(i > 4)}
                    yield i, {**row, "segmentation_mask": trimap, "id": f"number {i}"}

    Shades(data_dir=str(directory), file_format="array_record").download_and_prepare()
    return directory


@pytest.fixture
def foreign(prepared, tmp_path):
    """A copy of the prepared set, and its files of metadata."""
    import shutil

    shutil.copytree(prepared, tmp_path / "data")
    (features,) = (tmp_path / "data").rglob("features.json")
    return tmp_path / "data", features, features.with_name("dataset_info.json")


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
        if any("clip.mp4" in example.source for example in request.node.dtest.examples):
            _clip(tmp_path / "clip.mp4", Image.open(tmp_path / "photo.png"))
        monkeypatch.chdir(tmp_path)


def _clip(path, picture):
    """Writes a video of two frames, or skips where no video can be written."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=10)
        stream.width, stream.height = picture.size
        for frame in (av.VideoFrame.from_image(picture),) * 2:
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
