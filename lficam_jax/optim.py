"""Learning-rate schedules and the chain of gradient transformations."""

import jax
import optax
from ml_collections import ConfigDict

from lficam_jax.config import duration


def schedule(optim: ConfigDict, steps_per_epoch: int, total_steps: int) -> optax.Schedule:
    """Returns step -> learning rate: constant, cosine or multistep, after an optional warm-up."""
    warmup = duration(optim, "warmup", steps_per_epoch)
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


def optimizer(optim: ConfigDict, learning_rate: optax.Schedule) -> optax.GradientTransformation:
    """Returns clip -> weight decay -> SGD or AdamW.

    SGD's decay is torch's: added to the gradient before the momentum, on all parameters unless
    `weight_decay_on="kernels"`. AdamW's is decoupled, as it is defined.
    """
    mask = _kernels if optim.weight_decay_on == "kernels" else None
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
    return optax.chain(*chain)


def _kernels(params: optax.Params) -> optax.Params:
    """Marks the weights of convolutions and of the classifier: what has two axes or more."""
    return jax.tree.map(lambda leaf: leaf.ndim > 1, params)
