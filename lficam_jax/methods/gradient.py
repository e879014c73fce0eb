"""Maps from the classifier's weights or its gradient: one forward and at most one backward pass.

F are the features that `Split.classify` takes, y the score that the target asks for (as a rule the
logit of a class), G = dy/dF. Each function returns the raw map `[b h w]`; `methods.draw` scales it.
`project` makes the map of the terms, whose sum it is as published.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from lficam_jax.errors import UserError
from lficam_jax.methods.loops import keys_of, noise
from lficam_jax.methods.split import Maps, Split
from lficam_jax.methods.sums import Project, principal, weigh
from lficam_jax.methods.targets import Target
from lficam_jax.structs import Key


def cam(split: Split, target: Target, *, project: Project | None = None) -> Maps:
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
    return weigh(split.features, split.channel_weights(target), project)


def grad_cam(split: Split, target: Target, *, project: Project | None = None) -> Maps:
    """Returns `ReLU(sum_d mean_hw(G_d) F_d)`.

    Source: Selvaraju et al., "Grad-CAM", ICCV 2017, eqs. 1 and 2.
    """
    weights = jnp.mean(split.gradient(target), axis=(1, 2))
    return jax.nn.relu(weigh(split.features, weights, project))


def grad_cam_pp(split: Split, target: Target, *, project: Project | None = None) -> Maps:
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
    return jax.nn.relu(weigh(split.features, weights, project))


def xgrad_cam(split: Split, target: Target, *, project: Project | None = None) -> Maps:
    """Returns `ReLU(sum_d w_d F_d)`, `w_d = sum_hw(F_d G_d) / sum_hw(F_d)`; 0 where F_d sums to 0.

    Source: Fu et al., "Axiom-based Grad-CAM", BMVC 2020, eq. 8.
    """
    total = jnp.sum(split.features, axis=(1, 2))
    share = jnp.sum(split.features * split.gradient(target), axis=(1, 2))
    weights = jnp.where(total == 0, 0, share / jnp.where(total == 0, 1, total))
    return jax.nn.relu(weigh(split.features, weights, project))


def hires_cam(split: Split, target: Target, *, project: Project | None = None) -> Maps:
    """Returns `sum_d G_d F_d`, position by position; `cam / (h w)` where `cam` exists.

    Source: Draelos and Carin, "Use HiResCAM instead of Grad-CAM", arXiv 2011.08891, eq. 3.
    It has no ReLU; pytorch-grad-cam applies one.
    """
    return weigh(split.features, split.gradient(target), project)


def layer_cam(split: Split, target: Target, *, project: Project | None = None) -> Maps:
    """Returns `ReLU(sum_d ReLU(G_d) F_d)`, position by position.

    Source: Jiang et al., "LayerCAM", IEEE TIP 2021, eqs. 5 to 7.
    """
    gradient = jax.nn.relu(split.gradient(target))
    return jax.nn.relu(weigh(split.features, gradient, project))


def eigen_grad_cam(split: Split, target: Target) -> Maps:
    """Returns the first principal component of the terms `G_d F_d`: `hires_cam+smoothed`.

    Source: EigenGradCAM of pytorch-grad-cam, which published it; no paper. Its sign: see
    `sums.principal`.
    """
    return hires_cam(split, target, project=principal)


def smooth_grad_cam_pp(
    split: Split, target: Target, *, key: Key | None = None, samples: int = 4,
    deviation: float = 0.3, project: Project | None = None,
) -> Maps:  # fmt: skip
    """Returns `ReLU(sum_d w_d F_d)`, Grad-CAM++ with gradients averaged over noisy images.

    `w_d = sum_hw alpha_d ReLU(<G_d>)`, `alpha = <G^2> / (2 <G^2> + sum_hw(F) <G^3>)`, `<>` the mean
    over the noisy images, F of the image itself. The paper has `<G>` above the line of alpha, which
    would not be Grad-CAM++ without noise; as in torchcam it is `<G^2>`.

    Args:
      split: with `images` and `again`.
      target: what is asked, of each image.
      key: of the noise; one, or one for each image.
      samples: noisy images.
      deviation: of the noise, in the units that the network is fed.
      project: see the module.

    Raises:
      UserError: if the split lacks images, or cannot be made again of others.

    Source: Omeiza et al., "Smooth Grad-CAM++", arXiv 1908.01224, eqs. 7 to 9.
    """
    if split.images is None or split.again is None:
        raise UserError(
            "smooth_grad_cam_pp looks at changed images; give Split(images=..., again=...) as well"
        )
    images, again, keys = split.images, split.again, keys_of(key, split.features.shape[0])
    # Relative to the gradient without noise, or the cubes of a small one leave float32.
    scale = jnp.max(jnp.abs(split.gradient(target)), axis=(1, 2, 3), keepdims=True)
    scale = jnp.where(scale == 0, 1, scale)

    def look(sums: Array, number: Array) -> tuple[Array, None]:
        drawn = noise(keys, number, images.shape[1:]).astype(images.dtype)
        g = again(images + deviation * drawn).asked(target).gradient(target)
        return sums + jnp.stack([g, (g / scale) ** 2, (g / scale) ** 2 * g]) / samples, None

    start = jnp.zeros((3, *split.features.shape))
    (mean, square, cube), _ = jax.lax.scan(look, start, jnp.arange(samples))
    divisor = 2 * square + jnp.sum(split.features, axis=(1, 2), keepdims=True) * cube
    alpha = jnp.where(divisor == 0, 0, square / jnp.where(divisor == 0, 1, divisor))
    weights = jnp.sum(alpha * jax.nn.relu(mean), axis=(1, 2))
    return jax.nn.relu(weigh(split.features, weights, project))


def own_class(split: Split, target: Target, *, project: Project | None = None) -> Maps:
    """Returns `sum_d G_d (F'_d - F_d)`: what the network's own map adds to the score, cell by cell.

    F are the features before the attention, F' = (1 + A) F those after it, which the classifier
    takes. Where that is mean pooling and one linear layer, the map is `A cam / (h w)` of F, and its
    sum is exactly the logit minus the logit without the attention.

    Raises:
      UserError: if the head draws no map that multiplies the features which the classifier takes.
    """
    before = split.unattended
    if split.attention is None or before is None or before.shape != split.features.shape:
        raise UserError(
            "method own_class: this model has no map of its own that multiplies what the "
            "classifier takes; use hires_cam, or train a head that has, with "
            "--config.model.head=lfi"
        )
    return weigh(split.features - before, split.gradient(target), project)
