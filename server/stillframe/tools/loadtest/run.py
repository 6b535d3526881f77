"""Run a load against a daemon and collect the result of every frame.

Knows senders and transports; figures are made in report.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Protocol

from stillframe.tools.loadtest.load import Load
from stillframe.tools.loadtest.senders import Flooder, PacedRobot, Sender, SenderStats, TransportFactory
from stillframe.tools.loadtest.transports.base import Robot, Target, as_jpeg, pictures
from stillframe.tools.loadtest.transports.http import HttpTransport
from stillframe.tools.loadtest.transports.openpi import OpenPITransport
from stillframe.tools.loadtest.transports.stream import StreamTransport
from stillframe_client import NotReady, PolicyClient

TRANSPORTS: Mapping[str, TransportFactory] = MappingProxyType(
    {"stream": StreamTransport, "http": HttpTransport, "openpi": OpenPITransport}
)
FIRST_FRAME_S = 0.2  # after the last session was opened
LAST_ANSWERS_S = 5.0  # for frames in flight at the end
LOOK_EVERY_S = 0.25
READY_S = 60.0


@dataclass(frozen=True)
class LoadResult:
    """A load and its senders' counts."""

    load: Load
    robots: Sequence[SenderStats]
    flooders: Sequence[SenderStats]
    took_s: float
    cpu_share: float  # of one core, used by the senders themselves
    load_average: float  # of the machine, over the minute before


class LoadReporter(Protocol):
    """Receives the progress of a load."""

    def begin(self, load: Load) -> None:
        """A load begins."""
        ...

    def look(self, robots: Sequence[SenderStats]) -> None:
        """The counts so far."""
        ...


def find_target(url: str, token: str | None = None) -> Target:
    """Wait until a daemon is ready, and read its model card. Raises PolicyError, ValueError."""
    with PolicyClient(url, token=token, timeout_s=READY_S) as client:
        try:
            model = client.info()
        except NotReady:  # still loading
            client.wait_ready(READY_S)
            model = client.info()
    views = pictures()
    return Target(url, model, views, [as_jpeg(view) for view in views], token)


def run_load(load: Load, target: Target, reporter: LoadReporter) -> LoadResult:
    """Run the load. Raises PolicyError if the daemon cannot be reached."""
    reporter.begin(load)
    return asyncio.run(_run_load(load, target, reporter))


async def _run_load(load: Load, target: Target, reporter: LoadReporter) -> LoadResult:
    load_average = os.getloadavg()[0]
    robots, flooders = _senders(load, target)
    senders = [*robots, *flooders]
    await asyncio.gather(*(sender.open() for sender in senders))
    watching = asyncio.create_task(_watch(robots, reporter))
    began_s, cpu_s = time.monotonic(), time.process_time()
    await asyncio.gather(*(_run(sender, began_s + FIRST_FRAME_S, load.seconds) for sender in senders))
    took_s = time.monotonic() - began_s
    cpu_share = (time.process_time() - cpu_s) / took_s
    watching.cancel()
    reporter.look(_tallies(robots))
    await asyncio.gather(*(sender.close() for sender in senders))
    return LoadResult(load, _tallies(robots), _tallies(flooders), took_s, cpu_share, load_average)


def _senders(load: Load, target: Target) -> tuple[list[PacedRobot], list[Flooder]]:
    name, wire = f"load-{uuid.uuid4().hex[:8]}", TRANSPORTS[load.wire]
    target = replace(target, max_age_ms=load.max_age_ms)
    paced = [
        PacedRobot(Robot(f"{name}-{number}", load.realtime, target), wire, time.monotonic, load, offset_s)
        for number, offset_s in enumerate(load.offsets_s())
    ]
    flooding = [
        Flooder(Robot(f"{name}-flood-{number}", load.realtime, target), wire, time.monotonic, load)
        for number in range(load.flood)
    ]
    return paced, flooding


async def _run(sender: Sender, starts_s: float, seconds: float) -> None:
    """Send all frames, then wait for their answers. A sender that the daemon blocks is stopped and misses the rest."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds + LAST_ANSWERS_S):
            await sender.run(starts_s)
    await sender.settle(LAST_ANSWERS_S)
    sender.tally.check()


async def _watch(robots: Sequence[Sender], reporter: LoadReporter) -> None:
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        reporter.look(_tallies(robots))


def _tallies(senders: Sequence[Sender]) -> list[SenderStats]:
    return [sender.tally for sender in senders]
