"""The house: imports go down through the layers, and nothing grows past what one can read."""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent / "lficam_jax"

# The rooms from the ground up; one may import from the rows before its own, and rooms of one row
# must not import each other in a circle.
FLOORS = (
    ("errors", "structs", "config", "config_file"),
    ("ops",),
    ("data", "models", "metrics", "workdir"),
    ("devices", "methods", "interop"),
    ("explaining", "training"),
    ("measure", "speed"),
    ("cli", "run", "study"),
    ("modes", "main", "prepare", "import_torch"),
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}

# One library, one door: only these may import it.
DOORS = {
    "tensorflow_datasets": {"data", "prepare"}, "grain": {"data"}, "sklearn": {"data"},
    "orbax": {"workdir"}, "optax": {"training"},
    "matplotlib": {"explaining", "study"}, "tensorboardX": {"workdir"}, "torch": set(),
    "huggingface_hub": {"interop"}, "onnx": {"interop"}, "cv2": {"data"},
    "simplejpeg": {"data"}, "pydicom": {"data"}, "pillow_heif": {"data"}, "tensorflow": set(),
    "av": {"explaining"},
    "scipy": {"data", "metrics"},
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


def arrows():
    """Who imports whom: pairs of rooms, without those inside a room."""
    pairs = {
        (own, name.split(".")[1])
        for path, own in modules()
        for name in imported(path)
        if name.startswith("lficam_jax.")
    }
    return {(own, other) for own, other in pairs if own != other and {own, other} <= FLOOR.keys()}


def test_every_room_has_its_floor():
    assert {name for _, name in modules()} - {"__init__"} == set(FLOOR)


def test_imports_go_down():
    assert not [(own, other) for own, other in arrows() if FLOOR[other] > FLOOR[own]]


def test_no_rooms_import_each_other_in_a_circle():
    imports = arrows()
    graph = {room: {other for own, other in imports if own == room} for room in FLOOR}
    while free := {room for room, needed in graph.items() if not needed & graph.keys()}:
        graph = {room: needed for room, needed in graph.items() if room not in free}
    assert not graph  # what is left waits for itself


def test_the_package_opens_on_what_one_can_take_in():
    inside = [path for path in ROOT.iterdir() if not path.name.startswith("_")]
    assert len(inside) <= 25


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
