"""Damaged pictures: training passes over a few, by the same rule in each process and thread."""

import io
import threading
from itertools import islice
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from lficam_jax.config import default_config
from lficam_jax.data import open_pipeline
from lficam_jax.data.damaged import Mended
from lficam_jax.data.images import DamagedImage
from lficam_jax.errors import UserError


class Numbers:
    """Example i is the number i; some cannot be read."""

    classes = ("even", "odd")

    def __init__(self, broken, count=20):
        self.broken, self.count = broken, count

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        if i in self.broken:
            raise DamagedImage(f"picture {i}", "is damaged")
        return {"id": i}

    def read(self, start, stop):
        return [self[i] for i in range(start, min(stop, self.count))]


def ids(examples):
    return [example["id"] for example in examples]


def test_a_damaged_example_is_always_replaced_by_the_same_readable_one(capsys):
    broken = {3, 11, 12}
    mended, again = (Mended(Numbers(broken), seed=5, limit=3) for _ in range(2))
    forwards = ids(mended[i] for i in range(20))
    backwards = ids(again[i] for i in reversed(range(20)))[::-1]
    assert forwards == backwards == ids(again.read(0, 20))
    assert [i for i in range(20) if forwards[i] != i] == sorted(broken)
    assert not broken & set(forwards)
    assert mended.damaged == {i: f"picture {i}" for i in broken}
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == 6  # each once, by each of the two, however often it was asked for
    assert warnings[0] == (
        "warning: picture 3 is damaged; replace or remove it; trained without it (1 of 3)"
    )


def test_another_seed_takes_other_replacements():
    chosen = {Mended(Numbers({3}), seed=seed, limit=1)[3]["id"] for seed in range(20)}
    assert len(chosen) > 8


def test_one_too_many_stops_the_run():
    with pytest.raises(UserError, match="^2 damaged pictures, more than data.max_corrupt=1 allows: "
                                        "picture 2, picture 7; replace or remove"):  # fmt: skip
        Mended(Numbers({2, 7}), seed=0, limit=1).read(0, 20)
    with pytest.raises(UserError, match="^picture 2 is damaged; .*--config.data.max_corrupt=10"):
        Mended(Numbers({2, 7}), seed=0, limit=0)[2]


def test_where_all_are_damaged_every_thread_ends():
    """None is left to take instead: whoever looks on would look for ever."""
    mended, ends = Mended(Numbers(set(range(4)), count=4), seed=0, limit=100), []

    def look():
        for i in range(4):
            with pytest.raises(UserError, match="^all 4 pictures to train on are damaged: pic"):
                mended[i]
            ends.append(i)

    threads = [threading.Thread(target=look, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert sorted(ends) == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3


@pytest.mark.parametrize("kind", ["streaming", "resident"])
def test_a_run_of_damaged_pictures_alone_ends_in_one_line(data, kind):
    data.max_corrupt = 10**6
    for path in Path(data.folder, "train").rglob("*.JPEG"):
        path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UserError, match="^all 24 pictures to train on are damaged"):
        batches(data, kind)


@pytest.fixture
def data(tmp_path):
    """A folder of 24 training pictures, of which two are cut short, and 4 to evaluate."""
    for split, count in (("train", 12), ("validation", 2), ("test", 2)):
        for label, name in enumerate(("n01440764", "n01443537")):
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(count):
                content = io.BytesIO()
                Image.new("RGB", (40, 30), (20 * i, 90, 99 * label)).save(content, "jpeg")
                whole = content.getvalue()
                cut = whole[:-200] if split == "train" and i == 7 else whole
                (tmp_path / split / name / f"{name}_{i}.JPEG").write_bytes(cut)
    data = default_config().data
    data.name, data.folder, data.image_size = "folder", str(tmp_path), 16
    return data


def batches(data, kind="streaming", threads=3):
    data.pipeline, data.threads = kind, threads
    data.augment = "crop_flip" if kind == "resident" else "resized_crop_flip"
    pipeline = open_pipeline(data, "train", batch_size=8, train=True, seed=1)
    loaded = [
        pipeline.load(pipeline.resident, b, jax.random.key(0))
        for b in islice(pipeline.batches(0), 6)
    ]
    return pipeline, [{k: np.asarray(v) for k, v in batch.items()} for batch in loaded]


@pytest.mark.parametrize("kind", ["streaming", "resident"])
def test_a_run_passes_over_damaged_pictures(data, kind, capsys):
    data.max_corrupt = 2
    pipeline, first = batches(data, kind)
    seen = {int(i) for batch in first for i in batch["id"]}
    assert len(seen) == 22 and not {9, 21} & seen  # by name, 7 comes after 10 and 11
    names = sorted(name.rsplit("/", 1)[1] for name in pipeline.damaged.values())
    assert names == ["n01440764_7.JPEG", "n01443537_7.JPEG"]
    assert capsys.readouterr().err.count("warning:") == 2
    _, again = batches(data, kind, threads=1)
    for one, other in zip(first, again, strict=True):
        for name in one:
            np.testing.assert_array_equal(one[name], other[name], err_msg=name)


@pytest.mark.parametrize("kind", ["streaming", "resident"])
def test_the_limit_reaches_through_the_threads(data, kind):
    data.max_corrupt = 1
    with pytest.raises(UserError, match="2 damaged pictures, more than data.max_corrupt=1"):
        batches(data, kind)


@pytest.mark.parametrize("kind", ["streaming", "resident"])
def test_an_evaluation_never_passes_over_a_picture(data, kind):
    data.max_corrupt, data.pipeline = 5, kind
    with pytest.raises(UserError, match="n01440764_7.JPEG cannot be read .*replace or remove it"):
        for _ in open_pipeline(data, "train", batch_size=8, train=False).batches(0):
            pass
