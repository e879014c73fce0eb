"""Weights from one network into another: the backbone must fit, head and classifier may start anew.

The one rule for torch files, pretrained networks and runs of this project: a group of the model
that does not fit in full, because the classes, the head or its options differ, is taken whole from
its fresh start. Where the names of both classes are known, they decide, too: the same names in
another order are put in order, others start fresh.
"""

import copy
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from lficam_jax.data.classes import listed
from lficam_jax.data.imagenet import class_names
from lficam_jax.errors import UserError
from lficam_jax.interop.pretrained import config_of, is_name, load_pretrained
from lficam_jax.models.classifier import MAY_START_FRESH, group
from lficam_jax.structs import Variables
from lficam_jax.workdir import folder
from lficam_jax.workdir.remote import fetched

# Leaves whose last axis is the classes. What ABN has inside before its logits may keep its order.
BY_CLASS = ("params/classifier/", "params/head/conv_logits/")


def transfer(
    source: Variables, fresh: Variables, classes: tuple[Sequence[str], Sequence[str]] | None = None
) -> tuple[Variables, tuple[str, ...]]:
    """Puts another network's weights in the place of fresh ones.

    Args:
      source: variables of a network with the same backbone.
      fresh: variables of the network to fill, as `init` draws them.
      classes: names of the source's classes and of ours; None: whoever fits is the same.

    Returns:
      The variables, and the groups (`head`, `classifier`) that stayed fresh.

    Raises:
      UserError: listing every name and shape of the backbone that does not match.
    """
    found, wanted = flatten_dict(dict(source), sep="/"), flatten_dict(dict(fresh), sep="/")
    if classes is not None:
        found = _in_order(found, *classes)
    problems = _problems(found, wanted)
    stay = tuple(g for g in MAY_START_FRESH if g in {group(path) for path in problems})
    lines = [text for path, text in problems.items() if group(path) not in MAY_START_FRESH]
    if lines:
        raise UserError("the backbones differ:\n  " + "\n  ".join(lines))
    taken = {path: leaf for path, leaf in found.items() if path in wanted}
    kept = {path: leaf for path, leaf in wanted.items() if group(path) in stay}
    present = {group(path) for path in wanted}
    return unflatten_dict({**taken, **kept}, sep="/"), tuple(g for g in stay if g in present)


def start_from(source: str, fresh: Variables, data: ConfigDict) -> Variables:
    """Reads the weights that `config.init_from` names, and says what starts fresh.

    Args:
      source: a workdir, for its best step; one step of it, `WORKDIR/checkpoints/STEP`; the name of
        a pretrained network; or '' for the fresh ones.
      fresh: variables of the network to fill.
      data: our `config.data`, resolved: names our classes.

    Raises:
      UserError: if there is no such run or step, or its backbone differs.
    """
    if not source:
        return fresh
    known: Sequence[str]
    if of_pretrained(source):
        loaded = load_pretrained(source)
        told_of, theirs, known = source, loaded.variables, loaded.config.data.classes
    else:
        told_of, theirs, known = _of_run(source, data)
    try:
        variables, stay = transfer(theirs, fresh, (known, data.classes))
    except UserError as error:
        raise UserError(f"init_from={source} is of another network; {error}") from None
    why = "" if {*known} == {*data.classes} or "classifier" not in stay else _why(known)
    print(f"starting from {told_of}{told(stay)}{why}")
    return variables


def of_pretrained(source: str) -> bool:
    """Tells the name of a pretrained network from the folder of a run."""
    return is_name(source) and not (Path(source) / "checkpoints").exists()


def as_pretrained(config: ConfigDict) -> ConfigDict:
    """Returns the config with pictures fed as the pretrained network of `init_from` knows them.

    Mean, deviation and interpolation that the config leaves to be derived are the network's. Of
    other values of `init_from` nothing is changed.

    Raises:
      UserError: if the config is of another network; it says the keys to set.
    """
    if not of_pretrained(config.init_from):
        return config
    theirs = config_of(config.init_from)
    always, widths = ("backbone", "depth"), ("cardinality", "widen")  # 0: as usual
    model = {key: theirs.model[key] for key in (*always, *filter(theirs.model.get, widths))}
    if any(config.model[key] != value for key, value in model.items()):
        keys = " ".join(f"--config.model.{key}={value}" for key, value in model.items())
        raise UserError(
            f"init_from={config.init_from} is of another network than the config: {keys}"
        )
    filled = copy.deepcopy(config)
    for key in ("mean", "std", "interpolation"):
        filled.data[key] = config.data[key] or theirs.data[key]
    return filled


def _of_run(source: str, data: ConfigDict) -> tuple[str, Variables, Sequence[str]]:
    """Returns a run's name for people, its variables and the names of its classes."""
    place, step = _locate(source)
    with fetched(place) as workdir:
        step, theirs = _read_model(Path(workdir), step, source)
        names = folder.read_data(workdir)
    known = names.get("classes") or (data.classes if names.get("name") == data.name else ())
    return f"step {step} of {place}", theirs, known


def _why(known: Sequence[str]) -> str:
    if tuple(known) == class_names():
        return " (its classes are ImageNet's)"
    return f" (its classes are {listed(known)})" if known else " (nobody knows its class names)"


def _in_order(
    found: Mapping[str, Any], theirs: Sequence[str], ours: Sequence[str]
) -> Mapping[str, Any]:
    """Puts columns in the order of our classes; leaves them out where the classes are others."""
    if list(theirs) == list(ours):
        return found
    if sorted(theirs) != sorted(ours) or any(
        path.startswith(BY_CLASS) and np.shape(leaf)[-1] != len(ours)
        for path, leaf in found.items()
    ):  # other classes, or one output for two of them
        return {path: leaf for path, leaf in found.items() if not path.startswith(BY_CLASS)}
    order = np.array([list(theirs).index(name) for name in ours])
    return {
        path: np.asarray(leaf)[..., order] if path.startswith(BY_CLASS) else leaf
        for path, leaf in found.items()
    }


def told(fresh: Iterable[str]) -> str:
    """Writes which groups start fresh, for the end of a line.

    >>> told(["head", "classifier"])
    '; fresh: head, classifier'
    """
    return "; fresh: " + ", ".join(fresh) if fresh else ""


def _read_model(workdir: Path, step: int | None, source: str) -> tuple[int, Variables]:
    from lficam_jax.workdir.checkpoint import Checkpoints

    if not (workdir / "checkpoints").is_dir():
        raise UserError(
            f"init_from={source} holds no run (no checkpoints); give the workdir of one, or one "
            "step of it, WORKDIR/checkpoints/STEP"
        )
    with Checkpoints(workdir, read_only=True) as checkpoints:
        step = checkpoints.best_step() if step is None else step
        return step, checkpoints.restore_model(None, step)


def _locate(source: str) -> tuple[str, int | None]:
    place, _, step = source.rstrip("/").rpartition("/checkpoints/")  # of a folder or a bucket
    return (place, int(step)) if place and step.isdecimal() else (source, None)


def _problems(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, str]:
    """Returns our path -> what is wrong with it."""
    problems = {}
    for path in sorted({*found, *wanted}):
        theirs, ours = (list(t[path].shape) if path in t else None for t in (found, wanted))
        if theirs is None:
            problems[path] = f"{path}: {ours} here, absent there"
        elif ours is None:
            problems[path] = f"{path}: {theirs} there, absent here"
        elif theirs != ours:
            problems[path] = f"{path}: {theirs} there, {ours} here"
    return problems
