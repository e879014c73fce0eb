"""Maps from the classifier's weights or its gradient: one forward and at most one backward pass.

F are the features that `Split.classify` takes, y the score that the target
asks for (as a rule the logit of a class), G = dy/dF. Each
function returns the raw map `[b h w]`; `methods.draw` scales it.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lficam_jax.errors import UserError
from lficam_jax.methods.split import Maps, Split
from lficam_jax.methods.targets import Target


def cam(split: Split, target: Target) -> Maps:
    """Returns `sum_d w_dc F_d`: the terms whose mean over space is the logit (without its bias).

    Source: Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016, eq. 2.
    It has no ReLU. Of another target than a class, `w_d` is `Split.channel_weights`.

    Raises:
      UserError: if the classifier is not mean pooling and one linear layer on F.
    """
    if split.weights is None:
        raise UserError(
            "method cam needs a classifier that is mean pooling and one linear layer on the "
            "features; this one has more between them (DenseNet: BatchNorm and ReLU), or did not "
            "tell its weights; use hires_cam, which equals cam where cam exists"
        )
    return _weigh(split.features, split.channel_weights(target))


def grad_cam(split: Split, target: Target) -> Maps:
    """Returns `ReLU(sum_d mean_hw(G_d) F_d)`.

    Source: Selvaraju et al., "Grad-CAM", ICCV 2017, eqs. 1 and 2.
    """
    weights = jnp.mean(split.gradient(target), axis=(1, 2))
    return jax.nn.relu(_weigh(split.features, weights))


def grad_cam_pp(split: Split, target: Target) -> Maps:
    """Returns `ReLU(sum_d w_d F_d)`, `w_d = sum_hw alpha_d ReLU(G_d)`.

    `alpha = G^2 / (2 G^2 + sum_hw(F) G^3)`, computed as `1 / (2 + sum_hw(F) G)` for G != 0, which
    does not underflow, and 0 elsewhere; pytorch-grad-cam adds 1e-6 to the denominator, which weighs
    as much as G^2 itself where G is near 1e-3. The scores are exponentiated in the paper: that
    multiplies the map by one positive number per image, left out here.

    Source: Chattopadhyay et al., "Grad-CAM++", WACV 2018, eq. 19.
    """
    gradient = split.gradient(target)
    total = jnp.sum(split.features, axis=(1, 2), keepdims=True)
    divisor = 2 + total * gradient
    known = (gradient != 0) & (divisor != 0)
    alpha = jnp.where(known, 1 / jnp.where(known, divisor, 1), 0)
    weights = jnp.sum(alpha * jax.nn.relu(gradient), axis=(1, 2))
    return jax.nn.relu(_weigh(split.features, weights))


def xgrad_cam(split: Split, target: Target) -> Maps:
    """Returns `ReLU(sum_d w_d F_d)`, `w_d = sum_hw(F_d G_d) / sum_hw(F_d)`; 0 where F_d sums to 0.

    Source: Fu et al., "Axiom-based Grad-CAM", BMVC 2020, eq. 8.
    """
    total = jnp.sum(split.features, axis=(1, 2))
    share = jnp.sum(split.features * split.gradient(target), axis=(1, 2))
    weights = jnp.where(total == 0, 0, share / jnp.where(total == 0, 1, total))
    return jax.nn.relu(_weigh(split.features, weights))


def hires_cam(split: Split, target: Target) -> Maps:
    """Returns `sum_d G_d F_d`, position by position; `cam / (h w)` where `cam` exists.

    Source: Draelos and Carin, "Use HiResCAM instead of Grad-CAM", arXiv 2011.08891, eq. 3.
    It has no ReLU; pytorch-grad-cam applies one.
    """
    return jnp.sum(split.gradient(target) * split.features, axis=-1)


def layer_cam(split: Split, target: Target) -> Maps:
    """Returns `ReLU(sum_d ReLU(G_d) F_d)`, position by position.

    Source: Jiang et al., "LayerCAM", IEEE TIP 2021, eqs. 5 to 7.
    """
    gradient = jax.nn.relu(split.gradient(target))
    return jax.nn.relu(jnp.sum(gradient * split.features, axis=-1))


def _weigh(features: Float[Array, "b h w d"], weights: Float[Array, "b d"]) -> Maps:
    return jnp.einsum("bhwd,bd->bhw", features, weights, precision="highest")
