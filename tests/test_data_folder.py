"""A folder of pictures in any layout: how it is divided, counted, and what is said of it."""

import contextlib
import csv
import errno
import json
import os
import re
import shutil
from collections import Counter

import pytest
from PIL import Image

from lficam_jax.config import default_config
from lficam_jax.data import (
    counts,
    dataset_info,
    find_images,
    open_pipeline,
    open_source,
    read_image,
    split_table,
    train_examples,
)
from lficam_jax.data.division import from_csv, to_csv
from lficam_jax.data.listing import walk
from lficam_jax.data.sample import Sample
from lficam_jax.errors import UserError
from lficam_jax.modes import evaluate
from lficam_jax.speed.describe import describe
from lficam_jax.training.experiment import recall
from lficam_jax.training.train import train

SPLITS = ("train", "validation", "test")


def paint(folder, count, start=0):
    """Pictures that all differ, also between folders of other names."""
    folder.mkdir(parents=True, exist_ok=True)
    shade = sum(map(ord, folder.name)) % 256
    for i in range(start, start + count):
        Image.new("RGB", (18, 14), (shade, i % 256, i // 256)).save(folder / f"{i:03}.png")


@pytest.fixture
def photos(tmp_path):
    """CLASS/files: 30 ants, 20 bees, 10 cats."""
    for name, count in (("ant", 30), ("bee", 20), ("cat", 10)):
        paint(tmp_path / "photos" / name, count)
    return tmp_path / "photos"


@pytest.fixture
def data(photos):
    data = default_config().data
    data.name, data.folder, data.image_size = "folder", str(photos), 16
    return data


def opened(data):
    return {split: open_source(data, split) for split in SPLITS}


def names(source):
    return [source.name(i) for i in range(len(source))]


def told(data, batch_size=4, asked=0):
    splits = {
        split: open_pipeline(data, split, batch_size=batch_size, train=split == "train", parts=1)
        for split in SPLITS
    }
    return counts.told(splits, asked)


def test_a_folder_of_classes_is_divided_a_tenth_each(data):
    splits = opened(data)
    per_class = {s: Counter(n.split("/")[0] for n in names(splits[s])) for s in SPLITS}
    assert per_class["train"] == {"ant": 24, "bee": 16, "cat": 8}
    assert per_class["validation"] == per_class["test"] == {"ant": 3, "bee": 2, "cat": 1}
    everything = [name for split in SPLITS for name in names(splits[split])]
    assert len(everything) == len(set(everything)) == 60
    assert splits["test"].classes == dataset_info(data).classes == ("ant", "bee", "cat")
    for source in splits.values():
        for i in range(len(source)):
            assert source.classes[source[i]["label"]] == source.name(i).split("/")[0]


def test_the_division_follows_the_content_not_the_names(data, photos, tmp_path):
    def contents(folder):
        data.folder = str(folder)
        return {
            split: {(folder / name).read_bytes() for name in names(source)}
            for split, source in opened(data).items()
        }

    other = tmp_path / "other"
    for name in ("ant", "bee", "cat"):
        (other / name).mkdir(parents=True)
        for i, file in enumerate(sorted((photos / name).iterdir(), reverse=True)):
            shutil.copy(file, other / name / f"renamed{i}.png")
    assert contents(photos) == contents(other)


def test_duplicates_never_straddle(data, photos):
    """Each ant is there twice more, once below another class."""
    for file in list((photos / "ant").iterdir()):
        shutil.copy(file, photos / "ant" / f"copy_{file.name}")
        shutil.copy(file, photos / "bee" / f"ant_{file.name}")
    seen = {}
    for split, source in opened(data).items():
        for name in names(source):
            seen.setdefault((photos / name).read_bytes(), set()).add(split)
    assert all(len(splits) == 1 for splits in seen.values())
    assert Counter(next(iter(s)) for s in seen.values())["test"] >= 5


@pytest.mark.parametrize(
    ("count", "expected"), [(1, (1, 0, 0)), (2, (1, 0, 1)), (3, (1, 1, 1)), (14, (12, 1, 1))]
)
def test_each_split_has_one_of_a_class_where_there_are_enough(data, photos, count, expected):
    shutil.rmtree(photos / "cat")
    paint(photos / "cat", count)
    found = [sum(n.startswith("cat/") for n in names(source)) for source in opened(data).values()]
    assert tuple(found) == expected


def test_what_is_done_is_told_in_lines(data, photos):
    assert told(data) == [
        "train       48 pictures (ant: 24, bee: 16, cat: 8)",
        "validation  6 pictures (ant: 3, bee: 2, cat: 1)",
        "test        6 pictures (ant: 3, bee: 2, cat: 1)",
        f"{photos} is divided by the contents of its 60 pictures: 48 train, 6 validation, 6 test",
    ]
    assert told(data, 64, 64)[3] == (
        "batches of 48 instead of 64, so that an epoch takes 48 of the 48 pictures to train on"
    )


def test_many_classes_are_told_by_the_fewest_and_the_most(data, photos):
    for i in range(9):
        paint(photos / f"kind{i}", 5 + i)
    assert told(data)[0] == (
        "train       111 pictures of 12 classes, from 3 (kind0) to 24 (ant) each"
    )


@pytest.fixture
def parted(photos):
    """Moves the classes below train/, and makes another split."""

    def make(*splits, name="test"):
        (photos / "train").mkdir()
        for each in ("ant", "bee", "cat"):
            (photos / each).rename(photos / "train" / each)
        for split in splits:
            for each in ("ant", "bee", "cat"):
                paint(photos / split / each, 4, start=300)

    return make


def test_a_split_that_is_missing_is_taken_from_train(data, photos, parted):
    parted("test")
    assert [len(source) for source in opened(data).values()] == [54, 6, 12]
    assert told(data)[-1] == (
        f"{photos} has no validation: by their contents, 6 to validation of the 60 pictures of "
        "train"
    )
    shutil.rmtree(photos / "test")
    assert [len(source) for source in opened(data).values()] == [48, 6, 6]
    assert told(data)[-1] == (
        f"{photos} has no validation and no test: by their contents, 6 to validation and 6 to test "
        "of the 60 pictures of train"
    )


@pytest.mark.parametrize("name", ["val", "Valid", "VALIDATION"])
def test_what_people_call_the_splits(data, photos, parted, name):
    parted(name, "Testing")
    assert [len(source) for source in opened(data).values()] == [60, 12, 12]
    assert split_table(data) == ""


def test_layouts_that_are_none_say_what_is_wrong(data, photos, tmp_path):
    def error(folder):
        data.folder = str(folder)
        with pytest.raises(UserError) as caught:
            opened(data)
        return str(caught.value)

    assert error(tmp_path) == f"{tmp_path} holds only photos; say --config.data.folder={photos}?"
    assert "is not a directory" in error(tmp_path / "nowhere")
    assert "two at least; it holds none" in error(photos / "ant")
    (tmp_path / "one" / "ant").mkdir(parents=True)
    assert "two at least; it holds ant" in error(tmp_path / "one")
    paint(tmp_path / "bare" / "train", 3)
    paint(tmp_path / "bare" / "test", 3)
    assert "bare: test and train must hold one folder of pictures per class" in error(
        tmp_path / "bare"
    )
    for split in ("test", "val", "validation"):
        paint(tmp_path / "late" / split / "ant", 3)
    assert "late has val and validation, which mean the same" in error(tmp_path / "late")
    shutil.rmtree(tmp_path / "late" / "val")
    assert "late has no folder train; it holds test, validation" in error(tmp_path / "late")


def test_a_class_with_no_picture_to_train_is_an_error(data, photos, parted):
    (photos / "dog").mkdir()
    with pytest.raises(UserError, match="photos has no picture to train of dog; add some"):
        told(data)
    (photos / "dog").rmdir()
    parted("test", "validation")
    shutil.rmtree(photos / "test" / "bee")
    assert told(data)[2] == "test        8 pictures (ant: 4, bee: 0, cat: 4)"
    (photos / "test" / "Bee").mkdir()
    with pytest.raises(UserError, match=r"test has classes that train does not know: 'Bee' \(d"):
        open_source(data, "test")


def test_a_split_without_pictures_names_the_cause(data, photos):
    for name in ("ant", "bee", "cat"):
        for path in sorted((photos / name).iterdir())[1:]:
            path.unlink()
    with pytest.raises(UserError, match="to take some to validation: .* the largest has 1$"):
        opened(data)
    (photos / "dog").mkdir()
    with pytest.raises(UserError, match="no pictures in dog; add some, or remove the folder"):
        opened(data)


def test_folders_below_a_class_count_as_it_and_are_told(data, photos):
    paint(photos / "cat" / "black" / "old", 10, start=100)
    assert train_examples(data) == 48 + 8
    assert told(data)[-1] == ("pictures below a class folder count as that class's: cat/black/old")


def test_what_is_no_picture_is_passed_over_and_told(data, photos):
    for place in ("cat/.ipynb_checkpoints", "__MACOSX/cat", ".hidden", "cat/x.jpg"):
        paint(photos / place, 3, start=50)
    shutil.copy(photos / "cat" / "000.png", photos / "cat" / "._000.png")
    assert train_examples(data) == 48
    passed = told(data)[-1].removeprefix(f"passed over in {photos}: ")
    expected = {".hidden", "__MACOSX", "cat/.ipynb_checkpoints", "cat/._000.png", "cat/x.jpg"}
    assert set(passed.split(", ")) == expected


def test_linked_folders_are_followed_and_loops_end(data, photos, tmp_path):
    paint(tmp_path / "elsewhere" / "deep", 10)
    os.symlink(tmp_path / "elsewhere", photos / "dog")
    os.symlink(photos, photos / "cat" / "loop")
    os.symlink("itself", photos / "cat" / "itself")
    assert dataset_info(data).classes == ("ant", "bee", "cat", "dog")
    assert sum("dog/deep/" in name for s in opened(data).values() for name in names(s)) == 10
    assert len(walk(photos / "cat").files) == 10
    assert len(walk(photos).files) == 70


def test_every_suffix_of_a_picture_counts(tmp_path):
    for name in ("a.avif", "b.jfif", "c.HEIC", "d.heif", "e.JPG", "f.txt"):
        (tmp_path / name).write_bytes(b"")
    assert [p.name for p in find_images([tmp_path])] == [
        "a.avif", "b.jfif", "c.HEIC", "d.heif", "e.JPG"
    ]  # fmt: skip
    Image.new("RGB", (9, 9), (200, 0, 0)).save(tmp_path / "real.avif")
    Image.new("RGB", (9, 9), (200, 0, 0)).save(tmp_path / "b.jfif", "jpeg")
    assert abs(int(read_image(tmp_path / "real.avif").pixels[4, 4, 0]) - 200) < 6
    assert read_image(tmp_path / "b.jfif").pixels.shape == (9, 9, 3)


def test_heic_names_the_package_that_reads_it(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    with pytest.raises(UserError, match="a.heic is HEIC; to read it: pip install pillow-heif"):
        read_image(tmp_path / "a.heic")


def test_what_find_images_passes_over_is_told(tmp_path, capsys):
    paint(tmp_path, 2)
    paint(tmp_path / ".ipynb_checkpoints", 2)
    assert len(find_images([tmp_path])) == 2
    assert capsys.readouterr().err == f"passed over in {tmp_path}: .ipynb_checkpoints\n"
    hidden = tmp_path / ".ipynb_checkpoints"
    assert len(find_images([hidden])) == 2  # who names it wants it


def test_a_short_training_takes_every_class(data):
    data.train_examples = 6
    source = open_source(data, "train")
    assert len(source) == 6 and set(source.labels.tolist()) == {0, 1, 2}


def test_a_sample_names_its_files(data, digits):
    (batch,) = Sample(data, "test", 4).batches(4)
    assert all((open_source(data, "test").folder.path / name).is_file() for name in batch["name"])
    config = default_config()
    config.data.dir = str(digits)
    (batch,) = Sample(config.data, "validation", 2).batches(3)
    assert batch["name"].tolist() == [f"validation {i}" for i in batch["id"]]


@pytest.fixture
def config(tiny, photos):
    tiny.data.name, tiny.data.folder, tiny.data.dir = "folder", str(photos), ""
    tiny.data.train_examples = 0
    tiny.train.total_steps, tiny.eval.every_steps = 2, 1
    return tiny


def table(workdir):
    with (workdir / "split.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_keeps_its_division_whatever_comes_later(config, photos, tmp_path, capsys):
    workdir = tmp_path / "run"
    config.train.total_steps, config.train.total_epochs, config.train.batch_size = 0, 2.0, 64
    found = describe(config)
    assert (found["steps_per_epoch"], found["total_steps"]) == (1, 2)  # 48 in each
    assert train(config, workdir)["step"] == 2
    rows = table(workdir)
    assert Counter(row["split"] for row in rows) == {"train": 48, "validation": 6, "test": 6}
    assert {row["class"] for row in rows} == {"ant", "bee", "cat"}
    before = (workdir / "split.csv").read_text()

    paint(photos / "ant", 40, start=200)  # would be divided otherwise
    (workdir / "results" / "train.json").unlink()
    capsys.readouterr()
    train(config, workdir)
    out = capsys.readouterr().out
    assert "train       48 pictures" in out and "test        6 pictures" in out
    assert f"left out, because they came later than {workdir}/split.csv: ant/200.png" in out
    assert (workdir / "split.csv").read_text() == before
    sources = opened(recall(config, workdir).data)
    assert {r["path"] for r in rows if r["split"] == "test"} == set(names(sources["test"]))

    moved = photos.rename(tmp_path / "moved")  # the folder may move
    config.data.folder = str(moved)
    assert len(opened(recall(config, workdir).data)["train"]) == 48

    (moved / rows[0]["path"]).unlink()
    with pytest.raises(UserError, match="split.csv names pictures that are not in .*put them back"):
        open_source(recall(config, workdir).data, rows[0]["split"])
    shutil.copy(moved / rows[1]["path"], moved / rows[0]["path"])

    # Of the same pictures on other splits it is another run.
    (workdir / "results" / "train.json").unlink()
    text = before.replace(",test\n", ",swap\n").replace(",validation\n", ",test\n")
    config.data.split_file = str(tmp_path / "other.csv")
    (tmp_path / "other.csv").write_text(text.replace(",swap\n", ",validation\n"))
    with pytest.raises(UserError, match="belongs to a run on other splits of the pictures"):
        train(config, workdir)


def test_another_folder_is_measured_whole(config, tmp_path, capsys):
    """Of 5 ants and 4 bees, which the run never saw, all are measured; to train they divide."""
    train(config, tmp_path / "run")
    for name, count in (("ant", 5), ("bee", 4)):
        paint(tmp_path / "other" / name, count, start=300)
    config.data.folder = str(tmp_path / "other")
    capsys.readouterr()
    assert evaluate(config, str(tmp_path / "run"), "test") == 0
    out = capsys.readouterr().out
    assert "test  9 pictures (ant: 5, bee: 4, cat: 0)" in out and re.search(
        r"^examples +9$", out, re.M
    )
    assert f"{tmp_path}/other is not the run's own folder, and not divided: all is taken" in out
    assert recall(config, tmp_path / "run").data.split_file == ""
    for i, path in enumerate(sorted((tmp_path / "photos").rglob("*.png"))):  # of the same names
        there = tmp_path / "alike" / path.relative_to(tmp_path / "photos")
        there.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (18, 14), (9, i, 9)).save(there)
    config.data.folder = str(tmp_path / "alike")
    assert recall(config, tmp_path / "run", reads=True).data.split_file == "*"
    config.data.split_file = "*"
    with pytest.raises(UserError, match="is for measuring"):
        train(config, tmp_path / "again")


def test_a_class_whose_folder_leads_nowhere_is_told(data, photos):
    """As the mount of a disk that is not there."""
    shutil.move(photos / "cat", photos.parent / "elsewhere")
    (photos / "cat").symlink_to(photos.parent / "elsewhere")
    assert open_pipeline(data, "test", batch_size=2, train=False).dataset.classes[2] == "cat"
    (photos.parent / "elsewhere").rename(photos.parent / "unmounted")
    notes = open_pipeline(data, "test", batch_size=2, train=False).notes
    assert f"passed over in {photos}: cat" in notes


@pytest.mark.parametrize("code", [errno.EACCES, errno.EIO, errno.ESTALE])
@pytest.mark.parametrize("where", ["listed", "looked at"])
def test_a_class_that_cannot_be_read_ends_in_a_line(data, photos, monkeypatch, where, code):
    """As `chmod 0`, which does not stop root."""
    problem, real = OSError(code, os.strerror(code)), os.scandir

    class Entry:
        path = str(photos / "cat")

        def is_dir(self):
            raise problem

    def scandir(path):
        if where == "looked at":
            return contextlib.nullcontext([Entry()])
        if str(path).endswith("cat"):
            raise problem
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(UserError, match=f"cannot read the folder .*: {os.strerror(code)}"):
        open_source(data, "train")


@pytest.mark.parametrize("outside", ["../secret/1.png", "/etc/passwd", "ant/../../secret/1.png"])
def test_a_split_file_names_no_picture_outside_its_folder(data, photos, outside):
    paint(photos.parent / "secret", 2)
    file = photos.parent / "split.csv"
    file.write_text(f"path,class,split\nant/000.png,ant,train\n{outside},bee,train\n")
    data.split_file = str(file)
    with pytest.raises(UserError, match="names pictures that are not in") as told:
        open_source(data, "train")
    assert "\n" not in str(told.value)


def test_a_split_file_keeps_names_as_they_are(tmp_path):
    rows = {"train": [("a\nb.png", "x,y"), ('"c"\r\n.png', "é")], "validation": [], "test": []}
    (tmp_path / "split.csv").write_bytes(to_csv(rows).encode())
    assert from_csv(tmp_path / "split.csv") == rows


def test_a_split_file_of_ones_own(config, photos, tmp_path):
    file = tmp_path / "mine.csv"
    lines = [f"{name}/00{i}.png,{name},{split}" for name in ("ant", "bee")
             for i, split in enumerate(("train", "validation", "test"))]  # fmt: skip
    file.write_text("path,class,split\n" + "\n".join(lines) + "\n")
    config.data.split_file = str(file)
    assert [len(source) for source in opened(config.data).values()] == [2, 2, 2]
    assert dataset_info(config.data).classes == ("ant", "bee")
    for text, error in (
        ("a,b\n", "must begin with the line path,class,split"),
        ("path,class,split\nant/000.png,ant,tset\n", "line 2: 'ant/000.png,ant,tset' is no path"),
    ):
        file.write_text(text)
        with pytest.raises(UserError, match=error):
            open_source(config.data, "train")
    config.data.split_file = str(tmp_path / "absent.csv")
    with pytest.raises(UserError, match="cannot read .*absent.csv: No such file"):
        open_source(config.data, "train")


def test_a_class_of_any_bytes_is_trained_measured_and_named(config, photos, tmp_path, capsys):
    os.rename(photos / "cat", os.fsencode(photos) + b"/caf\xe9")
    train(config, tmp_path / "run")
    assert evaluate(config, str(tmp_path / "run"), "test") == 0
    for mode in ("train", "evaluate"):
        found = json.loads((tmp_path / "run" / "results" / f"{mode}.json").read_text())
        found = found.get("test", found)
        assert [os.fsencode(name) for name in found["classes"]] == [b"ant", b"bee", b"caf\xe9"]


def test_grey_pictures_and_names_of_any_bytes(data, photos):
    path = os.fsencode(photos / "ant") + b"/caf\xe9.png"
    shutil.copy(photos / "ant" / "000.png", path)
    found = [name for source in opened(data).values() for name in names(source)]
    assert "ant/caf\\udce9.png" in found
    assert "caf\udce9.png" in split_table(data)
    image = read_image(path.decode(errors="surrogateescape")).pixels
    assert image[0, 0, 1] == 0
