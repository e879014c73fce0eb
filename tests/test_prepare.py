"""`python -m lficam_jax.prepare`: archives in, data sets out, and the messages when it cannot."""

import gzip
import hashlib
import io
import re
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from scipy.io import savemat

from lficam_jax import prepare as command
from lficam_jax.data.builders import BUILDERS, archives, builder_class
from lficam_jax.data.datasets import DATASETS
from lficam_jax.errors import UserError


@pytest.fixture
def pictures():
    return np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)


def publish(monkeypatch, folder: Path, *names: str, url: str = "http://example.org") -> None:
    """Makes the files in `folder` the published ones: their SHA-256 is what is expected."""
    known = {
        name: archives.Archive(
            name,
            f"{url}/{name}",
            (folder / name).stat().st_size,
            hashlib.sha256((folder / name).read_bytes()).hexdigest(),
        )
        for name in names
    }
    monkeypatch.setattr(archives, "registered", lambda name: known)


def tar(path: Path, **members: bytes) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo("folder/" + name.replace("__", "."))
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))


def run(name: str, directory: Path, originals: Path) -> int:
    return command.main([name, "--data_dir", str(directory), "--from", str(originals)])


def read(name: str, directory: Path, split: str) -> list:
    """Reads with TFDS's stock builder, in the order of the original file."""
    rows = tfds.data_source(name, data_dir=str(directory), split=split)
    return sorted(rows, key=lambda row: row.get("id", b""))


def planes(pictures) -> np.ndarray:
    return pictures.transpose(0, 3, 1, 2).reshape(len(pictures), -1)


def test_cifar10(monkeypatch, tmp_path, pictures, capsys):
    labels = np.arange(20, dtype=np.uint8)[:, None] % 10
    content = np.concatenate([labels, planes(pictures)], 1).tobytes()
    batches = {f"data_batch_{i}__bin": content[: 4 * 3073] for i in range(1, 6)}
    meta = "\n".join(DATASETS["cifar10"].classes).encode() + b"\n"
    tar(
        tmp_path / "cifar-10-binary.tar.gz",
        batches__meta__txt=meta,
        **batches,
        test_batch__bin=content,
    )
    publish(monkeypatch, tmp_path, "cifar-10-binary.tar.gz")

    assert run("cifar10", tmp_path / "data", tmp_path) == 0
    assert "train 20, test 20 examples" in capsys.readouterr().out
    rows = read("cifar10", tmp_path / "data", "test")
    np.testing.assert_array_equal([row["label"] for row in rows], labels[:, 0])
    np.testing.assert_array_equal([row["image"] for row in rows], pictures)
    assert len(read("cifar10", tmp_path / "data", "train")) == 20


def test_cifar100_keeps_both_labels(monkeypatch, tmp_path, pictures):
    labels = np.stack([np.arange(20), np.arange(20) * 5], 1).astype(np.uint8)  # coarse, fine
    content = np.concatenate([labels, planes(pictures)], 1).tobytes()
    names = {"coarse_label_names": 20, "fine_label_names": 100}
    texts = {f"{n}__txt": "\n".join(f"c{i}" for i in range(k)).encode() for n, k in names.items()}
    tar(tmp_path / "cifar-100-binary.tar.gz", **texts, train__bin=content, test__bin=content)
    publish(monkeypatch, tmp_path, "cifar-100-binary.tar.gz")

    assert run("cifar100", tmp_path / "data", tmp_path) == 0
    rows = read("cifar100", tmp_path / "data", "train")
    assert [row["label"] for row in rows] == [5 * i for i in range(20)]
    assert [row["coarse_label"] for row in rows] == list(range(20))
    np.testing.assert_array_equal(rows[7]["image"], pictures[7])


def test_svhn_calls_ten_zero(monkeypatch, tmp_path, pictures):
    labels = np.arange(1, 21)[:, None] % 10
    for part in ("train", "test"):
        content = {"X": np.moveaxis(pictures, 0, -1), "y": np.where(labels == 0, 10, labels)}
        savemat(tmp_path / f"{part}_32x32.mat", content)
    publish(monkeypatch, tmp_path, "train_32x32.mat", "test_32x32.mat")

    assert run("svhn_cropped", tmp_path / "data", tmp_path) == 0
    rows = read("svhn_cropped", tmp_path / "data", "train")
    assert [row["label"] for row in rows] == labels[:, 0].tolist()
    np.testing.assert_array_equal([row["image"] for row in rows], pictures)


