"""Learning-rate schedules and the chain of gradient transformations."""

import re
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from lficam_jax.config import duration, multipliers
from lficam_jax.errors import UserError

WARMUP_SHARE = 0.25  # of a run; a longer warm-up would hardly leave it its learning rate


def schedule(optim: ConfigDict, steps_per_epoch: int, total_steps: int) -> optax.Schedule:
    """Returns step -> learning rate: constant, cosine or multistep, after an optional warm-up."""
    warmup = warmup_steps(optim, steps_per_epoch, total_steps)
    if optim.schedule == "cosine":
        after = optax.cosine_decay_schedule(optim.lr, max(1, total_steps - warmup))
    elif optim.schedule == "multistep":
        # join_schedules restarts the count after the warm-up; the milestones count from step 0.
        drops = {round(m * steps_per_epoch) - warmup: optim.factor for m in optim.milestones_epochs}
        after = optax.piecewise_constant_schedule(optim.lr, drops)
    else:
        after = optax.constant_schedule(optim.lr)
    if not warmup:
        return after
    return optax.join_schedules([optax.linear_schedule(0.0, optim.lr, warmup), after], [warmup])


def warmup_steps(optim: ConfigDict, steps_per_epoch: int, total_steps: int) -> int:
    """Returns the length of the warm-up: as asked, but at most `WARMUP_SHARE` of the run."""
    asked = duration(optim, "warmup", steps_per_epoch)
    return min(asked, int(WARMUP_SHARE * total_steps))


def optimizer(optim: ConfigDict, learning_rate: optax.Schedule) -> optax.GradientTransformation:
    """Returns clip -> weight decay -> SGD or AdamW.

    SGD's decay is torch's: added to the gradient before the momentum, on all parameters unless
    `weight_decay_on="kernels"`. AdamW's is decoupled, as it is defined. What `freeze` matches does
    not move at all, costs no optimiser memory and does not count in the norm that is clipped.
    `multipliers` scale the learning rate of what they match, the decay that it scales too.
    """
    mask = partial(_decays, optim) if optim.no_decay or optim.weight_decay_on != "all" else None
    chain = [optax.clip_by_global_norm(optim.clip_norm)] if optim.clip_norm else []
    if optim.name == "adamw":
        chain.append(
            optax.adamw(
                learning_rate,
                b1=optim.momentum,
                b2=optim.b2,
                weight_decay=optim.weight_decay,
                mask=mask,
            )  # fmt: skip
        )
    else:
        chain.append(optax.add_decayed_weights(optim.weight_decay, mask=mask))
        momentum = optim.momentum or None
        chain.append(optax.sgd(learning_rate, momentum=momentum, nesterov=optim.nesterov))
    if optim.multipliers:
        chain.append(_multiplied(multipliers(optim.multipliers)))
    if not optim.freeze:
        return optax.chain(*chain)
    return optax.multi_transform(
        {"trained": optax.chain(*chain), "frozen": optax.set_to_zero()},
        lambda params: _labels(params, optim.freeze),
    )


def held(params: optax.Params, pattern: str) -> optax.Params:
    """Returns the parameters, those that `freeze` matches as constants.

    Their gradient is then 0 and nobody computes it: a step is the cheaper for it.
    """
    if not pattern:
        return params
    return jax.tree.map(
        lambda leaf, label: jax.lax.stop_gradient(leaf) if label == "frozen" else leaf,
        params, _labels(params, pattern),
    )  # fmt: skip


def _labels(params: optax.Params, pattern: str) -> optax.Params:
    """Labels each parameter `frozen` or `trained`; the pattern must match its whole path.

    Raises:
      UserError: if it matches none, or all.
    """
    frozen = jax.tree.leaves(_matches(params, pattern, "freeze"))
    if all(frozen):
        raise UserError(f"optim.freeze={pattern!r} matches every parameter; none is left to train")
    labels = ["frozen" if is_frozen else "trained" for is_frozen in frozen]
    return jax.tree.unflatten(jax.tree.structure(params), labels)


def _matches(params: optax.Params, pattern: str, key: str) -> optax.Params:
    """Tells of each parameter whether the pattern matches its whole path.

    Raises:
      UserError: if it matches none.
    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    paths = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves]
    found = [re.fullmatch(pattern, path) is not None for path in paths]
    if not any(found):
        some = ", ".join([paths[0], paths[len(paths) // 2], paths[-1]])
        raise UserError(
            f"optim.{key}={pattern!r} matches no parameter; it must match whole paths, "
            f"as 'trunk/.*' does. Some paths: {some}"
        )
    return jax.tree.unflatten(jax.tree.structure(params), found)


def _decays(optim: ConfigDict, params: optax.Params) -> optax.Params:
    """Marks what weight decay is for: with `kernels`, what has two axes or more."""
    kernels = optim.weight_decay_on == "kernels"
    decays = jax.tree.map(lambda leaf: leaf.ndim > 1 or not kernels, params)
    if not optim.no_decay:
        return decays
    spared = _matches(params, optim.no_decay, "no_decay")
    return jax.tree.map(lambda decay, spare: decay and not spare, decays, spared)


def _multiplied(pairs: Sequence[tuple[str, float]]) -> optax.GradientTransformation:
    """Returns the step that scales the updates of what each pattern matches."""

    def factors(params: optax.Params) -> optax.Params:
        found = jax.tree.map(lambda _: 1.0, params)
        for pattern, factor in pairs:
            matched = _matches(params, pattern, "multipliers")
            found = jax.tree.map(lambda old, hit, f=factor: f if hit else old, found, matched)
        return found

    def init(params: optax.Params) -> optax.EmptyState:
        factors(params)  # a pattern without a match is told before the first step
        return optax.EmptyState()

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        return jax.tree.map(jnp.multiply, updates, factors(updates)), state

    return optax.GradientTransformation(init, update)
