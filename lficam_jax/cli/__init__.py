"""What the programs share: how they start and end, their flags, and the user's errors."""

import argparse
import io
import json
import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from absl import logging
from ml_collections import ConfigDict

from lficam_jax.config import as_json, default_config
from lficam_jax.config_file import configured, keys_meant, leaves, overridden
from lficam_jax.errors import UserError, as_refusal, check_platform, nearest


def run(main: Callable[[list[str]], int]) -> None:
    """Starts a program with the words of its command line; prints the user's errors in a line."""
    logging.set_verbosity(logging.ERROR)  # orbax's warnings are advice to who programs it
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # and XLA's to who programs that
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal may know no letter but ASCII
            stream.reconfigure(errors="backslashreplace")
    try:
        check_platform()
        code = main(sys.argv[1:])
        if sys.stdout is not None:  # closed by the shell
            sys.stdout.flush()  # here it can still be told that this fails
        sys.exit(code)
    except UserError as error:
        _end(error)
    except BrokenPipeError:  # `| head -1`: whoever read has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or python complains at its end
        sys.exit(141)  # as a shell reports it
    except KeyboardInterrupt:
        _end(UserError("stopped at once by SIGINT, without saving"), 130)
    except Exception as error:
        if isinstance(error, OSError) and (why := _mute()):
            _end(UserError(f"cannot write to standard output: {why}"))
        from lficam_jax.devices.distributed import as_lost, leave

        told = as_lost(error) or as_refusal(error)
        if told is not None:
            _end(told)
        traceback.print_exc()  # a bug of ours
        leave(1)


