"""Checkpoints: bit-exact, the best is kept, and a damaged one costs a line, not the run."""

import errno
import json
import logging
import os
import re
import resource
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lficam_jax.errors import DivergedError, UserError
from lficam_jax.training.steps import create_state
from lficam_jax.workdir.checkpoint import Checkpoints, checksums


def state_at(step, ema=False):
    values = np.arange(4096, dtype=np.float32) * step + 0.1
    variables = {
        "params": {"w": jnp.asarray(values)},
        "batch_stats": {"m": jnp.full(3, float(step))},
    }
    state = create_state(variables, optax.sgd(0.1, momentum=0.9), ema=ema)
    if ema:
        state = state.replace(ema=jax.tree.map(lambda x: x / 2, state.ema))
    return state.replace(step=jnp.int32(step))


def save(workdir, *accuracies, ema=False):
    """Saves steps 1, 2, … with these validation accuracies (None: not evaluated)."""
    with Checkpoints(workdir) as checkpoints:
        for step, accuracy in enumerate(accuracies, 1):
            checkpoints.save(state_at(step, ema))
            if accuracy is not None:
                checkpoints.note(step, {"accuracy": accuracy})
        checkpoints.wait()
        return sorted(checkpoints.manager.all_steps()), checkpoints.best_step()


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """A folder, and what was saved in it: what `save` was given, what it returned and where."""
    return tmp_path_factory.mktemp("saved"), {}


@pytest.fixture
def saved(originals, tmp_path):
    """`save` into `tmp_path`, for tests of what comes later: the same is saved once and copied."""

    def copy(*accuracies, ema=False):
        folder, made = originals
        place = folder / str(len(made))
        if (accuracies, ema) not in made:
            made[accuracies, ema] = save(place, *accuracies, ema=ema), place
        found, place = made[accuracies, ema]
        shutil.copytree(place, tmp_path, dirs_exist_ok=True)
        return found

    return copy


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(a), jax.device_get(b))


@pytest.mark.parametrize("ema", [False, True])
def test_what_comes_back_is_bit_identical(tmp_path, ema):
    save(tmp_path, 0.5, ema=ema)
    with Checkpoints(tmp_path) as checkpoints:
        restored = checkpoints.restore_latest(state_at(9, ema))
    same(restored, state_at(1, ema))


def test_saving_and_reading_log_no_advice_of_orbaxs(tmp_path, caplog):
    """A save without an evaluation, and a look at it, would both warn."""
    caplog.set_level(logging.WARNING, "absl")
    save(tmp_path, None)
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        checkpoints.best_step()
    assert not caplog.records


def test_the_latest_two_and_the_best_are_kept(tmp_path):
    kept, best = save(tmp_path, 0.1, 0.9, 0.2, 0.8, 0.3)
    assert kept == [2, 4, 5] and best == 2


def test_a_best_that_is_beaten_by_a_later_step_is_kept_no_longer(tmp_path):
    kept, best = save(tmp_path, 0.9, 0.2, 0.3, 0.95)
    assert kept == [3, 4] and best == 4


def test_a_step_without_validation_is_never_the_best(tmp_path):
    kept, best = save(tmp_path, 0.5, 0.4, None, None)
    assert kept == [1, 3, 4] and best == 1


