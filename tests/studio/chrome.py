"""Drives Debian's Chromium through the DevTools protocol, over two pipes: no driver and no port."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-prefers-reduced-motion",
    "--remote-debugging-pipe",
)
PATIENCE = 120.0  # seconds for what a browser and a model do on a busy machine


class Page:
    """One tab: its address, what is in it, what its console shows, and its keys."""

    def __init__(self, send: int, receive: int) -> None:
        self._send, self._receive = send, receive
        self._number, self._rest, self._session = 0, b"", ""
        self.console: list[str] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """The result of a method of the protocol; events that come before it are noted."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._send, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            self._note(answer)

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            more = os.read(self._receive, 65536)
            assert more, "the browser ended"
            self._rest += more
        line, _, self._rest = self._rest.partition(b"\0")
        return json.loads(line)

    def _note(self, event: dict[str, Any]) -> None:
        """Keep what a person would see in the console as an error."""
        params, kind = event.get("params", {}), event.get("method")
        if kind == "Runtime.exceptionThrown":
            self.console.append(json.dumps(params["exceptionDetails"])[:800])
        elif kind == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.console.append(json.dumps(params["args"])[:800])
        elif kind == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.console.append(json.dumps(params["entry"])[:800])

    def open(self, url: str) -> None:
        """Go to an address and wait until its document is there."""
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def run(self, script: str) -> Any:
        """The value of an expression."""
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, (script, found["exceptionDetails"])
        return found["result"].get("value")

    def until(self, script: str, patience: float = PATIENCE) -> Any:
        """The value of an expression, as soon as it is true."""
        end = time.monotonic() + patience
        while not (found := self.run(script)):
            assert time.monotonic() < end, (script, self.run("document.body.innerText")[:3000], self.console)
            time.sleep(0.05)
        return found

    def text(self, selector: str) -> str:
        """The text that is seen of an element."""
        return str(self.run(f"document.querySelector({selector!r}).innerText"))

    def click(self, selector: str) -> None:
        """Click on the middle of an element, as a mouse does, once it lies still and nothing covers it."""
        find = (
            f"(() => {{ const found = document.querySelector({selector!r}); found.scrollIntoView({{block: 'center'}});"
            " const {x, y, width, height} = found.getBoundingClientRect(); const at = [x + width / 2, y + height / 2];"
            " return found.contains(document.elementFromPoint(...at)) ? at : null; })()"
        )
        before, box, end = None, self.run(find), time.monotonic() + PATIENCE
        while box is None or box != before:  # pictures that arrive move what is below them
            assert time.monotonic() < end, (selector, "moves, or is covered")
            time.sleep(0.05)
            before, box = box, self.run(find)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

    def type(self, text: str) -> None:
        """Type into the field that has the focus, and wait until it holds the text."""
        self.until("'value' in document.activeElement")
        self.call("Input.insertText", text=text)
        self.until(f"document.activeElement.value?.includes({json.dumps(text)})")

    def press(self, key: str) -> None:
        """Press and release a key."""
        text = "\r" if key == "Enter" else key if len(key) == 1 else ""
        code = {"Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}.get(key)
        virtual = code if code is not None else ord(key.upper()) if len(key) == 1 else 0
        common = {"key": key, "windowsVirtualKeyCode": virtual}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **common)
        self.call("Input.dispatchKeyEvent", type="keyUp", **common)

    def look(self, file: Path, width: int, height: int, theme: str = "light") -> None:
        """Write a picture of the top of the page in a window of this size."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
        self.run("scrollTo(0, 0)")
        time.sleep(0.3)
        shot = self.call("Page.captureScreenshot", format="png")["data"]
        file.write_bytes(base64.b64decode(shot))


@contextlib.contextmanager
def browser(profile: Path) -> Iterator[Page]:
    """A page of a new browser; the test is skipped where there is none."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium")
    to_read, to_send = os.pipe()
    receive, to_answer = os.pipe()
    command = [CHROMIUM, *QUIET, f"--user-data-dir={profile}", "about:blank"]
    # The protocol's pipes are descriptors 3 and 4, which a shell sets; this process may have others there.
    high = [fcntl.fcntl(each, fcntl.F_DUPFD, 10) for each in (to_read, to_answer)]
    script = f'exec 3<&{high[0]} 4>&{high[1]} {high[0]}<&- {high[1]}>&-; exec "$@"'
    process = subprocess.Popen(
        ["bash", "-c", script, "chromium", *command],
        pass_fds=high,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    for each in (to_read, to_answer, *high):
        os.close(each)
    try:
        yield Page(to_send, receive)
    finally:
        os.close(to_send)
        os.close(receive)
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