def show(text: str) -> None:
    """Prints help, which may be cut short by `| head`."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or python complains at its end


class Parser(argparse.ArgumentParser):
    """Flags of one program; a mistake is a UserError that names the nearest flag.

    Args:
      **options: as argparse takes them.
    """

    def __init__(self, **options: Any) -> None:
        form = argparse.RawDescriptionHelpFormatter
        super().__init__(allow_abbrev=False, formatter_class=form, **options)

    def parse(self, words: Sequence[str], elsewhere: Mapping[str, str] | None = None) -> Any:
        """Parses all words.

        Args:
          words: of the command line, without the config's keys.
          elsewhere: flags of other programs, and what to say of them.

        Raises:
          UserError: for the first word that is not understood.
        """
        found, rest = self.parse_known_args(words)
        for word in rest:
            flag = word.partition("=")[0]
            if elsewhere and flag in elsewhere:
                raise UserError(elsewhere[flag])
            if word.startswith("-"):
                self.error(f"unknown flag {flag}{self._meant(flag)}")
        if rest:
            self.error(f"unexpected arguments: {' '.join(rest)}")
        return found

    def error(self, message: str) -> NoReturn:
        """Raises what argparse would print above its usage."""
        raise UserError(f"{message.removeprefix('argument ')}; see {self.prog} --help")

    def print_help(self, file: Any = None) -> None:
        """Prints the help, which may be cut short."""
        show(self.format_help().rstrip())

    def _meant(self, flag: str) -> str:
        name = flag.strip("-").replace("-", "_")
        if found := keys_meant(name, leaves(default_config()), guess=False):
            return f" — did you mean {' or '.join(f'--config.{key}' for key in found)}?"
        known = [word for word in self._option_string_actions if word.startswith("--")]
        return nearest(f"--{name}", known)


def names(
    known: Sequence[str], several: bool = True, after: Sequence[str] = ()
) -> Callable[[str], Any]:
    """Returns an argparse type: one of the names, or a list of them with commas.

    Args:
      known: the names.
      several: whether there may be more than one.
      after: words that may stand behind a name, each with a + before it.
    """

    def check(text: str) -> Any:
        words = [word for word in text.split(",") if word] if several else [text]
        for word in words:
            name, *more = word.split("+") if after else [word]
            if name not in known or "" in more:  # gradcam++ is a wrong name, not one with words
                name, more = word, []
            for one, those in [(name, known), *((each, after) for each in more)]:
                if one not in those:
                    raise argparse.ArgumentTypeError(f"{one!r} is unknown{nearest(one, [*those])}")
        return words if several else text

    return check


def whole(low: int, high: int, several: bool = False) -> Callable[[str], Any]:
    """Returns an argparse type: a whole number from low to high, or several with commas."""

    def check(text: str) -> Any:
        words = text.split(",") if several else [text]
        values = [int(word) for word in words if re.fullmatch(r"\d{1,18}", word)]
        if len(values) < len(words) or not all(low <= value <= high for value in values):
            kind = "whole numbers, with commas between," if several else "a whole number"
            raise argparse.ArgumentTypeError(f"{text!r} is not {kind} from {low} to {high}")
        return values if several else values[0]

    return check


@dataclass(frozen=True)
class Source:
    """Where the config of a mode comes from: `--config`, or the run of `--workdir`.

    Attributes:
      mode: a key of `MODES`.
      text: of --config; None if it is left out.
      overrides: of --config.KEY.
      workdir: of --workdir, for messages.
      reads: whether the mode only reads a run.
      pretrained: of --pretrained, a network that stands for the run.
      weights: of --from, its file.
    """

    mode: str
    text: str | None
    overrides: Mapping[str, str]
    workdir: str | None
    reads: bool
    pretrained: str = ""
    weights: str = ""

    def preliminary(self) -> ConfigDict:
        """Returns what is known before the run's folder can be read."""
        if self.text:
            return configured(self.text, self.overrides)
        return overridden(default_config(), self.overrides)

    def theirs(self, path: str | None) -> ConfigDict | None:
        """Reads the run's own config, where it matters and there is one."""
        if self.pretrained:
            return self._pretrained(path)
        wanted = self.mode != "stability" and (self.reads or not self.text)
        places = [Path(path) / name for name in ("config.json", "checkpoints")] if path else []
        if not (wanted and any(place.exists() for place in places)):
            return None
        from lficam_jax.workdir.folder import read_config  # here, for it brings jax

        return read_config(str(path))

    def _pretrained(self, path: str | None) -> ConfigDict:
        if self.text:
            raise UserError("--pretrained says the network and its classes; leave out --config")
        if path and (Path(path) / "config.json").exists():
            raise UserError(f"{path} holds a run; give --pretrained another --workdir")
        from lficam_jax.interop.pretrained import config_of, on_folder

        config = config_of(self.pretrained, self.weights)
        return on_folder(config) if self.overrides.get("data.folder") else config

    def config(self, theirs: ConfigDict | None) -> ConfigDict:
        """Returns the config to work with.

        Raises:
          UserError: if there is none, or it asks of a run what it is not.
        """
        given = self.preliminary()  # a typo is told whatever else is wrong
        if self.mode == "stability":
            self._check_stability()
        elif not self.text and theirs is None:
            raise UserError(self._missing())
        if theirs is None:
            return given
        config = given if self.text else overridden(theirs, self.overrides)
        if self.reads:
            self._check(config, theirs)
        return config

    def _check(self, config: ConfigDict, theirs: ConfigDict) -> None:
        from lficam_jax.workdir.folder import FREE, MODEL, among, differing

        asked, free = tuple(self.overrides), (*FREE, "data.pipeline", "data.fit")
        lines = [
            line.replace(": ", "=", 1).replace(" -> ", " (you asked ") + ")"
            for line in differing(as_json(config), as_json(theirs))
            if among(line, MODEL) or (among(line, asked) and not among(line, free))
        ]
        if lines:
            raise UserError(
                f"{self.mode} reads {self._read()}, which was trained with "
                f"{', '.join(lines)}: leave that out, or train another run"
            )

    def _read(self) -> str:
        return self.pretrained or f"the run of {self.workdir}"

    def _check_stability(self) -> None:
        for key in self.overrides:
            if key not in ("data.dir", "data.folder", "data.fit", "explain.align"):
                raise UserError(
                    f"stability reads the configs of the --runs; leave out --config.{key} (only "
                    "data.dir and data.folder can be given, if the data moved, and data.fit and "
                    "explain.align, for all runs)"
                )

    def _missing(self) -> str:
        if self.workdir is None:
            return "--config is missing; for example --config cifar10, or the --workdir of a run"
        instead = "train it first (lficam train --config NAME), or give the --workdir of a run"
        if not self.reads:
            instead = "give --config NAME (lficam --help lists them), or the --workdir of a run"
        return f"--config is missing, and {self.workdir} holds no run (no config.json): {instead}"


def told_by_the_first(read: Callable[[], ConfigDict | None]) -> ConfigDict | None:
    """Returns in every process what process 0 reads."""
    import jax

    from lficam_jax.devices import distributed

    found = distributed.together(lambda: read() if jax.process_index() == 0 else None)
    text = distributed.gather("" if found is None else found.to_json_best_effort())[0]
    if not text:
        return None
    config = default_config().lock()
    config.update(json.loads(text))
    return config


def _mute() -> str | None:
    """Returns why nothing can be printed, where that is so; then printing is given up."""
    try:
        print(flush=True)  # an empty line, for what failed is no longer there to be flushed
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or python complains at its end
        return error.strerror
    return None


def _end(error: UserError, code: int | None = None) -> None:
    print(f"error: {error}", file=sys.stderr)
    code = error.exit_code if code is None else code
    if "jax" not in sys.modules:  # a typo is answered before jax is loaded
        sys.exit(code)
    from lficam_jax.devices.distributed import leave

    leave(code)
