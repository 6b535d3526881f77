"""Puts real clients into environments of their own and drives robots with them, an order at a time.

Knows pins, processes and the line to each; not what a client says: that is the programs' beside it. Loaded by path.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

HERE = Path(__file__).parent
INSTALL_S, ANSWER_S = 600.0, 120.0  # bounds; nothing is expected to take this long
PIP = ("-m", "pip", "--quiet", "--disable-pip-version-check")
MOST_PROGRAMS = 4  # that wait at the same time

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
            run(sys.executable, *PIP, "--python", str(python), "install", "--no-compile", *packages)
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


class Program:
    """A program in its client's environment, with all that it imports: each set of robots is a fork of it."""

    def __init__(self, python: Path, program: str) -> None:
        self._line, theirs = socket.socketpair()
        fd = theirs.fileno()
        command = (str(python), "-I", str(HERE / "drive.py"), str(HERE / f"{program}.py"), str(fd))
        plain = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
        with theirs:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, pass_fds=(fd,), env=plain)

    def robots(self, url: str) -> Robots:
        """Fork it: what one set of robots leaves behind is gone with them."""
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self._line, [b"fork"], [theirs.fileno()])
        return Robots(ours, url)

    def close(self) -> None:
        """No more robots."""
        self._line.close()
        self._process.wait(ANSWER_S)


class Programs:
    """The programs that robots were asked for last."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[Path, str], Program] = {}

    def robots(self, python: Path, program: str, url: str) -> Robots:
        """Robots of an environment's program that know one address."""
        key = (python, program)
        self._waiting[key] = found = self._waiting.pop(key, None) or Program(python, program)
        if len(self._waiting) > MOST_PROGRAMS:
            self._waiting.pop(next(iter(self._waiting))).close()
        return found.robots(url)

    def __enter__(self) -> Programs:
        return self

    def __exit__(self, *_: object) -> None:
        for program in self._waiting.values():
            program.close()


class Robots:
    """A process of the client's environment that holds robots by name, each a client of its own, and obeys.

    `order("left", "act", picture, "go")` calls `act` of the robot `left`, connected at its first order, and returns
    what the client's caller got: numpy arrays as such, an exception as Raised.
    """

    def __init__(self, line: socket.socket, url: str) -> None:
        self._line = line
        self._reader = line.makefile(encoding="utf-8")
        self._say(url)
        self._pid = int(self._heard(ANSWER_S))

    def order(self, robot: str, do: str, *arguments: Any) -> Any:
        """One order, obeyed."""
        self.send(robot, do, *arguments)
        return self.receive()

    def send(self, robot: str, do: str, *arguments: Any) -> None:
        """Give an order and do not wait."""
        self._say([robot, do, *arguments])

    def receive(self, timeout_s: float = ANSWER_S) -> Any:
        """What became of the order given last."""
        return self._heard(timeout_s)

    def _say(self, said: Any) -> None:
        self._line.sendall(json.dumps(said, default=_told).encode() + b"\n")

    def _heard(self, timeout_s: float) -> Any:
        self._line.settimeout(timeout_s)
        line = self._reader.readline()
        assert line, "the client's process ended; what it complained about is above"
        return json.loads(line, object_hook=_heard)

    def __enter__(self) -> Robots:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        with self._line, self._reader:
            if kind is not None:
                os.kill(self._pid, signal.SIGKILL)
            else:
                self._line.shutdown(socket.SHUT_WR)
                self._line.settimeout(ANSWER_S)
                assert self._reader.read() == ""  # it has ended


def _told(value: np.ndarray[Any, Any]) -> dict[str, Any]:
    return {"array": [value.dtype.str, value.shape, base64.b64encode(value.tobytes()).decode()]}


def _heard(value: dict[str, Any]) -> Any:
    if "array" in value:
        dtype, shape, data = value["array"]
        return np.frombuffer(base64.b64decode(data), dtype).reshape(shape)
    return Raised(*value["raised"]) if "raised" in value else value
