"""Trains, evaluates and explains image classifiers that draw their own attention map.

  python -m lficam_jax.main --config configs/NAME.py[:OPTIONS] --workdir DIR [--mode MODE]

Modes:
  train         (default) trains, or continues, the run of DIR; writes results/train.json
  evaluate      measures its best checkpoint on --split; writes results/evaluate.json
  explain       draws its maps on the sample that config.explain names, or on your own files:
                --images a.jpg dir/ '*.png'; --methods own,grad_cam,score_cam lays several side by
                side
  describe      layers, parameters, FLOPs and schedule of a config; needs no data and no DIR;
                --topology v5e:2x4 (or v5litepod-8) compiles its programs for that TPU, without one:
                memory, traffic, collectives, a bound of the time (--sections train,evaluate,maps
                --methods own,score_cam; docs/benchmarks.md)
  faithfulness  measures maps on --limit examples of --split: --methods own,grad_cam,score_cam
                --measures confidence,deletion,insertion,road,adcc,sparseness,localisation,
                sensitivity (docs/measures.md); writes results/faithfulness.json, .csv and .html
  stability     compares the maps of several runs, pair by pair: --runs DIR DIR …; needs no
                --config; writes results/stability.json in --workdir
  robustness    attacks (fgsm) and corrupts --limit examples: does the class hold, and the map?
                --perturbations fgsm,contrast,jpeg_compression --severities 1,3,5
                --epsilons 1,2,4,8; writes results/robustness.json, .csv, .png
  sanity        re-initialises the network from the top down: does the map change?
                writes results/sanity.json, .csv, .png
  benchmark     speed of everything, on random images: --sections forward,methods,measures,
                train,pipeline,compile (docs/benchmarks.md); needs no data and no DIR

Many runs compared by one command: python -m lficam_jax.study --help

Any key of the config can be set: --config.optim.lr=0.05 --config.train.total_epochs=30
`:smoke` after the file shrinks any config to seconds: --config configs/cifar10.py:smoke
Fine-tune from another run, or from torch weights (python -m lficam_jax.import_torch --help):
  --config.init_from=OTHER_DIR --config.optim.freeze='trunk/.*'

Many devices and machines: --distributed=auto|HOST:PORT,N,I; what happens when: docs/operations.md

Exit codes: 0 done; 1 some of --images could not be read, or a bug, with its traceback; 2 bad input;
3 training diverged; 143 / 130 stopped by SIGTERM / SIGINT after saving, 75 stuck or another process
lost: give the same command again to continue.

Examples:
  python -m lficam_jax.prepare cluttered_digits
  python -m lficam_jax.main --config configs/cluttered_digits.py --workdir runs/a
  python -m lficam_jax.main --config configs/cluttered_digits.py --workdir runs/a --mode explain
  python -m lficam_jax.main --workdir runs/compared --mode stability --runs runs/a runs/b
"""

from typing import Any

from absl import flags
from ml_collections import ConfigDict

from lficam_jax import cli
from lficam_jax.errors import UserError

MODES = (
    "train", "evaluate", "explain", "describe", "faithfulness", "stability", "robustness", "sanity",
    "benchmark",
)  # fmt: skip
# Flags that not every mode listens to; the others refuse them rather than ignore them.
LISTEN = {
    "split": ("evaluate", "faithfulness", "stability", "robustness", "sanity"),
    "limit": ("faithfulness", "stability", "robustness", "sanity"),
    "methods": ("explain", "faithfulness", "robustness", "sanity", "benchmark", "describe"),
    "images": ("explain",),
    "measures": ("faithfulness", "benchmark"), "sections": ("benchmark", "describe"),
    "topology": ("describe",),
    "baseline": ("faithfulness",), "target": ("faithfulness",),
    "runs": ("stability",),
    "perturbations": ("robustness",), "severities": ("robustness",), "epsilons": ("robustness",),
    "profile_steps": ("train",), "distributed": ("train", "evaluate"),
}  # fmt: skip
FREE = ("describe", "benchmark")  # of a workdir, and of data
WORDS = {"explain": "images", "stability": "runs"}  # `--runs A B` leaves B behind the flag

