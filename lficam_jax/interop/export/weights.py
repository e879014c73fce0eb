"""A network as two files, weights and config, and back; and the network that the package brings.

`NAME.safetensors` holds the arrays under their paths in the network (`params/stem/kernel`);
`config.json` beside it tells which network they are of, how pictures are fed to it, and the
SHA-256 of the weights.
"""

import hashlib
import json
import struct
from importlib.resources import files
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from lficam_jax import structs
from lficam_jax.config import as_json, default_config, validate
from lficam_jax.data import dataset_info, resolved
from lficam_jax.data.files import plain_file
from lficam_jax.errors import UserError, check_whole, first_line
from lficam_jax.interop.torch_file import load_torch_file
from lficam_jax.models import create_model
from lficam_jax.models.classifier import init_variables
from lficam_jax.workdir.results import write_file

SUFFIX, BESIDE = ".safetensors", "config.json"
SHIPPED = {"cluttered_digits": "digits among clutter, 48 pixels: the README's quickstart"}
_DTYPES = {"float32": "F32", "float16": "F16", "int32": "I32"}


def save_weights(run: structs.Run, path: Path) -> list[Path]:
    """Writes a network's weights to `path`, and `config.json` beside it.

    Args:
      run: the network.
      path: ends in `.safetensors`.

    Returns:
      Both files.

    Raises:
      UserError: if they cannot be written, or `config.json` there is of a run.
    """
    beside = path.with_name(BESIDE)
    if beside.exists() and "weights" not in _told(beside):
        raise UserError(f"{beside} is not of an export; give --out another folder")
    flat = flatten_dict(jax.device_get(dict(run.variables)), sep="/")
    content = _packed({name: np.asarray(value) for name, value in sorted(flat.items())})
    config = run.config.copy_and_resolve_references()
    config.data = resolved(config.data, dataset_info(config.data))
    config.data.update(dir="", folder="", split_file="")  # of this machine
    about = {
        "weights": path.name, "sha256": hashlib.sha256(content).hexdigest(),
        "network": run.title, "step": run.step, "config": as_json(config),
    }  # fmt: skip
    return [write_file(path, content), write_file(beside, json.dumps(about, indent=2) + "\n")]


def _packed(arrays: dict[str, np.ndarray]) -> bytes:
    """The format: 8 bytes of header length, a JSON header, the arrays."""
    header: dict[str, Any] = {"__metadata__": {"format": "flax"}}
    start = 0
    for name, array in arrays.items():
        header[name] = {
            "dtype": _DTYPES[array.dtype.name], "shape": list(array.shape),
            "data_offsets": [start, start + array.nbytes],
        }  # fmt: skip
        start += array.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # the arrays begin at a multiple of 8
    return struct.pack("<Q", len(text)) + text + b"".join(a.tobytes() for a in arrays.values())


def find_weights(name: str | Path) -> Path | None:
    """Returns the weights that a name or path means: shipped, or written by `save_weights`."""
    path = Path(name)
    ours = (path / BESIDE).exists() or (path / "checkpoints").exists()  # of a run, or an export
    if str(name) in SHIPPED and not ours:
        return Path(str(files("lficam_jax.interop"))) / "weights" / str(name) / f"model{SUFFIX}"
    if path.suffix == SUFFIX:
        return path
    beside = path / BESIDE
    if beside.is_file() and isinstance(weights := _told(beside).get("weights"), str):
        return path / Path(weights).name
    return None


def config_beside(weights: Path) -> ConfigDict:
    """Returns the config of the network whose weights lie there.

    Raises:
      UserError: if `config.json` is not beside them, or not what `save_weights` writes.
    """
    beside, config = weights.with_name(BESIDE), default_config().lock()
    if not weights.is_file():
        raise UserError(f"{weights}: no such file")
    if not beside.is_file():
        raise UserError(
            f"{beside} is missing; it tells which network the weights are of. `lficam export --to "
            "safetensors` writes both"
        )
    try:
        config.update(_told(beside)["config"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"cannot read {beside}: {first_line(error)}; is it of an export?"
        ) from error
    validate(config)
    return config


def load_weights(weights: Path, name: str, config: ConfigDict | None = None) -> structs.Run:
    """Reads what `save_weights` wrote.

    Args:
      weights: the file.
      name: what the network is called.
      config: what `config_beside` gave, changed where it does not concern the network.

    Raises:
      UserError: if a file is absent or damaged, or the weights are another network's.
    """
    config = config or config_beside(weights)
    told = _told(weights.with_name(BESIDE))
    if told.get("sha256") != hashlib.sha256(weights.read_bytes()).hexdigest():
        raise UserError(
            f"{weights} is not the file that {BESIDE} beside it tells of (SHA-256 differs); "
            "export it again"
        )
    info = dataset_info(config.data)
    model = create_model(**config.model.to_dict(), num_classes=info.num_classes)
    wanted = flatten_dict(
        jax.eval_shape(lambda: init_variables(model, (*info.size, 3), 0)), sep="/"
    )
    found = load_torch_file(weights)
    if {n: v.shape for n, v in found.items()} != {n: v.shape for n, v in wanted.items()}:
        raise UserError(f"{weights} holds the weights of another network than {BESIDE} tells of")
    arrays = unflatten_dict({n: v.astype(wanted[n].dtype) for n, v in found.items()}, sep="/")
    variables = {"batch_stats": {}, **arrays}  # a network without BatchNorm has none
    step = check_whole(f"step in {weights.with_name(BESIDE)}", told.get("step", 0), 0)
    return structs.Run(None, config, model, variables, step, name)


def _told(path: Path) -> dict[str, Any]:
    """Returns a JSON object; {} where there is none."""
    try:
        told = json.loads(plain_file(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}
