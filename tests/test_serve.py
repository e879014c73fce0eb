"""The page as a program serves it: one machine, one picture at a time."""

import http.client
import json
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


def ask(port, kind, path, body=None, host=HOST):
    connection = http.client.HTTPConnection(HOST, port, timeout=60)
    connection.request(kind, path, body, {"Host": f"{host}:{port}"})
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


@pytest.mark.parametrize(
    ("path", "body", "host"),
    [
        ("/explain?height=3&width=40", b"short", HOST),
        ("/explain?height=0&width=0", b"", HOST),
        ("/explain?height=99999&width=99999", b"x", HOST),
        ("/explain?height=a", b"x", HOST),
        ("/explain", b"x", HOST),
        ("/explain?height=1&width=1", b"abc", "evil.example"),  # a page of another site
    ],
)
def test_what_is_no_picture_is_refused(port, path, body, host):
    assert ask(port, "POST", path, body, host)[0] == 400


def test_another_sites_name_gets_no_page(port):
    assert ask(port, "GET", "/", host="evil.example")[0] == 404


def test_a_taken_port_is_told(port, run):
    with pytest.raises(lfi.UserError, match=f"--port {port}: .*choose another"):
        PageServer(run, port)
