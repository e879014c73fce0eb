"""Reads weights from a torch or safetensors file without ever running code that is in it."""

import codecs
import json
import pickle
import struct
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lficam_jax.errors import UserError
from lficam_jax.interop.torch import flat_state

_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U8": "u1", "BOOL": "?", "BF16": "<u2",
}  # fmt: skip


def load_torch_file(path: Path | str) -> dict[str, np.ndarray]:
    """Reads the weights of a `.pth`, `.pt`, `.pth.tar` or `.safetensors` file.

    Args:
      path: a torch file needs torch (2.5 or later) installed; safetensors needs nothing.

    Returns:
      {torch name: array}, found where training scripts nest them.

    Raises:
      UserError: if the file is absent, truncated, holds no weights, or would run code when loaded.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    content = _safetensors(path) if path.suffix == ".safetensors" else _pickled(path)
    try:
        return flat_state(content)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _pickled(path: Path) -> object:
    try:
        import torch
    except ImportError:
        raise UserError(
            f"{path}: reading it needs torch (pip install torch); or give a .safetensors file"
        ) from None
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_numpy_scalars()):
            warnings.simplefilter("ignore")  # about the protocol of a pickle that we then refuse
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "global" not in str(error).lower():
            raise UserError(f"{path}: refused: not plain weights as torch saves them") from None
        raise UserError(
            f"{path}: refused, because loading it would run code ({_culprit(str(error))}); ask for "
            f"a file that holds nothing but the state_dict"
        ) from None
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        reason = str(error).partition(".")[0] if isinstance(error, RuntimeError) else "unreadable"
        raise UserError(f"{path}: damaged or truncated, or not a torch file ({reason})") from None
    return _arrays(content)


def _numpy_scalars() -> list[Any]:
    """What unpickling a numpy number calls: scripts save their best accuracy beside the weights."""
    scalar = np.float64(0).__reduce__()[0]
    kinds = [type(np.dtype(kind)) for kind in ("float64", "float32", "int64", "int32", "bool")]
    return [scalar, (scalar, "numpy.core.multiarray.scalar"), np.dtype, codecs.encode, *kinds]


def _arrays(content: object) -> object:
    """Turns tensors into arrays, through nested dictionaries; bfloat16 becomes float32."""
    if isinstance(content, dict):
        return {name: _arrays(value) for name, value in content.items()}
    if type(content).__module__.partition(".")[0] != "torch" or not hasattr(content, "detach"):
        return content
    tensor = content.detach()
    return (tensor.float() if tensor.is_floating_point() else tensor).numpy()


def _culprit(message: str) -> str:
    """Finds the function's name in torch's message of many lines."""
    words = message.replace("GLOBAL ", "global ").split("global ")
    return words[1].split()[0] if len(words) > 1 else "an unknown function"


def _safetensors(path: Path) -> dict[str, np.ndarray]:
    """The format: 8 bytes of header length, a JSON header, the arrays."""
    data = path.read_bytes()
    try:
        (length,) = struct.unpack_from("<Q", data)
        header = json.loads(data[8 : 8 + length])
        return {
            name: _tensor(data, 8 + length, entry)
            for name, entry in header.items()
            if name != "__metadata__"
        }
    except (struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: damaged or truncated ({error})") from None


def _tensor(data: bytes, offset: int, entry: Mapping[str, Any]) -> np.ndarray:
    start, end = entry["data_offsets"]
    if offset + end > len(data):
        raise ValueError("the file ends before the arrays do")
    values = np.frombuffer(data[offset + start : offset + end], _DTYPES[entry["dtype"]])
    if entry["dtype"] == "BF16":  # the upper half of a float32
        values = (values.astype("<u4") << 16).view("<f4")
    return values.reshape(entry["shape"])
