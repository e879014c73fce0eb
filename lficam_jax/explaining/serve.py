"""Serves the page on this machine alone, the network run by jax: no WebAssembly is needed."""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import numpy as np
from jaxtyping import UInt8

from lficam_jax import structs
from lficam_jax.data import dataset_info
from lficam_jax.errors import UserError
from lficam_jax.explaining.explain import explain
from lficam_jax.explaining.explanation import Explanation
from lficam_jax.explaining.live import MOST_PIXELS, page
from lficam_jax.interop.export.program import program

HOST = "127.0.0.1"


class PageServer(ThreadingHTTPServer):
    """Serves the page at `HOST`, which nobody but this machine reaches, one picture at a time.

    Each connection has a thread: a browser opens some ahead and sends nothing.

    Args:
      run: the network.
      port: 0: one that is free.

    Attributes:
      html: the page.

    Raises:
      UserError: if the port is taken.
    """

    def __init__(self, run: structs.Run, port: int) -> None:
        self._run, self._info, self._turn = run, dataset_info(run.config.data), threading.Lock()
        self.html = page(run, program(run), {}, "'unsafe-inline'", "'self'").encode()
        try:
            super().__init__((HOST, port), _Handler)
        except OSError as error:
            raise UserError(f"--port {port}: {error.strerror}; choose another, or 0") from error

    def look(self, pixels: UInt8[np.ndarray, "y x 3"]) -> Explanation:
        """Returns what the network says of a picture, and where it looked."""
        run = self._run
        with self._turn:
            (told,) = explain(
                run.model, run.variables, pixels, preprocess=self._info,
                align=run.config.explain.align,
            )  # fmt: skip
        return told

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing of a browser that left before its answer came."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: "PageServer"
    timeout = 60  # seconds that a connection may say nothing

    def do_GET(self) -> None:
        if self._foreign():
            self._refuse()
        elif self._path() == "/":
            self._answer(200, "text/html; charset=utf-8", self.server.html)
        else:
            self._answer(404, "text/plain", b"there is one page: /")

    def do_POST(self) -> None:
        if self._foreign():
            self._refuse()
            return
        pixels = self._pixels() if self._path() == "/explain" else None
        if pixels is None:
            self._answer(400, "text/plain", b"pixels are uint8 [height width 3]")
            return
        try:
            told = self.server.look(pixels)
        except UserError as error:  # a network that answers NaN, say
            self._answer(422, "text/plain", str(error).encode())
            return
        found = {
            "probabilities": told.probabilities.tolist(), "map": told.map.ravel().tolist(),
            "grid": told.map.shape,
        }  # fmt: skip
        self._answer(200, "application/json", json.dumps(found).encode())

    def _path(self) -> str:
        return self.path.partition("?")[0]

    def _foreign(self) -> bool:
        """Tells whether another site's page asks through this browser.

        It would come under that site's name, as Origin, or as Host if the name was made to lead
        here (DNS rebinding). A program that is no browser sends no Origin.
        """
        host = self.headers.get("Host", "")
        ours = host.partition(":")[0] in (HOST, "localhost")
        return not ours or self.headers.get("Origin", f"http://{host}") != f"http://{host}"

    def _refuse(self) -> None:
        told = f"this is for http://{HOST}:{self.server.server_port}/ alone"
        self._answer(403, "text/plain", told.encode())

    def _pixels(self) -> np.ndarray | None:
        asked = parse_qs(self.path.partition("?")[2])
        try:
            height, width = (int(asked[name][0]) for name in ("height", "width"))
            length = int(self.headers["Content-Length"])
        except (KeyError, TypeError, ValueError):
            return None
        fits = 0 < height <= MOST_PIXELS and 0 < width <= MOST_PIXELS
        if not fits or length != 3 * height * width:
            return None
        content = self.rfile.read(length)
        if len(content) < length:
            return None
        return np.frombuffer(content, np.uint8).reshape(height, width, 3)

    def _answer(self, code: int, kind: str, content: bytes) -> None:
        self.send_response(code)
        for name, value in (("Content-Type", kind), ("Content-Length", str(len(content)))):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing of single requests."""
        return
