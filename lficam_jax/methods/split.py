"""A network cut in two where its maps are drawn, so that no method needs a hook."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.errors import FlaxError
from jaxtyping import Array, Float, Int

from lficam_jax.errors import UserError
from lficam_jax.methods.targets import count_classes, pick
from lficam_jax.models.answers import as_logits, kind_of
from lficam_jax.models.classifier import Classifier, predict
from lficam_jax.models.heads import ABNHead
from lficam_jax.ops.maps import attend, weighted_sum
from lficam_jax.structs import Outputs, Variables

Maps = Float[Array, "b h w"]

_NOT_OURS = (
    "{0} {1}; a network to explain is called as model(images, train=False) and returns "
    "structs.Outputs, as one of create_model does: create_model({0}(…), …) makes one of a backbone "
    "of your own"
)


@dataclass(frozen=True)
class Split:
    """The features of a batch, and what the network makes of them.

    `Split(features, classify)` is enough for every gradient method, `ablation_cam`, `eigen_cam` and
    the trivial maps; the other fields are for the methods that name them.

    Attributes:
      features: F', what `classify` takes: after the attention, if the network has one. The post-hoc
        methods tap it.
      classify: features to logits `[b k]`, each row on its own (BatchNorm uses running statistics).
      images: as fed to the network (`score_cam`).
      network: the whole network, images to logits; a masked image also draws an attention of its
        own in there (`score_cam`).
      weights: the kernel of the linear layer, if `classify` is mean pooling and that (`cam`).
      attention: the network's own map (`own`).
      unattended: F, before the attention; what `own` and `mean_features` look at. Default: F'.
      logits: of the batch. Default: `classify(features)`.
      classify_some: what `classify` is for some of the images, `(features [n h w d], index [n])`,
        in a network that looks at more of an image than the features of this layer. Default:
        `classify`. Methods that need other rows than the batch's call `answers_of`.
      again: cuts the same network in the same place for other images (`[b y x c]`), whose features
        it makes anew.
      classwise: from a class's evidence to its map, where each class looks through a map of its own
        (`ClasswiseHead.drawn`), else None; F', its map and what `classify` says of F' are then
        those of the target, as `asked` makes them.
      kind: what the logits are, of `models.answers.kind_of`.
    """

    features: Float[Array, "b h w d"]
    classify: Callable[[Float[Array, "b h w d"]], Float[Array, "b k"]]
    images: Float[Array, "b y x c"] | None = None
    network: Callable[[Float[Array, "b y x c"]], Float[Array, "b k"]] | None = None
    weights: Float[Array, "d k"] | None = None
    attention: Maps | None = None
    unattended: Float[Array, "b h w d"] | None = None
    logits: Float[Array, "b k"] | None = None
    classify_some: Callable[[Array, Int[Array, " n"]], Any] | None = None
    again: Callable[[Float[Array, "b y x c"]], "Split"] | None = None
    kind: str = "class"
    classwise: Callable[[Maps], Maps] | None = None
    attentions: tuple[Float[Array, "b m n n"], ...] | None = None
    weighing: Callable[[tuple[Array, ...]], Any] | None = None

    def asked(self, target: Any) -> "Split":
        """Returns the split that the target is asked about, which most networks have only one of.

        Of a `classwise` network the map, and F' with it, are the target's: for a class exactly what
        its logit was read from; for another target those of the classes' evidence, weighed as
        `channel_weights` does. No method needs another pass of the network for it.
        """
        if self.classwise is None or self.unattended is None:
            return self
        attention = self.classwise(weighted_sum(self.unattended, self.channel_weights(target)))
        return replace(self, features=attend(self.unattended, attention), attention=attention)

    def channel_weights(self, target: Any) -> Float[Array, "b d"]:
        """Returns the linear layer's weight of each channel: for a class, its column of `weights`.

        For another target, the sum of the columns times its gradient with respect to the logits: of
        a difference, the columns' difference.
        """
        asked = jax.grad(lambda logits: pick(logits, target).sum())(self.answers())  # of a class: 1
        kernel = cast(Array, self.weights).astype(jnp.float32)
        found: Array = jnp.einsum("bk,dk->bd", asked, kernel, precision="highest")
        return found

    @property
    def shape(self) -> Any:
        """Shapes and types of what `classify` answers; nothing is computed."""
        if self.logits is not None:
            return self.logits
        return jax.eval_shape(self.classify, self.features)

    def answers(self) -> Any:
        """Returns what `classify` answers for the features: as a rule logits `[b k]`."""
        return self.classify(self.features) if self.logits is None else self.logits

    def answers_of(self, features: Float[Array, "n h w d"], index: Int[Array, " n"]) -> Any:
        """Returns what `classify` answers for features of some images, or for some repeated.

        Args:
          features: changed as a method likes.
          index: the image in the batch that each row comes from.
        """
        if self.classify_some is None:
            return self.classify(features)
        return self.classify_some(features, index)

    def predicted(self) -> Int[Array, " b"]:
        """Returns the class that each image is given.

        Raises:
          UserError: if the answers are no logits `[b k]`.
        """
        count_classes(self.shape)
        return jnp.argmax(self.answers().reshape(self.features.shape[0], -1), axis=-1)

    def gradient(self, target: Any) -> Float[Array, "b h w d"]:
        """Returns the gradient of each image's score, `pick`'s, with respect to its features.

        Every method gets its gradients here, so that each can be asked about any target.
        """

        def total(features: Array) -> Array:
            return pick(self.classify(features), target).sum()

        found: Array = slope(total, self.features)
        return found


def slope(total: Callable[[Any], Array], at: Any) -> Any:
    """Returns `jax.grad(total)(at)`.

    Raises:
      UserError: if no gradient flows through the network.
    """
    try:
        return jax.grad(total)(at)
    except ValueError as error:
        if "Reverse-mode differentiation does not work" not in str(error):
            raise
        raise UserError(
            "no gradient flows through a loop of the network whose length is open "
            "(lax.while_loop); write it as lax.scan, or take a method without gradients, such as "
            "score_cam, ablation_cam, eigen_cam, occlusion or rise"
        ) from error


def split_model(model: nn.Module, variables: Variables, images: Float[Array, "b y x c"]) -> Split:
    """Cuts a network, as evaluation runs it, after one forward pass.

    F' is `Outputs.attended`. For `final_before_head=False` (DenseNet) the last BN and ReLU are part
    of `classify`. Any module that returns `Outputs` can be cut; its `classify` is known for what
    `create_model` builds.

    Raises:
      UserError: if the module gives something else, or the variables are another's.
    """
    name = type(model).__name__
    if not _takes_train(model):
        raise UserError(_NOT_OURS.format(name, "takes no train="))
    try:
        outputs = predict(model, variables, images)
    except FlaxError as error:
        reason = str(error).partition(" (https:")[0]
        raise UserError(f"the variables do not fit {name} on these images: {reason}") from error
    if not isinstance(outputs, Outputs):
        raise UserError(_NOT_OURS.format(name, f"returns a {type(outputs).__name__}"))
    return Split(
        features=outputs.attended.astype(jnp.float32), classify=_classifier(model, variables),
        images=images, network=lambda x: predict(model, variables, x).logits,
        weights=_weights(model, variables), attention=outputs.attention,
        unattended=outputs.features.astype(jnp.float32), logits=outputs.logits,
        again=lambda x: split_model(model, variables, x), kind=kind_of(model),
        classwise=model.head.drawn if isinstance(model, Classifier) and model.classwise else None,
    )  # fmt: skip


def _takes_train(model: nn.Module) -> bool:
    taken = inspect.signature(type(model).__call__).parameters.values()
    return any(p.name == "train" or p.kind is p.VAR_KEYWORD for p in taken)


def _classifier(model: nn.Module, variables: Variables) -> Callable[[Array], Array]:
    if not isinstance(model, Classifier):
        return _refuse(
            f"{type(model).__name__} does not tell how it classifies features; build the network "
            "with create_model, or give methods.draw a Split(features, classify) of your own"
        )
    if isinstance(model.head, ABNHead) and model.head.loss == "attention":
        return _refuse(
            "model.abn.loss=attention predicts from the attention branch, which never sees the "
            "features that are tapped; use method own"
        )
    return lambda x: cast(Array, model.apply(dict(variables), x, method="classify"))


def _weights(model: nn.Module, variables: Variables) -> Array | None:
    if isinstance(model, Classifier) and model.pools_linearly:
        # A column per logit; as_logits is linear, and CAM leaves the bias out.
        kernel: Array = variables["params"]["classifier"]["kernel"]
        return as_logits(model.loss, kernel, (0.0, model.number[1]))
    return None


def _refuse(why: str) -> Callable[[Array], Array]:
    def classify(features: Array) -> Array:
        raise UserError(why)

    return classify
