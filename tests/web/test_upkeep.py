from __future__ import annotations

import asyncio
import contextlib
import logging

from stillframe.metrics import Metrics
from stillframe.web.service.lifecycle import Upkeep


class Rounds:
    """A roster that counts how often it was swept."""

    swept = 0

    def sweep(self):
        """Count."""
        self.swept += 1


def test_a_stuck_device_is_said_once_each_time(desk, caplog):
    """When it gets stuck and when it goes on, not in between; every look sweeps the sessions."""
    caplog.set_level(logging.WARNING)
    roster, registry = Rounds(), desk.registry
    upkeep = Upkeep(desk.lifecycle, roster, Metrics(type(registry)(), drift_budget=0.02), logging.getLogger("web-test"))
    fired = []
    upkeep.metrics.watchdog_fired = lambda: fired.append(roster.swept)
    longest_s = desk.lifecycle.watchdog_s
    for busy_s in (0, longest_s, longest_s + 1, longest_s + 2, 0, 0, longest_s + 1, 0):
        desk.policy.busy_s = busy_s
        upkeep.look()

    assert [record.getMessage() for record in caplog.records] == [
        f"the device has been at one frame for over {longest_s:g} s: not ready",
        "the device goes on",
    ] * 2
    assert fired == [3, 7]
    assert roster.swept == 8


def test_a_daemon_that_serves_looks_round(desk, monkeypatch):
    """From its start to its end, at once and then now and then; nothing is left running."""
    looks = []
    monkeypatch.setattr(Upkeep, "look", lambda upkeep: looks.append(upkeep.lifecycle))
    monkeypatch.setattr("stillframe.web.service.lifecycle.EVERY_S", 0.0)

    async def serve():
        async with desk.app.router.lifespan_context(desk.app):
            for _ in range(5):
                await asyncio.sleep(0)
            during = len(looks)
        for _ in range(3):
            await asyncio.sleep(0)
        return during, asyncio.all_tasks() - {asyncio.current_task()}

    during, left = asyncio.run(serve())

    assert during > 1
    assert left == set()
    assert {*map(id, looks)} == {id(desk.lifecycle)}


def test_an_upkeep_that_fails_goes_on(desk, monkeypatch, caplog):
    """A task that ended in silence would leave sessions here for ever."""
    looks = []

    def fails(upkeep):
        looks.append(upkeep)
        if len(looks) == 3:
            raise KeyboardInterrupt
        raise RuntimeError("no")

    monkeypatch.setattr(Upkeep, "look", fails)
    monkeypatch.setattr("stillframe.web.service.lifecycle.EVERY_S", 0.0)
    upkeep = Upkeep(desk.lifecycle, Rounds(), Metrics(type(desk.registry)()), logging.getLogger("web-test"))
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(upkeep.run())

    assert len(looks) == 3
    assert [record.getMessage() for record in caplog.records] == ["the upkeep failed, and goes on"] * 2