def test_stl10_turns_columns_into_rows(monkeypatch, tmp_path):
    pictures = np.zeros((10, 96, 96, 3), np.uint8)
    pictures[:, 5, 80] = 255  # one white pixel in row 5, column 80
    pictures[:, 0, 0, 0] = np.arange(10)  # red: which picture it is
    content = pictures.transpose(0, 3, 2, 1).tobytes()
    labels = bytes(range(1, 11))
    names = "\n".join(DATASETS["stl10"].classes).encode()
    parts = {"train_X__bin": content, "train_y__bin": labels}
    parts |= {"test_X__bin": content, "test_y__bin": labels, "unlabeled_X__bin": b"skipped"}
    tar(tmp_path / "stl10_binary.tar.gz", class_names__txt=names, **parts)
    publish(monkeypatch, tmp_path, "stl10_binary.tar.gz")

    assert run("stl10", tmp_path / "data", tmp_path) == 0
    for row in tfds.data_source("stl10", data_dir=str(tmp_path / "data"), split="test"):
        assert np.argwhere(row["image"][..., 1]).tolist() == [[5, 80]]
        assert row["label"] == row["image"][0, 0, 0]


def test_download_checks_and_keeps_the_archive(monkeypatch, tmp_path, pictures):
    published = tmp_path / "published"
    published.mkdir()
    for part in ("train", "test"):
        labels = np.ones((20, 1))
        savemat(published / f"{part}_32x32.mat", {"X": np.moveaxis(pictures, 0, -1), "y": labels})
    publish(monkeypatch, published, "train_32x32.mat", "test_32x32.mat", url=published.as_uri())
    (tmp_path / "downloads/svhn_cropped").mkdir(parents=True)
    (tmp_path / "downloads/svhn_cropped/train_32x32.mat").write_bytes(b"half a file")

    assert command.main(["svhn_cropped", "--data_dir", str(tmp_path)]) == 0
    assert len(read("svhn_cropped", tmp_path, "train")) == 20
    kept = tmp_path / "downloads/svhn_cropped/train_32x32.mat"
    assert kept.read_bytes() == (published / kept.name).read_bytes()


def test_a_tampered_download_is_refused(monkeypatch, tmp_path):
    for part in ("train", "test"):
        (tmp_path / f"{part}_32x32.mat").write_bytes(b"published")
    publish(monkeypatch, tmp_path, "train_32x32.mat", "test_32x32.mat", url=tmp_path.as_uri())
    (tmp_path / "train_32x32.mat").write_bytes(b"tampered!")
    with pytest.raises(UserError, match="SHA-256 differs"):
        command.main(["svhn_cropped", "--data_dir", str(tmp_path / "data")])
    assert not list((tmp_path / "data/downloads").rglob("*.*"))


def test_no_network_is_one_line(monkeypatch, tmp_path):
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(b"x")
    publish(monkeypatch, tmp_path, "cifar-10-binary.tar.gz", url=(tmp_path / "gone").as_uri())
    with pytest.raises(UserError, match="cannot download.*--from"):
        command.main(["cifar10", "--data_dir", str(tmp_path / "data")])


def test_wrong_archive_names_everything_that_is_wanted(tmp_path):
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(b"something else"))
    with pytest.raises(UserError) as error:
        run("fashion_mnist", tmp_path / "data", tmp_path)
    message = str(error.value)
    assert "train-images-idx3-ubyte.gz differs from the published file" in message
    assert "t10k-labels-idx1-ubyte.gz is missing" in message
    assert message.count("sha256") == 4 and message.count("http://") == 4
    assert not (tmp_path / "data/fashion_mnist").exists()


