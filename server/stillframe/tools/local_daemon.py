"""Run a daemon as a subprocess on a free loopback port, for the demo, load tests and tests.

Knows how to start, await and stop it; sends no frames.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from stillframe.daemon.logs import LEVEL_VARIABLE
from stillframe.errors import StillframeError
from stillframe_client import PolicyClient, PolicyError

READY_S, POLL_S, STOP_S = 120.0, 1.0, 15.0


@dataclass(frozen=True)
class RunningDaemon:
    """A daemon that is ready."""

    url: str
    process: subprocess.Popen[bytes]


@contextlib.contextmanager
def daemon(arguments: Sequence[str], port: int | None = None) -> Iterator[str]:
    """Run `stillframe serve ARGUMENTS` on a port, a free one if None, and yield its URL once it is ready; stop it then.

    Raises StillframeError when it ends or is not ready in time; its own message is on stderr.
    """
    with started(arguments, port) as running:
        yield running.url


@contextlib.contextmanager
def started(arguments: Sequence[str], port: int | None = None, source: Path | None = None) -> Iterator[RunningDaemon]:
    """The same with its process; `source` is a checkout of another commit to run it from."""
    port = port or _free_port()
    command = [sys.executable, "-m", "stillframe", "serve", *arguments, "--host", "127.0.0.1", "--port", str(port)]
    other = (
        {} if source is None else {"PYTHONPATH": os.pathsep.join(str(source / part) for part in ("server", "client"))}
    )
    process = subprocess.Popen(command, env={LEVEL_VARIABLE: "warning", **os.environ, **other})  # noqa: S603 (our own)
    running = RunningDaemon(f"http://127.0.0.1:{port}", process)
    try:
        _wait_ready(process, running.url)
        yield running
    finally:
        _stop(process)


def _wait_ready(process: subprocess.Popen[bytes], url: str) -> None:
    """Poll /readyz until it is ready."""
    give_up_s = time.monotonic() + READY_S
    with PolicyClient(url, timeout_s=READY_S) as client:
        while time.monotonic() < give_up_s:
            if process.poll() is not None:
                raise StillframeError(f"the daemon ended with status {process.returncode}; its message is above")
            with contextlib.suppress(PolicyError):
                return client.wait_ready(POLL_S)
    raise StillframeError(f"the daemon was not ready after {READY_S:.0f} s")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, then SIGKILL if it does not end."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
