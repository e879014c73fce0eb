"""What a config amounts to, before any data: layers, parameters, FLOPs, memory, steps."""

import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from lficam_jax.config.size import told
from lficam_jax.data import Dataset, counts, dataset_info, train_examples
from lficam_jax.data.sampling import fitting
from lficam_jax.models.classifier import Classifier, predict
from lficam_jax.structs import Variables
from lficam_jax.training.experiment import initial_variables, make_model, make_recipe

BARS = "▁▂▃▄▅▆▇█"


def describe(config: ConfigDict) -> dict[str, Any]:
    """Returns what can be known from the config alone, without drawing a single weight.

    Returns:
      `layers`: rows (name, output shape of one image, parameters), in the order of execution;
      `parameters`: of `backbone`, `fin`, `head` (the rest of it and the classifier) and `total`;
      `flops_per_image`: of one forward pass, an addition and a multiplication counted apart;
      `bytes`: of the training `state` and of the `activations` of one training batch, an estimate
      from the outputs of all layers; `steps_per_epoch`, `total_steps`, `learning_rate` (60 points).
    """
    info = dataset_info(config.data)
    model = make_model(config, info)
    variables, rows, activations = _layers(lambda: initial_variables(model, config, info))
    examples = train_examples(config.data)
    batch = fitting(
        config.train.batch_size, examples, jax.device_count() * config.optim.accumulate
    )  # fmt: skip
    per_epoch = examples // batch
    recipe = make_recipe(config, per_epoch)
    state = jax.eval_shape(recipe.state, variables)
    points = np.linspace(0, max(0, recipe.total_steps - 1), 60).astype(int)
    return {
        "model": f"{config.model.backbone}-{config.model.depth}, {config.model.head} head",
        "data": _data(info, examples),
        "layers": rows,
        "parameters": parameter_groups(variables["params"]),
        "flops_per_image": _flops(model, variables, info.size),
        "bytes": {
            "state": _bytes(state), "activations": activations * batch
        },
        "steps_per_epoch": per_epoch,
        "total_steps": recipe.total_steps,
        "learning_rate": [float(recipe.learning_rate(int(p))) for p in points],
    }  # fmt: skip


def parameter_groups(params: Any) -> dict[str, int]:
    """Counts trainable parameters: backbone, FIN, and the rest of the head with the classifier."""
    counts = {name: _count(tree) for name, tree in params.items()}
    fin = _count(params.get("head", {}).get("fin", {}))
    head = counts.get("head", 0) + counts["classifier"] - fin
    total = sum(counts.values())
    return {"backbone": total - fin - head, "fin": fin, "head": head, "total": total}


def text(found: dict[str, Any]) -> str:
    """Writes what `describe` found for people."""
    parameters, size = found["parameters"], found["bytes"]
    shapes = [(n, "x".join(map(str, s)), f"{c:,}") for n, s, c in found["layers"]]
    rows = [("layer", "output", "parameters"), *shapes]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    lines = [f"{found['model']}; {found['data']}", ""]
    lines += [f"{a:<{widths[0]}}  {b:>{widths[1]}}  {c:>{widths[2]}}" for a, b, c in rows]
    groups = ", ".join(f"{name} {n:,}" for name, n in parameters.items() if name != "total")
    rate = found["learning_rate"]
    lines += [
        "",
        f"parameters     {parameters['total']:,} ({groups})",
        f"FLOPs          {found['flops_per_image'] / 1e9:.3f} G per image and forward pass",
        f"memory         {_mebi(size['state'])} of weights and optimiser; about "
        f"{_mebi(size['activations'])} of layer outputs in a training batch, over all devices",
        f"steps          {found['total_steps']:,} ({found['steps_per_epoch']:,} per epoch)",
        f"learning rate  {sparkline(rate)}  peak {max(rate):g}, end {rate[-1]:.3g}",
    ]
    return "\n".join(lines)


def sparkline(values: list[float]) -> str:
    """Draws values as bars; the largest is full, zero is the lowest.

    >>> sparkline([0, 1, 2, 4])
    '▁▃▅█'
    """
    top = max(values) or 1
    return "".join(BARS[min(7, math.ceil(v / top * 7))] for v in values)


def _layers(
    init: Callable[[], Variables],
) -> tuple[Variables, list[tuple[str, tuple[int, ...], int]], int]:
    """Returns the shapes that `init` draws, the table's rows, and bytes of one image's outputs."""
    seen: list[tuple[tuple[str, ...], Any]] = []

    def record(call: Any, args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        output = call(*args, **kwargs)
        if context.method_name == "__call__":
            seen.append((context.module.path, output))
        return output

    with nn.intercept_methods(record):
        variables = jax.eval_shape(init)
    arrays = {path: out for path, out in seen if hasattr(out, "shape")}
    inner = {path[:i] for path in arrays for i in range(len(path))}
    leaves = [out for path, out in arrays.items() if path not in inner]
    rows = [
        ("/".join(path), tuple(out.shape[1:]), _count(_at(variables["params"], path)))
        for path, out in arrays.items()
        if len(path) == (2 if path[0] in ("trunk", "head") else 1)
    ]
    return variables, rows, sum(out.size * out.dtype.itemsize for out in leaves)


def _flops(model: Classifier, variables: Variables, size: tuple[int, int]) -> float:
    """Counts additions and multiplications of one image's forward pass, as XLA does."""
    image = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
    forward = jax.jit(lambda v, x: predict(model, v, x).logits)
    counted: Any = forward.lower(variables, image).cost_analysis()
    return float(counted["flops"])


def _at(params: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        params = params.get(name, {})
    return params


def _data(info: Dataset, examples: int) -> str:
    size = told(info.image_size)
    return f"{info.name}, {counts.answers(info)} at {size}, {examples:,} training images"


def _count(tree: Any) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def _bytes(tree: Any) -> int:
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _mebi(count: int) -> str:
    return f"{count / 2**20:,.1f} MiB"
