"""Trains, evaluates and explains image classifiers that draw their own attention map.

  python -m lficam_jax.main --config configs/NAME.py[:OPTIONS] --workdir DIR [--mode MODE]

Modes:
  train      (default) trains, or continues, the run of DIR; writes results/train.json
  evaluate   measures its best checkpoint on --split; writes results/evaluate.json
  explain    draws its maps on --split, or on your own files: --images a.jpg dir/ '*.png'
             --methods own,grad_cam,score_cam lays several side by side (docs/maps.md)
  describe   layers, parameters, FLOPs and schedule of a config; needs no data and no DIR
  faithfulness  measures maps on --limit examples of --split: --methods own,grad_cam,score_cam
             --measures confidence,deletion,insertion,road,adcc,sparseness,localisation,sensitivity
             (docs/measures.md); writes results/faithfulness.json, .csv and a page, .html
  stability  compares the maps of several runs, pair by pair: --runs DIR DIR …; needs no --config;
             writes results/stability.json in --workdir

Any key of the config can be set: --config.optim.lr=0.05 --config.train.total_epochs=30
`:smoke` after the file shrinks any config to seconds: --config configs/cifar10.py:smoke
Fine-tune from another run, or from torch weights (python -m lficam_jax.import_torch --help):
  --config.init_from=OTHER_DIR --config.optim.freeze='trunk/.*'

Many devices and machines: --distributed=auto|HOST:PORT,N,I; what happens when: docs/operations.md

Exit codes: 0 done; 1 some of --images could not be read; 2 bad input; 3 training diverged;
143 / 130 stopped by SIGTERM / SIGINT after saving, 75 stuck or another process lost: give the same
command again to continue.

Examples:
  python -m lficam_jax.prepare cluttered_digits
  python -m lficam_jax.main --config configs/cluttered_digits.py --workdir runs/a
  python -m lficam_jax.main --config configs/cluttered_digits.py --workdir runs/a --mode explain
  python -m lficam_jax.main --workdir runs/compared --mode stability --runs runs/a runs/b
"""

from absl import flags
from ml_collections import ConfigDict

from lficam_jax import cli
from lficam_jax.errors import UserError

MODES = ("train", "evaluate", "explain", "describe", "faithfulness", "stability")
WITH_METHODS = ("explain", "faithfulness")
MANY = ("train", "evaluate")  # modes that work in several processes
BASELINES = ("mean", "black", "blur")
TARGETS = ("predicted", "label")

_MODE = flags.DEFINE_enum("mode", "train", MODES, "What to do.")
_SPLIT = flags.DEFINE_string("split", "test", "Split to evaluate: train, validation or test.")
_IMAGES = flags.DEFINE_multi_string("images", [], "Files, folders or globs to explain.")
_METHODS = flags.DEFINE_list("methods", [], "Maps to draw; default: the model's own, or grad_cam.")
_MEASURES = flags.DEFINE_list("measures", [], "Groups of measures; default: all but sensitivity.")
_LIMIT = flags.DEFINE_integer("limit", 1000, "Examples of --split to measure.", lower_bound=1)
_BASELINE = flags.DEFINE_enum("baseline", "mean", BASELINES, "What a masked pixel shows.")
_TARGET = flags.DEFINE_enum("target", "predicted", TARGETS, "The class that is measured.")
_DISTRIBUTED = flags.DEFINE_string(
    "distributed", "", "auto, or HOST:PORT,N,I: be process I of N; process 0 is at HOST:PORT."
)
_PROFILE = flags.DEFINE_string("profile_steps", "", "FIRST:LAST training steps to profile.")
_RUNS = flags.DEFINE_multi_string("runs", [], "Workdirs of the runs to compare.")
flags.adopt_module_key_flags(cli)  # so that --help shows them


def main(argv: list[str]) -> int:
    """Dispatches on --mode and returns the exit code."""
    if _DISTRIBUTED.value and _MODE.value not in MANY:
        raise UserError(
            f"--mode {_MODE.value} works in one process; leave --distributed out "
            f"(it is for {' and '.join(MANY)})"
        )
    if _MODE.value == "stability":
        return _stability(argv)
    config = cli.config()
    workdir = cli.WORKDIR.value if _MODE.value == "describe" else cli.workdir()
    images = [*_IMAGES.value, *argv[1:]]  # a glob that the shell expanded leaves words behind
    if images and _MODE.value != "explain":
        raise UserError(f"unexpected arguments: {' '.join(images)}; see --help")
    if _METHODS.value and _MODE.value not in WITH_METHODS:
        raise UserError(f"--methods is for --mode {' and '.join(WITH_METHODS)}")
    if _RUNS.value:
        raise UserError("--runs is for --mode stability")
    if _MEASURES.value and _MODE.value != "faithfulness":
        raise UserError("--measures is for --mode faithfulness")
    return _work(config, workdir, images)


def _work(config: ConfigDict, workdir: str | None, images: list[str]) -> int:
    from lficam_jax import modes  # here, so that --help and a typo answer at once
    from lficam_jax.distributed import start
    from lficam_jax.profiling import window
    from lficam_jax.workdir import keep_compiled

    profile = window(_PROFILE.value)
    start(
        _DISTRIBUTED.value, config.parallel.platform, preemptible=_MODE.value == "train",
        connect_seconds=config.parallel.connect_seconds,
        heartbeat_seconds=config.parallel.heartbeat_seconds,
    )  # fmt: skip
    if workdir is not None:
        keep_compiled(workdir)
    if _MODE.value == "describe":
        return modes.describe(config, workdir)
    if _MODE.value == "evaluate":
        return modes.evaluate(config, workdir, _SPLIT.value)
    if _MODE.value == "explain":
        return modes.explain(config, workdir, images, _METHODS.value)
    if _MODE.value == "faithfulness":
        return modes.faithfulness(
            config, workdir, split=_SPLIT.value, limit=_LIMIT.value, methods=_METHODS.value,
            groups=_MEASURES.value, baseline=_BASELINE.value, target=_TARGET.value,
        )  # fmt: skip
    return modes.train(config, workdir, profile)


def _stability(argv: list[str]) -> int:
    workdir, runs = cli.workdir(), [*_RUNS.value, *argv[1:]]  # --runs A B leaves B behind
    from lficam_jax import modes

    return modes.compare(cli.CONFIG.value, workdir, runs, split=_SPLIT.value, limit=_LIMIT.value)


if __name__ == "__main__":
    cli.run(main)