_MODE = flags.DEFINE_enum("mode", "train", MODES, "What to do.")
flags.DEFINE_string("split", "test", "Split to measure: train, validation or test.")
flags.DEFINE_integer("limit", 1000, "Examples of --split to measure.", lower_bound=1)
flags.DEFINE_list(
    "methods", [], "Maps; default: explain own, else grad_cam; robustness and sanity own,grad_cam; "
    "faithfulness own,grad_cam,score_cam; benchmark all.",
)  # fmt: skip
flags.DEFINE_multi_string("images", [], "Files, folders or globs to explain.")
flags.DEFINE_list("measures", [], "Groups of measures; default: all but sensitivity.")
flags.DEFINE_list("sections", [], "Of benchmark, or of describe --topology; default: all.")
flags.DEFINE_string(
    "topology", "", "TPU to compile for: v5e:2x4, v5litepod-8, v6e-8, v4-16, v5p-8."
)
flags.DEFINE_enum("baseline", "mean", ("mean", "black", "blur"), "What a masked pixel shows.")
flags.DEFINE_enum("target", "predicted", ("predicted", "label"), "The class that is measured.")
flags.DEFINE_multi_string("runs", [], "Workdirs of the runs to compare.")
flags.DEFINE_list("perturbations", [], "fgsm and corruptions (docs/measures.md); default: all.")
flags.DEFINE_list("severities", ["1", "3", "5"], "Of the corruptions, 1 to 5.")
flags.DEFINE_list("epsilons", ["1", "2", "4", "8"], "Of fgsm, in 255ths of a pixel's range.")
flags.DEFINE_string("profile_steps", "", "FIRST:LAST training steps to profile.")
_DISTRIBUTED = flags.DEFINE_string(
    "distributed", "", "auto, or HOST:PORT,N,I: be process I of N; process 0 is at HOST:PORT."
)
flags.adopt_module_key_flags(cli)  # so that --help shows them


def main(argv: list[str]) -> int:
    """Dispatches on --mode and returns the exit code."""
    mode = _MODE.value
    asked = _asked(mode, argv[1:])
    config = cli.CONFIG.value if mode == "stability" else cli.config()
    workdir = cli.WORKDIR.value if mode in FREE else cli.workdir()
    if mode != "stability":  # whose runs bring configs of their own
        _start(mode, config, "cpu" if asked.get("topology") else config.parallel.platform)
    from lficam_jax.modes import RUN  # here, so that --help and a typo answer at once
    from lficam_jax.workdir.folder import keep_compiled
    from lficam_jax.workdir.remote import mirrored

    with mirrored(workdir) as here:
        if here is not None:
            keep_compiled(here)
        return RUN[mode](config, here, **asked)


def _asked(mode: str, words: list[str]) -> dict[str, Any]:
    """Returns what the flags ask of a mode."""
    for flag, modes in LISTEN.items():
        if flags.FLAGS[flag].present and mode not in modes:
            raise UserError(f"--{flag} is for --mode {', '.join(modes)}; leave it out of {mode}")
    if words and mode not in WORDS:
        raise UserError(f"unexpected arguments: {' '.join(words)}; see --help")
    asked = {flag: flags.FLAGS[flag].value for flag, modes in LISTEN.items() if mode in modes}
    if words:
        asked[WORDS[mode]] = [*asked[WORDS[mode]], *words]
    asked.pop("distributed", None)  # see _start
    return {"groups" if flag == "measures" else flag: value for flag, value in asked.items()}


def _start(mode: str, config: ConfigDict, platform: str) -> None:
    from lficam_jax.devices.distributed import start

    start(
        _DISTRIBUTED.value, platform, preemptible=mode == "train",
        connect_seconds=config.parallel.connect_seconds,
        heartbeat_seconds=config.parallel.heartbeat_seconds,
    )  # fmt: skip


if __name__ == "__main__":
    cli.run(main)
