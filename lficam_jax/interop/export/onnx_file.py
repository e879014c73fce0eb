"""A network as ONNX: one file for onnxruntime, in any language, and in browsers."""

import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from lficam_jax.errors import UserError
from lficam_jax.interop.export.onnx_graph import OPSET, Graph, walk
from lficam_jax.interop.export.onnx_rules import RULES
from lficam_jax.interop.export.program import OUTPUTS, Program
from lficam_jax.interop.export.stablehlo import open_shape
from lficam_jax.workdir.results import write_file

KEY = "lficam_jax"  # of the model's metadata: `Program.about` as JSON
IR_VERSION = 9  # the first that knows the opset; older runtimes read it, too


def onnx_bytes(program: Program) -> bytes:
    """Returns the program as an ONNX model.

    Its input `images` is uint8 `[b y x 3]`, of any size; its outputs are `logits` and
    `probabilities` `[b k]` and `map` `[b h w]`, float32.

    Raises:
      UserError: if the package onnx is not installed, or the network has an operation that is not
        known.
    """
    try:
        import onnx
    except ImportError:
        raise UserError("ONNX needs the package onnx: pip install 'lficam_jax[export]'") from None
    helper, graph, given = onnx.helper, Graph(), open_shape()
    traced, shapes = jax.make_jaxpr(program.call, return_shape=True)(given)
    body = traced.jaxpr.replace(
        constvars=(), invars=[*traced.jaxpr.constvars, *traced.jaxpr.invars]
    )
    graph.tell_sizes("images", given.shape)
    found = walk(graph, body, [*map(np.asarray, traced.consts), "images"], RULES)
    results = jax.tree.unflatten(jax.tree.structure(shapes), found)
    for name in OUTPUTS:
        graph.nodes.append(helper.make_node("Identity", [graph.name(results[name])], [name]))
    model = helper.make_model(
        helper.make_graph(
            graph.nodes, "lficam_jax", [_info(onnx, "images", given)],
            [_info(onnx, name, shapes[name]) for name in OUTPUTS],
            [onnx.numpy_helper.from_array(a, name) for name, a in graph.constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", OPSET)], producer_name="lficam_jax",
        ir_version=IR_VERSION,
    )  # fmt: skip
    helper.set_model_props(model, {KEY: json.dumps(program.about)})
    content: bytes = model.SerializeToString()
    return content


def _info(onnx: Any, name: str, value: Any) -> Any:
    sizes = [size if isinstance(size, int) else str(size) for size in value.shape]
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(value.dtype))
    return onnx.helper.make_tensor_value_info(name, kind, sizes)


def save_onnx(program: Program, path: Path) -> list[Path]:
    """Writes the program as an ONNX model.

    Raises:
      UserError: as `onnx_bytes` does, or if it cannot be written.
    """
    return [write_file(path, onnx_bytes(program))]