def test_nothing_saved_yet(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.restore_latest(state_at(1)) is None
        with pytest.raises(UserError, match="no checkpoint in .*; train first"):
            checkpoints.best_step()


def data_files(workdir, step, item):
    files = [p for p in (workdir / "checkpoints" / str(step) / item).rglob("d/*") if p.is_file()]
    assert files
    return files


def truncate(workdir):
    for file in data_files(workdir, 3, "model"):
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip(workdir):
    """Flips one bit of the largest data file: orbax itself does not notice."""
    file = max(data_files(workdir, 3, "train"), key=lambda p: p.stat().st_size)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(bytes(content))


def empty(workdir):
    shutil.rmtree(workdir / "checkpoints" / "3")
    (workdir / "checkpoints" / "3").mkdir()


def half_renamed(workdir):
    """A mounted bucket renames file by file: the machine died before the item `train`."""
    step = workdir / "checkpoints" / "3"
    left = workdir / "checkpoints" / "3.orbax-checkpoint-tmp"
    left.mkdir()
    shutil.move(step / "train", left / "train")


@pytest.mark.parametrize("damage", [truncate, flip, empty, half_renamed])
def test_a_damaged_newest_step_falls_back_to_the_one_before(saved, tmp_path, caplog, damage):
    saved(0.1, 0.2, 0.3)
    damage(tmp_path)
    with caplog.at_level(logging.WARNING, "lficam_jax"), Checkpoints(tmp_path) as checkpoints:
        restored = checkpoints.restore_latest(state_at(9))
        same(restored, state_at(2))
        checkpoints.save(state_at(3))  # the place is free
        checkpoints.wait()
        same(checkpoints.restore_latest(state_at(9)), state_at(3))
    first, kept = sorted(line for line in said(caplog) if line.startswith("checkpoint"))
    assert first.startswith("checkpoint 3 is damaged") and "\n" not in first
    aside = tmp_path / "checkpoints" / "3.damaged"
    assert kept == f"checkpoint 3 is kept as {aside}" and aside.is_dir()


DAMAGED = ["", "{", '{"accuracy": null}', '{"accuracx": 0.9}', "[]", "\x00", '{"accuracy": 0.1}',
           "[" * 10**5, '{"accuracy": NaN}', None]  # fmt: skip


def damage(workdir, text, *items):
    """Writes `text` in place of what an item says of the metrics of step 2; None: removes it."""
    for item in items:
        file = workdir / "checkpoints" / "2" / item
        if text is None:
            file.unlink()
        elif file.name == "metadata" and text.startswith('{"'):
            said = json.loads(file.read_text())
            file.write_text(json.dumps(said | {"metrics": json.loads(text)}))
        else:
            file.write_text(text)


def said(caplog):
    return {r.message for r in caplog.records if r.name == "lficam_jax.workdir.checkpoint"}


@pytest.mark.parametrize("text", DAMAGED)
@pytest.mark.parametrize("item", ["metrics/metrics", "meta/metadata"])
def test_one_damaged_copy_of_the_metrics_changes_no_best_step(saved, tmp_path, caplog, item, text):
    assert saved(0.5, 0.9, 0.4) == ([2, 3], 2)
    damage(tmp_path, text, item)
    with (
        caplog.at_level(logging.WARNING, "lficam_jax"),
        Checkpoints(tmp_path, read_only=True) as checkpoints,
    ):
        assert checkpoints.best_step() == 2
        same(checkpoints.restore_latest(state_at(9)), state_at(3))
    assert not said(caplog)


@pytest.mark.parametrize("text", DAMAGED)
def test_a_step_with_two_damaged_copies_counts_as_not_measured(saved, tmp_path, caplog, text):
    """Step 2 was the best; without its metrics, the better of the others is."""
    assert saved(0.5, 0.9, 0.4) == ([2, 3], 2)
    damage(tmp_path, text, "metrics/metrics", "meta/metadata")
    with (
        caplog.at_level(logging.WARNING, "lficam_jax"),
        Checkpoints(tmp_path, read_only=True) as checkpoints,
    ):
        assert checkpoints.best_step() == 3
    assert said(caplog) == {"the metrics of checkpoint 2 are damaged; it counts as not measured"}


REFUSALS = [errno.EACCES, errno.EIO, errno.ESTALE, errno.ENOMEM, errno.EMFILE, errno.ENFILE,
            errno.EPERM, errno.ETIMEDOUT, errno.ENOTCONN, errno.EROFS, errno.ELOOP]  # fmt: skip


@pytest.mark.parametrize("code", REFUSALS)
@pytest.mark.parametrize("form", [OSError, ValueError])
def test_a_step_that_the_system_does_not_read_is_not_damaged(
    saved, tmp_path, monkeypatch, form, code
):
    """As python says it, and as tensorstore does; nothing is passed over, renamed or removed."""
    saved(0.1, 0.2, 0.3)
    words = f"[OS error {code}: {errno.errorcode[code]} {os.strerror(code)}]"
    error = OSError(code, os.strerror(code)) if form is OSError else ValueError(f"READ: {words}")
    before = sorted(tmp_path.rglob("*"))
    with Checkpoints(tmp_path) as checkpoints:
        monkeypatch.setattr(checkpoints, "_read", raises(error))
        with pytest.raises(UserError, match=f"cannot be read now .*{os.strerror(code)}") as told:
            checkpoints.restore_latest(state_at(9))
        with pytest.raises(UserError, match="cannot be read now"):
            checkpoints.restore_model(None, 3)
    assert "\n" not in str(told.value)
    assert sorted(tmp_path.rglob("*")) == before


def raises(error):
    def read(*_):
        try:
            raise error
        except Exception as inner:
            raise KeyError("what a library makes of it") from inner

    return read


@pytest.mark.parametrize("item", ["model", "train", "meta", "metrics"])
def test_a_file_that_cannot_be_opened_is_not_damaged(saved, tmp_path, item):
    """A link to itself, which root cannot open either; as `chmod 0` for anybody else."""
    saved(0.1, 0.2, 0.3)
    for file in [p for p in (tmp_path / "checkpoints" / "3" / item).rglob("*") if p.is_file()]:
        file.unlink()
        file.symlink_to(file.name)
    with pytest.raises(UserError, match="cannot .*read.*Too many levels of symbolic links"):
        with Checkpoints(tmp_path) as checkpoints:
            checkpoints.restore_latest(state_at(9))
            checkpoints.best_step()
    assert {"2", "3"} <= {path.name for path in (tmp_path / "checkpoints").iterdir()}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["params", "batch_stats", "opt_state", "ema"])
