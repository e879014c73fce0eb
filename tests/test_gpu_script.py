"""benchmarks/gpu.sh: its parts survive each other, and what is mistyped is told. Needs no GPU."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path("benchmarks/gpu.sh")


@pytest.fixture
def run(tmp_path):
    """Runs the script with a python that writes down what it is asked to run, and then fails."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\nexit 3\n')
    python.chmod(0o755)

    def finish(*words):
        done = subprocess.run(
            ["bash", SCRIPT, *words], capture_output=True, text=True, timeout=60,
            env={**os.environ, "PYTHON": str(python), "TMPDIR": str(tmp_path)},
        )  # fmt: skip
        asked = tmp_path / "asked"
        return done, asked.read_text().splitlines() if asked.exists() else []

    return finish


def test_shellcheck_finds_nothing():
    command = [Path(sys.executable).with_name("shellcheck"), "-x", "-P", "launch", str(SCRIPT)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_every_part_has_its_turn_though_all_fail(run, tmp_path):
    done, asked = run("--tiny", "--out", str(tmp_path / "out"))
    assert done.returncode == 6 and "6 parts failed" in done.stdout
    found = json.loads((tmp_path / "out" / "gpu.json").read_text())["parts"]
    names = {"compare", "parity", "mappings", "pipeline", "maps", "train"}
    assert set(found) == names and all(part["exit_code"] for part in found.values())
    assert {path.stem for path in (tmp_path / "out").glob("*.log")} == names
    programs = "compare_torch gpu_checks score_cam decode lficam_jax.main".split()
    assert not [name for name in programs if not any(name in line for line in asked)]
    assert not [path for path in tmp_path.glob("tmp.*")]  # nothing is left behind


def test_only_the_parts_that_are_asked_for(run, tmp_path):
    done, _ = run("--tiny", "--parts", "c,e", "--out", str(tmp_path / "out"))
    assert done.returncode == 2
    assert re.findall(r"^== (\w \w+), at most", done.stdout, re.M) == ["c mappings", "e maps"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--prats", "a"], "unknown option --prats; see --help"),
        (["--parts", "a,g"], "--parts a,g: give letters from a to f"),
        (["--out"], "--out needs a value"),
    ],
)
def test_a_mistake_is_told_and_nothing_runs(run, words, says):
    done, asked = run(*words)
    assert done.returncode == 2 and f"error: {says}" in done.stderr and not asked


def test_a_fetch_that_fails_ends(run, tmp_path):
    done, asked = run("--fetch", str(tmp_path / "wheels"))
    assert done.returncode == 3 and len(asked) == 1 and "pip download --no-deps" in asked[0]


def test_help_names_every_part(run):
    done, _ = run("--help")
    assert done.returncode == 0
    assert re.findall(r"^  ([a-f])  ", done.stdout, re.M) == [*"abcdef"]
