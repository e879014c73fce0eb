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

from lficam_jax import methods as maps
from lficam_jax.data import dataset_info, find_images, fit_image, normalise, open_source, read_image
from lficam_jax.data.datasets import Dataset
from lficam_jax.data.sample import Sample
from lficam_jax.errors import UserError
from lficam_jax.explaining import render
from lficam_jax.explaining.explanation import Explanation, by_image
from lficam_jax.explaining.saving import save
from lficam_jax.structs import Variables
from lficam_jax.workdir.results import write_result


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
    count, k = probabilities.shape
    if asked is not None and not ((0 <= asked) & (asked < k)).all():
        raise UserError(f"class_index={class_index} must be in 0..{k - 1}")
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
    about = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    asked = probabilities.argmax(axis=1) if asked is None else asked
    return [
        Explanation(
            **about[i], method=name, map=drawn[name][i],
            class_index=None if name in maps.CLASSLESS else int(asked[i]),
        )
        for i in range(count) for name in (wanted or drawn)
    ]  # fmt: skip


def run(
    config: ConfigDict,
    workdir: str | Path,
    *,
    model: nn.Module,
    variables: Variables,
    step: int,
    images: Sequence[str] = (),
    methods: Sequence[str] = (),
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
      methods: whose maps to draw side by side; empty: the default of `explain`.

    Returns:
      The exit code: 0, or 1 if some of the files could not be read (they are named).

    Raises:
      UserError: if there is nothing to explain, or the output cannot be written.
    """
    info = dataset_info(config.data)
    pixels, about, skipped = _read_files(images, info) if images else _read_split(config)
    about.setdefault("classes", _class_names(config, info))
    inputs = normalise(pixels, info)
    found = explain(model, variables, inputs, method=methods or None, pictures=pixels, **about)
    details = {
        "model": f"{config.model.backbone}-{config.model.depth} with {config.model.head} head",
        "data": "files of your own" if images else f"{info.name}, {config.explain.split} split",
        "step": step,
        "maps": ", ".join(dict.fromkeys(item.method for item in found)),
    }
    folder = Path(workdir) / "explanations" / (f"{step}-images" if images else f"{step}")
    title = "Where the model looked"
    folder = save(found, folder, title=title, details=details, skipped=skipped)
    result = {**_summary(found), "skipped": dict(skipped), "step": step, "folder": str(folder)}
    write_result(workdir, "explain", result)
    _print(by_image(found) if images else (), skipped, result)
    return 1 if skipped else 0


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


def _read_split(
    config: ConfigDict,
) -> tuple[UInt8[np.ndarray, "n y x 3"], dict[str, Any], list[tuple[str, str]]]:
    split = config.explain.split
    sample = Sample(config.data, split, config.explain.limit)
    (batch,) = sample.batches(len(sample))
    about = {
        "labels": batch["label"].tolist(),
        "ids": batch["id"].tolist(),
        "names": [f"{split} {i}" for i in batch["id"]],
        "masks": list(batch["mask"]) if "mask" in batch else None,
        "classes": sample.classes,
    }
    return batch["image"], about, []


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
    """Returns the count and, where labels and masks are known, the shares of hits among them.

    With several methods, `pointing_game` is of the first; `methods` tells it of each.
    """
    images = by_image(found)
    result = {"images": len(images)} | _share("accuracy", [first.correct for first, *_ in images])
    result["methods"] = {}
    for same in zip(*images, strict=True):
        hits = _share("pointing_game", [item.peak_on_object for item in same])
        constant = sum(not np.ptp(item.map) > 0 for item in same)  # or NaN
        result["methods"][same[0].method] = hits | {"constant_maps": constant}
        result = hits | result
    return result


def _share(name: str, verdicts: Sequence[bool | None]) -> dict[str, float]:
    known = [verdict for verdict in verdicts if verdict is not None]
    return {name: float(np.mean(known))} if known else {}


def _print(
    shown: Sequence[Sequence[Explanation]],
    skipped: Sequence[tuple[str, str]],
    result: dict[str, Any],
) -> None:
    for item, *_ in shown:
        (name, share), *_ = item.top(1)
        print(f"{item.name}: {name} ({100 * share:.1f} %)")
    for name, why in skipped:
        print(f"skipped {name}: {why}")
    print(f"images explained  {result['images']}" + (f", {len(skipped)} skipped" * bool(skipped)))
    if "accuracy" in result:
        print(f"accuracy of them  {100 * result['accuracy']:.1f} %")
    several = len(result["methods"]) > 1
    for method, values in result["methods"].items():
        whose = f"  {method}" if several else ""
        if "pointing_game" in values:
            print(f"peak on object    {100 * values['pointing_game']:.1f} %{whose}")
        if values["constant_maps"]:
            print(f"constant maps     {values['constant_maps']}{whose}")
    print(f"page              {result['folder']}/index.html")
