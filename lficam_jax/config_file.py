"""Config files: found by name or path, read, and changed key by key from a command line."""

import ast
import copy
import inspect
import os
import re
import sys
import traceback
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from lficam_jax.config import CHOICES, DURATIONS, default_config, keys
from lficam_jax.config.size import parsed
from lficam_jax.errors import UserError, check_path, nearest

HELP = "a config by name, or your own .py file; options behind a colon, as in cifar10:depth=20"
# What other libraries call our keys.
SYNONYMS = {
    "learning_rate": "optim.lr", "base_lr": "optim.lr", "optimizer": "optim.name",
    "wd": "optim.weight_decay", "scheduler": "optim.schedule", "warmup": "optim.warmup_epochs",
    "grad_clip": "optim.clip_norm", "max_norm": "optim.clip_norm", "ema": "optim.ema_decay",
    "grad_accum": "optim.accumulate", "epochs": "train.total_epochs",
    "num_epochs": "train.total_epochs", "max_epochs": "train.total_epochs",
    "steps": "train.total_steps", "max_steps": "train.total_steps", "bs": "train.batch_size",
    "batch": "train.batch_size", "dataset": "data.name", "data_dir": "data.dir",
    "img_size": "data.image_size", "resolution": "data.image_size", "workers": "data.threads",
    "num_workers": "data.threads", "arch": "model.backbone", "architecture": "model.backbone",
    "network": "model.backbone", "precision": "model.dtype", "pretrained": "init_from",
    "device": "parallel.platform",
}  # fmt: skip


def configured(text: str | None, overrides: Mapping[str, str], study: bool = False) -> ConfigDict:
    """Returns the config of `--config` and `--config.KEY`: that of one run, or of a study.

    Raises:
      UserError: as `load_config` and `overridden` do, and for one of the other kind.
    """
    if not text:
        name = "study_cluttered_digits" if study else "cluttered_digits"
        raise UserError(f"--config is missing; for example --config {name}")
    config = load_config(text)
    if study != ("settings" in config):
        raise UserError(
            f"--config {text} is that of one run: give it to lficam train "
            "(python -m lficam_jax.main), or take one of the study_…" if study
            else f"--config {text} is that of a study: give it to lficam study "
            "(python -m lficam_jax.study)"
        )  # fmt: skip
    return overridden(config, overrides)


