"""Trains, explains and measures image classifiers that draw their own attention map.

The installed command is `lficam MODE …`; `python -m lficam_jax.main --mode MODE …` is the same.
"""

import argparse
import ast
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.metadata import version

from ml_collections import ConfigDict

import lficam_jax
from lficam_jax import cli, config_file
from lficam_jax.cli.commands import FREE, KEYS, LONGER, MODES, PROGRAMS, elsewhere, parser
from lficam_jax.config import default_config
from lficam_jax.errors import UserError, nearest


def main(words: list[str]) -> int:
    """Runs `python -m lficam_jax.main --mode MODE …`; returns the exit code.

    `python -m lficam_jax.main MODE …` is the command `lficam MODE …`.
    """
    if words and (not words[0].startswith("-") or words[0] == "--version"):
        return _command(words, "python -m lficam_jax.main")
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--mode", nargs="?", const="")
    found, rest = first.parse_known_args(words)
    if found.mode is None and {"-h", "--help"} & {*words}:
        cli.show(_help())
        return 0
    mode = "train" if found.mode is None else found.mode
    if mode not in MODES:
        raise UserError(f"--mode {mode!r} is unknown{nearest(mode, [*MODES])}")
    return run(mode, rest, f"python -m lficam_jax.main --mode {mode}")


def lficam() -> None:
    """Runs the installed command."""
    cli.run(_command)


def _command(words: list[str], prog: str = "lficam") -> int:
    name, *rest = words or ["--help"]
    if name in ("-h", "--help", "help"):
        cli.show(_help())
    elif name == "--version":
        python = sys.version.split()[0]
        print(f"lficam_jax {lficam_jax.__version__} (python {python}, jax {version('jax')})")
    elif name in PROGRAMS:
        return int(import_module(PROGRAMS[name][0]).main(rest, f"{prog} {name}"))
    elif name in MODES:
        return run(name, rest, f"{prog} {name}")
    else:
        known = [*MODES, *PROGRAMS, "--help", "--version"]
        raise UserError(f"{prog} {name}: {name!r} is unknown{nearest(name, known)}")
    return 0


def run(mode: str, words: Sequence[str], prog: str) -> int:
    """Runs a mode with the words behind it, and returns the exit code."""
    words, overrides = config_file.split_overrides(words)
    flags = vars(parser(mode, prog).parse(words, elsewhere(mode)))
    text, address, wanted = (flags.pop(name) for name in ("config", "workdir", "help_config"))
    if wanted:
        cli.show(config_file.keys_text(config_file.load_config(text) if text else default_config()))
        return 0
    pretrained = flags.get("pretrained", "")
    alone = mode in ("explain", "export", "serve")  # --pretrained stands for the run
    if not address and mode not in FREE and not (pretrained and alone):
        without = "; without a run, --pretrained efficientnet_lite0" if alone else ""
        raise UserError(f"--workdir is missing; for example --workdir runs/first{without}")
    if pretrained and not (address or flags.get("images", True) or flags.get("video")):
        raise UserError(f"say which pictures {pretrained} should explain: --images photo.jpg")
    address, spec = address or None, flags.pop("distributed", "")
    source = cli.Source(
        mode, text, overrides, address, MODES[mode].reads, pretrained, flags.get("weights", "")
    )
    # Of many processes the first alone reads the folder, and a bucket is read after the start.
    late = bool(spec) or "://" in (address or "")
    config = source.preliminary() if late else source.config(source.theirs(address))
    _start(mode, spec, config, "cpu" if flags.get("topology") else config.parallel.platform)
    from lficam_jax.modes import RUN  # here, so that help and a typo answer at once
    from lficam_jax.workdir.compiled import keep_compiled
    from lficam_jax.workdir.remote import mirrored

    with mirrored(address, alone=mode == "train") as here:
        if here is not None:
            keep_compiled()
        if late:
            config = source.config(cli.told_by_the_first(lambda: source.theirs(here)))
        asked = {("groups" if name == "measures" else name): v for name, v in flags.items()}
        return RUN[mode](config, here, **asked)


def _start(mode: str, spec: str, config: ConfigDict, platform: str) -> None:
    from lficam_jax.devices.distributed import start

    start(
        spec, platform, preemptible=mode == "train",
        connect_seconds=config.parallel.connect_seconds,
        heartbeat_seconds=config.parallel.heartbeat_seconds,
    )  # fmt: skip


def _help() -> str:
    rows = {name: mode.does for name, mode in MODES.items()}
    rows |= {name: does for name, (_, does) in PROGRAMS.items()}
    configs = {
        name: (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n")[0]
        for name, path in config_file.shipped().items()
    }
    return _HELP.format(modes=_lines(rows), configs=_lines(configs), keys=f"{KEYS}\n{LONGER}")


def _lines(rows: Mapping[str, str]) -> str:
    width = max(map(len, rows)) + 2
    return "\n".join(f"  {name:<{width}}{text}" for name, text in rows.items())


_HELP = """Trains, explains and measures image classifiers that draw their own attention map.

usage: lficam MODE [FLAGS]          (lficam MODE --help: its flags)
       python -m lficam_jax.main --mode MODE [FLAGS]

modes:
{modes}

configs, for --config NAME[:OPTIONS]; or a path to your own .py file:
{configs}

{keys}

examples:
  lficam prepare cluttered_digits
  lficam train --config cluttered_digits --workdir runs/a
  lficam explain --workdir runs/a --images photo.jpg

exit codes: 0 done; 1 some of --images could not be read, or a bug, with its traceback; 2 bad input;
3 training diverged; 143 / 130 / 129 stopped by SIGTERM / SIGINT / SIGHUP after saving, 75 stuck or
another process lost: give the same command again to continue."""

if __name__ == "__main__":
    cli.run(main)
