"""The state and one step of training, for `parallel.spmd`: no IO, no config, no time."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jaxtyping import Array, Float

from lficam_jax.data.pipeline import Load
from lficam_jax.models.answers import kind_of
from lficam_jax.structs import Batch, Key, Outputs, Sums, TrainState, Variables
from lficam_jax.training.optim import held


def create_state(
    variables: Variables, tx: optax.GradientTransformation, *, ema: bool = False
) -> TrainState:
    """Returns the state before the first step."""
    return TrainState(
        step=jnp.zeros((), jnp.int32), params=variables["params"],
        batch_stats=variables["batch_stats"], opt_state=tx.init(variables["params"]),
        ema=jax.tree.map(jnp.copy, dict(variables)) if ema else None,
    )  # fmt: skip


def step_key(seed: int, step: Array) -> Key:
    """Returns the key of one step's augmentation: stateless, so a resumed run draws the same."""
    return jax.random.fold_in(jax.random.key(seed), step)


def cross_entropy(
    logits: Float[Array, "b k"], labels: Array, smoothing: float = 0.0
) -> Float[Array, " b"]:
    """Returns each example's cross-entropy in float32, with the labels smoothed."""
    targets = jax.nn.one_hot(labels, logits.shape[-1])
    losses: Array = optax.softmax_cross_entropy(
        logits.astype(jnp.float32), optax.smooth_labels(targets, smoothing)
    )
    return losses


def binary_cross_entropy(
    logits: Float[Array, "b k"], labels: Float[Array, "b k"], smoothing: float = 0.0
) -> Float[Array, " b"]:
    """Returns each example's mean over its known labels, in float32.

    Args:
      logits: of the labels.
      labels: 1 if present, 0 if not, NaN if unknown: such a label costs nothing.
      smoothing: moves labels to 1/2.
    """
    targets = (1 - smoothing) * jnp.nan_to_num(labels) + smoothing / 2
    losses = optax.sigmoid_binary_cross_entropy(logits.astype(jnp.float32), targets)
    return _mean_known(losses, labels)


def squared_error(
    told: Float[Array, "b k"], true: Float[Array, "b k"], deviation: float
) -> Float[Array, " b"]:
    """Returns each example's squared error, in squares of the numbers' deviation, in float32."""
    return jnp.mean(((told.astype(jnp.float32) - true) / deviation) ** 2, axis=-1)


def example_losses(
    model: nn.Module, outputs: Outputs, labels: Array, smoothing: float = 0.0
) -> Float[Array, " b"]:
    """Returns the loss of each example; ABN adds that of its attention branch.

    Args:
      model: says by its `loss` which it is. One sigmoid output for two classes is the cross-entropy
        of its two logits, which is the same number.
      outputs: of the model.
      labels: of the batch.
      smoothing: of the labels.
    """
    kind = kind_of(model)

    def loss(logits: Array) -> Array:
        if kind == "several":
            return binary_cross_entropy(logits, labels, smoothing)
        if kind == "number":
            return squared_error(logits, labels, model.number[1])
        return cross_entropy(logits, labels, smoothing)

    branch = outputs.attention_logits
    return loss(outputs.logits) + (0 if branch is None else loss(branch))


def shown(kind: str, logits: Float[Array, "b k"], labels: Array) -> dict[str, Array]:
    """Returns what progress is told by, one value per example: hits, or how far off it is."""
    if kind == "several":
        return {"label_accuracy": _mean_known((logits >= 0) == (labels > 0), labels)}
    if kind == "number":
        return {"mae": jnp.mean(jnp.abs(logits - labels), axis=-1)}
    return {"correct": jnp.argmax(logits, axis=-1) == labels}


def _mean_known(values: Array, labels: Float[Array, "b k"]) -> Float[Array, " b"]:
    """Returns each row's mean over the labels that are known; 0 where none is."""
    known = ~jnp.isnan(labels)
    return jnp.where(known, values, 0).sum(axis=-1) / jnp.maximum(known.sum(axis=-1), 1)