def split_overrides(words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Takes `--config.KEY=VALUE` and `--config.KEY VALUE` out of a command line.

    >>> split_overrides(["--workdir", "a", "--config.optim.lr=1", "--config.seed", "2"])
    (['--workdir', 'a'], {'optim.lr': '1', 'seed': '2'})

    Raises:
      UserError: for a key without a value.
    """
    rest: list[str] = []
    overrides: dict[str, str] = {}
    left = iter(words)
    for word in left:
        if not word.startswith("--config."):
            rest.append(word)
            continue
        key, sign, value = word.removeprefix("--config.").partition("=")
        if not sign:
            value = next(left, "--")
        if not sign and value.startswith("--"):
            raise UserError(f"{word} has no value: say {word}=VALUE")
        overrides.pop(key, None)
        overrides[key] = value
    return rest, overrides


def overridden(config: ConfigDict, overrides: Mapping[str, str]) -> ConfigDict:
    """Returns a copy of a config with some keys set, each read as what stood there.

    A duration counts as it is given: in epochs, its steps become 0, and the other way round.

    Raises:
      UserError: for a key that does not exist, or a value of another kind.
    """
    config = copy.deepcopy(config)
    for key, text in overrides.items():
        *groups, name = key.split(".")
        node: Any = config
        for part in groups:
            node = node[part] if _has(node, part) else None
        if not _has(node, name):
            meant = " or ".join(repr(known) for known in keys_meant(key, leaves(config)))
            instead = f" — did you mean {meant}?" if meant else "; --help-config lists all"
            raise UserError(f"unknown config key {key!r}{instead}")
        node[name] = _value(key, text, node[name])
    for group, name in (path.split(".") for path in DURATIONS):
        for unit, other in (("epochs", "steps"), ("steps", "epochs")):
            given = [f"{group}.{name}_{word}" in overrides for word in (unit, other)]
            if given == [True, False] and config[group][f"{name}_{unit}"]:
                config[group][f"{name}_{other}"] = 0
    return config


def _has(node: Any, name: str) -> bool:
    return isinstance(node, Mapping | ConfigDict) and name in node


def leaves(config: Mapping[str, Any] | ConfigDict, prefix: str = "") -> dict[str, Any]:
    """Returns every key, with dots, and its value.

    >>> leaves({"seed": 0, "optim": {"lr": 0.1}})
    {'seed': 0, 'optim.lr': 0.1}
    """
    found: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping | ConfigDict) and value:
            found |= leaves(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def shipped() -> dict[str, Path]:
    """Returns the package's own configs by name: in the wheel inside it, in the tree beside it."""
    inside = Path(__file__).parent / "configs"
    folder = inside if inside.is_dir() else inside.parent.parent / "configs"
    return {path.stem: path for path in sorted(folder.glob("*.py"))}


def load_config(text: str) -> ConfigDict:
    """Reads a config file.

    Args:
      text: `NAME[:OPTIONS]` for one that comes with the package, or `FILE.py[:OPTIONS]`.

    Returns:
      The config, locked: its keys can be changed, none added.

    Raises:
      UserError: naming file and line, if it is absent, does not run or returns something else.
    """
    word, _, options = text.partition(":")
    check_path("--config", word)
    path = _find(word)
    found = _get_config(path, options)
    if not isinstance(found, ConfigDict):
        kind = "nothing" if found is None else f"a {type(found).__name__}"
        raise UserError(
            f"{path}: get_config() returns {kind}; start from default_config() of lficam_jax.config"
        )
    is_study = "settings" in found
    check_keys(path, found.get("base") if is_study else found, "base." if is_study else "")
    return found.lock()


def _find(word: str) -> Path:
    known, path = shipped(), Path(word)
    if not word.endswith(".py"):
        if word in known:
            return known[word]
        if path.is_file():
            return path
        beside = path.with_name(path.name + ".py") if path.name else path
        instead = (
            f" — did you mean {str(beside)!r}?" if beside.is_file() else nearest(word, [*known])
        )
        raise UserError(f"--config {word} is neither a config of the package nor a file{instead}")
    if not path.exists():
        near = sorted(str(p) for p in path.parent.glob("*.py")) if path.parent.is_dir() else []
        names = [path.stem] if path.stem in known else near or [*known]
        raise UserError(f"cannot read the config file {word}: no such file{nearest(word, names)}")
    return path


def _get_config(path: Path, options: str) -> Any:
    """Runs a config file; whatever it raises is told with its place in the file."""
    module = types.ModuleType(f"config_{path.stem}")
    module.__file__ = str(path)
    folder = os.getcwd()
    sys.path.append(folder)  # a config may import what lies where the program was started
    try:
        exec(
            compile(path.read_bytes(), str(path), "exec"), module.__dict__
        )  # leaves no __pycache__
        get = getattr(module, "get_config", None)
        if not callable(get):
            raise UserError(f"{path}: has no function get_config(); see configs/ for examples")
        if options and not inspect.signature(get).parameters:
            raise UserError(f"{path}: its get_config() takes no options, so not :{options}")
        return get(*[options][: bool(options)])
    except UserError:
        raise
    except OSError as error:
        if error.filename != str(path):
            raise _failed(path, error) from error
        raise UserError(f"cannot read the config file {path}: {error.strerror}") from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        raise _failed(path, error) from error
    finally:
        sys.path.remove(folder)


def _failed(path: Path, error: BaseException) -> UserError:
    file, line = str(path), None
    if isinstance(error, SyntaxError):
        file, line = error.filename or file, error.lineno
    else:
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == file]
        line = lines[-1] if lines else None
    what = (error.msg if isinstance(error, SyntaxError) else str(error)).strip().splitlines()
    told = ": ".join([type(error).__name__, *what[:1]])
    return UserError(f"{file}:{line}: {told}" if line else f"{file}: {told}")


