"""Starts a simulated world as a process of its own, awaits it and ends it.

Knows no physics: needs no simulator in this process.
"""

from __future__ import annotations

import contextlib
import dataclasses
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Iterator, Sequence

from stillframe_client.jaco2.world import wire

if TYPE_CHECKING:
    from stillframe_client.jaco2.settings import BridgeSettings

READY_S, END_S, POLL_S = 60.0, 5.0, 0.05


@contextlib.contextmanager
def world(arguments: Sequence[str] = (), ready_s: float = READY_S) -> Iterator[str]:
    """Run a world and yield the path of its socket (arm.socket) once it answers; end it then. Raises WorldError.

    `arguments` are those of `python -m stillframe_client.jaco2.world` but for --socket.
    """
    with tempfile.TemporaryDirectory(prefix="stillframe-world-") as folder:
        path = str(Path(folder) / "world.sock")
        command = [sys.executable, "-m", "stillframe_client.jaco2.world", "--socket", path, "--with-parent", *arguments]
        # A session of its own: a Ctrl-C is the bridge's, which stops the arm first.
        process = subprocess.Popen(command, start_new_session=True)  # noqa: S603 (our own)
        try:
            _wait(process, path, ready_s)
            yield path
        finally:
            _end(process)


@contextlib.contextmanager
def world_for(settings: BridgeSettings) -> Iterator[BridgeSettings]:
    """The settings, with a world that is started for them where they name a simulated one and no socket of it."""
    wanted = "mujoco" in (settings.arm.kind, *(camera.kind for camera in settings.cameras.values()))
    if not wanted or settings.arm.socket:
        yield settings
        return
    with world() as path:
        yield dataclasses.replace(settings, arm=dataclasses.replace(settings.arm, socket=path))


def _wait(process: subprocess.Popen, path: str, ready_s: float) -> None:  # type: ignore[type-arg]  # of bytes
    give_up_s = time.monotonic() + ready_s
    while not Path(path).exists():
        if process.poll() is not None:
            raise wire.WorldError(f"the simulated world ended with status {process.returncode}; its message is above")
        if time.monotonic() > give_up_s:
            raise wire.WorldError(f"the simulated world did not answer within {ready_s:.0f} s")
        time.sleep(POLL_S)


def _end(process: subprocess.Popen) -> None:  # type: ignore[type-arg]  # of bytes
    process.terminate()
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
