"""A real Chromium without a window, driven over its DevTools protocol. Knows the protocol; no page of ours."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
WAIT_S, POLL_S = 90.0, 0.05
OPTIONS = (
    *("--headless=new", "--remote-debugging-port=0", "--no-first-run", "--disable-gpu", "--hide-scrollbars"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage"),
)


def program() -> str | None:
    """The browser's command, where there is one."""
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


@contextlib.contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """Run a browser whose profile is in `folder`."""
    command = program()
    assert command is not None
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []
    port_file = folder / "DevToolsActivePort"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [command, *OPTIONS, *sandbox, f"--user-data-dir={folder}", "about:blank"],
            stdout=log,
            stderr=log,
            start_new_session=True,  # its helpers go with it
        )
    try:
        until(lambda: port_file.exists() and port_file.read_text().count("\n") == 1)
        yield Browser(int(port_file.read_text().splitlines()[0]))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def until(condition: Callable[[], Any]) -> Any:
    """Wait for something, within reason; return what it is."""
    give_up_s = time.monotonic() + WAIT_S
    while not (found := condition()):
        assert time.monotonic() < give_up_s, f"waited for {WAIT_S:g} s in vain"
        time.sleep(POLL_S)
    return found


@dataclass(frozen=True)
class Browser:
    """One that runs."""

    port: int

    @contextlib.contextmanager
    def tab(self, width: int = 1440, height: int = 900, scheme: str = "light") -> Iterator[Tab]:
        """A new tab of that size, in CSS pixels, and colour scheme."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/json/new", method="PUT")
        with urllib.request.urlopen(request, timeout=WAIT_S) as reply:  # noqa: S310 (ours)
            target = json.load(reply)
        with connect(target["webSocketDebuggerUrl"], max_size=None) as socket:
            tab = Tab(socket)
            for domain in ("Page", "Runtime", "Log", "Network"):
                tab.command(f"{domain}.enable")
            tab.resize(width, height)
            tab.scheme(scheme)
            yield tab
            tab.command("Page.close")


@dataclass
class Tab:
    """One tab. `faults`: what its console and its security policy complained of."""

    socket: ClientConnection
    faults: list[str] = field(default_factory=list)
    requested: list[str] = field(default_factory=list)  # URLs
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def command(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result."""
        number = next(self._numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.recv(timeout=WAIT_S))
            if message.get("id") == number:
                assert "error" not in message, message
                return dict(message["result"])
            self._note(message)

    def open(self, url: str) -> None:
        """Go to an address."""
        self.command("Page.navigate", url=url)
        until(lambda: self.ask("document.readyState") == "complete")

    def ask(self, expression: str) -> Any:
        """Evaluate JavaScript; await what it promises."""
        found = self.command("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def text(self, selector: str) -> str:
        """The text that an element shows; nothing where there is none."""
        return str(self.ask(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''"))

    def wait(self, expression: str) -> Any:
        """Wait until an expression is true."""
        return until(lambda: self.ask(expression))

    def click(self, selector: str) -> None:
        """Click on an element as its user would: it has to be there and in sight."""
        self.ask(f"document.querySelector({json.dumps(selector)}).scrollIntoView({{block: 'center'}})")
        box = self.ask(
            f"(() => {{ const box = document.querySelector({json.dumps(selector)}).getBoundingClientRect();"
            " return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.command("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

    def press(self, key: str, code: int, text: str = "") -> None:
        """Press a key and let it go; `code` is its Windows virtual key code."""
        shared = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.command("Input.dispatchKeyEvent", type="keyDown", **shared, **({"text": text} if text else {}))
        self.command("Input.dispatchKeyEvent", type="keyUp", **shared)

    def write(self, text: str) -> None:
        """Type text into what has the focus."""
        self.command("Input.insertText", text=text)

    def resize(self, width: int, height: int, scale: float = 1) -> None:
        """Give the tab another size."""
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=False
        )

    def scheme(self, name: str) -> None:
        """Prefer `light` or `dark`."""
        self.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def offline(self, *, cut: bool) -> None:
        """Cut the tab off from every server, or let it come back."""
        self.command(
            "Network.emulateNetworkConditions", offline=cut, latency=0, downloadThroughput=-1, uploadThroughput=-1
        )

    def names(self) -> list[tuple[str, str]]:
        """Role and name of all that a screen reader is told of."""
        nodes = self.command("Accessibility.getFullAXTree")["nodes"]
        return [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node["ignored"]]

    def screenshot(self, file: Path) -> None:
        """Write a PNG of what is in sight."""
        file.write_bytes(base64.b64decode(self.command("Page.captureScreenshot", format="png")["data"]))

    def _note(self, message: dict[str, Any]) -> None:
        """Keep complaints and requests."""
        details = message.get("params", {})
        if message["method"] == "Runtime.exceptionThrown":
            self.faults.append(str(details["exceptionDetails"]))
        if message["method"] == "Log.entryAdded" and details["entry"]["level"] == "error":
            self.faults.append(f"{details['entry']['text']} {details['entry'].get('url', '')}")
        if message["method"] == "Network.requestWillBeSent":
            self.requested.append(details["request"]["url"])
