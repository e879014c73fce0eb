"""The house: imports go down through the layers, and nothing grows past what one can read."""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent / "lficam_jax"

# Each module's layer; one may import from its own layer or below. A folder stands for its files.
LAYERS = {
    "errors": 0, "structs": 0, "timing": 0, "config": 0, "ops": 0, "paper": 0, "table": 0,
    "data": 1, "models": 1, "parallel": 1, "optim": 1, "writer": 1, "render": 1, "interrupt": 1,
    "explanation": 1, "workdir": 1, "metrics": 1, "distributed": 1, "watchdog": 1, "profiling": 1,
    "figure": 1, "remote": 1,
    "state": 2, "steps": 2, "checkpoint": 2, "agreement": 2,
    "evaluate": 3, "experiment": 3, "report": 3, "explain": 3, "describe": 3, "interop": 3,
    "transfer": 3, "methods": 3, "measure": 3, "benchmark": 3, "benchmark_programs": 3,
    "loop": 4, "train": 4, "modes": 4, "study": 4,
    "cli": 4, "main": 5, "prepare": 5, "import_torch": 5,
}  # fmt: skip

# One library, one door: only these may import it.
DOORS = {
    "tensorflow_datasets": {"data", "prepare"}, "grain": {"data"}, "sklearn": {"data"},
    "orbax": {"checkpoint"}, "optax": {"optim", "steps", "state", "loop"},
    "matplotlib": {"render", "figure", "study"}, "tensorboardX": {"writer"}, "torch": {"interop"},
    "cv2": {"data"}, "simplejpeg": {"data"}, "tensorflow": set(), "scipy": {"data", "metrics"},
}  # fmt: skip


def modules():
    for path in sorted(ROOT.rglob("*.py")):
        yield path, path.relative_to(ROOT).with_suffix("").parts[0]


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.module == "lficam_jax":
                yield from (f"lficam_jax.{alias.name}" for alias in node.names)
            else:
                yield node.module


def test_every_module_has_a_layer():
    assert {name for _, name in modules()} - {"__init__"} == set(LAYERS)


def test_imports_go_down():
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path, own in modules()
        for name in imported(path)
        if name.startswith("lficam_jax.") and LAYERS[name.split(".")[1]] > LAYERS[own]
    ]
    assert not wrong


def test_each_library_has_its_door():
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path, own in modules()
        for name in imported(path)
        if own not in DOORS.get(name.split(".")[0], {own})
    ]
    assert not wrong


def test_files_can_be_read_in_one_sitting():
    long = {str(p): n for p, _ in modules() if (n := len(p.read_text().splitlines())) > 350}
    assert not long


def test_functions_are_short():
    long = [
        f"{path.name}:{node.name}: {body}"
        for path, _ in modules()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
        # the code, without the docstring that explains it
        if (body := node.end_lineno - node.body[bool(ast.get_docstring(node))].lineno + 1) > 40
    ]
    assert not long
