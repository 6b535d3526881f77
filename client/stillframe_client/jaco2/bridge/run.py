"""`run` and `dry-run`: one episode on one arm, with an operator at hand. Returns an exit status.

Knows no option: the settings are made.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Iterator, Optional

from stillframe_client.errors import PolicyError
from stillframe_client.jaco2.bridge.first_run import speed_fault, write_summary
from stillframe_client.jaco2.bridge.operator import Operator
from stillframe_client.jaco2.bridge.session import Bridge, Refusal
from stillframe_client.jaco2.bridge.streamer_process import StreamerFailed
from stillframe_client.jaco2.cameras.base import CameraError
from stillframe_client.jaco2.config import ConfigError

if TYPE_CHECKING:
    from stillframe_client.jaco2.bridge.ends import Outcome
    from stillframe_client.jaco2.settings import BridgeSettings


class Stopped(Exception):
    """Stopped while the bridge was opening."""


ENDED, REFUSED, FAULT, STOPPED = 0, 1, 2, 130


def run(settings: BridgeSettings, *, dry: bool, seconds: Optional[float] = None) -> int:
    """Play one episode of at most `seconds`. 0: it ended; 1: refused, nothing moved; 2: a fault; 130: stopped."""
    refused = "" if dry else speed_fault(settings)
    if not settings.policy.instruction:
        refused = "policy.instruction is empty: say what the robot is to do, as in --instruction 'pick up the red cube'"
    if refused:
        return _refuse(refused)
    try:
        folder = new_folder(Path(settings.record.folder))
    except OSError as error:
        return _refuse(f"record.folder is {settings.record.folder!r}, where no folder can be made: {error}")
    try:
        outcome = asyncio.run(_run(settings, folder, dry=dry, seconds=seconds))
    except Stopped as stopped:
        print(f"{stopped}, before anything moved")  # noqa: T201
        return STOPPED
    except (Refusal, CameraError, ConfigError, StreamerFailed, PolicyError) as error:
        return _refuse(f"{error}\n(log: {folder})")
    write_summary(folder, settings, outcome, dry=dry)
    print(f"{outcome.reason}: {outcome.answers} answers in {outcome.seconds:.1f} s, log in {folder}")  # noqa: T201
    if outcome.fault:
        return FAULT
    return STOPPED if outcome.reason.startswith("stopped by") else ENDED


def new_folder(parent: Path) -> Path:
    """A folder of this run's own."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    for number in range(1000):
        folder = parent / (f"{stamp}-{number}" if number else stamp)
        with contextlib.suppress(FileExistsError):
            folder.mkdir(parents=True)
            return folder
    raise ConfigError(f"{parent} holds a thousand runs of this second; expected a clock that runs")


async def _run(settings: BridgeSettings, folder: Path, *, dry: bool, seconds: Optional[float]) -> Outcome:
    bridge = Bridge(settings, folder, dry=dry)

    opening = asyncio.current_task()

    def stop() -> None:
        if bridge.is_open:
            bridge.streamer.link.order("stop")
        if bridge.episode is None and opening is not None:
            opening.cancel()

    with Operator(stop) as operator, _stopped_early(operator):
        async with bridge:
            for warning in bridge.warnings:
                operator.tell(f"warning: {warning}")
            operator.tell(_what_it_does(settings, folder, dry=dry))
            until_s = time.monotonic() + (seconds or 1e9)

            def over() -> Optional[str]:
                operator.say(_line(bridge, settings))
                if operator.stopped is not None:
                    return operator.stopped
                return f"{seconds:g} s are over" if time.monotonic() > until_s else None

            return await bridge.play(settings.policy.instruction, over)


@contextlib.contextmanager
def _stopped_early(operator: Operator) -> Iterator[None]:
    """What was cancelled before anything could move was stopped by the operator."""
    try:
        yield
    except asyncio.CancelledError:
        if operator.stopped is None:
            raise
        raise Stopped(operator.stopped) from None


def _what_it_does(settings: BridgeSettings, folder: Path, *, dry: bool) -> str:
    what = "computes and sends nothing" if dry else f"drives {settings.arm.name} at {settings.limits.speed:.0%} speed"
    return f"{what}: {settings.policy.instruction!r}. Any key stops. Log: {folder}"


def _line(bridge: Bridge, settings: BridgeSettings) -> str:
    status, episode = bridge.streamer.status, bridge.episode
    if status is None or episode is None:
        return "starting"
    speed = sum(part * part for part in status.sent[:3]) ** 0.5
    why = episode.trouble or status.reason
    return (
        f"{status.state.value} | {speed:.3f} m/s | answer {episode.latency_ms:.0f} ms, {episode.answers} | "
        f"pose {1e3 * status.pose_age_s:.0f} ms old | {settings.policy.mode}{' | ' + why if why else ''}"
    )


def _refuse(text: str) -> int:
    print(f"stillframe-jaco2: {text}")  # noqa: T201
    return REFUSED
