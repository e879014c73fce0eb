"""Reads weights from a torch or safetensors file without ever running code that is in it."""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lficam_jax.errors import UserError
from lficam_jax.interop import torch_pickle
from lficam_jax.interop.torch import flat_state

_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U8": "u1", "BOOL": "?", "BF16": "<u2",
}  # fmt: skip


def load_torch_file(path: Path | str) -> dict[str, np.ndarray]:
    """Reads the weights of a `.pth`, `.pt`, `.pth.tar` or `.safetensors` file.

    Args:
      path: of the file; torch need not be installed.

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
        return torch_pickle.read(path)
    except torch_pickle.Refused as error:
        raise UserError(
            f"{path}: refused, because loading it would run code ({error}); ask for a file that "
            f"holds nothing but the state_dict"
        ) from None
    except Exception as error:  # a damaged pickle fails in any way
        raise UserError(
            f"{path}: damaged or truncated, or not a torch file ({type(error).__name__})"
        ) from None


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
