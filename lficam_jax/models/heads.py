"""Heads: each is the wiring from images and trunk features to `Outputs`, readable top to bottom.

The equations stand in docs/method.md.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from lficam_jax.models.answers import as_logits
from lficam_jax.models.fin import FeatureImportanceNetwork
from lficam_jax.models.layers import Layers
from lficam_jax.ops import maps
from lficam_jax.structs import Outputs

LastStage = Callable[[Float[Array, "b h w e"]], Float[Array, "b h w d"]]
Classify = Callable[[Float[Array, "b h w d"]], Float[Array, "b k"]]
# From the number of channels to the kernel and the bias of the classifier.
Linear = Callable[[int], tuple[Float[Array, "d k"], Float[Array, " k"]]]

TIED = ("tied", "prior")  # kinds of LFI-CAM whose importance is the classifier's weights
LEAK = 0.1  # the slope of `leaky` below 0
CHUNK = 128  # classes whose maps are in memory at a time


class PlainHead(nn.Module):
    """No attention: features are pooled and classified. CAM and Grad-CAM are computed on it.

    Attributes:
      scale: the features times a constant before they are pooled: the control for a gate, which
        makes them larger, too, and so training faster.
    """

    scale: float = 1.0

    def __call__(
        self, images: Float[Array, "b y x 3"], trunk_features: Float[Array, "b h w e"],
        last_stage: LastStage, classify: Classify, linear: Linear, *, train: bool,
    ) -> Outputs:  # fmt: skip
        """Returns logits and features."""
        features = last_stage(trunk_features)
        attended = features * jnp.asarray(self.scale, features.dtype)
        return Outputs(logits=classify(attended), features=features, attended=attended)


class LFIHead(nn.Module):
    """LFI-CAM: FIN weighs the channels, their weighted sum is the map, the map gates the features.

    The map is not detached: gradients of the loss flow through it into FIN and backbone. It is
    class-agnostic: one map per image.

    Attributes:
      fin: None where there is none, and `kind` weighs the channels.
      kind: without a FIN: `uniform`, every channel the same; `tied`, the classifier's own weights
        for the classes that a first pass without a map found likely, `sum_c p_c w_c`; `prior`, how
        these differ from an even guess, `1/d + sum_c (p_c - 1/k) w_c`. Neither passes a gradient.
        `p` is a softmax over the logits, of several labels, too: it shares 1 out among the likely.
      normalise_features: scale each channel to [0, 1] before it masks the grey image.
      mask_image: False shows FIN the channels themselves, not the grey image that they mask.
    """

    fin: FeatureImportanceNetwork | None
    kind: str = "uniform"
    normalise_features: bool = True
    mask_image: bool = True

    @nn.compact
    def __call__(
        self, images: Float[Array, "b y x 3"], trunk_features: Float[Array, "b h w e"],
        last_stage: LastStage, classify: Classify, linear: Linear, *, train: bool,
    ) -> Outputs:  # fmt: skip
        """Returns logits, features, the map and the importance of the channels."""
        features = last_stage(trunk_features)
        if self.kind in TIED:
            importance = self._tied(classify(features), linear(features.shape[-1])[0])
        else:
            importance = self._importance(images, features, train=train)
        attention = maps.min_max(maps.weighted_map(features, importance))
        attended = maps.attend(features, attention)
        return Outputs(
            logits=classify(attended), features=features, attended=attended,
            attention=attention, importance=importance,
        )  # fmt: skip

    def _importance(
        self, images: Float[Array, "b y x 3"], features: Float[Array, "b h w d"], *, train: bool
    ) -> Float[Array, "b d"]:
        batch, *size, channels = features.shape
        if self.fin is None:
            return jnp.full((batch, channels), 1 / channels, jnp.float32)
        channel_maps = maps.normalise_features(features) if self.normalise_features else features
        if self.mask_image:
            channel_maps = channel_maps * maps.grey(images, size)[..., None]
        return self.fin(channel_maps, train=train)

    def _tied(self, logits: Float[Array, "b k"], kernel: Float[Array, "d k"]) -> Array:
        channels, classes = kernel.shape
        start, guess = (1 / channels, 1 / classes) if self.kind == "prior" else (0.0, 0.0)
        weighed = jnp.einsum(
            "bk,dk->bd", jax.nn.softmax(logits) - guess, kernel, precision="highest"
        )
        return jax.lax.stop_gradient(start + weighed)


class ClasswiseHead(nn.Module):
    """Classwise LFI-CAM: each class looks through a map of its own, its evidence, and no FIN.

    With F the features and w, b the linear classifier: evidence `E_c = sum_d w_dc F_d`, map `A_c =
    min-max(ReLU E_c)`, logit `b_c + mean over space of (1 + A_c) E_c`. The weights of the channels
    in a map are the classifier's, so the head has no parameters, and a logit is the mean of what
    its map gated.

    `Outputs` hold the map, the weights and the gated features of the predicted class; those of any
    other follow from `features` and the classifier, without another pass (`methods.split`).

    Memory: the maps of `CHUNK` classes at the grid of the features, whatever the number of classes.

    Attributes:
      look: `relu` makes the map as above. `leaky` multiplies negative evidence by `LEAK` instead of
        cutting it off. `softmax` is class-specific residual attention (Zhu and Wu, ICCV 2021):
        `hw softmax(E_c / temperature)` over space, whose mean is 1.
      temperature: of `softmax`; low is sharp.
      detach: no gradient passes through the map, so a logit is linear in the features.
    """

    look: str = "relu"
    temperature: float = 1.0
    detach: bool = False

    @nn.nowrap
    def drawn(self, evidence: Float[Array, "*b h w"]) -> Float[Array, "*b h w"]:
        """Returns the map of a class from its evidence, whatever the features and weights were."""
        if self.look == "softmax":
            flat = evidence.reshape(*evidence.shape[:-2], -1) / self.temperature
            found = (flat.shape[-1] * jax.nn.softmax(flat)).reshape(evidence.shape)
        elif self.look == "leaky":  # a constant map keeps its value, and must not turn signs around
            found = jax.nn.relu(maps.min_max(jax.nn.leaky_relu(evidence, LEAK)))
        else:
            found = maps.min_max(jax.nn.relu(evidence))
        return jax.lax.stop_gradient(found) if self.detach else found

    @nn.compact
    def __call__(
        self, images: Float[Array, "b y x 3"], trunk_features: Float[Array, "b h w e"],
        last_stage: LastStage, classify: Classify, linear: Linear, *, train: bool,
    ) -> Outputs:  # fmt: skip
        """Returns logits, features, and map and importance of the predicted class."""
        features = last_stage(trunk_features)
        kernel, bias = linear(features.shape[-1])
        logits = _gated_means(features, kernel, self.drawn) + bias[None]
        importance = jnp.take(kernel.T, jnp.argmax(logits, axis=-1), axis=0)
        attention = self.drawn(maps.weighted_sum(features, importance))
        return Outputs(
            logits=logits, features=features, attended=maps.attend(features, attention),
            attention=attention, importance=importance,
        )  # fmt: skip


def _gated_means(
    features: Float[Array, "b h w d"],
    kernel: Float[Array, "d k"],
    drawn: Callable[[Float[Array, "b c h w"]], Float[Array, "b c h w"]],
) -> Float[Array, "b k"]:
    """Returns `mean over space of (1 + A_c) E_c` in float32, of `CHUNK` classes at a time."""
    features, classes = features.astype(jnp.float32), kernel.shape[1]

    def means(some: Float[Array, "d c"]) -> Float[Array, "b c"]:
        evidence = jnp.einsum("bhwd,dc->bchw", features, some, precision="highest")
        return jnp.mean((1 + drawn(evidence)) * evidence, axis=(2, 3))

    if classes <= CHUNK:
        return means(kernel)
    chunks = -(-classes // CHUNK)
    padded = jnp.pad(kernel, ((0, 0), (0, chunks * CHUNK - classes)))
    pieces = padded.reshape(-1, chunks, CHUNK).swapaxes(0, 1)
    found: Array = jax.lax.map(jax.checkpoint(means), pieces)  # the gradient draws the maps again
    return found.swapaxes(0, 1).reshape(len(features), -1)[:, :classes]


class ABNHead(nn.Module):
    """Attention Branch Network (Fukui et al., CVPR 2019): a second last stage draws the map.

    The attention branch classifies, too; its map gates the trunk's features on their way to the
    last stage and the classifier (the perception branch).

    Attributes:
      attention_stage: the last stage again, at stride 1, with weights of its own.
      num_classes: outputs of either branch.
      layers: conventions of the network.
      loss: `both` trains both branches, as the paper. `perception` and `attention` are the
        baselines with one loss: the named branch gives `logits`, and `attention_logits` is None.
      answers: the network's `loss`, which says what outputs mean.
      number: likewise.
    """

    attention_stage: nn.Module
    num_classes: int
    layers: Layers
    loss: str = "both"
    answers: str = "softmax"
    number: tuple[float, float] = (0.0, 1.0)

    @nn.compact
    def __call__(
        self, images: Float[Array, "b y x 3"], trunk_features: Float[Array, "b h w e"],
        last_stage: LastStage, classify: Classify, linear: Linear, *, train: bool,
    ) -> Outputs:  # fmt: skip
        """Returns logits of both branches, the last stage's features and the map."""
        attention_logits, attention = self._branch(trunk_features, train=train)
        features = last_stage(maps.attend(trunk_features, attention))
        perception_logits = classify(features)
        return Outputs(
            logits=attention_logits if self.loss == "attention" else perception_logits,
            features=features, attended=features, attention=attention,
            attention_logits=attention_logits if self.loss == "both" else None,
        )  # fmt: skip

    def _branch(
        self, x: Float[Array, "b h w e"], *, train: bool
    ) -> tuple[Float[Array, "b k"], Float[Array, "b h w"]]:
        conv, norm, k = self.layers.conv, self.layers.norm, self.num_classes
        x = norm(train=train, name="bn")(self.attention_stage(x, train=train))
        responses = nn.relu(
            norm(train=train, name="bn_classes")(conv(k, 1, name="conv_classes")(x))
        )
        score = norm(train=train, name="bn_map")(conv(1, 3, name="conv_map")(responses))
        logits = conv(k, 1, name="conv_logits")(responses).astype(jnp.float32)
        said = as_logits(self.answers, jnp.mean(logits, axis=(1, 2)), self.number)
        return said, jax.nn.sigmoid(score[..., 0].astype(jnp.float32))
