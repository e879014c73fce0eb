"""Many looks at each image, one part after another, so that memory stays that of one part."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from lficam_jax.errors import UserError
from lficam_jax.methods.split import Split
from lficam_jax.methods.targets import Target, count_classes, pick, rows
from lficam_jax.models.answers import told
from lficam_jax.structs import Key
from lficam_jax.workdir.watch import tell

SCORES = ("logit", "probability")
CHUNK_SIZE = 64


def over_pairs(
    name: str, scores: Callable[[Array, Array], Array], batch: int, count: int, chunk_size: int
) -> Float[Array, "b n"]:
    """Returns `scores(sample, look)` of all pairs, computed in chunks, one after the other.

    Args:
      name: of the method, for who watches.
      scores: of pairs of an image's place in the batch and a look's number, `[m] [m] -> [m]`.
      batch: how many images.
      count: how many looks at each.
      chunk_size: pairs at once.
    """
    pairs = batch * count
    size = min(chunk_size, pairs)
    parts = -(-pairs // size)
    # The last chunk is filled up with repetitions of the last pair.
    index = jnp.minimum(jnp.arange(parts * size), pairs - 1).reshape(parts, size)

    def part(given: tuple[Array, Array]) -> Array:
        number, pair = given
        tell(name, number, parts)
        return scores(pair // count, pair % count)

    found: Array = jax.lax.map(part, (jnp.arange(parts), index))
    return found.reshape(-1)[:pairs].reshape(batch, count)


def masked_scores(
    name: str, split: Split, target: Target, count: int,
    mask: Callable[[Array, Array], Array], chunk_size: int, score: str = "logit",
) -> Float[Array, "b n"]:  # fmt: skip
    """Returns the scores of each image times each of `count` masks.

    Args:
      name: of the method, for messages and who watches.
      split: with `images` and `network`.
      target: what is asked, of each image.
      count: how many masks.
      mask: `(sample [m], look [m]) -> [m y x]`.
      chunk_size: masked images in one forward pass.
      score: one of `SCORES`.

    Raises:
      UserError: if the split lacks images and network.
    """
    images, network = seen(name, split)

    def scores(sample: Int[Array, " m"], look: Int[Array, " m"]) -> Float[Array, " m"]:
        shown = images[sample] * mask(sample, look)[..., None].astype(images.dtype)
        answers = network(shown)
        if score == "probability":
            count_classes(answers)
            answers = told(split.kind, answers)
        return pick(answers, rows(target, sample))

    return over_pairs(name, scores, images.shape[0], count, chunk_size)


def seen(name: str, split: Split) -> tuple[Float[Array, "b y x c"], Callable[[Array], Array]]:
    """Returns the images of a split and the network that looks at them.

    Raises:
      UserError: if the split lacks them; `name` is the method's.
    """
    if split.images is None or split.network is None:
        raise UserError(
            f"{name} looks at changed images; give Split(images=..., network=...) as well"
        )
    return split.images, split.network


def keys_of(key: Key | None, batch: int) -> Key:
    """Returns a key for each image: as given, or made of one by the image's place in the batch."""
    key = jax.random.key(0) if key is None else key
    if key.ndim:
        return key
    keys: Key = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(batch))
    return keys


def noise(keys: Key, number: Int[Array, ""] | int, shape: tuple[int, ...]) -> Float[Array, "b ..."]:
    """Returns standard normal noise for each image: the draw of that number from its own key."""
    drawn: Array = jax.vmap(lambda key: jax.random.normal(jax.random.fold_in(key, number), shape))(
        keys
    )
    return drawn
