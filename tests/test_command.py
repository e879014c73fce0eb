"""The command `lficam`: help that teaches, a run that knows its config, words that are nearest."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jax
import pytest

import lficam_jax
from lficam_jax import main
from lficam_jax.cli import commands
from lficam_jax.errors import UserError, check_platform
from lficam_jax.measure.observe import PERTURBATIONS
from lficam_jax.measure.scoreboard import GROUPS
from lficam_jax.methods import ATTENTION, METHODS, WRAPPERS
from lficam_jax.modes import RUN
from lficam_jax.speed import benchmark, lowering


def lficam(*words):
    """Runs the command in this process."""
    return main._command([str(word) for word in words])


def fails(*words):
    with pytest.raises(UserError) as error:
        lficam(*words)
    return str(error.value)


def printed(capsys, *words):
    """Returns what help prints; argparse ends the process with 0."""
    try:
        assert lficam(*words) == 0
    except SystemExit as end:
        assert end.code in (0, None)
    return capsys.readouterr().out


def test_the_names_that_help_knows_are_those_of_the_code():
    assert {*commands.MODES} == {*RUN}
    # A run's network has no attention weights to roll out.
    assert commands.METHODS == tuple(name for name in METHODS if name not in ATTENTION)
    assert commands.WRAPPERS == WRAPPERS
    assert commands.MEASURES == tuple(GROUPS)
    assert commands.PERTURBATIONS == PERTURBATIONS
    assert commands.SECTIONS == benchmark.SECTIONS
    assert commands.COMPILED == lowering.SECTIONS


def test_help_names_modes_configs_and_examples(capsys):
    text = printed(capsys, "--help")
    for name in (*commands.MODES, *commands.PROGRAMS):
        assert f"\n  {name} " in text
    assert "\n  cifar10 " in text and "CIFAR-10 after the paper: 32x32 pixels, 300 epochs." in text
    assert text.count("\n  lficam ") == 3 and "exit codes:" in text
    assert printed(capsys) == text  # no words at all
    for line in text.splitlines():
        assert len(line) < 120


@pytest.mark.parametrize("mode", commands.MODES)
def test_the_help_of_a_mode_shows_its_own_flags_alone(mode, capsys):
    text = printed(capsys, mode, "--help")
    shown = {word.strip("-") for line in text.splitlines() for word in line.split()[:1]
             if word.startswith("--")}  # fmt: skip
    assert shown == {*commands.MODES[mode].flags, "config", "workdir", "help-config"}
    assert f"example: lficam {mode} " in text and "--help-config lists them all" in text


@pytest.mark.parametrize("words", [["explain", "--help"], ["--mode", "explain", "--help"]])
def test_the_module_shows_the_help_of_a_mode_in_either_form(words, capsys):
    with pytest.raises(SystemExit):
        main.main(words)
    text = capsys.readouterr().out
    assert text.startswith("usage: python -m lficam_jax.main ") and "--images" in text


def test_the_help_says_how_a_run_goes_on(capsys):
    for words in (["--help"], ["train", "--help"]):
        assert "with a larger --config.train.total_epochs" in printed(capsys, *words)


@pytest.mark.parametrize("name", commands.PROGRAMS)
def test_the_other_programs_have_help(name, capsys):
    assert f"usage: lficam {name}" in printed(capsys, name, "--help")


def test_the_keys_of_a_config_are_listed(capsys):
    text = printed(capsys, "train", "--config", "cifar10:depth=20", "--help-config")
    assert "--config.model.depth=20\n" in text
    assert "--config.optim.lr=0.1 " in text and "peak learning rate" in text


def test_the_version_is_told(capsys):
    assert printed(capsys, "--version").startswith("lficam_jax 0.")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["trian"], "'trian' is unknown — did you mean 'train'?"),
        (["import_torch"], "did you mean 'import-torch'?"),
        (["evaluate", "--wrkdir", "a"], "unknown flag --wrkdir — did you mean '--workdir'?"),
        (["train", "--lr", "0.1"], "unknown flag --lr — did you mean --config.optim.lr?"),
        (["train", "--batch-size=8"], "did you mean --config.eval.batch_size or --config.train.b"),
        (["train", "--epochs=3"], "did you mean --config.train.total_epochs?"),
        (["train", "--resume"], "unknown flag --resume"),
        (["explain", "--methods", "own,gradcam++"], "'gradcam++' is unknown — did you mean 'grad_"),
        (["explain", "--methods=ScoreCAM"], "did you mean 'score_cam'?"),
        (["explain", "photo.jpg"], "unexpected arguments: photo.jpg"),
        (["explain", "--split=test"], "--split is for evaluate, faithfulness, robus"),
        (["evaluate", "--split", "tset"], "'tset' is unknown — did you mean 'test'?"),
        (["evaluate", "--split"], "--split: expected one argument; see lficam evaluate --help"),
        (["faithfulness", "--measures", "deletoin"], "did you mean 'deletion'?"),
        (["faithfulness", "--limit", "many"], "--limit: 'many' is not a whole number from 1"),
        (["faithfulness", "--limit", "0"], "--limit: '0' is not a whole number from 1"),
        (["faithfulness", "--baseline", "blurr"], "did you mean 'blur'?"),
        (["faithfulness", "--target", "true"], "'true' is unknown; known: predicted, label"),
        (["robustness", "--perturbations", "contarst"], "did you mean 'contrast'?"),
        (["robustness", "--severities", "1,9"], "'1,9' is not whole numbers, with commas b"),
        (["benchmark", "--sections", "forwards"], "did you mean 'forward'?"),
        (["describe", "--sections", "eval"], "did you mean 'evaluate'?"),
        (["study", "--so-far"], "unknown flag --so-far — did you mean '--so_far'?"),
        (["train", "--workdir", "w", "--config", "clutered_digits"], "did you mean 'cluttered_dig"),
        (["describe", "--config", "folder"], "valid: data.folder is empty; say --config.data.f"),
        (["describe"], "--config is missing; for example --config cifar10, or the --workdir of a"),
        (["train", "--config", "cifar10"], "--workdir is missing"),
    ],
)  # fmt: skip
def test_every_wrong_word_names_its_nearest(words, told):
    assert told in fails(*words)


def test_help_and_typos_answer_without_jax():
    program = (
        "import sys\n"
        "from lficam_jax.main import _command\n"
        "from lficam_jax.errors import UserError\n"
        "for words in (['--help'], ['--version'], ['train', '--help-config'], ['trian'],\n"
        "              ['explain', '--methods', 'x'], ['prepare', 'x'], ['import-torch', 'x'],\n"
        "              ['train', '--workdir=w', '--config=cifar10', '--config.optim.lrr=1'],\n"
        "              ['evaluate', '--workdir', 'w', '--config.optim.lrr=1']):\n"
        "    try:\n        _command(words)\n    except UserError as error:\n        print(error)\n"
        "heavy = {'jax', 'flax', 'tensorflow_datasets', 'matplotlib'} & {*sys.modules}\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "did you mean 'optim.lr'?" in done.stdout


@pytest.mark.parametrize(
    ("system", "machine", "supported"),
    [
        ("Linux", "x86_64", True), ("Linux", "aarch64", True), ("Darwin", "arm64", True),
        ("Darwin", "x86_64", False), ("Windows", "AMD64", False), ("Linux", "riscv64", False),
    ],
)  # fmt: skip
def test_a_platform_without_packages_is_told_at_once(system, machine, supported, monkeypatch):
    monkeypatch.setattr("platform.system", lambda: system)
    monkeypatch.setattr("platform.machine", lambda: machine)
    if supported:
        check_platform()
        return
    told = rf"runs on Linux \(x86-64, ARM\) and macOS \(ARM\), not on {system} \({machine}\)"
    monkeypatch.delitem(vars(lficam_jax), "load", raising=False)
    for ask in (check_platform, lambda: lficam_jax.load):
        with pytest.raises(UserError, match=told):
            ask()


@pytest.mark.parametrize("name", ["python", "lficam"])
def test_a_bad_config_file_ends_with_2_and_one_line(name, tmp_path):
    (tmp_path / "bad.py").write_text("import no_such_thing\n")
    program = {
        "python": ["-m", "lficam_jax.main", "--mode", "train"],
        "lficam": ["-c", "from lficam_jax.main import lficam; lficam()", "train"],
    }[name]
    words = ["--config", str(tmp_path / "bad.py"), "--workdir", str(tmp_path / "run")]
    done = subprocess.run([sys.executable, *program, *words], capture_output=True, text=True)
    assert done.returncode == 2 and not done.stdout
    told = f"error: {tmp_path}/bad.py:1: ModuleNotFoundError: No module named 'no_such_thing'\n"
    assert done.stderr == told


def result(workdir, mode):
    return json.loads((workdir / "results" / f"{mode}.json").read_text())


@pytest.fixture(scope="module")
def own(trained, tmp_path_factory):
    """A copy of a run's folder that its modes may write into."""
    import shutil

    return shutil.copytree(trained, tmp_path_factory.mktemp("own") / "run")


