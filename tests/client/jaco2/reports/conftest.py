"""Logs of the real streamer over the sim arm, on a clock that is set by hand: seconds of a run in a moment."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stillframe_client.jaco2.arms.sim import SimArm
from stillframe_client.jaco2.config import as_document, load
from stillframe_client.jaco2.core.controller import Controller
from stillframe_client.jaco2.core.messages import Inbox, Order
from stillframe_client.jaco2.domain import Step
from stillframe_client.jaco2.settings import BridgeSettings
from stillframe_client.jaco2.streamer.tick_log import TickLog

Inboxes = Callable[[int, float], Inbox]


def usual(tick: int, now_s: float) -> Inbox:
    """Armed at once; a step each 100 ms along a circle, with a turn; silent for a while; stopped in the end."""
    if tick == 5:
        return Inbox((Order("arm"),), heartbeat=True)
    if 320 <= tick < 360:
        return Inbox()
    if tick == 600:
        return Inbox((Order("stop"),), heartbeat=True)
    if tick % 10 or tick < 10:
        return Inbox(heartbeat=True)
    angle = tick / 60
    delta = np.array([0.004 * math.cos(angle), 0.002 * math.sin(angle), -0.001, 0.0, 0.012, 0.0])
    return Inbox((Step(tick, delta, 0.9, 0.1, now_s + 0.25),), heartbeat=True)


def write(
    folder: Path, ticks: int, inboxes: Inboxes, *, dry: bool = False, moved_at: int = -1, **overrides: Any
) -> Path:
    """Run so many ticks, one in 250 of them late, and leave the log in the folder.

    At tick `moved_at` the arm is put back to where it began, as by hand.
    """
    settings: BridgeSettings = load(None, {name.replace("__", "."): value for name, value in overrides.items()})
    now = [1000.0]
    arm = SimArm("test", loss=0.0, under_travel=0.17, clock=lambda: now[0])
    controller, log = Controller(settings, dry=dry), TickLog(folder / "ticks.jsonl")
    log.header({"version": 1, "settings": as_document(settings), "arm": {"kind": "sim", "name": "test"}, "dry": dry})
    for number in range(ticks):
        late_s = 0.0001 * (number % 7) + (0.012 if number % 250 == 249 else 0)
        now[0] += 0.01
        inbox, state = inboxes(number, now[0]), arm.state()
        if number == moved_at:
            arm.home(1.0)
        tick = controller.tick(inbox, state, now[0])
        if tick.command is not None and not dry:
            arm.send(tick.command)
        log.tick(now[0], late_s, inbox, state, "", tick)
    log.close()
    return folder


@pytest.fixture(scope="session")
def write_log() -> Callable[..., Path]:
    """Write a run's log: `write_log(folder, ticks, inboxes, dry=..., limits__speed=...)`."""
    return write


@pytest.fixture
def new_log(tmp_path: Path) -> Callable[..., Path]:
    """Write the log of the usual run, or of its first ticks: `new_log(ticks=..., dry=..., limits__speed=...)`."""

    def new(ticks: int = 660, inboxes: Inboxes = usual, **how: Any) -> Path:
        folder = tmp_path / "run"
        folder.mkdir()
        return write(folder, ticks, inboxes, **how)

    return new
