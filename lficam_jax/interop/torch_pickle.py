"""What `torch.save` writes, read without torch: a pickle of names, and the numbers beside it.

Both forms: the zip archive (torch 1.6 and later) and the file of pickles before it. Of the pickle
only what makes tensors, dictionaries and numpy numbers is understood, so nothing in it can run.
"""

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C  # how the older form begins
_BFLOAT16 = "bfloat16"
_KINDS = {
    "DoubleStorage": "f8", "FloatStorage": "f4", "HalfStorage": "f2", "BFloat16Storage": _BFLOAT16,
    "LongStorage": "i8", "IntStorage": "i4", "ShortStorage": "i2", "CharStorage": "i1",
    "ByteStorage": "u1", "BoolStorage": "?",
}  # fmt: skip


class Refused(Exception):
    """The file asks for something that is not data; the message names it."""


@dataclass
class _Storage:
    """Numbers that tensors are views of."""

    kind: str
    count: int
    values: np.ndarray | None = None

    @property
    def bytes_each(self) -> int:
        return 2 if self.kind == _BFLOAT16 else np.dtype(self.kind).itemsize

    def fill(self, data: bytes, order: Literal["<", ">"] = "<") -> None:
        if len(data) != self.count * self.bytes_each:
            raise EOFError("the file ends before its numbers do")
        if self.kind == _BFLOAT16:  # the upper half of a float32
            upper = np.frombuffer(data, f"{order}u2").astype("u4")
            self.values = (upper << 16).view("f4")
        else:
            self.values = np.frombuffer(data, np.dtype(self.kind).newbyteorder(order))


@dataclass(frozen=True)
class _Tensor:
    """A view of a storage that may not have been read yet."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self) -> np.ndarray:
        values = self.storage.values
        if values is None:
            raise EOFError("the numbers of a tensor are missing")
        last = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))
        if 0 in self.shape:
            return np.zeros(self.shape, values.dtype)
        if min((self.offset, *self.shape, *self.strides)) < 0 or last >= len(values):
            raise ValueError("a tensor lies outside of its numbers")
        strides = [s * values.itemsize for s in self.strides]
        view = np.lib.stride_tricks.as_strided(values[self.offset :], self.shape, strides)
        native: np.ndarray = view.astype(values.dtype.newbyteorder("="))
        return native


def _tensor(storage: Any, offset: int, shape: Any, strides: Any, *_: Any) -> _Tensor:
    return _Tensor(storage, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))


def _number(kind: np.dtype, data: bytes = b"") -> Any:
    return np.frombuffer(data, kind)[0]


_MEANT: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": OrderedDict,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": lambda tensor, *_: tensor,
    "_codecs.encode": lambda text, _: text.encode("latin1"),  # how bytes are written
    "numpy.dtype": lambda kind, *_: np.dtype(str(kind), False, True),
    "numpy.core.multiarray.scalar": _number,  # a best accuracy beside the weights
    "numpy._core.multiarray.scalar": _number,
}


class _Unpickler(pickle.Unpickler):
    """Builds data and nothing else.

    Args:
      file: of pickles.
      storage: finds or makes the storage of a key: `storage(key, kind, count)`.
    """

    def __init__(self, file: IO[bytes], storage: Callable[[str, str, int], _Storage]) -> None:
        super().__init__(file)
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        """Returns what stands for a name of the file."""
        if module == "torch" and name in _KINDS:
            return _KINDS[name]
        if f"{module}.{name}" not in _MEANT:
            raise Refused(f"{module}.{name}")
        return _MEANT[f"{module}.{name}"]

    def persistent_load(self, key: Any) -> _Storage:
        """Returns the storage that the pickle points to."""
        word, kind, name, _, count, *_ = key
        if word != "storage" or kind not in _KINDS.values():
            raise ValueError(f"unknown reference {word!r}")
        return self._storage(str(name), kind, int(count))


def read(path: Path) -> Any:
    """Returns the content of a file, its tensors as arrays; bfloat16 becomes float32.

    Args:
      path: of what `torch.save` wrote.

    Raises:
      Refused: if the content is more than data.
      Exception: of any kind, if the file is damaged or something else.
    """
    with path.open("rb") as file:
        content = _zipped(file) if zipfile.is_zipfile(file) else _sequence(file)
    return _arrays(content)


def _zipped(file: IO[bytes]) -> Any:
    with zipfile.ZipFile(file) as archive:
        (pickled,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
        root = pickled.removesuffix("data.pkl")
        big = (
            f"{root}byteorder" in archive.namelist() and archive.read(f"{root}byteorder") == b"big"
        )
        known: dict[str, _Storage] = {}

        def storage(key: str, kind: str, count: int) -> _Storage:
            if key not in known:
                known[key] = _Storage(kind, count)
                known[key].fill(archive.read(f"{root}data/{key}"), ">" if big else "<")
            return known[key]

        with archive.open(pickled) as names:
            return _Unpickler(names, storage).load()


def _sequence(file: IO[bytes]) -> Any:
    file.seek(0)
    known: dict[str, _Storage] = {}

    def storage(key: str, kind: str, count: int) -> _Storage:
        return known.setdefault(key, _Storage(kind, count))

    def load() -> Any:
        return _Unpickler(file, storage).load()

    if load() != MAGIC:
        raise ValueError("not a torch file")
    _version, _system, content, keys = load(), load(), load(), load()
    for key in keys:  # behind the pickles: of each storage its length, and its numbers
        count = int.from_bytes(file.read(8), "little")
        held = known[str(key)]
        if count != held.count:
            raise ValueError("a storage is of another length")
        held.fill(file.read(count * held.bytes_each))
    return content


def _arrays(content: Any) -> Any:
    """Turns tensors into arrays, through nested dictionaries."""
    if isinstance(content, dict):
        return {name: _arrays(value) for name, value in content.items()}
    return content.array() if isinstance(content, _Tensor) else content
