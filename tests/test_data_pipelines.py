"""Both pipelines, on pictures whose number is written in their pixels."""

from dataclasses import replace
from itertools import islice

import jax
import numpy as np
import pytest

from lficam_jax.data import DATASETS, resident, streaming
from lficam_jax.data.sampling import sampling
from lficam_jax.errors import UserError

DATASET = replace(DATASETS["cifar10"], image_size=8, stored_size=8, mean=(0,) * 3, std=(1,) * 3)


class Numbered:
    """Example i: pixel (y, x) is [i, 10 * y, 10 * x]; the object is the first row."""

    classes = ("even", "odd")

    def __init__(self, count=21, has_mask=True):
        self.count, self.has_mask = count, has_mask

    def __len__(self):
        return self.count

    def __getitem__(self, i):
        y, x = np.mgrid[:8, :8]
        image = np.stack([np.full((8, 8), i), 10 * y, 10 * x], -1).astype(np.uint8)
        example = {"image": image, "label": i % 2, "id": 1000 + i}
        return example | ({"mask": (y == 0).astype(np.uint8)[..., None]} if self.has_mask else {})

    def read(self, start, stop):
        return [self[i] for i in range(start, min(stop, self.count))]


def open_(kind, *, train, augment="none", batch_size=8, source=None, seed=0, process=(0, 1)):
    source = source or Numbered()
    plan = sampling(
        len(source),
        batch_size,
        train=train,
        seed=seed,
        process_index=process[0],
        process_count=process[1],
    )
    options = {"augment": augment, "crop_padding": 2}
    if kind == "streaming":
        return streaming.pipeline(source, DATASET, plan, **options, threads=3)
    return resident.pipeline(source, DATASET, plan, **options)


def loaded(pipeline, steps, start=0):
    load = jax.jit(pipeline.load)
    for step, batch in enumerate(islice(pipeline.batches(start), steps), start):
        key = jax.random.fold_in(jax.random.key(7), step)
        yield jax.device_get(load(pipeline.resident, batch, key))


both = pytest.mark.parametrize("kind", ["resident", "streaming"])


@both
def test_evaluation_sees_each_example_once_unchanged(kind):
    batches = list(loaded(open_(kind, train=False), 99))
    assert len(batches) == 3
    rows = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    assert rows["image"].dtype == np.float32 and rows["image"].shape == (24, 8, 8, 3)
    valid = rows["valid"]
    assert valid.sum() == 21
    assert rows["id"][valid].tolist() == list(range(1000, 1021))
    assert rows["label"][valid].tolist() == [i % 2 for i in range(21)]
    np.testing.assert_allclose(rows["image"][20, 3, 5] * 255, [20, 30, 50], rtol=1e-5)
    assert rows["mask"].dtype == bool and rows["mask"][:, 0].all() and not rows["mask"][:, 1:].any()


@both
def test_training_resumes_exactly_at_any_step(kind):
    pipeline = open_(kind, train=True, augment="crop_flip")
    through = list(loaded(pipeline, 6))
    resumed = list(loaded(open_(kind, train=True, augment="crop_flip"), 2, start=4))
    for expected, batch in zip(through[4:], resumed, strict=True):
        for name in expected:
            np.testing.assert_array_equal(batch[name], expected[name], err_msg=name)


@both
def test_augmentation_moves_the_mask_with_the_picture(kind):
    seen = set()
    for batch in loaded(open_(kind, train=True, augment="crop_flip"), 4):
        green, blue = batch["image"][..., 1] * 255, batch["image"][..., 2] * 255
        first_row = (green < 5) & (batch["image"][..., 0] * 255 > 0.5)  # black padding is none
        known = batch["id"] > 1000  # example 0 is as black as the padding in red
        np.testing.assert_array_equal(batch["mask"][known], first_row[known])
        mirrored = (np.diff(blue[:, 4, 3:6]) < 0).all(-1)
        seen |= {(bool(m), int(y)) for m, y in zip(mirrored, green[:, 4, 4].round(), strict=True)}
    assert {m for m, _ in seen} == {True, False} and {y for _, y in seen} == {20, 30, 40, 50, 60}


def test_crop_without_flip_never_mirrors():
    for kind in ("resident", "streaming"):
        for batch in loaded(open_(kind, train=True, augment="crop"), 4):
            assert (np.diff(batch["image"][:, 4, 3:6, 2]) > 0).all()