def test_a_run_is_evaluated_and_explained_without_a_config(own, digits, monkeypatch):
    assert lficam("evaluate", "--workdir", own, "--split=validation") == 0
    assert result(own, "evaluate")["examples"] == 40
    words = (
        "--config.explain.limit=2",
        "--config.eval.batch_size=16",
        "--config.parallel.mode=pmap",
    )
    assert lficam("explain", "--workdir", own, *words) == 0
    assert result(own, "explain")["images"] == 2
    assert lficam("describe", "--workdir", own) == 0
    assert result(own, "describe")


def test_what_a_run_is_told_without_a_config_is_where_its_data_lie(own, digits, tmp_path):
    assert lficam("evaluate", "--workdir", own, f"--config.data.dir={digits}") == 0
    told = fails("evaluate", "--workdir", own, f"--config.data.dir={tmp_path}")
    assert "is not prepared" in told and str(tmp_path) in told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ["--config.model.depth=14"],
            "which was trained with model.depth=8 (you asked 14): leave that out, or train another",
        ),
        (["--config.model.depth=14", "--config.seed=3"], "depth=8 (you asked 14), seed=0 (you"),
        (["--config.optim.learning_rate=1"], "did you mean 'optim.lr'?"),
        (
            ["--config", "cluttered_digits:smoke,head=abn", "--config.data.synthetic=False"],
            "which was trained with model.head=lfi (you asked abn): leave that out",
        ),
    ],
)  # fmt: skip
def test_what_a_run_is_not_cannot_be_asked_of_it(words, told, own):
    message = fails("sanity", "--workdir", own, *words)
    assert told in message
    assert "sanity reads the run of" in message or "did you mean" in message


