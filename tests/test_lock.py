"""Two processes in one place: the second is told of the first, and nothing of either is lost."""

import contextlib
import json
import multiprocessing
import os
import signal
import threading
import time

import fsspec
import pytest

from lficam_jax.errors import UserError
from lficam_jax.explaining.saving import Folder
from lficam_jax.training.train import train
from lficam_jax.workdir import lease
from lficam_jax.workdir.lock import Lock
from lficam_jax.workdir.remote import mirrored

STORE = fsspec.filesystem("memory")
BUSY = r"another process \(PID \d+ on .*, since 20..-.*\) is working in .*; wait until it has ended"


def hold(file, held):
    """Holds a lock until it is killed, in a process of its own."""
    with Lock(file, file.parent):
        held.set()
        time.sleep(60)


@contextlib.contextmanager
def held(file):
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=hold, args=(file, ready))
    process.start()
    assert ready.wait(60)
    try:
        yield process
    finally:
        process.kill()
        process.join()


def test_a_lock_names_its_holder_and_ends_with_it(tmp_path):
    file = tmp_path / "run" / ".lock"
    with held(file) as process:
        with pytest.raises(UserError, match=BUSY) as told, Lock(file, tmp_path / "run"):
            pass
        assert f"PID {process.pid} on" in str(told.value) and "\n" not in str(told.value)
        process.kill()
        process.join()
        assert file.exists()  # left by the killed process
        with Lock(file, tmp_path / "run"):
            assert json.loads(file.read_text())["pid"] == os.getpid()
    assert not file.exists()


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff", b"[" * 10**5])
def test_a_lock_with_any_content_is_respected(tmp_path, text):
    file = tmp_path / ".lock"
    with Lock(file, tmp_path):
        file.write_bytes(text)
        with pytest.raises(UserError, match="it does not say which"), Lock(file, tmp_path):
            pass


def test_of_many_threads_one_at_a_time_holds_a_lock(tmp_path):
    inside, most, taken = [], [], []

    def work():
        for _ in range(200):
            with contextlib.suppress(UserError), Lock(tmp_path / ".lock", tmp_path):
                inside.append(1)
                most.append(len(inside))
                taken.append(1)
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert taken and max(most) == 1


def test_a_run_that_is_being_trained_is_not_trained_twice(tiny, tmp_path):
    lines = tmp_path / "metrics.jsonl"
    lines.write_text('{"step": 1}\n')
    with held(tmp_path / ".lock"), pytest.raises(UserError, match=BUSY):
        train(tiny, tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {".lock", "metrics.jsonl"}
    assert lines.read_text() == '{"step": 1}\n'
    assert train(tiny, tmp_path)["step"] == 4
    assert not (tmp_path / ".lock").exists()


def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path):
    (tmp_path / ".lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="cannot write"), Lock(tmp_path / ".lock", tmp_path):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_a_page_that_is_being_written_is_not_written_twice(tmp_path):
    target = tmp_path / "page"
    with Folder(target, title="the first", details={}):
        with pytest.raises(UserError, match=BUSY), Folder(target, title="another", details={}):
            pass
    assert json.loads((target / "manifest.json").read_text())["title"] == "the first"
    with Folder(target, title="a later one", details={}):
        pass
    assert json.loads((target / "manifest.json").read_text())["title"] == "a later one"
    assert [p.name for p in tmp_path.iterdir()] == ["page"]


def test_a_bucket_is_worked_in_by_one_process_at_a_time(capsys):
    with mirrored("memory://bucket/run", every=0.1, alone=True):
        assert STORE.exists("/bucket/run/.lease")
        with pytest.raises(UserError, match=BUSY):
            with mirrored("memory://bucket/run", every=0.1, alone=True):
                pass
        with mirrored("memory://bucket/run"):
            pass  # who only measures may
    assert not STORE.exists("/bucket/run/.lease")


def test_a_lease_that_nobody_renews_is_taken_over():
    STORE.pipe("/bucket/run/.lease", b'{"pid": 1, "host": "gone", "since": "2020", "id": "x"}')
    with mirrored("memory://bucket/run", every=0.05, alone=True):
        assert json.loads(STORE.cat("/bucket/run/.lease"))["pid"] == os.getpid()


def test_who_lost_the_lease_saves_here_and_writes_nothing_there(tmp_path, capsys, monkeypatch):
    """As a machine that slept so long that another took the run."""
    told, sent = threading.Event(), []
    monkeypatch.setattr(lease.os, "kill", lambda *what: sent.append(what) or told.set())
    theirs = b'{"pid": 7, "host": "other", "since": "2026-01-01", "id": "theirs"}'
    with pytest.raises(UserError, match="PID 7 on other"):
        with mirrored("memory://bucket/run", every=0.05, alone=True) as here:
            STORE.pipe("/bucket/run/.lease", theirs)
            assert told.wait(60)
            with open(f"{here}/metrics.jsonl", "w") as file:
                file.write("ours")
    assert STORE.cat("/bucket/run/.lease") == theirs
    assert not STORE.exists("/bucket/run/metrics.jsonl")
    assert sent == [(os.getpid(), signal.SIGTERM)]  # training saves and ends


@pytest.fixture(autouse=True)
def empty():
    yield
    STORE.store.clear()
