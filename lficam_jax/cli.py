"""What the programs share: reading --config and --workdir, and telling the user's errors."""

import io
import os
import re
import sys
import traceback
from collections.abc import Callable

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from lficam_jax.errors import UserError

CONFIG = config_flags.DEFINE_config_file("config", None, "Configuration file, configs/NAME.py.")
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run.")


def config(study: bool = False) -> ConfigDict:
    """Returns --config, which is that of one run, or of a study.

    Raises:
      UserError: if it is missing, or of the other kind.
    """
    if CONFIG.value is None:
        raise UserError("--config is missing; for example --config configs/cluttered_digits.py")
    if study != ("settings" in CONFIG.value):
        raise UserError(
            "--config is that of one run: give it to python -m lficam_jax.main, or take a "
            "configs/study_*.py" if study
            else "--config is that of a study: give it to python -m lficam_jax.study"
        )  # fmt: skip
    return CONFIG.value


def workdir() -> str:
    """Returns --workdir.

    Raises:
      UserError: if it is missing.
    """
    if WORKDIR.value is None:
        raise UserError("--workdir is missing; for example --workdir runs/first")
    return WORKDIR.value


def run(main: Callable[[list[str]], int]) -> None:
    """Starts a program; prints the errors that are the user's without a traceback."""
    logging.set_verbosity(logging.ERROR)  # orbax's warnings are advice to who programs it
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal may know no letter but ASCII
            stream.reconfigure(errors="backslashreplace")
    try:
        sys.exit(main(_parse(sys.argv)))
    except UserError as error:
        _end(error)
    except KeyboardInterrupt:
        _end(UserError("stopped at once by SIGINT, without saving"), 130)
    except Exception as error:
        from lficam_jax.devices.distributed import as_lost, leave

        lost = as_lost(error)
        if lost is not None:
            _end(lost)
        traceback.print_exc()  # a bug of ours
        leave(1)


def _end(error: UserError, code: int | None = None) -> None:
    print(f"error: {error}", file=sys.stderr)
    code = error.exit_code if code is None else code
    if "jax" not in sys.modules:  # a typo is answered before jax is loaded
        sys.exit(code)
    from lficam_jax.devices.distributed import leave

    leave(code)


def _parse(argv: list[str]) -> list[str]:
    """Parses flags and loads the config file; what a user mistyped ends in one line."""
    app.define_help_flags()
    try:
        rest = flags.FLAGS(argv)
        if CONFIG.value is not None:
            CONFIG.value.keys()  # a file that could not be read raises at the first look
        return rest
    except flags.Error as error:
        raise UserError(f"{error}; see --help") from error
    except (AttributeError, KeyError) as error:  # ml_collections, for a key that does not exist
        meant = re.search(r'Did you mean "(.+)" instead of "(.+)"', str(error))
        if meant:
            known, typed = meant.groups()
            raise UserError(f"unknown config key {typed!r} — did you mean {known!r}?") from error
        raise UserError(f"unknown config key, or not a config file: {error}") from error
    except BrokenPipeError:  # --help | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or python complains at its end
        sys.exit(0)
    except OSError as error:
        path = next((word for word in argv[1:] if ".py" in word), "")
        raise UserError(f"cannot read the config file {path}; see configs/") from error
