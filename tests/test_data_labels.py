"""A CSV that says what the pictures of a folder show: read, divided, and refused by line."""

import os

import numpy as np
import pytest
from PIL import Image

from lficam_jax.config import default_config, validate
from lficam_jax.data import (
    counts,
    dataset_info,
    labels_file,
    open_pipeline,
    open_source,
    split_table,
)
from lficam_jax.data.labels import LabelledFolder
from lficam_jax.data.labels_file import read_table
from lficam_jax.errors import UserError

SPLITS = ("train", "validation", "test")


@pytest.fixture
def folder(tmp_path):
    """30 pictures a00.png … below photos/, all of other content."""
    (tmp_path / "photos").mkdir()
    for i in range(30):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(tmp_path / "photos" / f"a{i:02}.png")
    return tmp_path


def data_of(folder, text, **options):
    (folder / "labels.csv").write_text(text, encoding=options.pop("encoding", "utf-8"))
    data = default_config().data
    data.update(
        name="folder", folder=str(folder / "photos"), labels_file=str(folder / "labels.csv"),
        image_size=8, **options,
    )  # fmt: skip
    return data


def lines(header, row, count=30):
    return "\n".join([header, *(row(i) for i in range(count))]) + "\n"


def labelled(data):
    """Every picture's label, by its split."""
    sources = {split: open_source(data, split) for split in SPLITS}
    return {s: dict(zip(x.names, x.labels.tolist(), strict=True)) for s, x in sources.items()}


def test_columns_of_0_and_1_are_several_labels(folder):
    data = data_of(folder, lines("path,cat,dog", lambda i: f"a{i:02}.png,{i % 2},{i % 3 and 1}"))
    info = dataset_info(data)
    assert (info.labels, info.classes, info.num_classes) == ("several", ("cat", "dog"), 2)
    found = labelled(data)
    assert {s: len(rows) for s, rows in found.items()} == {"train": 24, "validation": 3, "test": 3}
    everything = found["train"] | found["validation"] | found["test"]
    assert everything["a03.png"] == [1, 0] and everything["a04.png"] == [0, 1]
    train = open_pipeline(data, "train", batch_size=8, train=True)
    batch = next(train.batches(0))
    assert batch["label"].shape == (8, 2) and batch["label"].dtype == np.float32
    assert counts.told({"train": train})[0].startswith("train  24 pictures (cat: ")


def test_one_column_of_0_and_1_makes_two_classes(folder):
    data = data_of(folder, lines("path,crack", lambda i: f"a{i:02}.png,{('False', '1')[i % 2]}"))
    info = dataset_info(data)
    assert (info.labels, info.classes) == ("class", ("no crack", "crack"))
    found = labelled(data)
    assert found["train"].items() >= {k: int(k[1:3]) % 2 for k in found["train"]}.items()
    # divided by class: a tenth of each
    assert sorted(found["test"].values()) == sorted(found["validation"].values()) == [0, 0, 1, 1]


def test_one_column_of_numbers_is_learnt_in_their_deviations(folder):
    data = data_of(folder, lines("path,age", lambda i: f"a{i:02}.png,{20 + i}"))
    info = dataset_info(data)
    train = np.array([*labelled(data)["train"].values()])
    assert (info.labels, info.classes) == ("number", ("age",)) and train.shape == (24, 1)
    assert info.number == (train.mean(), train.std())  # of the pictures to train on alone


def test_columns_are_chosen_by_their_names(folder):
    text = lines("path,patient,sick,age", lambda i: f"a{i:02}.png,{i * 7},{i % 2},{i / 2}")
    assert dataset_info(data_of(folder, text, classes=("age",))).labels == "number"
    one = dataset_info(data_of(folder, text, classes=("sick",)))
    assert (one.labels, one.classes, one.num_classes) == ("class", ("no sick", "sick"), 2)
    with pytest.raises(UserError, match="line 3: patient='7' is neither 0 nor 1"):
        dataset_info(data_of(folder, text))
    with pytest.raises(UserError, match="no column 'aeg' — did you mean 'age'"):
        dataset_info(data_of(folder, text, classes=("aeg",)))
    # a count that happens to be 0 or 1
    assert (
        dataset_info(data_of(folder, text, classes=("sick",), labels="number")).labels == "number"
    )


