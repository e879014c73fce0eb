"""Where the model looked: one `Explanation` per image, and `--mode explain`."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8
from ml_collections import ConfigDict

from lficam_jax import render, report
from lficam_jax.config import nearest
from lficam_jax.data import dataset_info, find_images, fit_image, normalise, open_source, read_image
from lficam_jax.data.datasets import Dataset
from lficam_jax.data.transforms import fit_box, resample
from lficam_jax.errors import UserError
from lficam_jax.explanation import Explanation
from lficam_jax.steps import predict
from lficam_jax.structs import Variables
from lficam_jax.writer import write_result

# (model, variables, images [b y x c]) -> logits [b k], maps [b h w] in [0, 1]; traced under jit.
Method = Callable[[nn.Module, Variables, Array], tuple[Array, Array]]


def own_map(
    model: nn.Module, variables: Variables, images: Float[Array, "b y x c"]
) -> tuple[Float[Array, "b k"], Float[Array, "b h w"]]:
    """Returns the logits and the map that the model draws itself, in one forward pass."""
    outputs = predict(model, variables, images)
    if outputs.attention is None:
        raise UserError(
            "this model's head draws no map of its own; train one that does, with "
            "--config.model.head=lfi"
        )
    return outputs.logits, outputs.attention


METHODS: dict[str, Method] = {"own": own_map}


def explain(
    model: nn.Module,
    variables: Variables,
    images: Float[np.ndarray, "n y x c"],
    *,
    method: str = "own",
    pictures: Sequence[UInt8[np.ndarray, "Y X 3"]] | None = None,
    labels: Sequence[int | None] | None = None,
    masks: Sequence[np.ndarray | None] | None = None,
    ids: Sequence[Any] | None = None,
    names: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    batch_size: int = 64,
) -> list[Explanation]:
    """Explains images.

    Args:
      model: a `Classifier`.
      variables: its weights and statistics.
      images: as fed to the network, normalised.
      method: how the map is made, a key of `METHODS`.
      pictures: what to draw the maps on; default: each image, its range stretched to 0..255.
      labels: indices of the true classes; None where unknown.
      masks: bool, the object's pixels on the picture; None where unknown.
      ids: name the images for ever; default: their position.
      names: what people read; default: the ids.
      classes: class names in label order; default: the indices.
      batch_size: images in one forward pass. The last batch is padded, so one program serves all.

    Raises:
      UserError: for an unknown method, or one that does not fit the model.
    """
    if method not in METHODS:
        raise UserError(f"method {method!r} is unknown{nearest(method, tuple(METHODS))}")
    draw = jax.jit(partial(METHODS[method], model))
    probabilities, maps = _in_batches(draw, variables, np.asarray(images), batch_size)
    count, k = probabilities.shape
    ids = [str(i) for i in (range(count) if ids is None else ids)]
    columns = {
        "id": ids,
        "name": ids if names is None else names,
        "picture": [render.stretch(image) for image in images] if pictures is None else pictures,
        "map": maps,
        "probabilities": probabilities,
        "classes": [tuple(map(str, range(k))) if classes is None else tuple(classes)] * count,
        "label": [None] * count if labels is None else labels,
        "mask": [None] * count if masks is None else masks,
        "method": [method] * count,
    }
    rows = zip(*columns.values(), strict=True)
    return [Explanation(**dict(zip(columns, row, strict=True))) for row in rows]


def run(
    config: ConfigDict,
    workdir: str | Path,
    *,
    model: nn.Module,
    variables: Variables,
    step: int,
    images: Sequence[str] = (),
) -> int:
    """Explains a sample of a split, or the user's own files, and says where to look.

    Writes `<workdir>/explanations/<step>/` (own files: `<step>-images/`) and
    `results/explain.json`.

    Args:
      config: of the run.
      workdir: of the run.
      model: the network.
      variables: its weights, as of `step`.
      step: the checkpoint's.
      images: files, directories or globs; empty: `config.explain.limit` examples of
        `config.explain.split`, spread evenly over it.

    Returns:
      The exit code: 0, or 1 if some of the files could not be read (they are named).

    Raises:
      UserError: if there is nothing to explain, or the output cannot be written.
    """
    info = dataset_info(config.data)
    pixels, about, skipped = _read_files(images, info) if images else _read_split(config, info)
    about.setdefault("classes", _class_names(config, info))
    found = explain(model, variables, normalise(pixels, info), pictures=pixels, **about)
    details = {
        "model": f"{config.model.backbone}-{config.model.depth} with {config.model.head} head",
        "data": "files of your own" if images else f"{info.name}, {config.explain.split} split",
        "step": step,
    }
    folder = Path(workdir) / "explanations" / (f"{step}-images" if images else f"{step}")
    title = "Where the model looked"
    folder = report.save(found, folder, title=title, details=details, skipped=skipped)
    result = {**_summary(found), "skipped": dict(skipped), "step": step, "folder": str(folder)}
    write_result(workdir, "explain", result)
    _print(found, skipped, result, shown=len(found) if images else 0)
    return 1 if skipped else 0


def _in_batches(
    draw: Callable[[Variables, Array], tuple[Array, Array]],
    variables: Variables,
    images: Float[np.ndarray, "n y x c"],
    batch_size: int,
) -> tuple[Float[np.ndarray, "n k"], Float[np.ndarray, "n h w"]]:
    size = min(batch_size, len(images))
    variables, parts = jax.device_put(variables), []
    for start in range(0, len(images), size):
        batch = images[start : start + size]
        padding = [(0, size - len(batch))] + [(0, 0)] * (images.ndim - 1)
        logits, maps = draw(variables, np.pad(batch, padding))
        pair = jax.nn.softmax(logits.astype(jnp.float32)), maps.astype(jnp.float32)
        parts.append([np.asarray(array)[: len(batch)] for array in pair])
    probabilities, maps = (np.concatenate(part) for part in zip(*parts, strict=True))
    return probabilities, maps


def _read_split(
    config: ConfigDict, info: Dataset
) -> tuple[UInt8[np.ndarray, "n y x 3"], dict[str, Any], list[tuple[str, str]]]:
    """Reads examples spread evenly over the split: a folder's split is sorted by class."""
    split = config.explain.split
    source = open_source(config.data, split)
    count = min(config.explain.limit, len(source))
    examples = [source[i] for i in np.arange(count) * len(source) // count]
    about = {
        "labels": [int(example["label"]) for example in examples],
        "ids": [example["id"] for example in examples],
        "names": [f"{split} {example['id']}" for example in examples],
        "masks": [_fit_mask(example.get("mask"), info) for example in examples],
        "classes": source.classes,
    }
    return np.stack([fit_image(example["image"], info) for example in examples]), about, []


def _fit_mask(mask: np.ndarray | None, info: Dataset) -> np.ndarray | None:
    if mask is None:
        return None
    box = fit_box(*mask.shape[:2], info)
    return resample(mask, box, info.image_size, nearest=True)[..., 0] > 0


def _read_files(
    patterns: Sequence[str], info: Dataset
) -> tuple[UInt8[np.ndarray, "n y x 3"], dict[str, Any], list[tuple[str, str]]]:
    paths, pixels, skipped = find_images(patterns), {}, []
    for path in paths:
        try:
            pixels[path] = fit_image(read_image(path), info)
        except UserError as error:
            name = _legible(path)
            skipped.append((name, _legible(error).removeprefix(f"{name} ")))
    if not pixels:
        lines = "\n  ".join(f"{name}: {why}" for name, why in skipped)
        raise UserError(f"none of the {len(paths)} files among --images can be read:\n  {lines}")
    names = [_legible(path) for path in pixels]
    about = {"ids": [Path(name).name for name in names], "names": names}
    return np.stack(list(pixels.values())), about, skipped


def _legible(text: object) -> str:
    """Returns text that any file and terminal takes: file names may hold any bytes."""
    return str(text).encode(errors="backslashreplace").decode()


def _class_names(config: ConfigDict, info: Dataset) -> tuple[str, ...] | None:
    """Returns the names; where only the prepared files know them and are absent, None."""
    if info.classes:
        return info.classes
    try:
        return tuple(open_source(config.data, config.explain.split).classes)
    except UserError:
        return None


def _summary(found: Sequence[Explanation]) -> dict[str, Any]:
    """Returns the count and, where labels and masks are known, the shares of hits among them."""
    verdicts = {
        "accuracy": [item.correct for item in found],
        "pointing_game": [item.peak_on_object for item in found],
    }
    known = {name: [v for v in values if v is not None] for name, values in verdicts.items()}
    return {"images": len(found)} | {name: float(np.mean(v)) for name, v in known.items() if v}


def _print(
    found: Sequence[Explanation],
    skipped: Sequence[tuple[str, str]],
    result: dict[str, Any],
    shown: int,
) -> None:
    for item in found[:shown]:
        (name, share), *_ = item.top(1)
        print(f"{item.name}: {name} ({100 * share:.1f} %)")
    for name, why in skipped:
        print(f"skipped {name}: {why}")
    print(f"images explained  {result['images']}" + (f", {len(skipped)} skipped" * bool(skipped)))
    for key, label in (("accuracy", "accuracy of them"), ("pointing_game", "peak on object")):
        if key in result:
            print(f"{label:<18}{100 * result[key]:.1f} %")
    print(f"page              {result['folder']}/index.html")
