"""The house: imports go down through the layers, and nothing grows past what one can read."""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent / "lficam_jax"

# The rooms from the ground up: one may import from its own row or from those before it.
FLOORS = (
    ("errors", "structs", "config", "paper", "table"),
    ("ops",),
    ("data", "models", "metrics", "workdir"),
    ("devices", "methods"),
    ("explaining", "training"),
    ("measure", "speed", "interop"),
    ("cli",),
    ("study",),
    ("modes", "main", "prepare", "import_torch"),
)
LAYERS = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}

# One library, one door: only these may import it.
DOORS = {
    "tensorflow_datasets": {"data", "prepare"}, "grain": {"data"}, "sklearn": {"data"},
    "orbax": {"workdir"}, "optax": {"training"},
    "matplotlib": {"explaining", "study"}, "tensorboardX": {"workdir"}, "torch": {"interop"},
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
