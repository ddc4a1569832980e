"""A headless Chromium without a network, driven over a pipe by the DevTools protocol: no driver, no port, no library.

The protocol: https://chromedevtools.github.io/devtools-protocol/; with ``--remote-debugging-pipe`` Chromium reads
commands from file descriptor 3 and writes answers and events to 4, JSON with a zero byte behind each.
"""

import base64
import contextlib
import fcntl
import io
import json
import os
import select
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",  # it does not start as root otherwise
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
    "--proxy-server=http://127.0.0.1:9",  # nobody there: also where the kernel gives us no network of our own
]
TIMEOUT_S = 120


def _isolation() -> list[str]:
    """Return the command before a command that takes its network away, as far as this machine allows it."""
    for prefix in (["unshare", "--net"], ["unshare", "--map-root-user", "--net"]):
        with contextlib.suppress(OSError):
            if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0:
                return prefix
    return []


class Browser:
    """One page of one browser; ``events`` are what the browser told since the page was opened."""

    def __init__(self, profile: Path) -> None:
        """``profile``: an empty folder for the browser's own files."""
        assert CHROMIUM is not None
        command = [*_isolation(), CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "about:blank"]
        (theirs_in, self._out), (self._in, theirs_out) = (map(_high, os.pipe()) for _ in range(2))
        quiet = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_WRONLY, 0) for fd in (1, 2)]
        moved = [(os.POSIX_SPAWN_DUP2, theirs_in, 3), (os.POSIX_SPAWN_DUP2, theirs_out, 4)]
        self._pid = os.posix_spawnp(command[0], command, os.environ, file_actions=quiet + moved, setpgroup=0)
        os.close(theirs_in)
        os.close(theirs_out)
        self._buffer = b""
        self._id = 0
        self.events: list[dict[str, Any]] = []
        self._session: dict[str, str] = {}
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._session = {"sessionId": session}
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Run a command of the protocol and return its result."""
        self._id += 1
        message = {"id": self._id, "method": method, "params": params, **self._session}
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._out, data) :]
        deadline = time.monotonic() + TIMEOUT_S
        while (answer := self._read(deadline)).get("id") != self._id:
            self.events.append(answer)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return dict(answer["result"])

    def _read(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, f"the browser did not answer within {TIMEOUT_S} s"
            data = os.read(self._in, 1 << 20)
            assert data, "the browser has gone"
            self._buffer += data
        message, self._buffer = self._buffer.split(b"\0", 1)
        return dict(json.loads(message))

    def open(self, path: Path, width: int = 1280, height: int = 900, scheme: str = "light") -> None:
        """Open a file in a window of this size, for a reader who prefers this colour scheme."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.prefer(scheme)
        self.events.clear()
        self.call("Page.navigate", url=path.absolute().as_uri())
        self.evaluate(
            "new Promise(done => document.readyState === 'complete' ? done() : addEventListener('load', done))"
        )

    def prefer(self, scheme: str) -> None:
        """Set the colour scheme that the reader prefers: light or dark."""
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression, of a promise its result."""
        found = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, f"{expression}: {found['exceptionDetails']}"
        return found["result"].get("value")

    def wait_for(self, condition: str) -> None:
        """Wait until a JavaScript expression is true."""
        poll = f"new Promise(done => {{ const ask = () => ({condition}) ? done(true) : setTimeout(ask, 20); ask(); }})"
        assert self.evaluate(poll)

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        """Send a mouse event, such as ``mouseMoved``, at a place in the window."""
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def click(self, x: float, y: float) -> None:
        """Click at a place in the window."""
        self.mouse("mouseMoved", x, y)
        for kind in ("mousePressed", "mouseReleased"):
            self.mouse(kind, x, y, button="left", clickCount=1)

    def screenshot(self, save: Path | None = None) -> np.ndarray:
        """Return the window's pixels, (height, width, 3) from 0 to 1; ``save``: also write them as PNG."""
        from matplotlib.image import imread

        data = base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])
        if save is not None:
            save.write_bytes(data)
        return np.asarray(imread(io.BytesIO(data)))[:, :, :3]

    def requests(self) -> list[str]:
        """Return the addresses that the page asked for."""
        return [e["params"]["request"]["url"] for e in self.events if e.get("method") == "Network.requestWillBeSent"]

    def problems(self) -> list[str]:
        """Return what the browser complained about: failed requests, errors, warnings and messages of scripts."""
        bad = {"Network.loadingFailed", "Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"}
        return [json.dumps(event["params"]) for event in self.events if event.get("method") in bad]

    def close(self) -> None:
        """End the browser and all its processes."""
        os.close(self._out)
        os.close(self._in)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)


def _high(descriptor: int) -> int:
    """Move a descriptor out of the way of those that the browser wants."""
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10)
    os.close(descriptor)
    return moved
