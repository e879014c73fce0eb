"""What `torch.save` writes, read without torch: a pickle of names, and the numbers beside it.

Both forms: the zip archive (torch 1.6 and later) and the file of pickles before it. Of the pickle
only what makes tensors, dictionaries and numpy numbers is understood, so nothing in it can run.
"""

import math
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np

MAGIC = 0x1950A86A20F9469CFC6C  # how the older form begins
MOST_NAMES = 8 << 20  # bytes of a pickle, whose numbers lie beside it: 40,000 tensors or so
_BFLOAT16 = "bfloat16"
_KINDS = {
    "DoubleStorage": "f8", "FloatStorage": "f4", "HalfStorage": "f2", "BFloat16Storage": _BFLOAT16,
    "LongStorage": "i8", "IntStorage": "i4", "ShortStorage": "i2", "CharStorage": "i1",
    "ByteStorage": "u1", "BoolStorage": "?",
}  # fmt: skip


# What makes tensors that are no plain array of numbers, and what they are called.
_OTHER = {"sparse": "sparse", "qtensor": "quantised", "meta": "without numbers (device meta)"}


class Refused(Exception):
    """The file asks for something that is not data; the message names it."""


class NotDense(Exception):
    """The file holds tensors that are no plain numbers; the message says of which kind."""


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
        if math.prod(self.shape) > len(values):  # a stride of 0 makes terabytes of one number
            raise ValueError("a tensor is larger than its numbers")
        strides = [s * values.itemsize for s in self.strides]
        view = np.lib.stride_tricks.as_strided(values[self.offset :], self.shape, strides)
        native: np.ndarray = view.astype(values.dtype.newbyteorder("="))
        return native


def _tensor(
    storage: Any, offset: int, shape: Any, strides: Any, grad: Any = False, hooks: Any = None,
    marks: Any = None,
) -> _Tensor:  # fmt: skip
    if marks:  # numbers that stand for others: negated ones, say
        raise NotDense("of another kind (a view)")
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
            if kind := _other_kind(module, name):
                raise NotDense(kind)
            raise Refused(f"{module}.{name}")
        return _MEANT[f"{module}.{name}"]

    def persistent_load(self, key: Any) -> _Storage:
        """Returns the storage that the pickle points to."""
        word, kind, name, _, count, *_ = key
        if word != "storage" or kind not in _KINDS.values():
            raise ValueError(f"unknown reference {word!r}")
        return self._storage(str(name), kind, int(count))


def _other_kind(module: str, name: str) -> str:
    """Says what tensors a name of torch's own makes; '' for what makes none."""
    if module == "torch" and name.endswith("Storage"):
        return "complex" if "Complex" in name else f"of another kind ({name})"
    if module not in ("torch._utils", "torch._tensor") or not name.startswith("_rebuild"):
        return ""
    return next(
        (said for word, said in _OTHER.items() if word in name), f"of another kind ({name})"
    )


def read(path: Path) -> Any:
    """Returns the content of a file, its tensors as arrays; bfloat16 becomes float32.

    Args:
      path: of what `torch.save` wrote.

    Raises:
      Refused: if the content is more than data.
      NotDense: if tensors are no plain numbers.
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
                if archive.getinfo(f"{root}data/{key}").file_size != count * known[key].bytes_each:
                    raise EOFError("a storage is of another length")  # it may unpack to terabytes
                known[key].fill(archive.read(f"{root}data/{key}"), ">" if big else "<")
            return known[key]

        if archive.getinfo(pickled).file_size > MOST_NAMES:
            raise ValueError("too many names")
        with archive.open(pickled) as names:
            return _load(names, storage)


def _sequence(file: IO[bytes]) -> Any:
    file.seek(0)
    known: dict[str, _Storage] = {}

    def storage(key: str, kind: str, count: int) -> _Storage:
        return known.setdefault(key, _Storage(kind, count))

    def load() -> Any:
        return _load(file, storage)

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


def _load(file: IO[bytes], storage: Callable[[str, str, int], _Storage]) -> Any:
    """Reads one pickle, which is looked through first: it must not ask for much memory."""
    start = file.tell()
    for code, argument, place in pickletools.genops(file):
        if (place or 0) - start > MOST_NAMES or (
            code.name == "LONG_BINPUT" and int(argument or 0) > MOST_NAMES
        ):
            raise ValueError("a pickle asks for too much")
    file.seek(start)
    return _Unpickler(file, storage).load()


def _arrays(content: Any) -> Any:
    """Turns tensors into arrays, through nested dictionaries."""
    if isinstance(content, dict):
        return {name: _arrays(value) for name, value in content.items()}
    return content.array() if isinstance(content, _Tensor) else content
