"""The world as a process: physics and sockets on one thread, pictures on the main one, which owns OpenGL.

Knows no policy. Ends on SIGINT, SIGTERM and SIGHUP, and where asked to, with the process that started it.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import List, Optional

from stillframe_client.jaco2.arms.driver import REPORT_S
from stillframe_client.jaco2.world.eyes import Eyes
from stillframe_client.jaco2.world.hub import Hub
from stillframe_client.jaco2.world.room import TASKS, Room
from stillframe_client.sim.sensors import SensorNoise

SWITCH_S = 0.0005  # a thread that draws lets that of the physics in after so long
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def main(arguments: Optional[List[str]] = None) -> int:
    """Run the world until it is told to end. Returns the exit status."""
    options = _parser().parse_args(arguments)
    over = threading.Event()
    for number in STOPPING:
        signal.signal(number, lambda *_: over.set())
    sys.setswitchinterval(SWITCH_S)
    try:
        noise = SensorNoise(options.noise_sigma, options.jpeg)
        room = Room(time.monotonic(), task=options.task, hz=options.hz, seed=options.seed, report_s=options.report_s)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    _favour_this_process()
    eyes = Eyes(room, noise, options.seed)
    _serve(_listen(options.socket), room, eyes, over, os.getppid() if options.with_parent else None)
    with contextlib.suppress(OSError):
        options.socket.unlink()
    return 0


def _serve(listener: socket.socket, room: Room, eyes: Eyes, over: threading.Event, parent: Optional[int]) -> None:
    def is_over() -> bool:
        return over.is_set() or (parent is not None and os.getppid() != parent)

    def run() -> None:
        try:
            hub.run(is_over)
        finally:
            over.set()

    hub = Hub(listener, room, eyes.add)
    physics = threading.Thread(target=run, name="stillframe-world", daemon=True)
    _freeze()
    physics.start()
    try:
        eyes.run(is_over)
    finally:
        over.set()
        physics.join()


def _freeze() -> None:
    """Collect no garbage while it runs: little here makes cycles, and a collection is a late beat."""
    gc.collect()
    gc.freeze()
    gc.disable()


def _favour_this_process() -> None:
    """Ask for real-time scheduling, below the streamer's, or else a higher priority; go on without where it may not.

    A real arm does not slow down because a policy computes. The threads that are started later inherit it.
    """
    with contextlib.suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(10))
        return
    with contextlib.suppress(OSError):
        os.nice(-5)


def _listen(path: Path) -> socket.socket:
    """A socket at the path, in place of one that a world before left. Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(str(path))
    path.chmod(0o600)
    listener.listen(8)
    return listener


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m stillframe_client.jaco2.world", description=__doc__)
    parser.add_argument("--socket", type=Path, required=True, help="where it is reached; made anew")
    parser.add_argument("--seed", type=int, default=0, help="of the first scene")
    parser.add_argument("--task", default="pick", help=f"one of {', '.join(TASKS)}")
    parser.add_argument("--hz", type=int, default=10, help="an episode is judged so often")
    parser.add_argument("--report-s", type=float, default=REPORT_S, help="between two reports of the arm")
    parser.add_argument("--noise-sigma", type=float, default=0.0, help="of the cameras, in grey levels")
    parser.add_argument("--jpeg", type=int, default=None, help="quality of the cameras' own compression")
    parser.add_argument("--with-parent", action="store_true", help="end with the process that started it")
    return parser
