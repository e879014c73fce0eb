"""`with lfi.progress():`, what it shows, and that nothing is compiled twice."""

import io

import jax
import numpy as np
import pytest
from rich.console import Console

import lficam_jax as lfi
from lficam_jax.explaining import look
from lficam_jax.workdir import watch

MODEL = lfi.create_model("cifar_resnet", 8, head="plain", num_classes=3)
IMAGES = np.random.default_rng(0).random((70, 16, 16, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def variables():
    return jax.jit(MODEL.init)(jax.random.key(0), IMAGES[:1])


def test_lines_where_there_is_no_terminal():
    """Half of two batches took 20 seconds, so the rest takes 20 more; a line in 10 seconds."""
    out, now = io.StringIO(), [0.0]
    shown = watch.Watch(Console(file=out), clock=lambda: now[0])
    shown.batch(0, 2)
    for number in range(10):
        shown.part("rise", 10, number)
        now[0] += 2
    shown.close()
    assert out.getvalue().splitlines() == [" 30%  rise  23s left"]
    shown.batch(1, 2)
    shown.part("rise", 10, 0)
    assert out.getvalue().splitlines()[1] == " 50%  batches  20s left"


def test_the_parts_of_a_long_method_are_told(variables, monkeypatch):
    monkeypatch.setattr(watch, "EVERY", 0.0)
    out = io.StringIO()
    with lfi.progress(Console(file=out)):
        assert watch.watching()
        lfi.explain(MODEL, variables, IMAGES[:2], normalised=True, method="occlusion")
    lines = out.getvalue().splitlines()
    # 49 windows of 2 images, 64 at a time: 2 parts.
    assert [line.split()[:2] for line in lines] == [
        ["50%", "occlusion"], ["100%", "occlusion"], ["100%", "batches"]
    ]  # fmt: skip
    assert not watch.watching()
    lfi.explain(MODEL, variables, IMAGES[:2], normalised=True, method="occlusion")
    assert out.getvalue().splitlines() == lines  # silent again


def test_a_bar_on_a_terminal():
    out = io.StringIO()
    shown = watch.Watch(Console(file=out, force_terminal=True, width=80))
    shown.batch(0, 1)
    shown.part("score_cam", 4, 1)
    shown.close()
    assert "score_cam" in out.getvalue() and "50%" in out.getvalue()


def test_a_loop_compiles_nothing_new(variables):
    """Whatever the number of images, ten programs serve up to 64 of them, and each is kept."""

    def explain(count):
        lfi.explain(MODEL, variables, IMAGES[:count], normalised=True, method="grad_cam")

    before = look._kept._cache_size()
    for count in (3, 17, 70):  # programs for 4, 24 and 64 images
        explain(count)
    assert look._kept._cache_size() == before + 3
    for count in (4, 3, 23, 66, 20, 70):
        explain(count)
    assert look._kept._cache_size() == before + 3
