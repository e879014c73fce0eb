"""Exact evaluation: pad, mask, sum over devices, divide once."""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array
from ml_collections import ConfigDict

from lficam_jax.data import Pipeline, denormalise
from lficam_jax.data.pipeline import Load
from lficam_jax.devices.parallel import replicate, spmd
from lficam_jax.explaining.render import contact_sheet, overlay
from lficam_jax.methods import asks, maps_of
from lficam_jax.metrics import answers, importance, localisation
from lficam_jax.models.answers import kind_of
from lficam_jax.models.classifier import predict
from lficam_jax.models.geometry import Places, places
from lficam_jax.structs import Batch, Outputs, Sums, Variables
from lficam_jax.training.steps import example_losses

DRAWN = 16  # images on the picture for TensorBoard


def make_eval_step(model: nn.Module, load: Load, align: str = "centres") -> Callable[..., Sums]:
    """Returns `eval_step(variables, resident, batch, *, axis_name) -> sums`, for `parallel.spmd`.

    `sums` holds, over the valid rows: `count loss`, of classes `correct top5 confusion`, with a map
    also `constant_maps`, with FIN `effective_channels correlation_with_mean`, and with object masks
    `masked pointing_hits energy`, and `other_hits` if the data ask about one of two objects;
    `align` says where maps lie on the image (`geometry.places`). Of two classes, several labels and
    numbers it also holds all rows, `told label valid`, of all devices: their measures are no sums.
    """
    kind = kind_of(model)

    def eval_step(variables: Variables, resident: Any, batch: Any, *, axis_name: str) -> Sums:
        batch = load(resident, batch, jax.random.key(0))
        outputs = predict(model, variables, batch["image"])
        rows = {"count": jnp.ones(batch["valid"].shape, jnp.float32)}
        rows["loss"] = _losses(model, outputs, batch["label"])
        if kind == "class":
            rows |= _class_rows(outputs.logits, batch["label"])
        lie = places(model, batch["image"].shape[1:3], align)
        rows |= _map_rows(outputs, lie, batch, _asked_map(model, variables, batch))
        sums = {name: jnp.sum(jnp.where(batch["valid"], row, 0)) for name, row in rows.items()}
        if kind == "class":
            sums["confusion"] = _confusion(outputs.logits, batch)
        reduced: Sums = jax.lax.psum(sums, axis_name)
        if kind != "class" or outputs.logits.shape[-1] == 2:
            each = {"said": outputs.logits.astype(jnp.float32), "label": batch["label"]}
            each["valid"] = batch["valid"]
            reduced |= jax.lax.all_gather(each, axis_name, tiled=True)
        return reduced

    return eval_step


class Evaluation:
    """One split, compiled once, to be measured and drawn again and again.

    Args:
      model: the network.
      pipeline: an evaluation split.
      config: says how to map over devices (`parallel.mode`) and where maps lie (`explain.align`).
    """

    def __init__(self, model: nn.Module, pipeline: Pipeline, config: ConfigDict) -> None:
        mode, align = config.parallel.mode, config.explain.align
        self._model, self._pipeline, self._align = model, pipeline, align
        self._step = spmd(make_eval_step(model, pipeline.load, align), mode)
        self._resident = replicate(dict(pipeline.resident), mode)

    def measure(self, variables: Variables) -> dict[str, Any]:
        """Returns the measures of `evaluate`; `variables` are replicated."""
        kind = kind_of(self._model)
        return evaluate(self._step, variables, self._resident, self._pipeline, kind)

    def draw(self, variables: Variables) -> np.ndarray | None:
        """Draws the maps of the split's first images as one picture; None if the head has none."""
        attention = self._attention(jax.device_get(dict(variables)), self._sample)
        if attention is None:
            return None
        pictures = denormalise(self._sample, self._pipeline.dataset)
        place = places(self._model, pictures.shape[1:3], self._align).get(attention.shape[1:])
        return contact_sheet([
            overlay(p, m, place=place)
            for p, m in zip(pictures, np.asarray(attention), strict=True)
        ])  # fmt: skip

    @cached_property
    def _sample(self) -> np.ndarray:
        rows = {k: v[:DRAWN] for k, v in next(self._pipeline.batches(0)).items()}
        load = jax.jit(self._pipeline.load)
        batch = jax.device_get(load(dict(self._pipeline.resident), rows, jax.random.key(0)))
        images: np.ndarray = batch["image"][batch["valid"]]
        return images

    @cached_property
    def _attention(self) -> Callable[..., Any]:
        return jax.jit(lambda variables, images: predict(self._model, variables, images).attention)


