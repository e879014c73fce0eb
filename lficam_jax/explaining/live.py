"""A page that thinks for itself: the network runs in the browser; nothing leaves the machine."""

import gzip
import json
import os
import re
from html import escape
from pathlib import Path
from typing import Any

from lficam_jax import structs
from lficam_jax.data.builders.archives import Archive, download, read_tar
from lficam_jax.errors import UserError
from lficam_jax.explaining import render
from lficam_jax.explaining.report import read_part, style
from lficam_jax.interop.export.onnx_file import onnx_bytes
from lficam_jax.interop.export.program import Program, program
from lficam_jax.workdir.results import write_file

_VERSION = "1.30.0"
RUNTIME = Archive(  # Microsoft's, under the MIT licence; what runs ONNX in a browser
    f"onnxruntime-web-{_VERSION}.tgz",
    f"https://registry.npmjs.org/onnxruntime-web/-/onnxruntime-web-{_VERSION}.tgz", 33_106_585,
    "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71",
)  # fmt: skip
_PARTS = ("ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
ALONE = "'unsafe-inline' 'wasm-unsafe-eval' blob:"  # scripts of a page that runs the network
HINTS = {  # by data set: what is drawn otherwise than its pictures is misread
    "cluttered_digits": "This network knows digits about half as tall as the picture, and a 7 with "
    "a bar through its stem."
}
MOST_PIXELS = 1024  # of the longer side; a larger picture is scaled down by the browser


def save_live(run: structs.Run, path: Path, runtime: str | Path = "") -> list[Path]:
    """Writes the page: one file with the network and what runs it.

    Args:
      run: the network.
      path: of the page.
      runtime: the file `RUNTIME.name`, as npm offers it; '': it is downloaded once.

    Raises:
      UserError: if the runtime cannot be had or is another, or the network cannot be exported.
    """
    made = program(run)
    parts = _runtime(runtime)
    data = {
        "model": _packed(onnx_bytes(made)), "wasm": _packed(parts[_PARTS[2]]),
        "module": render.base64_text(parts[_PARTS[1]]),
    }  # fmt: skip
    text = parts[_PARTS[0]].decode().replace("</script", "<\\/script")
    return [write_file(path, page(run, made, data, ALONE, "'none'", text))]


def page(
    run: structs.Run, made: Program, data: dict[str, Any], scripts: str, connect: str,
    runtime: str = "",
) -> str:  # fmt: skip
    """Returns the page.

    Args:
      run: the network.
      made: its program.
      data: what it runs with.
      scripts: that the browser may run, as a Content-Security-Policy says it.
      connect: where it may ask, likewise.
      runtime: onnxruntime-web's script, if the page runs the network.
    """
    place = made.about["place"]
    whole = data | made.about | {
        "colors": {n: render.base64_text(render.palette(n).tobytes()) for n in render.COLOR_MAPS},
        "blend": "fade", "blends": render.BLENDS, "places": [place] if place else [],
        "most": MOST_PIXELS,
    }  # fmt: skip
    values = {
        "title": escape(f"Where {run.name or run.title} looks"),
        "policy": f"img-src data: blob:; style-src 'unsafe-inline'; script-src {scripts}; "
                  f"connect-src {connect}",
        "style": style() + read_part("live.css"), "runtime": runtime,
        "hint": HINTS.get(run.config.data.name, ""),
        "script": read_part("maps.js") + read_part("live.js"),
        "data": json.dumps(whole, allow_nan=False).replace("<", "\\u003c"),
    }  # fmt: skip
    template = read_part("head.html") + read_part("live.html")
    return re.sub(r"{{(\w+)}}", lambda found: values[found[1]], template)


def _packed(content: bytes) -> str:
    return render.base64_text(gzip.compress(content, 9, mtime=0))


def _runtime(file: str | Path) -> dict[str, bytes]:
    """Returns the files of onnxruntime-web that a page needs."""
    if file:
        path = Path(file)
        if not path.is_file():
            wanted = f"{RUNTIME.name} from {RUNTIME.url}"
            raise UserError(f"--runtime {path}: no such file; get {wanted}")
    else:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        try:
            path = download([RUNTIME], Path(home) / "lficam_jax")[RUNTIME.name]
        except UserError as error:
            told = str(error).replace("--from", "--runtime FILE")
            raise UserError(told) from None
    try:
        found = read_tar(path, _PARTS)
    except Exception as error:  # a damaged archive fails in any way
        raise UserError(f"{path} is damaged, or not {RUNTIME.name} ({error})") from None
    if missing := [name for name in _PARTS if name not in found]:
        raise UserError(f"{path} lacks {', '.join(missing)}; it should be {RUNTIME.name}")
    return found
