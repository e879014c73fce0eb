"""Prepared data sets of strangers, or of a disk that failed: no code, no file outside, one line.

`shades` has ten pictures, the first five `dark`, the others `light`.
"""

import json
import shutil

import pytest
from hypothesis import strategies as st

from lficam_jax.config import default_config
from lficam_jax.data import open_source
from lficam_jax.data.sources import tfds_dataset
from lficam_jax.errors import UserError
from tests.fuzz import damaged, fuzz, times
from tests.refused import refused


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("key", ["pythonClassName", "python_class_name"])
def test_code_that_came_with_a_prepared_set_is_not_run(foreign, tmp_path, monkeypatch, deep, key):
    directory, features, _ = foreign
    (tmp_path / "evil.py").write_text("import pathlib; pathlib.Path(__file__ + '.ran').touch()")
    monkeypatch.syspath_prepend(str(tmp_path))
    said = json.loads(features.read_text())
    one = said["featuresDict"]["features"]["image"] if deep else said
    del one["pythonClassName"]
    features.write_text(json.dumps(one | {key: "evil.Feature"} if not deep else said))
    if deep:
        one[key] = "evil.Feature"
        features.write_text(json.dumps(said))
    with pytest.raises(UserError, match="names evil.Feature, .* is not run"):
        tfds_dataset("shades", directory)
    legacy = {"type": "evil.Feature", "content": {}}
    features.write_text(json.dumps(legacy))
    with pytest.raises(UserError, match="names evil.Feature, .* is not run"):
        tfds_dataset("shades", directory)
    assert not (tmp_path / "evil.py.ran").exists()


def test_files_outside_a_prepared_set_are_not_read(foreign):
    directory, _, info = foreign
    said = json.loads(info.read_text())
    said["splits"][0]["filepathTemplate"] = "../../../{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    info.write_text(json.dumps(said))
    with pytest.raises(UserError, match="no name of a file inside a folder"):
        tfds_dataset("shades", directory)


def read_all(directory):
    data = default_config().data
    data.name, data.dir = "shades", str(directory)
    source = open_source(data, "train")
    return [source[i]["label"] for i in range(len(source)) if i != 7]  # a broken picture


DAMAGE = [b"", b"{}", b"[]", b"null", b"\xff\xfe", b"{", b"[" * 10**5, b'{"featuresDict": 3}']


@pytest.mark.parametrize("content", DAMAGE)
@pytest.mark.parametrize("name", ["dataset_info.json", "features.json"])
def test_metadata_that_are_damaged_are_told(foreign, name, content):
    directory, features, _ = foreign
    features.with_name(name).write_bytes(content)
    refused("prepared files of shades are damaged .*prepare shades again|has no split|has the feat"
            "|is not in the format array_record", read_all, directory)  # fmt: skip


@pytest.mark.parametrize("name", ["dataset_info.json", "features.json"])
def test_metadata_that_are_gone_or_a_folder_are_told(foreign, name):
    directory, features, _ = foreign
    features.with_name(name).unlink()
    refused("cannot read data sets from|is not prepared", read_all, directory)
    features.with_name(name).mkdir()
    refused("cannot read data sets from|is not prepared", read_all, directory)


def changed(path, change):
    said = json.loads(path.read_text())
    change(said)
    path.write_text(json.dumps(said))


def test_a_set_without_a_class_or_with_another_kind_of_it_is_told(foreign):
    directory, features, _ = foreign
    text = "tensorflow_datasets.core.features.text_feature.Text"
    changed(features, lambda said: said["featuresDict"]["features"]["label"].update(
        pythonClassName=text, text={}, classLabel=None))  # fmt: skip
    refused("has the features .*label.* are needed, a picture and a class", read_all, directory)
    changed(features, lambda said: said["featuresDict"]["features"].pop("label"))
    refused("has the features .* are needed, a picture and a class", read_all, directory)


@pytest.mark.parametrize(
    ("names", "says"),
    [("dark", "example [0-9] of shades train has the label 1, and .* names 1 classes"),
     ("dark\ndark", "two classes have one name"), ("", "has the label [01]")],
)  # fmt: skip
def test_labels_beyond_the_classes_are_told_not_taken_for_others(foreign, names, says):
    directory, features, _ = foreign
    features.with_name("label.labels.txt").write_bytes(names.encode())
    change = {"numClasses": str(names.count("\n") + 1)}
    changed(features, lambda said: said["featuresDict"]["features"]["label"]["classLabel"].update(
        change))  # fmt: skip
    refused(says, read_all, directory)


def test_another_format_is_told_with_the_command_that_converts_it(foreign):
    directory, _, info = foreign
    changed(info, lambda said: said.update(fileFormat="tfrecord"))
    refused("is not in the format array_record; convert it once with", read_all, directory)
    changed(info, lambda said: said.update(fileFormat="unheard"))
    refused("are damaged .'unheard' is not a valid", read_all, directory)


@times
def test_whatever_metadata_say_is_read_or_refused(prepared, tmp_path, times):
    """One file of the set with some bytes changed, or a JSON value replaced by another."""
    shutil.copytree(prepared, tmp_path / "data")
    files = sorted(p for p in (tmp_path / "data").rglob("*") if p.is_file())
    whole = {path: path.read_bytes() for path in files}
    odd = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
        max_leaves=4,
    )

    def check(data):
        for path, content in whole.items():
            path.write_bytes(content)
        path = data.draw(st.sampled_from(files))
        if path.suffix == ".json" and data.draw(st.booleans()):
            said = json.loads(whole[path])
            where, key = data.draw(st.sampled_from(list(places(said))))
            where[key] = data.draw(odd)
            path.write_text(json.dumps(said))
        else:
            path.write_bytes(damaged(data, whole[path]))
        try:
            assert set(read_all(tmp_path / "data")) <= {0, 1}
        except UserError as error:
            assert len(str(error)) < 700

    fuzz(check, 40, times)


def places(said):
    """Yields every container of a JSON value with each of its keys."""
    for key in said if isinstance(said, dict) else range(len(said)):
        yield said, key
        if isinstance(said[key], dict | list):
            yield from places(said[key])
