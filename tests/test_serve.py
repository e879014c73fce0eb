"""The page as a program serves it: one machine, one picture at a time."""

import http.client
import json
import socket
import struct
import threading

import numpy as np
import pytest

import lficam_jax as lfi
from lficam_jax.explaining.serve import HOST, PageServer


@pytest.fixture(scope="module")
def port(run):
    with PageServer(run, 0) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running.server_port
        running.shutdown()
        thread.join()


def ask(port, kind, path, body=None, host=HOST, **more):
    connection = http.client.HTTPConnection(HOST, port, timeout=60)
    connection.request(kind, path, body, {"Host": f"{host}:{port}", **more})
    answer = connection.getresponse()
    return answer.status, answer.read()


def test_a_picture_gets_the_answers_of_python(port, run):
    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    status, content = ask(port, "POST", "/explain?height=30&width=40", image.tobytes())
    found, (told,) = json.loads(content), run.explain(image)
    assert status == 200 and found["grid"] == list(told.map.shape)
    np.testing.assert_allclose(found["probabilities"], told.probabilities, atol=1e-6)
    np.testing.assert_allclose(found["map"], told.map.ravel(), atol=1e-6)


def test_the_page_asks_this_program_alone(port):
    status, page = ask(port, "GET", "/")
    assert status == 200 and b"connect-src 'self'\"" in page and b"{{" not in page
    assert ask(port, "GET", "/etc/passwd")[0] == 404


def test_a_connection_that_says_nothing_stops_nobody(port, capfd):
    """Browsers open some ahead; one that leaves before its answer is not told of."""
    with socket.create_connection((HOST, port)), socket.create_connection((HOST, port)) as left:
        left.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        left.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        left.close()
        assert ask(port, "GET", "/")[0] == 200
    assert ask(port, "GET", "http://[/")[0] == 404
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/explain?height=3&width=40", b"short"),
        ("/explain?height=0&width=0", b""),
        ("/explain?height=99999&width=99999", b"x"),
        ("/explain?height=a", b"x"),
        ("/explain", b"x"),
    ],
)
def test_what_is_no_picture_is_refused(port, path, body):
    assert ask(port, "POST", path, body)[0] == 400


@pytest.mark.parametrize(
    "sent",
    [
        b"POST /explain?height=9&width=9 HTTP/1.1\nHost: localhost\nContent-Length: 243\n\nx",
        b"GET //[ HTTP/1.1\nHost: localhost\n\n", b"GET /" + b"a" * 70_000,
    ],
)  # fmt: skip
def test_half_a_request_is_refused_without_a_word(port, capfd, sent):
    with socket.create_connection((HOST, port)) as client:
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        assert b" 4" in client.recv(99)  # 400, 404, 414
    assert ask(port, "GET", "/")[0] == 200
    assert "Traceback" not in capfd.readouterr().err


def test_a_page_of_another_site_is_refused(port):
    """Whose name leads here, whose script asks, or that is a local file."""
    picture = {"kind": "POST", "path": "/explain?height=1&width=1", "body": b"abc"}
    assert ask(port, "GET", "/", host="evil.example")[0] == 403
    assert ask(port, **picture, host="evil.example")[0] == 403
    for origin in ("http://evil.example", "null", f"http://{HOST}:1", f"https://{HOST}:{port}"):
        assert ask(port, **picture, Origin=origin)[0] == 403
    assert ask(port, "GET", "/", Host=HOST)[0] == 200  # as a browser asks at port 80
    for host in (HOST, "localhost"):
        assert ask(port, **picture, host=host, Origin=f"http://{host}:{port}")[0] == 200


def test_a_taken_port_is_told(port, run):
    with pytest.raises(lfi.UserError, match=f"--port {port}: .*choose another"):
        PageServer(run, port)
