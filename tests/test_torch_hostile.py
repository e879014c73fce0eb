"""Torch and safetensors files from strangers: read, or refused in one line; never run, never huge.

What a file says of itself is checked before its numbers are read, so a header that claims terabytes
costs nothing.
"""

import json
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import strategies as st
from test_interop import LFI8, fresh, lfi8, safetensors, state_of

from lficam_jax.errors import UserError
from lficam_jax.interop.torch import flat_state, import_weights
from lficam_jax.interop.torch_file import load_torch_file
from tests.fuzz import damaged, fuzz, times
from tests.refused import refused

# {"a": [[0, 1], [2, 3]]} as torch.save writes it, but for the numbers.
PICKLED = (
    b"\x80\x02}X\x01\0\0\0actorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\n"
    b"FloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x04tQK\0K\x02K\x02\x86K\x02K\x01\x86\x89NtRs."
)
NUMBERS = np.arange(4, dtype="<f4")
RAW = NUMBERS.tobytes()


def zipped(path, pickled=PICKLED, numbers=RAW):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", pickled)
        archive.writestr("a/data/0", numbers)
    return path


def test_a_file_of_hand_made_bytes_is_read(tmp_path):
    assert load_torch_file(zipped(tmp_path / "a.pth"))["a"].tolist() == [[0, 1], [2, 3]]


def entry(start=0, end=16, shape=(2, 2), dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


HEADERS = {
    "overlap": ({"a": entry(), "b": entry(8, 24)}, 24, "arrays overlap"),
    "one for two": ({"a": entry(), "b": entry()}, 16, "arrays overlap"),
    "gap": ({"a": entry(0, 4, [1]), "b": entry(8, 12, [1])}, 12, "a gap between"),
    "negative": ({"a": entry(-16, 0)}, 16, r"a has the shape \[2, 2\] at \[-16, 0\]"),
    "backwards": ({"a": entry(16, 0, [0])}, 16, "a needs 0 bytes and has -16"),
    "terabytes": ({"a": entry(0, 4 * 10**12, [10**6, 10**6])}, 16, "the file has 16"),
    "a shape to be guessed": ({"a": entry(shape=[-1, 2])}, 16, r"the shape \[-1, 2\]"),
    "no whole numbers": ({"a": entry(0.0, 16.0)}, 16, r"at \[0.0, 16.0\]"),
    "too few": ({"a": entry()}, 8, "take 16 bytes, and the file has 8"),
    "more behind": ({"a": entry()}, 999, "take 16 bytes, and the file has 999"),
    "another type": ({"a": entry(dtype="F8_E4M3")}, 16, "a is of the type F8_E4M3"),
    "a list": ([1], 0, ""), "a number": ({"a": 3}, 0, ""),
    "65 axes": ({"a": entry(0, 4, [1] * 65)}, 4, ""),
}  # fmt: skip


@pytest.mark.parametrize("kind", HEADERS)
def test_a_header_that_does_not_hold_together_is_refused(kind, tmp_path):
    header, size, says = HEADERS[kind]
    text = json.dumps(header).encode()
    path = tmp_path / "w.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(size))
    refused(f"w.safetensors: damaged or truncated.*{says}", load_torch_file, path)


@pytest.mark.parametrize(
    "text", [b"[" * 10**5, b'{"a":' * 10**5, b'{"a":1,"a":2}', b"\xff\xfe\0", b"", b"9" * 5000]
)
def test_a_header_that_is_no_header_is_refused(text, tmp_path):
    path = tmp_path / "w.safetensors"
    for length in (len(text), 2**63, 10**12):
        path.write_bytes(struct.pack("<Q", length) + text)
        refused("w.safetensors: damaged or truncated", load_torch_file, path)


PICKLES = {
    "another length": (PICKLED, RAW[:-1]),
    "numbers that unpack to a gigabyte": (PICKLED, bytes(10**6)),  # its size is looked at alone
    "names that unpack to a gigabyte": (b"\x80\x02" + b"N0" * (5 << 20) + b"}.", b""),
    "one number as a terabyte": (PICKLED.replace(b"K\x02K\x02\x86K\x02K\x01",
                                 b"J\x40\x42\x0f\0J\x40\x42\x0f\0\x86K\0K\0"), RAW),
    "34 gigabytes of memo": (b"\x80\x02Nr\xff\xff\xff\x7f.", b""),
    "a string of 2^63 letters": (b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7f.", b""),
    "a dictionary that holds itself": (b"\x80\x02}q\0X\x01\0\0\0ah\0s.", b""),
    "lists, 100,000 deep": (b"\x80\x02" + b"]" * 10**5 + b"a" * (10**5 - 1) + b".", b""),
}  # fmt: skip


@pytest.mark.parametrize("kind", PICKLES)
def test_a_pickle_that_asks_for_too_much_is_refused(kind, tmp_path):
    path = zipped(tmp_path / "w.pth", *PICKLES[kind])
    refused("w.pth: (damaged or truncated|the checkpoint holds no weights)", load_torch_file, path)


def test_a_flipped_number_is_found_by_the_archives_own_checksum(tmp_path):
    path = tmp_path / "w.pth"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", PICKLED)
        archive.writestr("a/data/0", RAW)
    path.write_bytes(path.read_bytes().replace(np.float32(3).tobytes(), np.float32(4).tobytes()))
    refused(r"w.pth: damaged or truncated.*BadZipFile", load_torch_file, path)


@pytest.mark.parametrize(
    ("function", "kind"),
    [("_rebuild_sparse_tensor", "sparse"), ("_rebuild_qtensor", "quantised"),
     ("_rebuild_meta_tensor_no_storage", "without numbers"), ("_rebuild_tensor_v3", "_v3")],
)  # fmt: skip
def test_tensors_that_are_no_plain_numbers_are_told_by_their_kind(function, kind, tmp_path):
    path = zipped(tmp_path / "w.pth", PICKLED.replace(b"_rebuild_tensor_v2", function.encode()))
    refused(f"w.pth: holds tensors that are .*{kind}.*; save it anew", load_torch_file, path)


@pytest.mark.torch
def test_what_torch_itself_saves_is_read_or_told_by_its_kind(tmp_path):
    torch = pytest.importorskip("torch")
    one = torch.ones(2, 2)
    kinds = {
        "sparse": one.to_sparse(),
        "complex": one.to(torch.complex64), "without numbers": one.to("meta"),
        "a view": torch._neg_view(one), "_rebuild_tensor_v3": one.to(torch.float8_e4m3fn),
    }  # fmt: skip
    for says, tensor in kinds.items():
        torch.save({"conv1.weight": tensor}, tmp_path / "w.pth")
        refused(f"w.pth: holds tensors that are .*{says}", load_torch_file, tmp_path / "w.pth")
    torch.save({"a": one[:, :1], "b": one.T}, tmp_path / "w.pth")
    assert load_torch_file(tmp_path / "w.pth")["a"].shape == (2, 1)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("conv1.weight", np.nan, "conv1.weight holds NaN or infinity"),
        ("bn1.weight", -np.inf, "bn1.weight holds NaN or infinity"),
        ("bn1.running_var", -1, "bn1.running_var holds a negative variance"),
        ("conv1.weight", 1e300, "conv1.weight holds NaN or infinity"),  # in 32 bits
        ("fc.0.weight", np.nan, "fc.0.weight holds NaN"),  # though a head may start fresh
    ],
)
def test_numbers_that_no_network_has_are_refused(name, value, says):
    state = {key: array.astype(np.float64) for key, array in state_of(LFI8).items()}
    state[name].flat[0] = value
    refused(says, import_weights, state, lfi8(), fresh(lfi8()))


