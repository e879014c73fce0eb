"""Trains, evaluates and explains image classifiers that draw their own attention map.

  python -m lficam_jax.main --config configs/NAME.py[:OPTIONS] --workdir DIR [--mode MODE]

Modes:
  train      (default) trains, or continues, the run of DIR; writes results/train.json
  evaluate   measures its best checkpoint on --split; writes results/evaluate.json
  explain    draws its maps on --split, or on your own files: --images a.jpg dir/ '*.png'
  describe   layers, parameters, FLOPs and schedule of a config; needs no data and no DIR

Any key of the config can be set: --config.optim.lr=0.05 --config.train.total_epochs=30
`:smoke` after the file shrinks any config to seconds: --config configs/cifar10.py:smoke

Exit codes: 0 done; 1 some of --images could not be read; 2 bad input; 3 training diverged;
143 / 130 stopped by SIGTERM / SIGINT after saving; give the same command again to continue.

Examples:
  python -m lficam_jax.prepare cluttered_digits
  python -m lficam_jax.main --config configs/cluttered_digits.py --workdir runs/a
  python -m lficam_jax.main --config configs/cluttered_digits.py --workdir runs/a --mode explain
"""

import re
import sys

from absl import app, flags
from ml_collections import config_flags

from lficam_jax.errors import UserError

MODES = ("train", "evaluate", "explain", "describe")

_CONFIG = config_flags.DEFINE_config_file("config", None, "Configuration file, configs/NAME.py.")
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.")
_MODE = flags.DEFINE_enum("mode", "train", MODES, "What to do.")
_SPLIT = flags.DEFINE_string("split", "test", "Split to evaluate: train, validation or test.")
_IMAGES = flags.DEFINE_multi_string("images", [], "Files, folders or globs to explain.")


def main(argv: list[str]) -> int:
    """Dispatches on --mode and returns the exit code."""
    config, workdir = _CONFIG.value, _WORKDIR.value
    if config is None:
        raise UserError("--config is missing; for example --config configs/cluttered_digits.py")
    if workdir is None and _MODE.value != "describe":
        raise UserError("--workdir is missing; for example --workdir runs/first")
    images = [*_IMAGES.value, *argv[1:]]  # a glob that the shell expanded leaves words behind
    if images and _MODE.value != "explain":
        raise UserError(f"unexpected arguments: {' '.join(images)}; see --help")
    from lficam_jax import modes  # here, so that --help and a typo answer at once

    if _MODE.value == "describe":
        return modes.describe(config, workdir)
    if _MODE.value == "evaluate":
        return modes.evaluate(config, workdir, _SPLIT.value)
    if _MODE.value == "explain":
        return modes.explain(config, workdir, images)
    return modes.train(config, workdir)


def _parse(argv: list[str]) -> list[str]:
    """Parses flags and loads the config file; what a user mistyped ends in one line."""
    app.define_help_flags()
    try:
        rest = flags.FLAGS(argv)
        if _CONFIG.value is not None:
            _ = _CONFIG.value.seed  # a file that could not be read raises at the first look
        return rest
    except flags.Error as error:
        raise UserError(f"{error}; see --help") from error
    except (AttributeError, KeyError) as error:  # ml_collections, for a key that does not exist
        meant = re.search(r'Did you mean "(.+)" instead of "(.+)"', str(error))
        if meant:
            known, typed = meant.groups()
            raise UserError(f"unknown config key {typed!r} — did you mean {known!r}?") from error
        raise UserError(f"unknown config key, or not a config file: {error}") from error
    except OSError as error:
        path = next((word for word in argv[1:] if ".py" in word), "")
        raise UserError(f"cannot read the config file {path}; see configs/") from error


def run() -> None:
    """Starts the program; prints the errors that are the user's without a traceback."""
    try:
        sys.exit(main(_parse(sys.argv)))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    run()
