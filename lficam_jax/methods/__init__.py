"""The one registry of maps: every method has one signature, is batched and traced under jit.

`method(split, target, **options) -> raw maps [b h w]`, at the grid of the features, or (`PIXELS`)
as large as the image. The equations and costs stand side by side in docs/maps.md.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from lficam_jax.errors import UserError, brief, check_whole, check_word
from lficam_jax.methods import options as own_options
from lficam_jax.methods.attention import attention_rollout, gradient_rollout
from lficam_jax.methods.classless import eigen_cam, fakecam, gaussian, mean_features, own, random
from lficam_jax.methods.gradient import (
    cam,
    eigen_grad_cam,
    grad_cam,
    grad_cam_pp,
    hires_cam,
    layer_cam,
    own_class,
    smooth_grad_cam_pp,
    xgrad_cam,
)
from lficam_jax.methods.loops import CHUNK_SIZE
from lficam_jax.methods.perturbation import ablation_cam, is_cam, score_cam, ss_cam
from lficam_jax.methods.pixels import (
    gradient,
    guided_backprop,
    input_x_gradient,
    integrated_gradients,
    occlusion,
    rise,
    smooth_grad,
)
from lficam_jax.methods.split import Maps, Split, split_model
from lficam_jax.methods.sums import principal
from lficam_jax.methods.targets import Target, for_images
from lficam_jax.methods.wrappers import (
    WRAPPERS,
    augmented,
    check_smoothed,
    parts,
    place_of_augmented,
)
from lficam_jax.models.fit import check_network
from lficam_jax.models.geometry import Places
from lficam_jax.ops.maps import Place, min_max
from lficam_jax.structs import Key, Variables

Method = Callable[..., Maps]

METHODS: dict[str, Method] = {
    method.__name__: method
    for method in (
        own, own_class, cam, grad_cam, grad_cam_pp, smooth_grad_cam_pp, xgrad_cam, hires_cam,
        layer_cam, eigen_grad_cam, score_cam, ss_cam, is_cam, ablation_cam, eigen_cam,
        attention_rollout, gradient_rollout, gradient, input_x_gradient, smooth_grad,
        integrated_gradients, guided_backprop, occlusion, rise, mean_features, gaussian, random,
        fakecam,
    )
}  # fmt: skip
# A map whose values differ by less than this share is constant: float32 rounding drew the rest.
ROUNDING = 1e-6
ATTENTION = ("attention_rollout", "gradient_rollout")  # read from a transformer's attention
TRIVIAL = ("mean_features", "gaussian", "random", "fakecam")  # rows that every table must have
UNSEEN = ("gaussian", "random", "fakecam")  # no network looks there: they lie by half-pixels
# Whose maps are as a rule the same for every class.
CLASSLESS = ("own", "eigen_cam", "attention_rollout", *TRIVIAL)
LONG = (  # that look at an image tens or thousands of times; timed only when asked for
    "ss_cam", "is_cam", "smooth_grad", "integrated_gradients", "occlusion", "rise",
)  # fmt: skip
PIXELS = (  # whose maps are as large as the image
    "gradient", "input_x_gradient", "smooth_grad", "integrated_gradients", "guided_backprop",
    "occlusion", "rise",
)  # fmt: skip


def check(*names: str) -> None:
    """Raises a UserError for a name that is no method; it names the nearest.

    Args:
      *names: keys of `METHODS`, with or without `+smoothed` and `+augmented` behind them.
    """
    for name in names:
        base, words = parts(name)
        known = isinstance(name, str) and "" not in words
        check_word("method", base if known else name, METHODS)
        for word in words:
            check_word(f"{base}+…: what stands behind a method's name,", word, WRAPPERS)
        if len({*words}) < len(words):
            raise UserError(f"method {name}: say each word behind the + once")
        if words and base in TRIVIAL:
            raise UserError(f"method {name}: {base} is there to compare with, as it is; say {base}")
        if "smoothed" in words:
            check_smoothed(base, METHODS[base])


def asks(name: str, network: Any) -> bool:
    """Tells whether a method's map of this network depends on the class that is asked about.

    A network whose classes look through maps of their own (head `classwise`) draws `own` and
    `eigen_cam` of the class, too.
    """
    classless = TRIVIAL if getattr(network, "classwise", False) else CLASSLESS
    return parts(name)[0] not in classless


def check_asked(target: Any, names: Iterable[str], network: Any) -> None:
    """Raises a UserError for a target that none of the methods can be asked about.

    Args:
      target: the class; None: none is asked about.
      names: of methods, as for `check`.
      network: whose maps they are.
    """
    names = list(names)
    if target is None or any(asks(name, network) for name in names):
        return
    raise UserError(
        f"target={brief(target)}: {', '.join(names)} draws the same map whatever class is asked "
        "about (it is class-agnostic); leave target out, or choose another method, grad_cam say"
    )


def check_options(names: Iterable[str], options: Mapping[str, Any]) -> None:
    """Raises a UserError for an option that none of the methods has, or that is no value of it."""
    own_options.check({name: METHODS[parts(name)[0]] for name in names}, options)


def options_of(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns those of the options that a method has."""
    known = own_options.names(METHODS[parts(name)[0]])
    return {key: value for key, value in options.items() if key in known}


