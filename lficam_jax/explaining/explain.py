"""Where the model looked: one `Explanation` per image and method."""

import os
from collections.abc import Callable, Mapping, Sequence, Set
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from lficam_jax import methods as maps
from lficam_jax.data import Dataset, Preprocess
from lficam_jax.errors import (
    UserError,
    brief,
    check_whole,
    legible,
    nearest,
    words,
)
from lficam_jax.explaining.explanation import Explanation
from lficam_jax.explaining.explanations import Explanations
from lficam_jax.explaining.inputs import Inputs, read_inputs
from lficam_jax.methods.perturbation import CHUNK_SIZE
from lficam_jax.methods.split import split_model
from lficam_jax.models.fit import check_network
from lficam_jax.models.geometry import check_alignment, places
from lficam_jax.structs import Variables

BATCH = 64


def explain(
    model: nn.Module,
    variables: Variables,
    images: Any,
    *,
    method: str | Sequence[str] | None = None,
    target: int | str | Sequence[int | str] | None = None,
    preprocess: Dataset | Preprocess | None = None,
    normalised: bool = False,
    classes: Sequence[str] = (),
    labels: Sequence[int | str | None] | None = None,
    names: Sequence[str] | None = None,
    batch_size: int = BATCH,
    chunk_size: int = CHUNK_SIZE,
    align: str = "centres",
) -> Explanations:
    """Explains images of any kind.

    Args:
      model: built by `create_model`.
      variables: its weights and statistics.
      images: a path, a folder, a glob, a PIL image, an array, or a list of these. An array holds
        one image or a batch, channels last or first: uint8, or floats in 0..1.
      method: how the map is made, a key of `methods.METHODS`, or several. Default: `own` if the
        model draws a map of its own, else `grad_cam`.
      target: the class asked about, by name or number, for all images or for each; default: the
        predicted one. Some methods ask no class (`methods.asks`): alone they take no target.
      preprocess: says how an image becomes what the network is fed (size, crop, mean, deviation):
        a `Preprocess`, or the `dataset` of a run.
      normalised: images are floats as the network is fed, `[n y x c]`; nothing is done to them.
      classes: class names in label order; default: the indices.
      labels: the true classes, by name or number; None where unknown.
      names: what people read; default: file names, or positions.
      batch_size: images in one forward pass. The last batch is padded, so one program serves all.
      chunk_size: masked images in one forward pass of `score_cam` and `ablation_cam`.
      align: `centres`, each cell on the middle of what it looks at; `half_pixel`, as tiles.

    Returns:
      One explanation per image; with several methods one for each, those of an image together.

    Raises:
      UserError: for an unknown method or class, a method or variables that do not fit the model,
        images that are none, or a network that answers NaN.

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
    check_alignment(align)
    inputs = read_inputs(images, preprocess, normalised=normalised)
    return explain_inputs(
        model, variables, inputs, asked, target=target, classes=classes, labels=labels, names=names,
        batch_size=batch_size, chunk_size=chunk_size, align=align,
    )  # fmt: skip


def explain_inputs(
    model: nn.Module, variables: Variables, inputs: Inputs, methods: Sequence[str] = (), *,
    target: Any = None, classes: Sequence[str] = (), labels: Sequence[Any] | None = None,
    names: Sequence[str] | None = None, ids: Sequence[Any] | None = None,
    masks: Sequence[np.ndarray] | None = None, first: int = 0, batch_size: int = BATCH,
    chunk_size: int = CHUNK_SIZE, align: str = "centres",
) -> Explanations:  # fmt: skip
    """Explains images that are ready; the arguments are those of `explain`, and:

    Args:
      model: as for `explain`, like all that is not named here.
      variables: likewise.
      inputs: made by `inputs.read_inputs`.
      methods: keys of `methods.METHODS`; none: the default.
      target: likewise.
      classes: likewise.
      labels: likewise.
      names: likewise.
      ids: name the images for ever, and their files; default: file names.
      masks: bool, the object's pixels on the image.
      first: place of the first image among all.
      batch_size: likewise.
      chunk_size: likewise.
      align: likewise.
    """
    for what, size in (("batch_size", batch_size), ("chunk_size", chunk_size)):
        check_whole(what, size)
    count, given = len(inputs.images), _class_names(classes)
    wanted = _indices("target", target, given, count)
    if wanted is not None and None in wanted:
        raise UserError("target: give a class for each image, or none at all")
    truth = _indices("labels", labels, given, count) or [None] * count
    shown = inputs.names if names is None else _names(names, count)
    if methods:
        maps.check_asked(target, methods, model)
    chosen, named = tuple(methods) or None, inputs.ids if ids is None else ids
    sizes = batch_size, chunk_size
    share, drawn = look(model, variables, inputs.images, chosen, wanted, *sizes, first)
    maps.check_asked(target, drawn, model)  # the default is the network's to say
    known = _of_network(given, share.shape[1])
    lie = places(model, inputs.images.shape[1:3], align)
    for what, indices in (("target", wanted), ("labels", truth)):
        _check_range(what, indices, share.shape[1])
    asked = share.argmax(axis=1) if wanted is None else wanted
    items = [
        Explanation(
            id=legible(named[i]), name=legible(shown[i]), method=name,
            picture=inputs.pictures[i], map=drawn[name][i], probabilities=share[i], classes=known,
            label=truth[i], mask=None if masks is None else masks[i],
            class_index=int(asked[i]) if maps.asks(name, model) else None,
            notes=inputs.notes[i] if inputs.notes else (),
            box=inputs.boxes[i] if inputs.boxes else None,
            place=maps.place_of(name, drawn[name].shape[1:], lie),
            source=inputs.sources[i] if inputs.sources else None,
        )
        for i in range(count) for name in drawn
    ]  # fmt: skip
    return Explanations(
        items, details={"maps": ", ".join(drawn), "align": align}, skipped=inputs.skipped
    )


def look(
    model: nn.Module, variables: Variables, images: Float[np.ndarray, "n y x c"],
    methods: tuple[str, ...] | None = None, class_index: Sequence[int] | None = None,
    batch_size: int = BATCH, chunk_size: int = CHUNK_SIZE, first: int = 0,
) -> tuple[Float[np.ndarray, "n k"], dict[str, Float[np.ndarray, "n h w"]]]:  # fmt: skip
    """Returns probabilities and the maps of each method; the programs are compiled once.

    Args:
      model: the network.
      variables: its weights and statistics.
      images: as the network is fed.
      methods: keys of `methods.METHODS`; None: `own` if there is one, else `grad_cam`.
      class_index: of each image; None: the predicted one.
      batch_size: images in one forward pass.
      chunk_size: masked images in one forward pass.
      first: place of the first image among all; the map `random` of an image follows from its own.

    Raises:
      UserError: for variables that are not the model's, or an answer of NaN.
    """
    count = len(images)
    check_network(model, variables, images.shape[1:])
    size = min(batch_size, _program_size(count))
    draw, variables = _program(model, methods, chunk_size), jax.device_put(variables)
    shares: list[np.ndarray] = []
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in methods or ()}  # in this order
    for start in range(0, count, size):
        # The last batch is filled up with repetitions of the last image.
        rows = np.minimum(np.arange(start, start + size), count - 1)
        asked = None if class_index is None else np.asarray(class_index)[rows]
        share, found = jax.device_get(draw(variables, images[rows], first + rows, asked))
        shares.append(share)
        for name, part in found.items():
            drawn.setdefault(name, []).append(part)
    whole = {name: np.concatenate(parts)[:count] for name, parts in drawn.items()}
    told = np.concatenate(shares)[:count]
    _check_told(told, variables)
    return told, whole


def _check_told(share: Float[np.ndarray, "n k"], variables: Variables) -> None:
    """Raises a UserError if the network says NaN of an image, and whose fault it is."""
    lost = ~np.isfinite(share).all(axis=1)
    if not lost.any():
        return
    if any(not jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(variables)):
        raise UserError(
            "the network answers NaN, for its weights hold NaN or infinity; load another step, or "
            "train again with a lower learning rate"
        )
    raise UserError(
        f"the network answers NaN for {lost.sum()} of {len(share)} images, the first of them image "
        f"{lost.argmax()}: its values overflow; give images normalised as the network was trained"
    )


def _program_size(count: int) -> int:
    """Returns a batch size for so many images: few sizes, so that few programs are compiled.

    >>> [_program_size(count) for count in (1, 2, 3, 5, 8, 9, 60)]
    [1, 2, 4, 8, 8, 16, 64]
    """
    if count > 8:
        return -(-count // 8) * 8
    return next(size for size in (1, 2, 4, 8) if count <= size)


def _draw(
    model: nn.Module, names: tuple[str, ...] | None, chunk_size: int,
    variables: Variables, images: Array, positions: Array, class_index: Array | None,
) -> tuple[Array, dict[str, Array]]:  # fmt: skip
    """Returns probabilities and the maps of each method, all from one cut of the network."""
    split = split_model(model, variables, images)
    if names is None:
        names = ("grad_cam",) if split.attention is None else ("own",)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), positions)
    share = jax.nn.softmax(jnp.asarray(split.logits, jnp.float32))
    return share, {
        n: maps.draw(n, split, class_index, key=keys, chunk_size=chunk_size) for n in names
    }


_kept = jax.jit(_draw, static_argnums=(0, 1, 2))  # one for all calls: a second compiles nothing


def _program(
    model: nn.Module, names: tuple[str, ...] | None, chunk_size: int
) -> Callable[..., tuple[Array, dict[str, Array]]]:
    try:
        hash(model)
    except TypeError:  # a module of the user's with a list in it, say
        return jax.jit(partial(_draw, model, names, chunk_size))
    return partial(_kept, model, names, chunk_size)


def _indices(what: str, given: Any, classes: tuple[str, ...], count: int) -> list[Any] | None:
    """Returns the class index of each image of names and numbers; one stands for all images."""
    if given is None:
        return None
    each = [given] * count if isinstance(given, str) or np.ndim(given) == 0 else list(given)
    _check_length(what, each, count)
    return [None if one is None else _index(what, one, classes) for one in each]


def _index(what: str, given: Any, classes: tuple[str, ...]) -> int:
    if isinstance(given, str) and (legible(given) in classes or not given.isdecimal()):
        if legible(given) not in classes:
            known = nearest(given, classes) if classes else "; say classes=…, or give numbers"
            raise UserError(f"{what}: class {brief(given)} is unknown{known}")
        return classes.index(legible(given))
    try:
        return check_whole(what, int(given) if isinstance(given, str) else given, -(10**9))
    except UserError as error:
        told = f"{what}: give a class's name or number, not {brief(given)}"
        raise UserError(told) from error


def _names(given: Any, count: int) -> list[str]:
    """Returns what people read under each image."""
    if isinstance(given, str):
        given = [given]
    try:
        found = list(given)
    except TypeError as error:
        raise UserError(f"names must be a list, one for each image, not {brief(given)}") from error
    _check_length("names", found, count)
    for name in found:
        if not isinstance(name, str | int | np.integer | os.PathLike):
            raise UserError(f"names: {brief(name)} is no name; give text")
    return [str(name) for name in found]


def _check_length(what: str, given: Sequence[Any], count: int) -> None:
    if len(given) != count:
        raise UserError(f"{what} has {len(given)} entries for {count} images; give one for each")


def _check_range(what: str, indices: Sequence[int | None] | None, k: int) -> None:
    for index in indices or ():
        if index is not None and not 0 <= index < k:
            raise UserError(f"{what}: class {index} does not exist; classes are 0 to {k - 1}")


def _class_names(given: Any) -> tuple[str, ...]:
    """Returns the names in label order; () where none were given."""
    ordered = not isinstance(given, str | Mapping | Set)
    try:
        names = tuple(given if given is not None else ()) if ordered else (None,)
    except TypeError:
        names = (None,)
    if not all(isinstance(name, str | int | np.integer) for name in names):
        raise UserError(f"classes must be a list of names, in label order, not {brief(given)}")
    return tuple(map(legible, names))


def _of_network(classes: tuple[str, ...], k: int) -> tuple[str, ...]:
    if classes and len(classes) != k:
        raise UserError(f"classes names {len(classes)} classes, but the network tells {k} apart")
    return classes or tuple(map(str, range(k)))
