"""Weights of torch networks as variables of ours. Needs no torch: arrays in, arrays out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from lficam_jax.errors import UserError, shortened
from lficam_jax.interop.torch_names import translate, unwrapped
from lficam_jax.models.classifier import MAY_START_FRESH, Classifier, group
from lficam_jax.structs import Variables

NESTED = ("state_dict", "model_state_dict", "model")  # where training scripts put the weights
DEEPEST = 8  # such dictionaries in one another
_LEAVES = {
    "bias": ("params", "bias"),
    "running_mean": ("batch_stats", "mean"),
    "running_var": ("batch_stats", "var"),
}


@dataclass(frozen=True)
class Imported:
    """What `import_weights` found.

    Attributes:
      variables: of the whole model.
      fresh: groups (`head`, `classifier`) that the file does not hold and that keep their start.
      unused: names in the file that the model has no place for.
      wrappers: what was in front of the names, such as `module.`, and was taken off.
    """

    variables: Variables
    fresh: tuple[str, ...]
    unused: tuple[str, ...]
    wrappers: tuple[str, ...] = ()


def variables_from_torch(state: Mapping[str, Any], model: Classifier) -> Variables:
    """Converts a torch state into variables of `model`; every name and shape must match.

    Args:
      state: {torch name: array}, as `state_dict()` gives it; may be nested under `state_dict`, and
        its names may begin with what `torch_names.unwrapped` knows.
      model: as made by `create_model`.

    Returns:
      {"params", "batch_stats"}, numpy float32.

    Raises:
      UserError: listing every name and shape that does not match.
    """
    match = _match(state, model)
    if match.problems():
        raise _mismatch(match.problems())
    variables: Variables = unflatten_dict(match.values, sep="/")
    return variables


def import_weights(state: Mapping[str, Any], model: Classifier, initial: Variables) -> Imported:
    """Like `variables_from_torch`, but the head and the classifier may start fresh.

    For files of another task or of a plain backbone, such as torchvision's: the backbone must match
    in full; a head or classifier that does not is taken whole from `initial`.

    Args:
      state: as in `variables_from_torch`.
      model: as made by `create_model`.
      initial: variables of `model`, as `init` draws them.

    Raises:
      UserError: listing every name and shape of the backbone that does not match.
    """
    match = _match(state, model)
    broken = {group(path) for path in [*match.missing, *match.wrong]}
    fresh = tuple(part for part in MAY_START_FRESH if part in broken)
    problems = match.problems(lambda part: part not in MAY_START_FRESH)
    if problems:
        raise _mismatch(problems)
    taken = {path: x for path, x in match.values.items() if group(path) not in fresh}
    unused = [name for path, name in match.names.items() if group(path) in fresh]
    start = flatten_dict(dict(initial), sep="/")
    variables = unflatten_dict({**start, **taken}, sep="/")
    return Imported(variables, fresh, (*unused, *match.unknown), match.wrappers)


@dataclass
class _Match:
    """Which array goes where, and what does not fit.

    Attributes:
      wanted: our path -> shape, of every leaf of the model.
      wrappers: what was taken off the names.
      values: our path -> array in our layout.
      names: our path -> torch name.
      wrong: our path -> a line about a shape or a second name for it.
      unknown: torch name -> (our module or None, its shape), where the model has no such leaf.
      damaged: lines about numbers that no network has; such a file is not taken in part either.
    """

    wanted: dict[str, tuple[int, ...]]
    wrappers: tuple[str, ...] = ()
    values: dict[str, np.ndarray] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    wrong: dict[str, str] = field(default_factory=dict)
    unknown: dict[str, tuple[str | None, list[int]]] = field(default_factory=dict)
    damaged: list[str] = field(default_factory=list)

    @property
    def missing(self) -> list[str]:
        """Leaves of the model that no name in the file is for."""
        return [path for path in self.wanted if path not in self.names]

    def problems(self, concerns: Callable[[str], bool] = bool) -> list[str]:
        """Lists what does not fit in the groups that `concerns` says yes to."""
        missing = [p for p in self.missing if concerns(group(p))]
        unknown = [n for n, (m, _) in self.unknown.items() if concerns(group(m or "unknown"))]
        return [
            *self.damaged,
            *(f"missing from the file: {path} {list(self.wanted[path])}" for path in missing),
            *(text for path, text in self.wrong.items() if concerns(group(path))),
            *(f"only in the file: {name} {self.unknown[name][1]}" for name in unknown),
        ]


def _match(state: Mapping[str, Any], model: Classifier) -> _Match:
    state, wrappers = unwrapped(flat_state(state))
    image = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    shapes = flatten_dict(dict(jax.eval_shape(model.init, jax.random.key(0), image)), sep="/")
    wanted = {path: leaf.shape for path, leaf in shapes.items()}
    match = _Match(wanted, wrappers)
    table = translate(state, {path.split("/", 1)[1].rpartition("/")[0] for path in wanted})
    for name, array in state.items():
        module, _, leaf = name.rpartition(".")
        path, value = _leaf(table[module], leaf, array, wanted)
        if path is None or path not in wanted:
            match.unknown[name] = table[module], list(array.shape)
        elif path in match.names:
            match.wrong[path] = f"{name} and {match.names[path]} both stand for {path}"
        else:
            match.names[path], match.values[path] = name, value
            match.damaged += [f"{name} {bad}"] if (bad := _damage(leaf, value)) else []
            if value.shape != wanted[path]:
                text = f"{list(value.shape)} in the file, {list(wanted[path])} in the model"
                match.wrong[path] = f"shape of {name} ({path}): {text}"
    return match


def _damage(leaf: str, value: np.ndarray) -> str:
    """Says what is wrong with the numbers of an array; '' if nothing is."""
    if not np.isfinite(value).all():
        return "holds NaN or infinity"
    return "holds a negative variance" if leaf == "running_var" and (value < 0).any() else ""


def _leaf(
    module: str | None, leaf: str, array: np.ndarray, wanted: Mapping[str, tuple[int, ...]]
) -> tuple[str | None, np.ndarray]:
    """Returns our path of one torch array and the array in our layout."""
    if module is None:
        return None, array
    if leaf != "weight":
        collection, name = _LEAVES.get(leaf, ("params", leaf))
        if array.shape[1:] == (1, 1):  # a factor for each channel, over the map
            array = array[:, 0, 0]
        return f"{collection}/{module}/{name}", array.astype(np.float32)
    path = f"params/{module}/{'scale' if array.ndim == 1 else 'kernel'}"
    if array.ndim == 4 and array.shape[2:] == (1, 1) and len(wanted.get(path, ())) == 2:
        array = array[:, :, 0, 0]  # a linear layer written as a 1x1 convolution
    # torch: [out, in, y, x] and [out, in]; here: [y, x, in, out] and [in, out].
    layout = (2, 3, 1, 0) if array.ndim == 4 else tuple(reversed(range(array.ndim)))
    return path, np.ascontiguousarray(array.transpose(layout), np.float32)


def flat_state(content: object) -> dict[str, np.ndarray]:
    """Finds the weights in a checkpoint's content.

    Raises:
      UserError: if there are none.
    """
    for _ in range(DEEPEST):  # a dictionary may hold itself
        if not isinstance(content, Mapping):
            break
        inner = [content[k] for k in NESTED if isinstance(content.get(k), Mapping)]
        if not inner:
            break
        content = inner[0]
    if not isinstance(content, Mapping):
        raise UserError("the checkpoint holds no weights: it is not a dictionary of names")
    arrays = {
        str(name): _numbers(str(name), value)
        for name, value in content.items()
        if hasattr(value, "shape") and not str(name).endswith("num_batches_tracked")
    }
    if not arrays:
        raise UserError(
            f"the checkpoint holds no weights; its keys: {shortened(', '.join(map(str, content)))}"
        )
    return arrays


def _numbers(name: str, value: Any) -> np.ndarray:
    """Returns a tensor as an array in the precision that it has here."""
    try:
        array = np.asarray(value)
        if array.dtype.kind in "biuf":
            with np.errstate(over="ignore"):  # what becomes infinite is told as such
                return array.astype(np.float32, copy=False)
        told = f"are of type {array.dtype}"
    except Exception as error:  # of torch, whose tensors may be sparse, or on another device
        told = f"cannot be read ({shortened(str(error), 100)})"
    raise UserError(f"the numbers of {shortened(name)} {told}; give dense arrays of floats")


def _mismatch(problems: list[str]) -> UserError:
    return UserError(
        "the torch weights are not of this model; say the backbone, depth, head and classes that "
        "they were trained with:\n  " + "\n  ".join(problems)
    )