def check_keys(path: Path | str, config: Any, prefix: str = "") -> None:
    """Checks that a config has every key, and no other.

    Args:
      path: where it comes from, for the message.
      config: what should be a config.
      prefix: of its keys, for the message.

    Raises:
      UserError: if it has not.
    """
    wanted = leaves(default_config())
    found = leaves(config) if isinstance(config, ConfigDict) else {}
    for key in found:
        if key not in wanted:
            meant = keys_meant(key, wanted)
            instead = f" — did you mean {meant[0]!r}?" if meant else ""
            raise UserError(f"{path}: sets {prefix + key!r}, which is no key{instead}")
    if missing := [f"{prefix}{key}" for key in wanted if key not in found]:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise UserError(f"{path}: lacks {missing[0]!r}{more}; start from default_config()")


def keys_text(config: ConfigDict) -> str:
    """Lists every key with its value in `config` and its meaning, from config/keys.py."""
    groups = {"config": "", "evaluation": "eval."}
    groups |= {head: f"model.{head}." for head in ("fin", "abn", "plain", "classwise")}
    meanings: dict[str, str] = {}
    key, values = "", leaves(config)
    for line in Path(keys.__file__).read_text(encoding="utf-8").splitlines():
        if found := re.fullmatch(r"    (\w+)\.(\w+) = (?:.*?  # (.*)|.*)", line):
            key = groups.get(found[1], f"{found[1]}.") + found[2]
            meanings[key] = found[3] or " | ".join(CHOICES.get(key, ()))
        elif more := re.fullmatch(r"    # (.*[^.:])", line):  # the meaning goes on
            meanings[key] += f" {more[1]}"
    rows = [
        (f"--config.{key}={values.pop(key)}", text)
        for key, text in meanings.items()
        if key in values
    ]
    rows += [(f"--config.{key}={value}", "") for key, value in values.items()]
    return "\n".join(f"{word:<36}  {text}".rstrip() for word, text in rows)


def keys_meant(key: str, known: Mapping[str, Any], guess: bool = True) -> list[str]:
    """Returns the keys that a wrong one may mean: by another library's word, place or letters."""
    last = key.rpartition(".")[2]
    for word in (SYNONYMS.get(last, last), last):
        if same := [k for k in known if k == word or k.endswith(f".{word}")]:
            return same[:3]
    close = nearest(key, [*known]) if guess else ""
    return re.findall("did you mean '(.+)'", close)


def _value(key: str, text: str, now: Any) -> Any:
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    kinds = {bool: "true or false", int: "a whole number", float: "a number", tuple: "a list"}
    if isinstance(now, Mapping | ConfigDict):
        keys = ", ".join(f"{key}.{name}" for name in list(now)[:3])
        raise UserError(f"--config.{key} is a group; set its keys: {keys}, …")
    try:
        if key.endswith("data.image_size"):
            return parsed(text)
        if isinstance(now, bool):
            return words[text.lower()]
        if isinstance(now, tuple | list):
            found = ast.literal_eval(text) if text else ()
            return tuple(found) if isinstance(found, tuple | list) else (found,)
        return type(now)(text)
    except (ValueError, KeyError, SyntaxError, TypeError, RecursionError, MemoryError) as error:
        if isinstance(now, tuple | list) and re.fullmatch(r"[\w.]+(,[\w.]+)*", text):
            return tuple(text.split(","))
        kind = kinds.get(type(now), "another kind")
        if key.endswith("data.image_size"):
            kind = "a whole number, or two: rows,columns"
        raise UserError(f"--config.{key}={text} is not {kind}") from error
