"""`elpv` from a small folder like the authors': drawn cells, never the published pictures."""

from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from configs.elpv import get_config
from lficam_jax import prepare as command
from lficam_jax.config import validate
from lficam_jax.data import dataset_info, open_pipeline
from lficam_jax.data.builders import elpv
from lficam_jax.data.datasets import DATASETS
from lficam_jax.errors import UserError

PROBABILITIES = ("0.0", "0.3333333333333333", "0.6666666666666666", "1.0")
COUNT = 40  # cells of plain grey, each a shade of its own


def draw(folder: Path, shades=range(COUNT)) -> Path:
    """Writes the layout: cell i is of the i-th shade, probability i mod 4, every third is mono."""
    (folder / "images").mkdir(parents=True)
    lines = []
    for i, shade in enumerate(shades):
        name = f"images/cell{i + 1:04}.png"
        Image.new("L", (elpv.SIZE, elpv.SIZE), 5 * shade).save(folder / name)
        lines.append(f"{name}  {PROBABILITIES[i % 4]:20}{'poly' if i % 3 else 'mono'}\n")
    (folder / "labels.csv").write_text("".join(lines))
    return folder


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """The directory of the finished set."""
    path = tmp_path_factory.mktemp("elpv")
    folder = draw(path / "originals")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(elpv, "PUBLISHED", elpv.fingerprint(elpv.read_cells(folder)))
        assert command.main(["elpv", "--data_dir", str(path), "--from", str(folder)]) == 0
    return path


def read(directory: Path) -> dict[str, list]:
    return {s: [*tfds.data_source("elpv", data_dir=str(directory), split=s)] for s in elpv.SHARES}


def test_every_cell_keeps_its_picture_and_what_experts_said(prepared):
    rows = {row["id"]: row for part in read(prepared).values() for row in part}
    assert [*sorted(rows)] == [*range(1, COUNT + 1)]
    for number, row in rows.items():
        i = number - 1
        assert row["image"].shape == (300, 300, 1) and (row["image"] == 5 * i).all()
        assert row["probability"] == pytest.approx(float(PROBABILITIES[i % 4]))
        assert row["label"] == (i % 4 >= 2)  # 2/3 and 1 are defective
        assert elpv.TYPES[row["type"]] == ("poly" if i % 3 else "mono")


def test_the_split_follows_from_the_pixels_alone(prepared, tmp_path):
    first = {row["image"].max(): s for s, part in read(prepared).items() for row in part}
    turned = elpv.read_cells(draw(tmp_path, reversed(range(COUNT))))
    again = {5 * (COUNT - cell.number): cell.split for cell in turned}
    assert first == again and {*first.values()} == {"train", "validation", "test"}


def test_the_same_pixels_come_into_the_same_split(tmp_path):
    cells = elpv.read_cells(draw(tmp_path, [i // 2 for i in range(COUNT)]))
    assert [c.split for c in cells[::2]] == [c.split for c in cells[1::2]]
    assert len({c.digest for c in cells}) == COUNT // 2


def test_a_hash_is_cut_at_the_shares():
    def split(share: float) -> str:
        return elpv.Cell(1, Path(), 0, "mono", f"{int(share * 2**32):08x}").split

    assert [split(s) for s in (0, 0.649, 0.651, 0.749, 0.751, 0.999)] == [
        "train", "train", "validation", "validation", "test", "test",
    ]  # fmt: skip


def test_the_row_and_the_builder_agree():
    row = DATASETS["elpv"]
    assert row.classes == elpv.CLASSES and row.stored_size == elpv.SIZE
    assert sum(row.examples.values()) == 2_624
    for split, share in elpv.SHARES.items():
        assert row.examples[split] / 2_624 == pytest.approx(share, abs=0.01)


def test_the_config_feeds_whole_cells_at_64_pixels(prepared):
    config = get_config()
    validate(config)
    config.data.dir = str(prepared)
    opened = open_pipeline(config.data, "train", batch_size=4, train=True)
    images = opened.resident["image"]
    assert images.shape[1:] == (64, 64, 1) and dataset_info(config.data).num_classes == 2
    batch = opened.load(opened.resident, next(opened.batches(0)), np.zeros(2, np.uint32))
    assert batch["image"].shape == (4, 64, 64, 3)


def test_the_options_choose_network_and_size():
    scratch, tuned = get_config("head=abn"), get_config("backbone=efficientnet-lite0")
    for config in (scratch, tuned):
        validate(config)
    assert (scratch.model.head, scratch.model.depth, scratch.init_from) == ("abn", 8, "")
    assert (tuned.model.backbone, tuned.init_from) == ("efficientnet_lite", "efficientnet_lite0")
    assert (scratch.data.image_size, tuned.data.image_size) == (64, 128)
    with pytest.raises(UserError, match="did you mean 'efficientnet-lite0'"):
        get_config("backbone=efficientnet-lite1")


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda f: (f / "labels.csv").unlink(), "holds no labels.csv.*pip install elpv-dataset"),
        (lambda f: (f / "images/cell0003.png").unlink(), "cannot read .*cell0003.png"),
        (lambda f: (f / "images/cell0003.png").write_bytes(b"x"), "cell0003.png is not an image"),
        (lambda f: (f / "labels.csv").write_text("path,label\n"), "line 1: 'path,label' is not"),
        (lambda f: None, "is not the published elpv: its 3 pictures and labels"),
    ],
)
def test_a_folder_that_is_not_the_published_one(spoil, expected, tmp_path):
    folder = draw(tmp_path / "originals", range(3))
    spoil(folder)
    with pytest.raises(UserError, match=expected):
        command.main(["elpv", "--data_dir", str(tmp_path / "data"), "--from", str(folder)])
    assert not (tmp_path / "data/elpv").exists()


def test_without_the_package_one_line_says_what_to_bring(monkeypatch, tmp_path):
    monkeypatch.setattr(elpv, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install elpv-dataset.*--from DIR"):
        command.main(["elpv", "--data_dir", str(tmp_path)])


def test_the_package_is_read_from_where_it_is_installed(monkeypatch, tmp_path):
    (tmp_path / "elpv_dataset").mkdir()
    (tmp_path / "elpv_dataset/__init__.py").touch()
    folder = draw(tmp_path / "elpv_dataset/data")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(elpv, "PUBLISHED", elpv.fingerprint(elpv.read_cells(folder)))
    assert command.main(["elpv", "--data_dir", str(tmp_path / "data")]) == 0
