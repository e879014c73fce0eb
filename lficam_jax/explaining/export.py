"""Takes a trained network out of this package: one call, whatever the format."""

from collections.abc import Callable
from pathlib import Path

from lficam_jax import structs
from lficam_jax.errors import UserError, check_path, check_word
from lficam_jax.explaining.live import save_live
from lficam_jax.interop.export.onnx_file import save_onnx
from lficam_jax.interop.export.program import program
from lficam_jax.interop.export.stablehlo import save_stablehlo
from lficam_jax.interop.export.weights import save_weights

ENDINGS = {
    "stablehlo": ".stablehlo", "onnx": ".onnx", "safetensors": ".safetensors", "page": ".html",
}  # fmt: skip


def export(
    run: structs.Run, to: str, out: str | Path = "", *, runtime: str | Path = ""
) -> list[Path]:
    """Writes a network in a format that others read (docs/export.md).

    Args:
      run: the network.
      to: stablehlo, onnx, safetensors or page.
      out: the file; '': `export/model.*` in the run's folder, or in one that is called like the
        pretrained network.
      runtime: of a page, the file of onnxruntime-web; '': it is downloaded once.

    Returns:
      The files.

    Raises:
      UserError: for an unknown format or a file name of another kind; if a package or the runtime
        is missing, or the network has an operation that the format lacks.
    """
    check_word("to", to, list(ENDINGS))
    if runtime and to != "page":
        raise UserError(f"runtime={runtime} is what a page runs with; leave it out of {to}")
    path = check_path("out", out) if out else _default(run) / f"model{ENDINGS[to]}"
    if path.suffix != ENDINGS[to] or path.is_dir():
        raise UserError(f"out={path} must be a file that ends in {ENDINGS[to]}")
    if to == "safetensors":
        return save_weights(run, path)
    if to == "page":
        return save_live(run, path, runtime)
    save: Callable[..., list[Path]] = save_stablehlo if to == "stablehlo" else save_onnx
    return save(program(run), path)


def _default(run: structs.Run) -> Path:
    return (run.workdir or Path(run.slug)) / "export"
