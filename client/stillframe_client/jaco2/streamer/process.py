"""The streamer as a process of its own: reads its settings again, reaches the arm, runs the loop, leaves it at rest.

Knows no policy. Signals stop the arm; so does the end of the bridge. Collects no garbage while it runs: nothing here
makes cycles, and a collection would be a late command.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, List

from stillframe_client.jaco2.arms import make_arm
from stillframe_client.jaco2.arms.base import ArmError
from stillframe_client.jaco2.config import ConfigError, as_document, load
from stillframe_client.jaco2.core.controller import Controller
from stillframe_client.jaco2.link import StreamerEnd
from stillframe_client.jaco2.streamer.loop import Streamer
from stillframe_client.jaco2.streamer.pacing import Beat, MonotonicClock
from stillframe_client.jaco2.streamer.tick_log import TickLog

if TYPE_CHECKING:
    from stillframe_client.jaco2.arms.base import Arm, ArmInfo
    from stillframe_client.jaco2.settings import BridgeSettings

CONNECT_S = 10.0
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
NO_ARM, BAD_SETTINGS = 3, 2  # exit status
SWITCH_S = 0.0005  # the thread that writes the log gives way to the next command after so long


def main(fd: int, settings_file: Path, log_file: Path, *, dry: bool) -> int:
    """Run until the bridge ends. Returns the exit status."""
    asked: List[str] = []
    for number in STOPPING:
        signal.signal(number, lambda got, _: asked.append(f"stopped by {signal.Signals(got).name}"))
    try:
        settings = load(settings_file)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return BAD_SETTINGS
    try:
        arm = make_arm(settings)
        info = arm.connect(CONNECT_S)
    except ArmError as error:
        sys.stderr.write(f"{error}\n")
        return NO_ARM
    link, log = StreamerEnd(socket.socket(fileno=fd)), TickLog(log_file)
    try:
        _run(settings, arm, info, link, log, asked, dry=dry)
    finally:
        with contextlib.suppress(Exception):
            if not dry:
                arm.stop()
        arm.close()
        log.close()
        link.close()
    return 0


def _run(
    settings: BridgeSettings, arm: Arm, info: ArmInfo, link: StreamerEnd, log: TickLog, asked: List[str], *, dry: bool
) -> None:
    about: Any = {"version": 1, "settings": as_document(settings), "arm": vars(info), "dry": dry, "pid": os.getpid()}
    log.header({**about, "arm": {**vars(info), "details": dict(info.details)}})
    streamer = Streamer(Controller(settings, dry=dry), arm, link, log, dry=dry)
    _favour_this_process()
    sys.setswitchinterval(SWITCH_S)
    gc.collect()
    gc.freeze()
    gc.disable()
    streamer.run(Beat(MonotonicClock()), lambda: asked[0] if asked else "")


def _favour_this_process() -> None:
    """Ask for real-time scheduling, or else a higher priority; go on without where it is not allowed."""
    with contextlib.suppress(OSError, AttributeError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(20))  # type: ignore[attr-defined,unused-ignore]
        return
    with contextlib.suppress(OSError):
        os.nice(-10)