@pytest.mark.parametrize("column", [True, False])
def test_splits_are_said_by_a_column_or_by_folders(folder, column):
    """What nobody names, here the validation split, is taken from train."""
    names = {}
    for i, path in enumerate(sorted((folder / "photos").glob("*.png"))):
        part = "test" if i < 5 else "Training"
        names[path.name] = path.name if column else f"{part}/{path.name}"
        if not column:
            (folder / "photos" / part).mkdir(exist_ok=True)
            path.rename(folder / "photos" / names[path.name])
    text = "path,x,y,split\n" if column else "path,x,y\n"
    for i, path in enumerate(names.values()):
        text += f"{path},1,0" + (f",{'test' if i < 5 else 'Train'}" if column else "") + "\n"
    found = labelled(data_of(folder, text))
    assert {s: len(rows) for s, rows in found.items()} == {"train": 23, "validation": 2, "test": 5}


def test_a_run_keeps_splits_and_labels(folder):
    """Its split file says both, and the labels file is looked at no more."""
    data = data_of(folder, lines("path,cat,dog", lambda i: f"a{i:02}.png,{i % 2},1"))
    before, info = labelled(data), dataset_info(data)
    (folder / "split.csv").write_text(split_table(data))
    data.update(split_file=str(folder / "split.csv"), classes=info.classes, labels="several")
    (folder / "labels.csv").unlink()
    assert labelled(data) == before


def test_pictures_without_a_line_are_named(folder):
    data = data_of(folder, lines("path,cat,dog", lambda i: f"a{i:02}.png,{i % 2},1", count=28))
    notes = " ".join(open_pipeline(data, "test", batch_size=4, train=False).notes)
    assert "has no line of them: a28.png, a29.png" in notes


def test_empty_cells_are_unknown_labels(folder):
    """A label that no picture to train on surely has cannot be learnt, however often unknown."""
    text = lines("path,cat,dog,cow", lambda i: f"a{i:02}.png,{i % 2},{('', 1)[i % 3 > 0]},")
    info = dataset_info(data_of(folder, text))
    assert (info.labels, info.classes) == ("several", ("cat", "dog", "cow"))
    data = data_of(folder, text, classes=("cat", "dog"))
    found = labelled(data)
    everything = found["train"] | found["validation"] | found["test"]
    assert everything["a04.png"] == [0, 1] and np.isnan(everything["a03.png"][1])
    (folder / "split.csv").write_text(split_table(data))
    kept = data_of(folder, "", classes=("cat", "dog"), labels="several")
    kept.split_file = str(folder / "split.csv")
    np.testing.assert_equal(labelled(kept), found)
    with pytest.raises(UserError, match="no picture to train of cow"):
        open_pipeline(data_of(folder, text), "train", batch_size=8, train=True)


def test_pictures_of_which_nothing_is_known_are_left_out(folder):
    data = data_of(folder, lines("path,age", lambda i: f"a{i:02}.png,{i if i > 3 else ''}"))
    splits = {split: open_pipeline(data, split, batch_size=4, train=False) for split in SPLITS}
    assert sum(split.examples for split in splits.values()) == 26
    assert "says nothing of them: a00.png, a01.png" in " ".join(splits["train"].notes)
    assert dataset_info(data).number[0] > 10
    data = data_of(folder, lines("path,cat,dog", lambda i: f"a{i:02}.png,1,{'' if i % 2 else 0}"))
    data.classes = ("cat", "dog")
    told = counts.told({"test": open_pipeline(data, "test", batch_size=4, train=False)})[0]
    assert " unknown" in told and "cat: 3," in told


