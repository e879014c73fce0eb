"""A network as StableHLO: a file that a program with jax alone loads and runs."""

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import export

from lficam_jax.errors import UserError
from lficam_jax.interop.export.program import Program
from lficam_jax.workdir.results import write_file

PLATFORMS = ("cpu", "cuda", "tpu")


def open_shape() -> Any:
    """Returns the shape of pictures whose count, rows and columns stay open."""
    batch, rows, columns = export.symbolic_shape("b, y, x")
    return jax.ShapeDtypeStruct((batch, rows, columns, 3), jnp.uint8)


def save_stablehlo(program: Program, path: Path) -> list[Path]:
    """Writes the program for `PLATFORMS`, and beside it what `Program.about` tells, as JSON.

    Args:
      program: what is exported.
      path: of the file; the other has its name and `.json`.

    Returns:
      Both files.

    Raises:
      UserError: if they cannot be written.
    """
    exported = export.export(jax.jit(program.call), platforms=PLATFORMS)(open_shape())
    beside = path.with_suffix(".json")
    try:
        content = exported.serialize()
    except ImportError:
        told = "StableHLO's file needs the package flatbuffers: pip install 'lficam_jax[export]'"
        raise UserError(told) from None
    return [
        write_file(path, bytes(content)),
        write_file(beside, json.dumps(program.about, indent=2) + "\n"),
    ]
