"""Plays seeded episodes through the real bridge: its streamer, a simulated world and a daemon, each its own process.

Knows the bridge's rooms and the world's questions; judges nothing itself: the world does.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from stillframe_client.jaco2.bridge.ends import Outcome
from stillframe_client.jaco2.bridge.session import Bridge
from stillframe_client.jaco2.config import load
from stillframe_client.jaco2.core.watchdog import State
from stillframe_client.jaco2.settings import BridgeSettings
from stillframe_client.jaco2.world.client import WorldClient
from stillframe_client.jaco2.world.launch import world
from stillframe_lab.bridge.cells import Cell, Played

SETTLE_S = 0.4  # after a reset: the arm's report and the pictures are of the new scene
JUDGE_S = 0.03
MOST_STEPS = 120  # as in the environment: 12 s of picking at 10 Hz
RECOVER_S = 3.0

Watch = Callable[[Played], None]


def settings_for(cell: Cell, config: Path, url: str, socket: str, folder: Path, pictures: str) -> BridgeSettings:
    """The bridge's settings for a cell."""
    chosen = {"policy.url": url, "policy.mode": cell.mode, "arm.socket": socket}
    return load(config, {**chosen, "record.folder": str(folder), "record.pictures": pictures})


def play_cell(
    cell: Cell, settings: Callable[[str], BridgeSettings], seeds: Sequence[int], folder: Path, watch: Watch,
    options: Mapping[str, str] = {},
) -> dict[str, Any]:  # fmt: skip
    """Play these seeds with one bridge and one world -> the world's own report. `folder` gets the bridge's logs.

    `settings` makes the bridge's, from the path of the world's socket.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with world() as socket, contextlib.closing(WorldClient(socket)) as client:
        asyncio.run(_play_all(cell, settings(socket), seeds, folder, watch, client, options))
        return client.report()


async def _play_all(
    cell: Cell, settings: BridgeSettings, seeds: Sequence[int], folder: Path, watch: Watch, client: WorldClient,
    options: Mapping[str, str],
) -> None:  # fmt: skip
    async with Bridge(settings, folder) as bridge:
        client.report()  # the lateness from here on
        for seed in seeds:
            watch(await play_one(cell, bridge, client, seed, options))


async def play_one(cell: Cell, bridge: Bridge, client: WorldClient, seed: int, options: Mapping[str, str]) -> Played:
    """Play one seed with a bridge that is open."""
    told = client.reset(seed, options)
    await _alive(bridge, SETTLE_S)
    with judged(client) as judge:
        outcome = await bridge.play(told["instruction"], lambda: _over(judge.verdict, bridge, cell))
    verdict = client.verdict()
    if outcome.fault:
        bridge.streamer.link.order("clear")
        await _alive(bridge, RECOVER_S)
    return _played(cell, verdict, outcome)


async def _alive(bridge: Bridge, seconds: float) -> None:
    """Wait, with heartbeats."""
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        bridge.streamer.link.heartbeat()
        status = bridge.streamer.poll()
        if status is not None and status.state is State.FAULT and status.at_rest:
            bridge.streamer.link.order("clear")
        await asyncio.sleep(JUDGE_S)


def _over(verdict: Mapping[str, Any], bridge: Bridge, cell: Cell) -> str | None:
    """Why the episode is over; None: it is not. Lock-step counts the policy's steps, since the arm waits for each."""
    if verdict["done"]:
        return "success" if verdict["success"] else "wrong object"
    answers = 0 if bridge.episode is None else bridge.episode.answers
    steps = answers if cell.mode == "lockstep" else verdict["steps"]
    return f"{MOST_STEPS} steps" if steps >= MOST_STEPS else None


def _played(cell: Cell, verdict: Mapping[str, Any], outcome: Outcome) -> Played:
    return Played(
        cell=cell.name,
        seed=verdict["seed"],
        instruction=verdict["instruction"],
        success=verdict["success"],
        wrong_object=verdict["wrong_object"],
        steps=verdict["steps"],
        answers=outcome.answers,
        seconds=round(outcome.seconds, 3),
        reason=outcome.reason,
        fault=outcome.fault,
    )


class Judge(threading.Thread):
    """Asks the world how the episode stands, beside the bridge's loop, which must not wait."""

    def __init__(self, client: WorldClient):
        super().__init__(name="judge", daemon=True)
        self.verdict: Mapping[str, Any] = client.verdict()
        self._client, self._over = client, threading.Event()

    def run(self) -> None:
        """Ask until it is over."""
        while not self._over.wait(JUDGE_S):
            self.verdict = self._client.verdict()

    def end(self) -> None:
        """Ask no more."""
        self._over.set()
        self.join()


@contextlib.contextmanager
def judged(client: WorldClient) -> Iterator[Judge]:
    """A judge at work."""
    judge = Judge(client)
    judge.start()
    try:
        yield judge
    finally:
        judge.end()
