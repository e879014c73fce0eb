"""Flax Linen: a module and its variables."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import flax.linen as nn
from flax.errors import FlaxError, InvalidRngError, ModifyScopeVariableError
from jaxtyping import Array

from lficam_jax.errors import UserError, brief
from lficam_jax.interop.networks.attention import marking
from lficam_jax.interop.networks.modes import evaluation
from lficam_jax.interop.networks.program import Marker


@dataclass(frozen=True)
class Linen:
    """A module as evaluation runs it: `train=False` or what else its `__call__` takes."""

    module: nn.Module
    layouts: ClassVar[tuple[str, ...]] = ("NHWC", "NCHW")

    @classmethod
    def of(cls, module: nn.Module, variables: Any) -> tuple["Linen", Any]:
        """Returns the network and its weights."""
        if not isinstance(variables, Mapping) or "params" not in variables:
            found = [*variables] if isinstance(variables, Mapping) else variables
            raise UserError(
                "variables must be {'params': …}, as model.init returns them, not " + brief(found)
            )
        return cls(module), dict(variables)

    def __call__(self, weights: Any, images: Array, mark: Marker) -> Any:
        """Returns what the network answers, every layer marked."""

        def seen(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
            module, path = context.module, "/".join(context.module.path)
            if context.method_name != "__call__" or not path:
                return call(*args, **kwargs)
            if isinstance(module, nn.MultiHeadDotProductAttention):
                function = marking(module.attention_fn, path, mark)
                object.__setattr__(module, "attention_fn", function)  # of this call's copy
            return mark(path, type(module).__name__, call(*args, **kwargs))

        options: dict[str, Any] = dict(evaluation(self.module))
        with nn.intercept_methods(seen):
            try:
                return self.module.apply(weights, images, **options)
            except (ModifyScopeVariableError, InvalidRngError) as error:
                raise UserError(
                    f"{type(self.module).__name__} is in training mode: its BatchNorm or Dropout "
                    "would change with each batch; build it for evaluation (use_running_average="
                    "True, deterministic=True), or let its __call__ take train="
                ) from error
            except FlaxError as error:
                reason = str(error).partition(" (https:")[0]
                name = type(self.module).__name__
                raise UserError(f"the variables do not fit {name}: {reason}") from error


def name_of(network: nn.Module, layer: Any) -> str | None:
    """Returns the name of a submodule; None if it is none of the network's."""
    if not isinstance(layer, nn.Module):
        return None
    if layer.scope is not None:
        return "/".join(layer.path)
    named = [n for n, part in vars(network).items() if part is layer and n != "parent"]
    return named[0] if named else layer.name
