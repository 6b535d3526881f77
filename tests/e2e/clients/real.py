"""Puts real clients into environments of their own and drives robots with them, an order at a time.

Knows pins and processes; not what a client says on the wire: that is the programs' beside it. Loaded by path.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

HERE = Path(__file__).parent
INSTALL_S, ANSWER_S = 600.0, 120.0  # bounds; nothing is expected to take this long

# openpi-client imports typing_extensions without saying so. Old and current `websockets` keep a connection differently.
_OPENPI = ("typing_extensions==4.16.0", "numpy==1.26.4", "msgpack==1.2.4", "pillow==13.0.0")
ENVIRONMENTS: Mapping[str, Sequence[str]] = {
    "openpi-client-0.1.2": ("openpi-client==0.1.2", "websockets==17.4", *_OPENPI),
    "openpi-client-0.1.1": ("openpi-client==0.1.1", "websockets==13.1", *_OPENPI),
    "json-numpy-2.1.1": (
        "json-numpy==2.1.1",
        "requests==2.34.2",
        "httpx[http2]==0.28.1",
        "msgpack-numpy==0.4.8",
        "websockets==17.4",
        "pillow==13.0.0",
    ),
    "json-numpy-1.0.1": ("json-numpy==1.0.1", "requests==2.34.2"),  # the one that OpenVLA's requirements name
    "websocket-client-1.8.0": ("websocket-client==1.8.0", "numpy==2.2.6"),
    # No clients of anybody's, but as demanding as any: tests/hard.
    "atheris": ("atheris==3.0.0",),
    "schemathesis": ("schemathesis==4.32.5", "msgpack==1.2.4"),
}
NO_WHEELS = (3, 13)  # from this Python on there is no numpy below 2, which openpi-client asks for


class NoSuchEnvironmentError(Exception):
    """There is no such client for this Python."""


def interpreter(name: str) -> Path:
    """The Python of an environment that holds a client's packages and nothing of ours.

    Built once per list of packages, beside our own environment, and kept for the next run.
    """
    packages = sorted(ENVIRONMENTS[name])
    if name.startswith("openpi") and sys.version_info >= NO_WHEELS:
        raise NoSuchEnvironmentError(f"{name} asks for numpy below 2, which has no wheel for this Python")
    key = hashlib.sha256(json.dumps([sys.version, *packages]).encode()).hexdigest()[:16]
    folder = Path(sys.prefix) / "clients" / key
    python = folder / "bin" / "python"
    folder.parent.mkdir(exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two workers may want it at the same time
        if not (folder / "complete").exists():
            run(sys.executable, "-m", "venv", "--clear", "--without-pip", str(folder))
            run(sys.executable, "-m", "pip", "--quiet", "--python", str(python), "install", *packages)
            (folder / "complete").touch()
    return python


def run(*command: str) -> str:
    """Run a command to its end and return what it printed; fail with what it complained about."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Raised(NamedTuple):
    """What the client raised where its caller wanted an answer."""

    error: str  # the exception's class
    text: str


class Robots:
    """A process of the client's environment that holds robots by name, each a client of its own, and obeys.

    `order("left", "act", picture, "go")` calls `act` of the robot `left`, connected at its first order, and returns
    what the client's caller got: numpy arrays as such, an exception as Raised.
    """

    def __init__(self, python: Path, program: str, url: str) -> None:
        command = (str(python), "-I", str(HERE / "drive.py"), str(HERE / f"{program}.py"), url)
        plain = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=plain)
        self.reader = ThreadPoolExecutor(1)

    def order(self, robot: str, do: str, *arguments: Any) -> Any:
        """One order, obeyed."""
        self.send(robot, do, *arguments)
        return self.receive()

    def send(self, robot: str, do: str, *arguments: Any) -> None:
        """Give an order and do not wait."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([robot, do, *arguments], default=_told) + "\n")
        self.process.stdin.flush()

    def receive(self, timeout_s: float = ANSWER_S) -> Any:
        """What became of the order given last."""
        assert self.process.stdout is not None
        line = self.reader.submit(self.process.stdout.readline).result(timeout_s)
        assert line, "the client's process ended; what it complained about is above"
        return json.loads(line, object_hook=_heard)

    def __enter__(self) -> Robots:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if kind is not None:
            self.process.kill()
        self.process.communicate(timeout=ANSWER_S)
        self.reader.shutdown()


def _told(value: np.ndarray[Any, Any]) -> dict[str, Any]:
    return {"array": [value.dtype.str, value.shape, base64.b64encode(value.tobytes()).decode()]}


def _heard(value: dict[str, Any]) -> Any:
    if "array" in value:
        dtype, shape, data = value["array"]
        return np.frombuffer(base64.b64decode(data), dtype).reshape(shape)
    return Raised(*value["raised"]) if "raised" in value else value
