"""Where the model looked: one `Explanation` per image and method."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from lficam_jax import methods as maps
from lficam_jax.errors import UserError
from lficam_jax.explaining import render
from lficam_jax.explaining.explanation import Explanation
from lficam_jax.structs import Variables


def explain(
    model: nn.Module,
    variables: Variables,
    images: Float[np.ndarray, "n y x c"],
    *,
    method: str | Sequence[str] | None = None,
    class_index: int | Sequence[int] | None = None,
    pictures: Sequence[UInt8[np.ndarray, "Y X 3"]] | None = None,
    labels: Sequence[int | None] | None = None,
    masks: Sequence[np.ndarray | None] | None = None,
    ids: Sequence[Any] | None = None,
    names: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    batch_size: int = 64,
    chunk_size: int = maps.CHUNK_SIZE,
) -> list[Explanation]:
    """Explains images.

    Args:
      model: built by `create_model`.
      variables: its weights and statistics.
      images: as fed to the network, normalised.
      method: how the map is made, a key of `methods.METHODS`, or several. Default: `own` if the
        model draws a map of its own, else `grad_cam`.
      class_index: the class that the map is asked about, of all images or of each; default: the
        predicted one. Some methods ask no class (`methods.CLASSLESS`).
      pictures: what to draw the maps on; default: each image, its range stretched to 0..255.
      labels: indices of the true classes; None where unknown.
      masks: bool, the object's pixels on the picture; None where unknown.
      ids: name the images for ever; default: their position.
      names: what people read; default: the ids.
      classes: class names in label order; default: the indices.
      batch_size: images in one forward pass. The last batch is padded, so one program serves all.
      chunk_size: masked images in one forward pass of `score_cam` and `ablation_cam`.

    Returns:
      One explanation per image; with several methods one for each, those of an image together.

    Raises:
      UserError: for an unknown method or class, or a method that does not fit the model.

    Example:
      >>> from lficam_jax.models import create_model
      >>> images = np.random.default_rng(0).standard_normal((2, 16, 16, 3)).astype(np.float32)
      >>> model = create_model("cifar_resnet", 8, head="plain", num_classes=10)
      >>> variables = jax.jit(model.init)(jax.random.key(0), images)
      >>> e = explain(model, variables, images, method="grad_cam")
      >>> e[0].map.shape, e[0].overlay().size
      ((4, 4), (224, 224))
    """
    given = [method] if isinstance(method, str) else method or ()
    wanted = tuple(dict.fromkeys(given)) or None
    maps.check(*(wanted or ()))
    images = np.asarray(images)
    draw = jax.jit(partial(_draw, model, wanted, chunk_size))
    asked = None if class_index is None else np.broadcast_to(class_index, len(images))
    probabilities, drawn = _in_batches(draw, variables, images, asked, batch_size)
    if asked is None:
        asked = probabilities.argmax(axis=1)
    elif not ((0 <= asked) & (asked < probabilities.shape[1])).all():
        raise UserError(f"class_index={class_index} must be in 0..{probabilities.shape[1] - 1}")
    about = _about(
        images, probabilities, pictures=pictures, labels=labels, masks=masks, ids=ids, names=names,
        classes=classes,
    )  # fmt: skip
    return [
        Explanation(
            **about[i], method=name, map=drawn[name][i],
            class_index=None if name in maps.CLASSLESS else int(asked[i]),
        )
        for i in range(len(images)) for name in (wanted or drawn)
    ]  # fmt: skip


def _about(
    images: Float[np.ndarray, "n y x c"], probabilities: Float[np.ndarray, "n k"], *,
    pictures: Any, labels: Any, masks: Any, ids: Any, names: Any, classes: Any,
) -> list[dict[str, Any]]:  # fmt: skip
    """Returns what all explanations of an image share; the arguments are those of `explain`."""
    count, k = probabilities.shape
    ids = [str(i) for i in (range(count) if ids is None else ids)]
    columns = {
        "id": ids,
        "name": ids if names is None else names,
        "picture": [render.stretch(image) for image in images] if pictures is None else pictures,
        "probabilities": probabilities,
        "classes": [tuple(map(str, range(k))) if classes is None else tuple(classes)] * count,
        "label": [None] * count if labels is None else labels,
        "mask": [None] * count if masks is None else masks,
    }
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _draw(
    model: nn.Module, names: tuple[str, ...] | None, chunk_size: int,
    variables: Variables, images: Array, positions: Array, class_index: Array | None,
) -> tuple[Array, dict[str, Array]]:  # fmt: skip
    """Returns probabilities and the maps of each method, all from one cut of the network."""
    split = maps.split_model(model, variables, images)
    if names is None:
        names = ("grad_cam",) if split.attention is None else ("own",)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), positions)
    options = {"key": keys, "chunk_size": chunk_size}
    probabilities = jax.nn.softmax(split.logits.astype(jnp.float32))
    return probabilities, {n: maps.draw(n, split, class_index, **options) for n in names}


def _in_batches(
    draw: Callable[..., tuple[Array, dict[str, Array]]],
    variables: Variables,
    images: Float[np.ndarray, "n y x c"],
    class_index: np.ndarray | None,
    batch_size: int,
) -> tuple[Float[np.ndarray, "n k"], dict[str, Float[np.ndarray, "n h w"]]]:
    size = min(batch_size, len(images))
    variables, parts = jax.device_put(variables), []
    for start in range(0, len(images), size):
        # The last batch is filled up with repetitions of the last image.
        rows = np.minimum(np.arange(start, start + size), len(images) - 1)
        asked = None if class_index is None else class_index[rows]
        parts.append(jax.device_get(draw(variables, images[rows], rows, asked)))
    return jax.tree.map(lambda *arrays: np.concatenate(arrays)[: len(images)], *parts)