def test_debian_header_is_restored():
    published = gzip.compress(b"pixels" * 100, mtime=1504176606)
    name = b"train-images-idx3-ubyte.gz".removesuffix(b".gz")
    published = published[:3] + b"\x08" + published[4:10] + name + b"\0" + published[10:]
    stripped = (
        published[:3] + b"\0" + b"\0\0\0\0" + published[8:10] + published[10 + len(name) + 1 :]
    )
    restore = builder_class("fashion_mnist").canonical
    assert gzip.decompress(stripped) == b"pixels" * 100
    assert restore("train-images-idx3-ubyte.gz", stripped) == published
    assert restore("train-images-idx3-ubyte.gz", published) == published


def test_fashion_mnist_from_tiny_archives(monkeypatch, tmp_path):
    pictures = np.random.default_rng(1).integers(0, 256, (20, 28, 28), dtype=np.uint8)
    labels = np.arange(20, dtype=np.uint8) % 10
    for part in ("train", "t10k"):
        images = gzip.compress(b"\0" * 16 + pictures.tobytes())
        (tmp_path / f"{part}-images-idx3-ubyte.gz").write_bytes(images)
        answers = gzip.compress(b"\0" * 8 + labels.tobytes())
        (tmp_path / f"{part}-labels-idx1-ubyte.gz").write_bytes(answers)
    publish(monkeypatch, tmp_path, *builder_class("fashion_mnist").FILES)
    assert run("fashion_mnist", tmp_path / "data", tmp_path) == 0
    rows = tfds.data_source("fashion_mnist", data_dir=str(tmp_path / "data"), split="test")
    seen = {row["image"].tobytes(): row["label"] for row in rows}
    assert seen == {p.tobytes(): int(label) for p, label in zip(pictures, labels, strict=True)}


@pytest.mark.parametrize("name", [n for n in BUILDERS if hasattr(builder_class(n), "FILES")])
def test_every_archive_is_registered(name):
    known = archives.registered(name)
    for file in builder_class(name).FILES:
        assert len(known[file].sha256) == 64 and known[file].size > 0
    assert builder_class(name).name == DATASETS[name].tfds_name


def test_a_finished_data_set_is_not_made_again(monkeypatch, tmp_path, pictures):
    test_svhn_calls_ten_zero(monkeypatch, tmp_path, pictures)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "data/svhn_cropped").rglob("*")}
    shutil.rmtree(tmp_path / "downloads", ignore_errors=True)
    assert run("svhn_cropped", tmp_path / "data", tmp_path / "nowhere") == 0
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "data/svhn_cropped").rglob("*")}


def test_an_interrupted_preparation_is_started_again(monkeypatch, tmp_path, pictures):
    cls, calls = builder_class("svhn_cropped"), []
    generate = cls._generate_examples

    def interrupted(self, split):
        for i, row in generate(self, split):
            if not calls and i == 7:
                calls.append(i)
                raise KeyboardInterrupt
            yield i, row

    monkeypatch.setattr(cls, "_generate_examples", interrupted)
    with pytest.raises(KeyboardInterrupt):
        test_svhn_calls_ten_zero(monkeypatch, tmp_path, pictures)
    assert not (tmp_path / "data/svhn_cropped/3.1.0").exists()
    test_svhn_calls_ten_zero(monkeypatch, tmp_path, pictures)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["fashion_mist"], "did you mean 'fashion_mnist'?"),
        (["CIFAR-10x"], "did you mean 'cifar10'?"),
        ([], "give one NAME, not 0; known: cluttered_digits"),
        (["cifar10", "--form", "x"], "unknown flag --form — did you mean '--from'?"),
        (["imagenette"], "tfds build imagenette/320px-v2 --data_dir"),
        (["cifar10", "--from", "/nowhere"], "cifar-10-binary.tar.gz is missing"),
        (["cluttered_digits", "--data_dir", "/proc/forbidden"], "cannot write to /proc/forbidden"),
    ],
)
def test_bad_input_is_one_clear_message(words, expected, monkeypatch, tmp_path):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    with pytest.raises(UserError, match=re.escape(expected)):
        command.main(words)


def test_the_names_that_help_knows_are_those_that_can_be_prepared():
    assert {*command.NAMES} == {*BUILDERS}
    assert {*command.NAMES, *command.OTHERS} == {*DATASETS}