def test_a_config_that_differs_in_what_a_mode_does_not_read_is_taken(own, digits):
    words = ("--config", "cluttered_digits:smoke", "--config.data.synthetic=False")
    words += ("--config.optim.lr=0.1", f"--config.data.dir={digits}")
    assert lficam("evaluate", "--workdir", own, *words) == 0


def test_without_a_config_and_a_run_both_remedies_are_told(tmp_path):
    told = fails("evaluate", "--workdir", tmp_path)
    assert f"--config is missing, and {tmp_path} holds no run" in told
    assert "train it first (lficam train --config NAME), or give the --workdir of a run" in told
    told = fails("train", "--workdir", tmp_path)
    assert "give --config NAME (lficam --help lists them), or the --workdir of a run" in told


def test_stability_takes_where_the_data_lie_and_nothing_else(own, trained, digits, tmp_path):
    words = ("stability", "--runs", own, trained, "--limit=4", "--workdir", tmp_path)
    assert lficam(*words, f"--config.data.dir={digits}") == 0
    assert result(tmp_path, "stability")["images"] == 4
    assert "stability reads the configs of the --runs; leave out --config.seed" in fails(
        *words, "--config.seed=3"
    )


def test_stability_of_runs_that_fit_pictures_differently_asks_for_one_way(own, digits, tmp_path):
    shutil.copytree(own, tmp_path / "padded")
    config = json.loads((tmp_path / "padded" / "config.json").read_text())
    config["data"]["fit"] = "pad"
    (tmp_path / "padded" / "config.json").write_text(json.dumps(config))
    words = ("stability", "--runs", own, tmp_path / "padded", "--limit=4", "--workdir", tmp_path)
    words += (f"--config.data.dir={digits}",)
    assert "choose one way for all: --config.data.fit=crop" in fails(*words)
    assert lficam(*words, "--config.data.fit=pad") == 0


