"""Maps that ask no class: the network's own, Eigen-CAM, and the trivial rows of every table.

The first two do where each class has a map of its own (head `classwise`): `Split.asked` gives them
the class's map and F'.

A map that is measured against these four and does not win has told nothing: `fakecam` wins average
drop, `gaussian` wins on centred objects, `random` is chance, `mean_features` needs no explanation.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lficam_jax.errors import UserError
from lficam_jax.methods.loops import keys_of
from lficam_jax.methods.split import Maps, Split
from lficam_jax.methods.sums import first_component
from lficam_jax.methods.targets import Target
from lficam_jax.structs import Key


def own(split: Split, target: Target) -> Maps:
    """Returns the map that the network draws itself, from F before the attention (LFI, ABN).

    Head `classwise` draws that of the class asked about.

    Raises:
      UserError: if its head draws none.
    """
    if split.attention is None:
        raise UserError(
            "method own: this model's head draws no map of its own; use method grad_cam, or train "
            "a head that does, with --config.model.head=lfi"
        )
    return split.attention.astype(jnp.float32)


def eigen_cam(split: Split, target: Target) -> Maps:
    """Returns `F v`, v the first right singular vector of F as a matrix `[h w, d]`.

    An eigenvector has no sign: the one is taken that makes the map's sum positive (for features
    after a ReLU no value is negative then). F is not centred, as in the paper; pytorch-grad-cam
    centres it.

    Source: Muhammad and Yeasin, "Eigen-CAM", IJCNN 2020, section III.
    """
    first = first_component(split.features)
    sign = jnp.where(jnp.sum(first, axis=(1, 2), keepdims=True) < 0, -1, 1)
    return sign * first


def mean_features(split: Split, target: Target) -> Maps:
    """Returns `mean_d |F_d|` of F before the attention: what a map without FIN would be."""
    features = split.features if split.unattended is None else split.unattended
    return jnp.mean(jnp.abs(features), axis=-1)


def fakecam(split: Split, target: Target) -> Maps:
    """Returns ones, and a zero in the first cell: it keeps the image and wins average drop.

    The paper's zero is one pixel of the image; here it is a cell of the grid, as large as any.

    Source: Poppi et al., "Revisiting the Evaluation of Class Activation Mapping", CVPRW 2021.
    """
    return jnp.ones(split.features.shape[:3], jnp.float32).at[:, 0, 0].set(0)


def gaussian(split: Split, target: Target) -> Maps:
    """Returns a Gaussian in the middle of the image, its sd a quarter of each side."""
    batch, height, width, _ = split.features.shape
    rows, columns = (jnp.exp(-8 * ((jnp.arange(n) + 0.5) / n - 0.5) ** 2) for n in (height, width))
    return jnp.broadcast_to(jnp.outer(rows, columns), (batch, height, width))


def random(split: Split, target: Target, *, key: Key | None = None) -> Maps:
    """Returns values drawn uniformly from [0, 1).

    Args:
      split: tells the grid.
      target: not used.
      key: one for the batch, of which row r gets the r-th, or one for each image `[b]`, so that an
        image's map does not depend on its place in a batch. None: `jax.random.key(0)`.
    """
    batch, *grid, _ = split.features.shape
    keys = keys_of(key, batch)
    draw: Float[Array, "b h w"] = jax.vmap(lambda one: jax.random.uniform(one, tuple(grid)))(keys)
    return draw