@both
def test_an_example_is_augmented_anew_in_each_epoch(kind):
    batches = list(loaded(open_(kind, train=True, augment="crop_flip"), 4))
    first = {i: image for b in batches[:2] for i, image in zip(b["id"], b["image"], strict=True)}
    second = {i: image for b in batches[2:] for i, image in zip(b["id"], b["image"], strict=True)}
    again = [np.array_equal(first[i], second[i]) for i in first if i in second]
    assert len(again) > 8 and sum(again) < len(again) / 2


@both
@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("count", [2, 3])
def test_processes_together_read_what_one_reads(kind, train, count):
    options = {"train": train, "augment": "crop_flip" if train else "none", "batch_size": 6}
    whole = open_(kind, **options)
    parts = [open_(kind, **options, process=(p, count)) for p in range(count)]
    through = [list(loaded(p, 5)) for p in (whole, *parts)]
    assert [len(batches) for batches in through] == [5 if train else 4] * (count + 1)
    for expected, *shares in zip(*through, strict=True):
        for name, rows in expected.items():
            together = np.concatenate([share[name] for share in shares])
            np.testing.assert_array_equal(together, rows, err_msg=name)


def test_streaming_resumes_with_another_number_of_processes_and_threads():
    options = {"train": True, "augment": "resized_crop_flip", "batch_size": 18}
    source = Numbered(40)
    three = [open_("streaming", source=source, **options, process=(p, 3)) for p in range(3)]
    before = [np.concatenate(b) for b in zip(*([x["image"] for x in loaded(p, 4)] for p in three),
                                              strict=True)]  # fmt: skip
    two = [open_("streaming", source=source, **options, process=(p, 2)) for p in range(2)]
    after = [np.concatenate(b) for b in zip(*([x["image"] for x in loaded(p, 2, start=2)]
                                              for p in two), strict=True)]  # fmt: skip
    np.testing.assert_array_equal(before[2:], after)


def test_a_batch_is_cut_into_equal_parts_for_the_threads():
    for batch_size, parts in ((8, 1), (16, 1), (24, 2), (17, 17), (256, 16)):
        plan = sampling(1000, batch_size, train=True, seed=0)
        rows = streaming.Rows(
            Numbered(), DATASET, plan, start_step=0, augment="none", crop_padding=0
        )
        assert rows.parts == parts


def test_streaming_reads_the_same_with_any_number_of_threads():
    plan = sampling(21, 8, train=True, seed=3)
    results = []
    for threads in (1, 5):
        pipeline = streaming.pipeline(
            Numbered(),
            DATASET,
            plan,
            augment="resized_crop_flip",
            crop_padding=0,
            threads=threads,
        )
        results.append(list(islice(pipeline.batches(1), 3)))
    for one, five in zip(*results, strict=True):
        jax.tree.map(np.testing.assert_array_equal, one, five)
        assert one["image"].dtype == np.uint8


@both
def test_sets_without_masks_have_none(kind):
    pipeline = open_(kind, train=False, source=Numbered(has_mask=False))
    assert "mask" not in next(loaded(pipeline, 1))
    assert not pipeline.has_mask
    assert pipeline.classes == ("even", "odd") and pipeline.examples == 21


def test_a_damaged_picture_stops_the_run_by_name():
    class Damaged(Numbered):
        def __getitem__(self, i):
            if i == 11:
                raise UserError("example 11 is damaged; replace or remove it")
            return super().__getitem__(i)

    for kind in ("resident", "streaming"):
        with pytest.raises(UserError, match="example 11 is damaged"):
            list(loaded(open_(kind, train=False, source=Damaged()), 3))


def test_resized_crops_need_streaming():
    with pytest.raises(UserError, match="needs data.pipeline=streaming"):
        open_("resident", train=True, augment="resized_crop_flip")


def test_auto_keeps_small_sets_on_the_device():
    assert resident.fits(DATASETS["cifar10"], 45_000, "crop_flip")
    assert not resident.fits(DATASETS["cifar10"], 45_000, "resized_crop_flip")
    assert not resident.fits(DATASETS["cats_vs_dogs"], 100, "none")  # sizes differ
    assert not resident.fits(replace(DATASETS["stl10"], image_size=224), 8_000, "none")  # 1.2 GB