GOOD = "path,cat,dog\na00.png,1,0\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "must begin with a line like path,LABEL"),
        ("a00.png,1,0\n", "begins with 'a00.png,1,0'"),
        ("path;cat\na00.png;1\n", "with commas, not semicolons"),
        ("path\na00.png\n", "must begin with"),
        ("path,cat,cat\na00.png,1,0\n", "'cat' twice"),
        ("path,cat,\na00.png,1,0\n", "a column without a name"),
        ("path,cat,dog\n", "names no picture"),
        (GOOD + "a01.png,1\n", "line 3 has 2 cells, and the first line 3"),
        ("path,cat\na00.png,1\n\n\na01.png,\n", "line 5: cat is empty, and the class of each"),
        ("path,cat,dog\na00.png,,\n", "all cells of cat, dog are empty"),
        (GOOD + "a01.png,yes,1\n", "line 3: cat='yes' is no number"),
        (GOOD + "a01.png,nan,1\n", "line 3: cat='nan' is no number; .*, or leave the cell empty"),
        (GOOD + "a01.png,1e99,1\n", "line 3: cat='1e99' is no number"),
        (GOOD + "a01.png,-1,1\n", "line 3: cat='-1' is neither 0 nor 1; .* unknown .empty"),
        (GOOD + "a00.png,0,1\n", "line 3: a00.png is in line 2 already"),
        (GOOD + "./a00.png,0,1\n", "line 3: a00.png is in line 2 already"),
        (GOOD + ",0,1\n", "line 3: '' is no path"),
        (GOOD + "../a00.png,0,1\n", "line 3: '../a00.png' is no path"),
        (GOOD + "b.png,0,1\n", "names pictures that are not in .*: b.png"),
        ("path,age\na00.png,3\na01.png,3\na02.png,3\na03.png,3\n", "age is 3 for every picture"),
        ("path,cat,dog,split\na00.png,1,0,tset\n", "line 2: the split is 'tset'"),
    ],
)
def test_what_is_wrong_with_the_file_is_named_by_its_line(folder, text, told):
    data = data_of(folder, text)
    with pytest.raises(UserError, match=told):
        dataset_info(data)
        open_source(data, "train")


def test_a_label_that_nothing_has_cannot_be_learnt(folder):
    data = data_of(folder, lines("path,cat,dog", lambda i: f"a{i:02}.png,{i % 2},0"))
    with pytest.raises(UserError, match="no picture to train of dog"):
        open_pipeline(data, "train", batch_size=8, train=True)


def test_too_few_pictures_are_said(folder):
    with pytest.raises(UserError, match="no picture for the split validation"):
        open_source(data_of(folder, GOOD + "a01.png,0,1\n"), "validation")


def test_files_of_spreadsheets_are_read(folder):
    """A byte-order mark, Windows' line ends, blanks around cells, quotes, empty lines."""
    text = 'path, "a, b" ,c\r\n"a00.png", 1 ,0\r\n\r\na01.png,TRUE,1.0\r\n'
    (folder / "t.csv").write_text(text, encoding="utf-8-sig", newline="")
    table = read_table(folder / "t.csv")
    assert table.columns == ("a, b", "c") and [row.cells for row in table.rows] == [
        ("1", "0"),
        ("1", "1"),
    ]


def test_a_file_is_read_once_until_it_changes(folder, monkeypatch):
    """Whatever asks something of the folder would read it: nine times in a training."""
    data, read = data_of(folder, lines("path,a,b", lambda i: f"a{i:02}.png,{i % 2},1")), []
    monkeypatch.setattr(
        labels_file, "_row", lambda *a, row=labels_file._row: read.append(a) or row(*a)
    )
    for _ in range(3):
        labelled(data)
    assert len(read) == 30
    data_of(folder, lines("path,a,b", lambda i: f"a{i:02}.png,1,1"))
    assert set(map(tuple, labelled(data)["train"].values())) == {(1, 1)} and len(read) == 60


def test_a_file_that_cannot_be_read_is_named(folder):
    os.mkfifo(folder / "pipe.csv")
    with pytest.raises(UserError, match="cannot read data.labels_file=.*it is a pipe"):
        read_table(folder / "pipe.csv")
    for name in ("absent.csv", "photos"):
        with pytest.raises(UserError, match=f"cannot read data.labels_file=.*{name}"):
            read_table(folder / name)


def test_labels_are_of_a_folder():
    config = default_config()
    config.data.labels_file = "labels.csv"
    with pytest.raises(UserError, match="of pictures in a folder"):
        validate(config)
    config.data.number = (1.0, 0.0)
    with pytest.raises(UserError, match="data.number.*positive deviation"):
        validate(config)


@pytest.mark.parametrize("kind", ["class", "number"])
def test_one_column_is_taken_for_a_class_or_a_number(kind, tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "t.csv").write_text("path,age,height\na.png,1,0\n")
    folder = LabelledFolder(tmp_path, str(tmp_path / "t.csv"), "", ("age", "height"), kind)
    with pytest.raises(UserError, match="takes one column of .*, and data.classes names 2"):
        _ = folder.kind


def test_two_labels_stay_two_whatever_they_are_called(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    (tmp_path / "t.csv").write_text("path,no tumor,tumor\na.png,0,1\n")
    names = ("no tumor", "tumor")
    folder = LabelledFolder(tmp_path, str(tmp_path / "t.csv"), "", names, "several")
    assert (folder.kind, folder.classes) == ("several", names)