def test_a_damaged_config_of_a_run_is_told(own, tmp_path):
    (tmp_path / "config.json").write_text('{"colour": 1}')
    assert "cannot read" in fails("evaluate", "--workdir", tmp_path)


def pages(own):
    return sorted(path.parent.name for path in own.glob("explanations/*/manifest.json"))


def test_own_files_get_a_new_folder_each_time_or_the_one_that_is_asked_for(own, tmp_path):
    from PIL import Image

    Image.new("RGB", (40, 30), (200, 90, 10)).save(tmp_path / "a.png")
    words = ("explain", "--workdir", own, "--images", tmp_path / "a.png")
    before = pages(own)
    for _ in range(2):
        assert lficam(*words) == 0
    assert len(pages(own)) == len(before) + 2 and {*before} < {*pages(own)}
    assert lficam(*words, "--out", tmp_path / "out") == 0
    assert (tmp_path / "out" / "index.html").exists() and len(pages(own)) == len(before) + 2
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "note.txt").write_text("mine")
    assert "holds other files" in fails(*words, "--out", tmp_path / "taken")
    assert (tmp_path / "taken" / "note.txt").read_text() == "mine"


def test_how_a_picture_was_read_is_said_beside_its_class(own, tmp_path, capsys):
    import numpy as np
    from PIL import Image

    Image.fromarray(np.arange(900, dtype=np.uint16).reshape(30, 30)).save(tmp_path / "deep.png")
    os.mkfifo(tmp_path / "pipe.png")
    assert lficam("explain", "--workdir", own, "--images", tmp_path) == 0
    said = capsys.readouterr()
    (line,) = (line for line in said.out.splitlines() if "deep.png" in line)
    assert line.endswith("%); no value in it is above 4,095: read as 12 bits")
    assert f"passed over in {tmp_path}: pipe.png" in said.err


def test_maps_are_asked_about_a_class_by_name_or_number(own, tmp_path):
    """The ten digits are called 0 to 9, so that a name and a number are told apart elsewhere."""
    words = ("explain", "--workdir", own, "--config.explain.limit=2", "--methods", "grad_cam")
    for number in ("7", "0"):
        assert lficam(*words, "--target", number, "--out", tmp_path / number) == 0
        rows = json.loads((tmp_path / number / "manifest.json").read_text())["images"]
        assert {row["asked_about"] for row in rows} == {number}
    assert "class 'cat' is unknown; known: 0, 1" in fails(*words, "--target", "cat")
    told = fails("explain", "--workdir", own, "--target", "7")
    assert "target='7': own draws the same map whatever class is asked about" in told


def test_a_class_is_its_name_before_it_is_a_number():
    from lficam_jax.modes import _class

    assert _class("3", ("1", "3")) == "3" and _class("3", ("cat", "dog")) == 3
    assert _class("cat", ("cat", "dog")) == "cat" and _class(None, ("cat",)) is None


@pytest.mark.slow
def test_a_reader_who_has_seen_enough_is_no_bug():
    """As `| head -1` does: it reads a line and goes."""
    program = [sys.executable, "-m", "lficam_jax.main", "--mode", "describe"]
    process = subprocess.Popen(
        [*program, "--config", "cluttered_digits:smoke"], text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    process.stdout.close()
    with process.stderr as stream:
        assert "Traceback" not in stream.read()
    assert process.wait(timeout=120) == 141


def test_a_full_standard_output_is_told_in_one_line():
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "lficam_jax.main", "--help"], text=True, stdout=full,
            stderr=subprocess.PIPE, check=False,
        )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "error: cannot write to standard output: No space left on device\n"


@pytest.mark.parametrize("mode", ["sanity", "robustness"])
def test_fewer_examples_than_a_picture_shows_are_enough(mode, own, digits, monkeypatch):
    """One device, so that a batch is no larger than the sample."""
    monkeypatch.setattr("jax.device_count", lambda: 1)
    monkeypatch.setattr("jax.devices", lambda devices=jax.devices: devices()[:1])
    words = ["--perturbations=fgsm", "--epsilons=1"] if mode == "robustness" else []
    words += ["--methods=grad_cam", "--limit=1", f"--config.data.dir={digits}"]
    assert lficam(mode, "--workdir", own, *words) == 0
    assert (own / "results" / f"{mode}.png").exists()
