"""Which examples make up which batch."""

import numpy as np
import pytest

from lficam_jax.data.sampling import sampling
from lficam_jax.errors import UserError


def order(examples=10, batch_size=4, train=True, seed=0, process=0, processes=1):
    return sampling(
        examples, batch_size, train=train, seed=seed, process_index=process, process_count=processes
    )


def read(plan, steps):
    return np.concatenate([plan.batch(step)[0] for step in steps])


def test_an_epoch_is_a_permutation_and_the_next_one_another():
    plan = order(examples=12)
    assert plan.steps_per_epoch == 3
    first, second = read(plan, range(3)), read(plan, range(3, 6))
    assert sorted(first) == sorted(second) == list(range(12))
    assert first.tolist() != second.tolist()
    assert first.tolist() != list(range(12))


def test_training_drops_the_incomplete_batch():
    plan = order(examples=10)
    assert plan.steps_per_epoch == 2
    assert len(set(read(plan, range(2)))) == 8
    assert plan.batch(1)[1].all()


def test_any_step_can_be_asked_alone():
    forwards = [order().batch(step)[0].tolist() for step in range(8)]
    backwards = [order().batch(step)[0].tolist() for step in reversed(range(8))]
    assert forwards == backwards[::-1]


def test_seed_changes_the_order():
    assert order(seed=0).batch(0)[0].tolist() != order(seed=1).batch(0)[0].tolist()
    assert order(seed=-3).batch(0)[1].all()  # any integer will do


def test_evaluation_reads_in_order_and_pads():
    plan = order(examples=10, train=False)
    index, valid = zip(*(plan.batch(step) for step in range(plan.steps_per_epoch)), strict=True)
    index, valid = np.concatenate(index), np.concatenate(valid)
    assert index.dtype == np.int32 and len(index) == 12
    assert index[valid].tolist() == list(range(10))
    assert valid.tolist() == [True] * 10 + [False] * 2


@pytest.mark.parametrize("train", [True, False])
def test_processes_share_each_batch(train):
    whole = order(examples=21, batch_size=8, train=train)
    parts = [order(21, 8, train, process=p, processes=4) for p in range(4)]
    for step in range(whole.steps_per_epoch):
        for i in range(2):  # positions, and whether they are valid
            joined = np.concatenate([part.batch(step)[i] for part in parts])
            np.testing.assert_array_equal(joined, whole.batch(step)[i])


def test_bad_requests_say_what_to_use():
    with pytest.raises(UserError, match="not divisible by 3 processes; use 99 or 102"):
        order(examples=1000, batch_size=100, processes=3)
    with pytest.raises(UserError, match="10 examples.*at most 10"):
        order(examples=10, batch_size=11)
    assert order(examples=3, batch_size=4, train=False).steps_per_epoch == 1