def test_what_is_not_finite_is_never_saved(saved, tmp_path, where, bad):
    saved(0.1, ema=True)
    state = state_at(2, ema=True)
    state = state.replace(**{where: jax.tree.map(lambda x: x * bad, getattr(state, where))})
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.raises(DivergedError, match=f"diverged at step 2: .{where}.* is not finite"):
            checkpoints.save(state)
        checkpoints.wait()
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["1"]


def test_all_damaged_is_an_error_and_deletes_nothing(tmp_path):
    save(tmp_path, 0.1)
    shutil.rmtree(tmp_path / "checkpoints" / "1" / "model")
    with (
        Checkpoints(tmp_path) as checkpoints,
        pytest.raises(UserError, match="all checkpoints in .* are damaged"),
    ):
        checkpoints.restore_latest(state_at(9))
    assert (tmp_path / "checkpoints" / "1").is_dir()


def test_evaluation_reads_the_model_item_alone(tmp_path):
    save(tmp_path, 0.5)
    shutil.rmtree(tmp_path / "checkpoints" / "1" / "train")
    like = jax.eval_shape(lambda: state_at(1).variables)
    with Checkpoints(tmp_path) as checkpoints:
        same(checkpoints.restore_model(like, 1), state_at(1).variables)


def test_with_a_running_mean_the_model_item_is_the_mean(tmp_path):
    save(tmp_path, 0.5, ema=True)
    like = jax.eval_shape(lambda: state_at(1).variables)
    with Checkpoints(tmp_path) as checkpoints:
        found = checkpoints.restore_model(like, 1)
    same(found["params"]["w"], state_at(1).params["w"] / 2)


def test_another_network_is_told(tmp_path):
    save(tmp_path, 0.5)
    like = {"params": {"w": jax.ShapeDtypeStruct((7,), jnp.float32)}, "batch_stats": {}}
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(UserError, match="cannot be read"):
        checkpoints.restore_model(like, 1)


def test_a_full_disk_is_told_and_the_step_before_stays(tmp_path, caplog):
    """The system refuses to write files larger than 8 KiB; the state needs 16."""
    save(tmp_path, 0.5)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Checkpoints(tmp_path) as checkpoints:
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (8192, limits[1]))
            with pytest.raises(UserError, match="checkpoint .*cannot be written.*the disk"):
                checkpoints.save(state_at(2))
                checkpoints.wait()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not [record for record in caplog.records if record.name == "absl"]  # pages of orbax's
    with Checkpoints(tmp_path) as checkpoints:
        same(checkpoints.restore_latest(state_at(9)), state_at(1))


def mounted(monkeypatch, limit):
    """Folders are renamed as by gcsfuse: not if they hold more than its --rename-dir-limit."""
    rename = os.rename

    def limited(old, new, **options):
        if os.path.isdir(old) and len(list(Path(old).rglob("*"))) > limit:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(old), None, str(new))
        return rename(old, new, **options)

    monkeypatch.setattr(os, "rename", limited)


def test_a_mounted_bucket_that_renames_no_folder_is_told_from_a_full_disk(tmp_path, monkeypatch):
    mounted(monkeypatch, limit=0)  # gcsfuse's default
    with pytest.raises(UserError, match="mounted by gcsfuse.*--rename-dir-limit.*gs://") as told:
        save(tmp_path, 0.5)
    assert "disk full" not in str(told.value) and "[Errno 24]" in str(told.value)


def test_a_bucket_as_tpu_vm_sh_mounts_it_takes_checkpoints(tmp_path, monkeypatch):
    script = Path(__file__).parent.parent / "launch/tpu_vm.sh"
    (limit,) = re.findall(r"gcsfuse .*--rename-dir-limit=(\d+)", script.read_text())
    mounted(monkeypatch, int(limit))
    assert save(tmp_path, 0.5, 0.6) == ([1, 2], 2)


def test_too_many_open_files_are_told_from_a_full_disk(tmp_path, monkeypatch):
    def touch(self):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(self))

    monkeypatch.setattr(Path, "touch", touch)
    with pytest.raises(UserError, match="too many files are open; allow more .ulimit -n"):
        save(tmp_path, 0.5)


def test_reading_a_run_that_is_training_leaves_its_half_written_step_alone(tmp_path):
    save(tmp_path, 0.5)
    half = tmp_path / "checkpoints" / "2.orbax-checkpoint-tmp"
    half.mkdir()
    like = jax.eval_shape(lambda: state_at(1).variables)
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        checkpoints.restore_model(like, checkpoints.best_step())
    assert half.is_dir()
    with Checkpoints(tmp_path / "none", read_only=True) as checkpoints:
        with pytest.raises(UserError, match="no checkpoint in"):
            checkpoints.best_step()
    assert not (tmp_path / "none").exists()


def test_checksums_name_each_array_and_feel_one_bit():
    tree = {"a": np.zeros(3, np.float32), "b": {"c": np.ones(2, np.int32)}}
    before = checksums(tree)
    assert list(before) == ["['a']", "['b']['c']"]
    tree["b"]["c"][1] ^= 1
    after = checksums(tree)
    assert [k for k in before if before[k] != after[k]] == ["['b']['c']"]