def evaluate(
    eval_step: Callable[..., Sums], variables: Variables, resident: Any, pipeline: Pipeline,
    kind: str = "class",
) -> dict[str, Any]:  # fmt: skip
    """Runs one pass over a split.

    Args:
      eval_step: mapped by `parallel.spmd`.
      variables: replicated.
      resident: the pipeline's arrays, replicated.
      pipeline: an evaluation split.
      kind: what the network answers, `answers.kind_of`.

    Returns:
      Fractions, not percent: `loss examples classes`; of classes `accuracy top5_accuracy` (of two,
      `auroc` for the second) and in the order of `classes` `per_class_accuracy` and `confusion`
      (rows are the true classes); of several labels what `metrics.answers.of_labels` says, of a
      number `of_numbers`; and what the model's map and the data allow: `pointing_game energy
      asked_over_other constant_maps effective_channels correlation_with_mean`.
    """
    total: dict[str, Any] = {}
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    for batch in pipeline.batches(0):
        sums = jax.device_get(eval_step(variables, resident, batch))
        if "said" in sums:
            said, label, valid = (sums.pop(name) for name in ("said", "label", "valid"))
            parts.append((said[valid], label[valid]))
        # float64 on the host: float32 stops counting single examples at 16.7 million
        total = {k: np.float64(v) + total.get(k, 0) for k, v in sums.items()}
    result = summarise(total, pipeline.classes)
    if not parts:
        return result
    said, label = (np.concatenate(part) for part in zip(*parts, strict=True))
    if kind == "several":
        return answers.of_labels(said, label) | result
    if kind == "number":
        return answers.of_numbers(said[:, 0], label[:, 0]) | result
    return result | {"auroc": answers.auroc(said[:, 1] - said[:, 0], label == 1)}


def summarise(total: Mapping[str, np.ndarray], classes: tuple[str, ...]) -> dict[str, Any]:
    """Divides the sums of a whole split by its count; a class without examples has no accuracy."""
    count = float(total["count"])
    result: dict[str, Any] = {
        "loss": float(total["loss"]) / count, "examples": round(count), "classes": list(classes),
    }  # fmt: skip
    if "confusion" in total:
        result = {"accuracy": float(total["correct"]) / count} | result
        result |= _per_class(np.asarray(total["confusion"]))
        if len(classes) > 5:
            result["top5_accuracy"] = float(total["top5"]) / count
    for name in ("effective_channels", "correlation_with_mean"):
        if name in total:
            result[name] = float(total[name]) / count
    if "constant_maps" in total:
        result["constant_maps"] = round(float(total["constant_maps"]))
    if "masked" in total:
        masked = max(1.0, float(total["masked"]))
        result["pointing_game"] = float(total["pointing_hits"]) / masked
        result["energy"] = float(total["energy"]) / masked
    if "other_hits" in total and (on_either := total["pointing_hits"] + total["other_hits"]):
        result["asked_over_other"] = float(total["pointing_hits"] / on_either)
    return result


def _losses(model: nn.Module, outputs: Outputs, labels: Array) -> Array:
    """Returns the losses of what is predicted, without ABN's other branch."""
    return example_losses(model, outputs.replace(attention_logits=None), labels)  # type: ignore[attr-defined]  # flax adds it


def _per_class(confusion: np.ndarray) -> dict[str, Any]:
    shown = zip(confusion.diagonal().tolist(), confusion.sum(axis=1).tolist(), strict=True)
    return {
        "per_class_accuracy": [hits / n if n else None for hits, n in shown],
        "confusion": confusion.astype(int).tolist(),
    }


def _class_rows(logits: Array, labels: Array) -> dict[str, Array]:
    true_logit = jnp.take_along_axis(logits, labels[:, None], axis=1)
    rank = jnp.sum(logits > true_logit, axis=1)
    return {
        "correct": jnp.argmax(logits, axis=1) == labels,
        "top5": rank < 5,
    }


def _asked_map(model: nn.Module, variables: Variables, batch: Batch) -> Array | None:
    """Returns the model's maps of what the data ask about, where that is not the map as it is."""
    if "asked" not in batch or not asks("own", model):
        return None
    return maps_of("own", model, variables, batch["image"], batch["asked"])


def _map_rows(
    outputs: Outputs, lie: Places, batch: Batch, of_asked: Array | None
) -> dict[str, Array]:
    if outputs.attention is None:
        return {}
    rows = {"constant_maps": localisation.constant(outputs.attention)}
    if outputs.importance is not None:
        rows["effective_channels"] = importance.effective_channels(outputs.importance)
        rows["correlation_with_mean"] = importance.correlation_with_mean(
            outputs.attention, outputs.features
        )
    if "mask" in batch:
        seen = batch["mask"].any(axis=(1, 2))
        rows["masked"] = seen
        found = outputs.attention if of_asked is None else of_asked
        place = lie.get(found.shape[1:])
        rows["pointing_hits"] = seen & localisation.pointing_hit(found, batch["mask"], place)
        rows["energy"] = seen * localisation.energy(found, batch["mask"], place)
    if "other_mask" in batch:
        rows["other_hits"] = localisation.pointing_hit(found, batch["other_mask"], place)
    return rows


def _confusion(logits: Array, batch: Batch) -> Array:
    classes = logits.shape[-1]
    cell = batch["label"] * classes + jnp.argmax(logits, axis=1)
    counts = jnp.zeros(classes * classes, jnp.int32).at[cell].add(batch["valid"].astype(jnp.int32))
    return counts.reshape(classes, classes)