def place_of(name: str, grid: tuple[int, ...], places: Places) -> Place | None:
    """Returns where the maps of a method lie on the image; None: by half-pixels.

    Args:
      name: of a method, as for `check`.
      grid: rows and columns of the map.
      places: of `models.geometry.places`.
    """
    base, words = parts(name)
    place = None if base in (*UNSEEN, *PIXELS) else places.get(grid)
    if place is None or "augmented" not in words:
        return place
    return place_of_augmented(place, grid[1])


def maps_of(
    name: str, model: nn.Module, variables: Variables, images: Float[Array, "b y x c"],
    target: Any = None, *,
    key: Key | None = None, chunk_size: int = CHUNK_SIZE, score: str | None = None, **options: Any,
) -> Maps:  # fmt: skip
    """Draws one method's maps of a batch; fast under jit, with `name` and `model` static.

    Args:
      name: a key of `METHODS`; `+smoothed` or `+augmented` may stand behind it.
      model: built by `create_model`.
      variables: its weights and statistics.
      images: float, normalised as the network was trained; `lficam_jax.explain` takes pixels.
      target: what is asked about: the number of a class, of each image or of all, one of
        `lficam_jax.targets`, or a function of the answers; None: the predicted class.
      key: for methods that draw at random; one, or one for each image.
      chunk_size: images in one pass of methods that look at each many times; bounds their memory.
      score: what `score_cam`, its kin and `rise` weigh, `logit` or `probability`; default: as
        published.
      **options: what the method alone has, such as `samples=4000` of `rise`.

    Returns:
      Maps in [0, 1] at the grid of the features, or of the image's pixels, as `draw` scales them.

    Raises:
      UserError: for an unknown method or class, a method that this model cannot give, images of
        another kind, or variables that are not the model's. Under jit a class that is an argument
        cannot be checked: one that does not exist has maps of NaN.

    Example:
      >>> import jax
      >>> from lficam_jax.models import create_model
      >>> model = create_model("cifar_resnet", 8, head="lfi", num_classes=10)
      >>> images = jax.random.normal(jax.random.key(0), (2, 32, 32, 3))
      >>> variables = jax.jit(model.init)(jax.random.key(1), images)
      >>> draw_maps = jax.jit(lambda v, x: maps_of("grad_cam", model, v, x))
      >>> draw_maps(variables, images).shape
      (2, 8, 8)
    """
    check(name)
    images = _images(images)
    check_network(model, variables, images.shape[1:])
    variables = jax.tree.map(jnp.asarray, variables)  # numpy does not trace
    split = split_model(model, variables, images)
    return draw(name, split, target, key=key, chunk_size=chunk_size, score=score, **options)


