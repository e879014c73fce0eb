"""Where the network looked: one `Explanation` per image, method and question."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Array

from lficam_jax import methods as maps
from lficam_jax.data import Dataset, Preprocess
from lficam_jax.errors import check_whole, check_word, legible, words
from lficam_jax.explaining.answer import true_values
from lficam_jax.explaining.asking import (
    asked_of,
    check_range,
    class_names,
    indices,
    names_of,
    of_network,
    options_asked,
)
from lficam_jax.explaining.explanation import Explanation
from lficam_jax.explaining.explanations import Explanations
from lficam_jax.explaining.inputs import Inputs, beside_and_images, read_inputs
from lficam_jax.explaining.look import BATCH, FUSIONS, Plan, Source, look
from lficam_jax.explaining.sources import source_of
from lficam_jax.methods.loops import CHUNK_SIZE
from lficam_jax.models.geometry import check_alignment


def explain(
    network: Any, *inputs: Any, method: str | Sequence[str] | None = None, target: Any = None,
    layer: Any = None, fuse: str = FUSIONS[0], reshape: Callable[[Array], Array] | None = None,
    attentions: Callable[[Array], Sequence[Array]] | None = None, layout: str = "",
    preprocess: Dataset | Preprocess | None = None, normalised: bool = False,
    classes: Sequence[str] = (), labels: Sequence[int | str | None] | None = None,
    names: Sequence[str] | None = None, batch_size: int = BATCH, chunk_size: int = CHUNK_SIZE,
    align: str = "centres", options: Mapping[str, Any] | None = None,
) -> Explanations:  # fmt: skip
    """Explains what a network of any framework, as evaluation runs it, says of images of any kind.

    `explain(model, variables, images)` of Flax Linen and `create_model`; `explain(model, images)`
    of NNX and Equinox; `explain((features, classify), images)` of functions: docs/your_network.md.

    Args:
      network: a module; or functions: images `[b y x c]` to features `[b h w d]`, these to answers.
      *inputs: variables or state, if they lie beside the module; images: path, folder, glob, PIL,
        array (one or a batch, channels last or first, uint8 or floats in 0..1), or a list of these.
      method: keys of `methods.METHODS`. Default: `own` if the network draws one, else `grad_cam`.
      target: class names or numbers, `lficam_jax.targets`, functions of the answers.
      layer: where it is cut, one or several: names of `layers`, submodules. Default: the last map.
      fuse: several layers become one at the image's size by `mean`, or `max` as in LayerCAM.
      reshape: the layer's output to `[b h w d]`, for tokens that are no grid of the image's shape.
      attentions: images to each block's weights `[b heads n n]`, if they cannot be read (rollout).
      layout: of its images: `NHWC`, `NCHW`, or `HWC`, `CHW` one at a time; default: as it can.
      preprocess: size, crop, mean, deviation: a `Preprocess`, or the `dataset` of a run.
      normalised: images are floats as the network is fed, `[n y x c]`; nothing is done to them.
      labels: true classes, names or numbers; a 0, 1 or NaN for each label; or numbers.
      classes, names: what people read, in order; default: the indices; file names or positions.
      batch_size, chunk_size: images, masked images in a forward pass; one program serves all.
      align: `centres`, each cell on the middle of what it looks at; `half_pixel`, as tiles.
      options: of methods, `{"samples": 4000}` of `rise`; each goes to those that have it.

    Returns:
      One explanation per image, method and target; those of an image together.

    Raises:
      UserError: for an unknown word, what does not fit the network, no images, answers of NaN.

    Example:
      >>> import jax, numpy as np, lficam_jax as lfi
      >>> model = lfi.create_model("cifar_resnet", 8, head="plain", num_classes=10)
      >>> images = np.random.default_rng(0).standard_normal((2, 16, 16, 3))
      >>> variables = jax.jit(model.init)(jax.random.key(0), images)
      >>> e = lfi.explain(model, variables, images, method="grad_cam", normalised=True)
      >>> e[0].map.shape, e[0].overlay().size
      ((4, 4), (224, 224))
    """
    maps.check(*(asked := words("method", method)))
    extra = options_asked(asked, options)
    check_alignment(align)
    check_word("fuse", fuse, FUSIONS)
    beside, images = beside_and_images("explain", inputs)
    read = read_inputs(images, preprocess, normalised=normalised)
    cut = {"layer": layer, "reshape": reshape, "attentions": attentions, "layout": layout}
    source, weights = source_of(network, beside, read.images.shape[1:], **cut)
    return explain_inputs(
        source, weights, read, asked, target=target, classes=classes, labels=labels, names=names,
        batch_size=batch_size, chunk_size=chunk_size, align=align, fuse=fuse, options=extra,
    )  # fmt: skip


def explain_inputs(
    source: Source, weights: Any, inputs: Inputs, methods: Sequence[str] = (), *,
    target: Any = None, classes: Sequence[str] = (), labels: Sequence[Any] | None = None,
    names: Sequence[str] | None = None, ids: Sequence[Any] | None = None,
    masks: Sequence[np.ndarray] | None = None, first: int = 0, batch_size: int = BATCH,
    chunk_size: int = CHUNK_SIZE, align: str = "centres", fuse: str = FUSIONS[0],
    options: tuple[tuple[str, Any], ...] = (),
) -> Explanations:  # fmt: skip
    """Explains images that are ready; the arguments are those of `explain`, and:

    Args:
      source: the network, cut.
      weights: of it.
      inputs: made by `inputs.read_inputs`.
      methods: keys of `methods.METHODS`; none: the default.
      target, classes, labels, names: as for `explain`.
      ids: name the images for ever, and their files; default: file names.
      masks: bool, the object's pixels on the image.
      first: place of the first image among all.
      batch_size, chunk_size, align, fuse: as for `explain`.
      options: of methods, of `asking.options_asked`.
    """
    for what, size in (("batch_size", batch_size), ("chunk_size", chunk_size)):
        check_whole(what, size)
    count, given = len(inputs.images), class_names(classes)
    asked, kind = asked_of(target, given, count), getattr(source, "kind", "class")
    truth: list[Any] = [None] * count
    if kind == "class":
        truth = indices("labels", labels, given, count) or truth
    shown = inputs.names if names is None else names_of(names, count)
    if methods:
        maps.check_asked(target, methods, source)
    plan = Plan(source, tuple(methods) or None, asked.top, chunk_size, fuse, align, options)
    seen = look(plan, weights, inputs.images, asked.targets, batch_size=batch_size, first=first)
    maps.check_asked(target, seen.maps, source)  # the default is the network's to say
    known = of_network(given, seen.share.shape[1])
    if kind == "class":
        check_range("labels", truth, len(known))
    else:
        truth = true_values(labels, kind, known, count)
    lie = source.lie(weights, inputs.images.shape[1:], align)
    where = lie[0] if len(lie) == 1 else {}
    named = inputs.ids if ids is None else ids
    items = [
        Explanation(
            id=legible(named[i]), name=legible(shown[i]), method=name,
            picture=inputs.pictures[i], map=seen.maps[name][i, j], probabilities=seen.share[i],
            classes=known, label=truth[i], mask=None if masks is None else masks[i],
            class_index=asked.class_of(j, i, seen.chosen) if maps.asks(name, source) else None,
            asked=asked.title(j, i, known) if maps.asks(name, source) else "",
            notes=inputs.notes[i] if inputs.notes else (),
            box=inputs.boxes[i] if inputs.boxes else None,
            place=maps.place_of(name, seen.maps[name].shape[2:], where), kind=kind,
            source=inputs.sources[i] if inputs.sources else None,
        )
        for i in range(count) for name in seen.maps for j in range(seen.maps[name].shape[1])
    ]  # fmt: skip
    details = {"maps": ", ".join(seen.maps), "align": align}
    details |= {"options": ", ".join(f"{k}={v}" for k, v in options)} if options else {}
    return Explanations(items, details=details, skipped=inputs.skipped)
