"""Chromium without a window, driven over a pipe: real keys, real pixels, every error seen.

Source of the messages: https://chromedevtools.github.io/devtools-protocol/
"""

import base64
import io
import json
import os
import re
import subprocess
import time
from pathlib import Path

import numpy as np
from PIL import Image

KEYS = {"Enter": 13, "Escape": 27, "End": 35, "Home": 36, "ArrowLeft": 37, "ArrowUp": 38,
        "ArrowRight": 39, "ArrowDown": 40, "Tab": 9}  # fmt: skip


class Browser:
    """One page at a time. `errors` holds what went wrong in it: exceptions, what it logged."""

    def __init__(self, profile: Path):
        inward, self._out = os.pipe()
        self._in, outward = os.pipe()
        words = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
                 "--disable-background-networking", "--hide-scrollbars",
                 "--remote-debugging-pipe", f"--user-data-dir={profile}",
                 "about:blank"]  # fmt: skip
        # Chromium reads from descriptor 3 and writes to 4.
        script = f'exec "$@" 3<&{inward} 4>&{outward}'
        self._process = subprocess.Popen(
            ["bash", "-c", script, "-", *words], pass_fds=(inward, outward),
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(inward)
        os.close(outward)
        self._count, self._rest, self._session, self.errors = 0, b"", None, []
        page = self._send("Target.createTarget", url="about:blank")["targetId"]
        attached = self._send("Target.attachToTarget", targetId=page, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self._send(f"{domain}.enable")

    def open(self, path, width=1200, height=900, dark=False):
        """Loads a file, in a window of some size, with the light or the dark scheme."""
        self.errors.clear()
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._send("Emulation.setEmulatedMedia", features=[scheme])
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self._send("Emulation.setDeviceMetricsOverride", **size)
        self._send("Page.navigate", url=path.as_uri())
        self.wait("document.readyState === 'complete' && location.protocol === 'file:'")
        self.settle()

    def run(self, expression):
        """Returns the value of an expression, awaited if it is a promise."""
        asked = {"expression": expression, "awaitPromise": True, "returnByValue": True}
        answer = self._send("Runtime.evaluate", **asked)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def settle(self):
        """Lets the page draw what it has asked to be drawn."""
        self.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def wait(self, expression, seconds=20):
        """Waits until an expression is true."""
        end = time.monotonic() + seconds
        while not self.run(expression):
            assert time.monotonic() < end, f"never: {expression}"
            time.sleep(0.02)

    def press(self, *keys):
        """Types keys as a person would."""
        for key in keys:
            text = {"text": "\r"} if key == "Enter" else {"text": key} if len(key) == 1 else {}
            about = {"key": key, "windowsVirtualKeyCode": KEYS.get(key, 0)}
            self._send("Input.dispatchKeyEvent", type="keyDown", **about, **text)
            self._send("Input.dispatchKeyEvent", type="keyUp", **about)
        self.settle()

    def pixels(self, where):
        """Returns uint8 [y x 3]: how the first element that fits a selector looks."""
        box = self.run(
            f"(() => {{ const e = document.querySelector({json.dumps(where)}); "
            "e.scrollIntoView({ block: 'center' }); const { left, top, width, height } = "
            "e.getBoundingClientRect(); return { x: left + scrollX, y: top + scrollY, width, "
            "height }; })()"
        )
        self.settle()
        shot = self._send("Page.captureScreenshot", clip=box | {"scale": 1})["data"]
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(shot))).convert("RGB"))

    def print(self):
        """Prints the page as PDF and returns how many sheets it takes."""
        sheets = base64.b64decode(self._send("Page.printToPDF", printBackground=True)["data"])
        return sheets.count(b"/Type /Page\n") + sheets.count(b"/Type /Page/")

    def close(self):
        """Ends the browser."""
        self._process.terminate()
        self._process.wait(10)
        os.close(self._in)
        os.close(self._out)

    def _send(self, method, **parameters):
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while (answer := self._read()).get("id") != self._count:
            self._note(answer)
        assert "error" not in answer, answer
        return answer["result"]

    def _read(self):
        while b"\0" not in self._rest:
            part = os.read(self._in, 1 << 20)
            assert part, "chromium has ended"
            self._rest += part
        line, self._rest = self._rest.split(b"\0", 1)
        return json.loads(line)

    def _note(self, event):
        about = event.get("params", {})
        if event["method"] == "Runtime.exceptionThrown":
            self.errors.append(about["exceptionDetails"])
        elif event["method"] == "Log.entryAdded" and about["entry"]["level"] == "error":
            self.errors.append(about["entry"]["text"])
        elif event["method"] == "Runtime.consoleAPICalled" and about["type"] == "error":
            self.errors.append(about["args"])


def contrast(*colors):
    """The ratio of two CSS colours, 1 to 21. Source: WCAG 2.1."""
    parts = np.array([re.findall(r"\d+", color)[:3] for color in colors], float) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    low, high = sorted(linear @ [0.2126, 0.7152, 0.0722])
    return (high + 0.05) / (low + 0.05)