def draw(
    name: str, split: Split, target: Any = None, *, key: Key | None = None,
    chunk_size: int = CHUNK_SIZE, score: str | None = None, raw: bool = False, **options: Any,
) -> Maps:  # fmt: skip
    """Draws one method's maps of a split, each min-maxed to [0, 1]; the arguments are `maps_of`'s.

    With `raw` they stay as the method makes them.

    A constant map (but for rounding, which min-max would blow up) stays constant, clipped to
    [0, 1]: `metrics.localisation.constant` counts it.

    Example: maps of a network of any kind, here one that asks how much red there is.
      >>> pixels = jnp.zeros((1, 2, 2, 3)).at[0, 1, 0, 0].set(1.0)
      >>> draw("grad_cam", Split(pixels, lambda f: f.mean((1, 2))), 0)
      Array([[[0., 0.],
              [1., 0.]]], dtype=float32)
    """
    check(name)
    check_whole("chunk_size", chunk_size)
    check_options([name], options)
    if score is not None:
        own_options.check(METHODS, {"score": score})
    (base, words), batch = parts(name), split.features.shape[0]
    _check_key(key, batch)
    chosen = for_images(_predicted(name, split) if target is None else target, batch)
    exists = None if target is None else _exists(chosen, split.shape)
    more = {"key": key, "chunk_size": chunk_size} | ({"score": score} if score else {})
    more |= {"project": principal} if "smoothed" in words else {}
    known = inspect.signature(METHODS[base]).parameters
    taken = {option: value for option, value in more.items() if option in known} | options

    def once(split: Split) -> Maps:
        found = METHODS[base](split.asked(chosen), chosen, **taken)
        return found if raw else scaled(found)

    if "augmented" in words:
        maps = augmented(once, split, chosen)
        maps = maps if raw else scaled(maps)
    else:
        maps = once(split)
    if exists is None or not asks(name, split):
        return maps
    return jnp.where(exists[:, None, None], maps, jnp.nan)


def _array(what: str, given: Any, wanted: str) -> Array:
    try:
        return jnp.asarray(given)
    except (TypeError, ValueError) as error:
        raise UserError(f"{what} must be {wanted}, not {brief(given)}") from error


def _images(given: Any) -> Array:
    wanted = "an array of floats [b y x c], normalised as the network was trained"
    images = _array("images", given, wanted)
    if images.ndim != 4 or 0 in images.shape:
        raise UserError(f"images must be {wanted}; these have the shape {list(images.shape)}")
    if not jnp.issubdtype(images.dtype, jnp.floating):
        raise UserError(
            f"images must be {wanted}; these are {images.dtype}. lficam_jax.explain takes pixels"
        )
    if not isinstance(images, jax.core.Tracer) and not jnp.isfinite(images).all():
        raise UserError("images hold NaN or infinity; give finite numbers")
    return images


def _predicted(name: str, split: Split) -> Array:
    """Returns the predicted classes; 0 for a map that asks none, whatever the network answers."""
    return split.predicted() if asks(name, split) else jnp.zeros((), int)


def _check_key(key: Any, batch: int) -> None:
    kind = getattr(key, "dtype", None)
    typed = kind is not None and jnp.issubdtype(kind, jax.dtypes.prng_key)
    if key is not None and (not typed or key.shape not in ((), (batch,))):
        raise UserError(
            f"key must be as jax.random.key makes it, one or one for each of the {batch} images, "
            f"not {brief(key)}"
        )


def _exists(target: Target, outputs: Any) -> Bool[Array, " b"] | None:
    """Tells for which images the classes asked about exist; None if all do for sure.

    Raises:
      UserError: if one does not, and its number is known while tracing.
    """
    if not target.classes:
        return None
    asked = jnp.stack([getattr(target, name) for name in target.classes])
    exists = (asked >= 0) & (asked < target.count(outputs))
    if isinstance(exists, jax.core.Tracer):
        return exists.all(axis=0)
    if not exists.all():
        wrong = int(asked[~exists][0])
        most = target.count(outputs) - 1
        raise UserError(f"class {wrong} does not exist; classes are 0 to {most}")
    return None


def scaled(raw: Maps) -> Maps:
    """Returns maps as all see them: min-maxed to [0, 1]; a constant one as it is, clipped."""
    return jnp.clip(min_max(_without_rounding(raw)), 0, 1)


def _without_rounding(raw: Maps) -> Maps:
    low, high = (extreme(raw, axis=(1, 2), keepdims=True) for extreme in (jnp.min, jnp.max))
    return jnp.where(high - low <= ROUNDING * jnp.maximum(jnp.abs(low), jnp.abs(high)), high, raw)