def test_dictionaries_of_python_are_looked_into_so_far():
    state = {"a": np.ones(2)}
    state["state_dict"] = state
    assert [*flat_state(state)] == ["a"]
    for odd in (np.array(["x"]), np.ones(2, complex), np.array([{}])):
        refused("the numbers of a are of type", flat_state, {"a": odd})


def test_names_of_files_that_cannot_be(tmp_path):
    refused("names no file", load_torch_file, "")
    refused("the file .*File name too long", load_torch_file, tmp_path / ("a" * 300))
    refused("no such file", load_torch_file, tmp_path)


# The form before torch 1.6: magic, protocol, system, content, keys, numbers.
OLD = (
    b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}." + PICKLED
    + b"\x80\x02]X\x01\0\0\x000a." + struct.pack("<Q", 4) + RAW
)  # fmt: skip


def test_the_older_form_of_hand_made_bytes_is_read(tmp_path):
    (tmp_path / "a.pth").write_bytes(OLD)
    assert load_torch_file(tmp_path / "a.pth")["a"].tolist() == [[0, 1], [2, 3]]


@times
def test_any_damaged_bytes_are_read_or_refused(times, tmp_path):
    """Whatever comes of it: arrays, or one line."""
    safetensors(tmp_path / "w.safetensors", {"a": NUMBERS, "b": NUMBERS})
    zipped(tmp_path / "w.pth")
    (tmp_path / "old.pth").write_bytes(OLD)
    whole = {path: path.read_bytes() for path in sorted(tmp_path.iterdir())}

    def check(data):
        path = data.draw(st.sampled_from(list(whole)))
        path.write_bytes(damaged(data, whole[path]))
        try:
            found = load_torch_file(path)
            assert all(isinstance(array, np.ndarray) for array in found.values())
        except UserError as error:
            assert str(error).startswith(str(path)) and "\n" not in str(error)

    fuzz(check, 150, times)
