"""What a run says: one bar or plain lines, by the clock, and the time that is left."""

import io

import pytest
from rich.console import Console

from lficam_jax.workdir.progress import Progress


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def shown(progress, step):
    progress.update(step, loss=0.5, accuracy=0.9312, images_per_second=1234.5)


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def out():
    return io.StringIO()


@pytest.fixture
def make(clock, out):
    """A `Progress` over 100 steps of 25 to an epoch."""

    def progress(start_step=0, terminal=False):
        console = Console(file=out, force_terminal=terminal, width=160)
        return Progress(100, 25, start_step, console=console, clock=clock)

    return progress


def test_a_log_gets_plain_lines(make, clock, out):
    with make() as progress:
        clock.now = 10
        shown(progress, 25)
        shown(progress, 26)
        progress.note("validation [0.91] of 3")
        shown(progress, 100)
    first, second, note, last = out.getvalue().splitlines()
    assert first == (
        "epoch 1/4  step 25/100  loss 0.5000  accuracy 93.1 %  1,234 images/s  30s left"
    )
    assert second.startswith("epoch 2/4  step 26/100")
    assert note == "validation [0.91] of 3"
    assert last.endswith("1,234 images/s")  # nothing is left


def test_a_log_says_that_it_compiles_and_how_long_it_took(make, clock, out):
    with make() as progress:
        with progress.compiling(1):
            assert out.getvalue() == "compiling the training step …\n"
            clock.now = 72
        assert out.getvalue().endswith("compiled the training step in 1m 12s\n")
        shown(progress, 1)
    assert out.getvalue().endswith("1,234 images/s\n")  # how long a step takes is not known yet


def test_the_time_left_counts_this_runs_steps_only(make, clock, out):
    """Resumed at 80 of 100: 50 s of compiling are over, then a step takes a second."""
    with make(start_step=80) as progress:
        with progress.compiling(81):
            clock.now = 50
        clock.now = 54
        shown(progress, 85)
        assert out.getvalue().endswith(" 15s left\n")
        clock.now = 63
        shown(progress, 90)
        assert out.getvalue().endswith(" 14s left\n")  # 9 steps took 13 s


def moments(progress, clock, until):
    """The whole seconds at which something is shown, though a step takes a hundredth."""
    found = []
    for tick in range(int(until * 100)):
        clock.now = tick / 100
        if progress.due():
            found.append(clock.now)
            shown(progress, 1)
    return found


def test_a_line_comes_every_ten_seconds_at_first_and_every_thirty_in_a_long_run(make, clock):
    with make() as progress:
        assert moments(progress, clock, 45) == [0, 10, 20, 30, 40]
        clock.now = 3600
        shown(progress, 2)
        clock.now = 3629
        assert not progress.due()
        clock.now = 3630
        assert progress.due()


def test_a_bar_moves_every_second(make, clock):
    with make(terminal=True) as progress:
        assert moments(progress, clock, 3.5) == [0, 1, 2, 3]


def test_what_a_log_says_of_each_epoch_it_says_once(make, out):
    with make() as progress:
        for _ in range(3):
            with progress.doing("measuring the validation split …"):
                pass
    assert out.getvalue() == "measuring the validation split …\n"


def test_a_bar_says_what_is_done_and_then_again_where_the_run_is(make, out):
    with make(terminal=True) as progress:
        shown(progress, 50)
        with progress.doing("measuring …"):
            progress._bar.refresh()
            assert "measuring …" in out.getvalue()
    assert out.getvalue().rindex("epoch 2/4") > out.getvalue().rindex("measuring …")


def test_a_terminal_gets_a_bar_and_notes_keep_their_brackets(make, clock, out):
    with make(terminal=True) as progress:
        with progress.compiling(1):
            pass
        clock.now = 1
        shown(progress, 50)
        progress.note("validation [0.91] of 3")
    assert "━" in out.getvalue() and "epoch 2/4" in out.getvalue()
    assert "compiled the training step in" in out.getvalue()
    assert "validation [0.91] of 3" in out.getvalue()


def test_only_process_0_speaks(make, out, monkeypatch):
    monkeypatch.setattr("jax.process_index", lambda: 1)
    with make() as progress:
        with progress.compiling(1):
            pass
        assert not progress.due()
        shown(progress, 1)
        progress.note("x")
    assert out.getvalue() == ""
