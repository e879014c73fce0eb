"""Reads weights from a torch or safetensors file without ever running code that is in it."""

import json
import math
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from lficam_jax.errors import REFUSALS, UserError, check_path, shortened
from lficam_jax.interop import torch_pickle
from lficam_jax.interop.torch import flat_state

_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U8": "u1", "BOOL": "?", "BF16": "<u2",
}  # fmt: skip
_NOTES, _PLACE = "__metadata__", "data_offsets"
MOST_HEADER = 100_000_000  # bytes, as the format's own reader has it
_DAMAGED = "damaged or truncated, or not a torch file"


def load_torch_file(path: Path | str) -> dict[str, np.ndarray]:
    """Reads the weights of a `.pth`, `.pt`, `.pth.tar` or `.safetensors` file.

    Args:
      path: of the file; torch need not be installed.

    Returns:
      {torch name: array}, found where training scripts nest them.

    Raises:
      UserError: if the file is absent, truncated, holds no weights, or would run code when loaded.
    """
    path = check_path("the file", path)
    try:
        there = path.is_file()
    except OSError as error:  # a name of 300 letters, a folder that may not be entered
        raise UserError(f"cannot read {shortened(str(path))}: {error.strerror}") from error
    if not there:
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
    except torch_pickle.NotDense as error:
        raise UserError(
            f"{path}: holds tensors that are {error}; save it anew, with dense tensors of floats"
        ) from None
    except Exception as error:  # a damaged pickle fails in any way
        if isinstance(error, OSError) and error.errno in REFUSALS:
            raise UserError(f"cannot read {path}: {error.strerror}") from error
        raise UserError(f"{path}: {_DAMAGED} ({type(error).__name__})") from None


def _safetensors(path: Path) -> dict[str, np.ndarray]:
    """The format: 8 bytes of header length, a JSON header, the arrays."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            size = path.stat().st_size - 8 - length
            if size < 0 or length > MOST_HEADER:
                raise ValueError("the file ends before its header does")
            header = json.loads(file.read(length).decode(), object_pairs_hook=_once)
            entries = {name: _Entry(name, e) for name, e in header.items() if name != _NOTES}
            _check_tiled(list(entries.values()), size)
            return {name: entry.read(file, 8 + length) for name, entry in entries.items()}
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (struct.error, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path}: damaged or truncated ({error})") from None


class _Entry:
    """What the header says of an array: nothing is read before all of it holds together."""

    def __init__(self, name: str, said: Mapping[str, Any]) -> None:
        kind, self.shape, (self.start, self.end) = said["dtype"], said["shape"], said[_PLACE]
        if kind not in _DTYPES:
            raise ValueError(f"{name} is of the type {kind}, which is not read")
        self.kind = kind
        numbers = [*self.shape, self.start, self.end]
        if not all(type(n) is int and n >= 0 for n in numbers):
            raise ValueError(f"{name} has the shape {self.shape} at {said[_PLACE]}")
        needed = math.prod(self.shape) * np.dtype(_DTYPES[kind]).itemsize
        if self.end - self.start != needed:
            raise ValueError(f"{name} needs {needed} bytes and has {self.end - self.start}")

    def read(self, file: IO[bytes], offset: int) -> np.ndarray:
        file.seek(offset + self.start)
        values = np.frombuffer(file.read(self.end - self.start), _DTYPES[self.kind])
        if self.kind == "BF16":  # the upper half of a float32
            values = (values.astype("<u4") << 16).view("<f4")
        return values.reshape(self.shape)


def _check_tiled(entries: Sequence[_Entry], size: int) -> None:
    """Checks that the arrays fill the file, one behind the other, as the format has it."""
    place = 0
    for entry in sorted(entries, key=lambda e: (e.start, e.end)):
        if entry.start != place:
            raise ValueError("arrays overlap, or have a gap between them")
        place = entry.end
    if place != size:
        raise ValueError(f"the arrays take {place} bytes, and the file has {size}")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice in the header")
    return found
