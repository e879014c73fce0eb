"""A repository with the launch scripts, and fake gcloud, srun, scontrol and python around it."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import yaml

LAUNCH = Path(__file__).parent.parent / "launch"
FLAGS = ("--config", "configs/a.py", "--workdir", "/mnt/bucket/a b", "--config.data.name=it's")

# What stands for `python -m lficam_jax.main`: it notes its words, takes the next of the codes, and
# does as a run that ends with it. It leaves a result behind a 0, a checkpoint behind `saved`.
PYTHON = r"""#!/usr/bin/env bash
[ "$2" = lficam_jax.main ] || exit 0
echo "$*" >> "$FAKE/runs"
workdir=$(sed -E 's/.*--workdir[= ]([^ ]*).*/\1/' <<< "$*")
code=$(head -n 1 "$FAKE/codes"); [ "$(wc -l < "$FAKE/codes")" = 1 ] || sed -i 1d "$FAKE/codes"
case $code in
  0) mkdir -p "$workdir/results"; echo '{}' > "$workdir/results/train.json" ;;
  saved) mkdir -p "$workdir/checkpoints/$RANDOM$RANDOM"; code=1 ;;
  preempted) echo SUSPENDED > "$FAKE/state"; exec sleep 2 ;;
  long) trap 'echo saved; sleep 0.2; exit 143' TERM; touch "$FAKE/ready"
        for _ in {1..600}; do sleep 0.05; done ;;
esac
exit "$code"
"""
GCLOUD = r"""#!/usr/bin/env bash
printf '%q ' "$@" >> "$FAKE/calls"; echo >> "$FAKE/calls"
state=$(cat "$FAKE/state" 2> /dev/null || true)
for word; do case $word in --command=*) command=${word#*=} ;; esac; done
next() { [ -s "$1" ] || return 1; head -n 1 "$1"; sed -i 1d "$1"; }
if code=$(next "$FAKE/refused"); then exit "$code"; fi
case "$3 $4" in
  "queued-resources describe")
    [ -n "$state" ] || { echo "ERROR: NOT_FOUND: no such request" >&2; exit 1; }
    echo "$state"; if grown=$(next "$FAKE/grows"); then echo "$grown" > "$FAKE/state"; fi ;;
  "queued-resources create") cat "$FAKE/created" > "$FAKE/state" ;;
  "queued-resources delete") rm -rf "$FAKE/state" "$FAKE/home/lficam" ;;
  "tpu-vm scp") [ "$state" = ACTIVE ] && cp "$5" "$FAKE/home/lficam.tgz" ;;
  "tpu-vm ssh") [ "$state" = ACTIVE ] && cd "$FAKE/home" && HOME=$FAKE/home bash -c "$command" ;;
esac
"""
UV = r"""#!/usr/bin/env bash
echo "uv $*" >> "$FAKE/installed"
if [ "$1" = venv ]; then mkdir -p .venv/bin; cp "$FAKE/python" .venv/bin/python; fi
"""
SRUN = r"""#!/usr/bin/env bash
echo "srun $*" >> "$FAKE/calls"
shift
exec "$@"
"""
SCANCEL = (
    'echo "scancel $*" >> "$FAKE/calls"; kill -TERM "$(pgrep -f "$FAKE/repo/.venv" | head -1)"'
)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text if text.startswith("#!") else f"#!/usr/bin/env bash\n{text}\n")
    path.chmod(0o755)


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def read(manifest):
    """The documents of a YAML file in launch/."""
    return list(yaml.safe_load_all((LAUNCH / manifest).read_text()))


def containers(tree):
    """Every container that stands somewhere in a manifest."""
    if isinstance(tree, dict):
        yield from tree.get("containers", ())
        tree = tree.values()
    elif not isinstance(tree, list):
        return
    for branch in tree:
        yield from containers(branch)


class Box:
    """A repository with the scripts, and commands that stand for the cloud."""

    def __init__(self, path):
        self.path, self.repo = path, path / "repo"
        shutil.copytree(LAUNCH, self.repo / "launch")
        (path / "home").mkdir()
        (path / "created").write_text("ACTIVE\n")
        write(path / "python", PYTHON)
        write(self.repo / ".venv/bin/python", PYTHON)
        write(path / "home/.local/bin/uv", UV)
        for name, text in {
            "gcloud": GCLOUD, "srun": SRUN, "sudo": "exit 0", "python3": "exit 0",
            "scancel": SCANCEL, "scontrol": 'echo "scontrol $*" >> "$FAKE/calls"',
        }.items():  # fmt: skip
            write(path / "bin" / name, text)

    def committed(self):
        git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-C", str(self.repo)]
        for words in (["init", "-q"], ["add", "launch"], ["commit", "-qm", "all"]):
            subprocess.run([*git, *words], check=True)
        return self

    def environment(self, **extra):
        keep = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM", "RETRIES"))}
        fakes = {"PATH": f"{self.path / 'bin'}:{os.environ['PATH']}", "FAKE": str(self.path)}
        quick = {"NAME": "box", "ZONE": "here", "POLL": "0", "WAIT": "0"}
        return keep | fakes | quick | {"TMPDIR": str(self.path)} | extra

    def words(self, script):
        return ["bash", str(self.repo / "launch" / script)]

    def run(self, script, *words, codes=(), **extra):
        if codes:
            self.say("codes", codes)
        return subprocess.run(
            [*self.words(script), *words], env=self.environment(**extra), cwd=self.repo,
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    def start(self, script, *words, **extra):
        """Starts a script whose run goes on until it is told to stop."""
        self.say("codes", ["long"])
        process = subprocess.Popen(
            # where the tests run in the background, INT is ignored, and a shell cannot undo that
            ["env", "--default-signal=INT", *self.words(script), *words],
            env=self.environment(**extra), cwd=self.repo,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        wait_for((self.path / "ready").exists)
        return process

    def say(self, name, lines):
        (self.path / name).write_text("".join(f"{line}\n" for line in lines))

    def noted(self, name):
        path = self.path / name
        return path.read_text().splitlines() if path.exists() else []

    def calls(self, *of):
        """The calls of gcloud that begin with these words, say `tpu-vm ssh`."""
        start = " ".join(("compute", "tpus", *of))
        return [call for call in self.noted("calls") if call.startswith(start)]
