"""The wheel: built without a trace in the tree, installed alone, used from an empty folder."""

import ast
import email
import importlib.metadata
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SHIPPED = [
    str(path.relative_to(ROOT))
    for path in [*ROOT.glob("lficam_jax/**/*"), *ROOT.glob("configs/*.py")]
    if path.is_file() and "__pycache__" not in path.parts
]


def leftovers():
    return {p.name for p in ROOT.iterdir() if p.name in ("build", "dist") or "egg-info" in p.name}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    pytest.importorskip("hatchling")  # else building would download it
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(folder), str(ROOT)], check=True)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A fresh environment that holds the wheel, and sees the dependencies of this one."""
    home = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    (place,) = home.glob("lib/python*/site-packages")
    shared = [path for path in sys.path if path.endswith("site-packages")]
    (place / "shared.pth").write_text("\n".join(shared) + "\n")
    pip = [sys.executable, "-m", "pip", "--python", str(home / "bin" / "python")]
    flags = ["--quiet", "--no-deps", "--no-index", "--ignore-installed"]
    subprocess.run([*pip, "install", *flags, str(wheel)], check=True)
    return home / "bin"


@pytest.fixture(scope="module")
def run(installed, tmp_path_factory):
    """Runs a program of the environment in a folder that is empty at first."""
    folder = tmp_path_factory.mktemp("empty")
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "TFDS_DATA_DIR")}
    environment |= {"XLA_FLAGS": "", "HOME": str(folder), "TFDS_DATA_DIR": str(folder / "none")}

    def finish(program, *words):
        done = subprocess.run(
            [str(installed / program), *words], cwd=folder, env=environment, text=True,
            capture_output=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert not done.stderr  # no advice of a library's, no warning
        return done.stdout

    finish.folder = folder
    return finish


def about(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(archive.read(name))


def test_building_leaves_nothing_and_the_wheel_holds_all(wheel):
    assert not leftovers()
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert held == {path.replace("configs/", "lficam_jax/configs/") for path in SHIPPED}


def test_every_import_is_of_a_declared_dependency(wheel):
    requires = [line for line in about(wheel).get_all("Requires-Dist") if "extra ==" not in line]
    declared = {re.split(r"[<>=!~ \[;]", line)[0].lower().replace("_", "-") for line in requires}
    owners = importlib.metadata.packages_distributions()
    # Asked for in words where they are needed.
    optional = {"torch", "etils", "pillow_heif", "pydicom", "huggingface_hub", "onnx", "av"}
    optional |= {"equinox"}  # a network of the user's brought it
    for path in SHIPPED:
        if not path.endswith(".py"):
            continue
        for node in ast.walk(ast.parse((ROOT / path).read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module]
            for top in {name.split(".")[0] for name in names}:
                if top in {*sys.stdlib_module_names, *optional, "lficam_jax"}:
                    continue
                ours = {owner.lower().replace("_", "-") for owner in owners.get(top, [])}
                assert ours & declared, f"{path} imports {top}"


def test_what_it_needs_is_there_in_the_versions_that_it_asks_for(installed):
    pip = [sys.executable, "-m", "pip", "--python", str(installed / "python"), "check"]
    done = subprocess.run(pip, capture_output=True, text=True)
    assert "lficam" not in done.stdout, done.stdout


def test_the_command_and_every_config_work_anywhere(run):
    assert "\n  cifar10 " in run("lficam", "--help")
    assert run("lficam", "--version").startswith("lficam_jax 0.")
    program = (
        "from lficam_jax.config_file import load_config, shipped\n"
        "assert 'site-packages' in str(shipped()['cifar10'])\n"
        "print(*(name for name in shipped() if load_config(name)))\n"
    )
    names = run("python", "-c", program).split()
    assert names == sorted(path.stem for path in ROOT.glob("configs/*.py"))
    assert "FLOPs" in run("lficam", "describe", "--config", "cifar10:depth=20,head=abn")
    out = run("python", "-m", "lficam_jax.main", "--mode=describe", "--config=fashion_mnist")
    assert "FLOPs" in out
    assert not [path for path in run.folder.iterdir() if path.name != ".cache"]


@pytest.mark.slow
def test_a_run_from_an_empty_folder(run):
    from PIL import Image

    out = run("lficam", "train", "--config", "cluttered_digits:smoke", "--workdir", "runs/a")
    assert "step 4/4" in out
    Image.new("RGB", (40, 30), (200, 90, 10)).save(run.folder / "a.png")
    assert "a.png: " in run("lficam", "explain", "--workdir", "runs/a", "--images", "a.png")
    program = (
        "import lficam_jax as lfi\n"
        "run = lfi.load('runs/a')\n"
        "run.explain('a.png').save('out')\n"
        "print(run)\n"
    )
    assert "Run('runs/a'" in run("python", "-c", program)
    assert (run.folder / "out" / "index.html").exists()
    assert "is finished" in run("lficam", "train", "--workdir", "runs/a")


def test_the_network_of_the_package_needs_no_run(run):
    told = run("python", "-c", "import lficam_jax as lfi; print(lfi.load('cluttered_digits'))")
    assert told.startswith("Run('cluttered_digits'")
