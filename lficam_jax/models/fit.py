"""Whether weights are a network's own: told before flax stumbles over the first that is not."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from lficam_jax.errors import UserError, brief
from lficam_jax.models.classifier import Classifier

SHOWN = 3  # differences in a message

Shapes = dict[str, tuple[int, ...]]


def check_network(model: Any, variables: Any, image_shape: Sequence[int]) -> None:
    """Checks that `model` is a network and `variables` are all that it needs, and no other's.

    Of networks that `create_model` did not build, only that there are variables.

    Args:
      model: should be a flax module.
      variables: should be what its `init` returns.
      image_shape: y, x and c of what it is fed.

    Raises:
      UserError: if it is not so; the first differences are listed.
    """
    if not isinstance(model, nn.Module):
        raise UserError(
            f"model must be a flax module, as create_model builds one, not {brief(model)}"
        )
    if not isinstance(variables, Mapping) or "params" not in variables:
        found = [*variables] if isinstance(variables, Mapping) else variables
        raise UserError(
            "variables must be {'params': …, 'batch_stats': …}, as model.init returns them, not "
            + brief(found)
        )
    given = _shapes({k: variables[k] for k in ("params", "batch_stats") if k in variables})
    if isinstance(model, Classifier) and (lines := _differences(model, given, tuple(image_shape))):
        if image_shape[-1] not in (1, 3):
            raise UserError(
                f"images [b y x c] must have 1 or 3 channels, and these have {image_shape[-1]}"
            )
        more = f"; and {len(lines) - SHOWN} more" if len(lines) > SHOWN else ""
        raise UserError(
            "the variables do not fit the model; give those that this very model was initialised "
            f"or trained with. {'; '.join(lines[:SHOWN])}{more}"
        )


def _differences(model: Classifier, given: Shapes, image_shape: tuple[int, ...]) -> list[str]:
    wanted = _hashable(_expected, model)(model, image_shape)
    lines = []
    for name in [*wanted, *(name for name in given if name not in wanted)]:
        ours, theirs = wanted.get(name), given.get(name)
        if theirs is None:
            lines.append(f"{name} is missing")
        elif ours is None:
            lines.append(f"{name} is none of the model's")
        elif ours != theirs:
            lines.append(f"{name} is {list(theirs)}, the model's {list(ours)}")
    return lines


@lru_cache(maxsize=32)
def _expected(model: Classifier, image_shape: tuple[int, ...]) -> Shapes:
    """Returns the shape of each parameter and statistic."""

    def start() -> Any:
        return model.init(jax.random.key(0), jnp.zeros((1, *image_shape)), train=False)

    return _shapes(jax.eval_shape(start))


def _hashable(cached: Any, model: nn.Module) -> Callable[..., Shapes]:
    try:
        hash(model)
    except TypeError:  # a backbone of the user's with a list in it, say
        cached = cached.__wrapped__
    found: Callable[..., Shapes] = cached
    return found


def _shapes(variables: Any) -> Shapes:
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        kind = getattr(leaf, "dtype", None)
        if kind is None or not (np.issubdtype(kind, np.number) or kind == jnp.bfloat16):
            raise UserError(f"variables: {name} must be an array of numbers, not {brief(leaf)}")
        found[name] = tuple(leaf.shape)
    return found
