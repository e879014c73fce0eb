"""What a network answers (`config.model.loss`): a class, several labels, or a number."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lficam_jax.config import CHOICES
from lficam_jax.errors import UserError, brief, check_word, is_number


def kind_of(model: Any) -> str:
    """Returns what a network answers: `class`, `several` labels, or a `number`.

    `sigmoid` with one output is a class, one of two: its logits are the two sides of the output.
    Networks that `create_model` did not build answer a class.
    """
    loss = getattr(model, "loss", "softmax")
    if loss == "sigmoid" and getattr(model, "num_classes", 0) > 1:
        return "several"
    return "number" if loss == "regression" else "class"


def as_logits(
    loss: str, outputs: Float[Array, "b k"], number: tuple[float, float]
) -> Float[Array, "b n"]:
    """Returns the logits that outputs of the linear layer stand for.

    Two classes of one output z have the logits `(-z / 2, z / 2)`, whose softmax is
    `(1 - sigmoid(z), sigmoid(z))`: so they are trained, explained and measured like any classes.
    A number is `mean + deviation * z`, in its own unit.

    >>> as_logits("sigmoid", jnp.array([[4.0]]), (0.0, 1.0))
    Array([[-2.,  2.]], dtype=float32)
    >>> as_logits("regression", jnp.array([[0.5]]), (30.0, 10.0))
    Array([[35.]], dtype=float32)
    """
    if loss == "regression":
        mean, deviation = number
        return mean + deviation * outputs
    if loss == "sigmoid" and outputs.shape[-1] == 1:
        return jnp.concatenate([-outputs / 2, outputs / 2], axis=-1)
    return outputs


def told(kind: str, logits: Float[Array, "b k"]) -> Float[Array, "b k"]:
    """Returns what people are told, in float32.

    Args:
      kind: `kind_of` the network.
      logits: of `Outputs`.

    Returns:
      Of a class the probabilities, which sum to 1; of several labels the probability of each; of a
      number the number.
    """
    logits = jnp.asarray(logits, jnp.float32)
    if kind == "number":
        return logits
    return jax.nn.sigmoid(logits) if kind == "several" else jax.nn.softmax(logits)


def check_answers(loss: Any, number: Any) -> tuple[float, float]:
    """Returns mean and deviation of the numbers to learn, checked like the name of the loss.

    Raises:
      UserError: for a loss that does not exist, or no mean and deviation.
    """
    check_word("loss", loss, CHOICES["model.loss"])
    pair = tuple(number) if isinstance(number, tuple | list) else ()
    if len(pair) != 2 or not all(map(is_number, pair)) or pair[1] <= 0:
        raise UserError(
            f"number must be mean and deviation of the numbers to learn, not {brief(number)}"
        )
    return float(pair[0]), float(pair[1])