def make_train_step(
    model: nn.Module, tx: optax.GradientTransformation, load: Load, *, seed: int,
    smoothing: float = 0.0, accumulate: int = 1, ema_decay: float = 0.0, freeze: str = "",
) -> Callable[..., tuple[TrainState, Sums]]:  # fmt: skip
    """Returns `train_step(state, resident, batch, *, axis_name) -> (state, sums)`.

    Args:
      model: a `Classifier`.
      tx: the optimiser.
      load: `Pipeline.load`; gathers, augments and normalises inside the step.
      seed: of the augmentation.
      smoothing: of the labels.
      accumulate: microbatches that one device's rows are cut into, to save memory.
      ema_decay: of the running mean of the weights; used if the state has one.
      freeze: `config.optim.freeze`; no gradient is computed of what it matches.
    """

    def loss_of(params: Any, batch_stats: Any, batch: Batch) -> tuple[Array, Any]:
        variables = {"params": held(params, freeze), "batch_stats": batch_stats}
        outputs, updated = model.apply(
            variables, batch["image"], train=True, mutable=["batch_stats"]
        )
        losses = example_losses(model, outputs, batch["label"], smoothing)
        rows = shown(kind_of(model), outputs.logits, batch["label"]) | {"loss": losses}
        sums = {name: row.sum() for name, row in rows.items()}
        sums["count"] = jnp.float32(losses.size)
        return losses.mean(), (updated.get("batch_stats", {}), sums)

    def train_step(
        state: TrainState, resident: Any, batch: Any, *, axis_name: str
    ) -> tuple[TrainState, Sums]:
        batch = load(resident, batch, step_key(seed, state.step))
        gradient_of = partial(_gradient, jax.grad(loss_of, has_aux=True), accumulate=accumulate)
        grads, batch_stats, sums = gradient_of(state.params, state.batch_stats, batch)
        grads, batch_stats = jax.lax.pmean((grads, batch_stats), axis_name)
        sums = jax.lax.psum(sums, axis_name) | _gradient_norms(grads, state.params)
        updates, opt_state = tx.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        new = replace(
            state, step=state.step + 1, params=params, batch_stats=batch_stats, opt_state=opt_state
        )
        return _average(new, ema_decay), sums

    return train_step


def _gradient_norms(grads: Any, params: Any) -> Sums:
    """Returns the norm of the gradient, and of FIN's relative to its weights: does FIN train?"""
    norms = {"grad_norm": optax.tree.norm(grads)}
    if "fin" in params.get("head", {}):
        fin = [optax.tree.norm(tree["head"]["fin"]) for tree in (grads, params)]
        norms["fin_gradient"] = fin[0] / jnp.maximum(fin[1], 1e-30)
    return norms


def _gradient(
    gradient_of: Callable[..., Any], params: Any, batch_stats: Any, batch: Batch, *, accumulate: int
) -> tuple[Any, Any, Sums]:
    """Returns gradient, statistics and sums of a batch, computed in `accumulate` pieces in turn."""
    if accumulate == 1:
        grads, (batch_stats, sums) = gradient_of(params, batch_stats, batch)
        return grads, batch_stats, sums

    def add(carry: tuple[Any, Any], piece: Batch) -> tuple[tuple[Any, Any], Sums]:
        total, batch_stats = carry
        grads, (batch_stats, sums) = gradient_of(params, batch_stats, piece)
        return (jax.tree.map(jnp.add, total, grads), batch_stats), sums

    pieces = {k: v.reshape(accumulate, -1, *v.shape[1:]) for k, v in batch.items()}
    start = (jax.tree.map(jnp.zeros_like, params), batch_stats)
    (grads, batch_stats), sums = jax.lax.scan(add, start, pieces)
    grads = jax.tree.map(lambda g: g / accumulate, grads)
    return grads, batch_stats, jax.tree.map(lambda s: s.sum(axis=0), sums)


def _average(state: TrainState, decay: float) -> TrainState:
    if state.ema is None:
        return state
    live = {"params": state.params, "batch_stats": state.batch_stats}
    return replace(state, ema=optax.incremental_update(live, state.ema, 1 - decay))
