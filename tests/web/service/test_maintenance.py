from __future__ import annotations

import asyncio
import contextlib
import logging

from stillframe.metrics import Metrics
from stillframe.web.service.lifecycle import MaintenanceTask


class Rounds:
    """A registry that counts how often it was swept."""

    swept = 0

    def sweep(self):
        """Count."""
        self.swept += 1


def test_a_stuck_device_is_said_once_each_time(desk, caplog):
    """When it gets stuck and when it recovers, not in between; every round sweeps the sessions."""
    caplog.set_level(logging.WARNING)
    sweeper, registry = Rounds(), desk.registry
    maintenance = MaintenanceTask(
        desk.lifecycle, sweeper, Metrics(type(registry)(), drift_budget=0.02), logging.getLogger("web-test")
    )
    fired = []
    maintenance.metrics.watchdog_fired = lambda: fired.append(sweeper.swept)
    longest_s = desk.lifecycle.watchdog_s
    for busy_s in (0, longest_s, longest_s + 1, longest_s + 2, 0, 0, longest_s + 1, 0):
        desk.policy.busy_s = busy_s
        maintenance.run_once()

    assert [record.getMessage() for record in caplog.records] == [
        f"device stuck: one frame for over {longest_s:g} s; not ready",
        "device recovered",
    ] * 2
    assert fired == [3, 7]
    assert sweeper.swept == 8


def test_a_daemon_that_serves_runs_maintenance(desk, monkeypatch):
    """From its start to its end, at once and then now and then; nothing is left running."""
    looks = []
    monkeypatch.setattr(MaintenanceTask, "run_once", lambda maintenance: looks.append(maintenance.lifecycle))
    monkeypatch.setattr("stillframe.web.service.lifecycle.MAINTENANCE_EVERY_S", 0.0)

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


def test_maintenance_continues_after_an_error(desk, monkeypatch, caplog):
    """A task that ended in silence would leave sessions here for ever."""
    looks = []

    def fails(maintenance):
        looks.append(maintenance)
        if len(looks) == 3:
            raise KeyboardInterrupt
        raise RuntimeError("no")

    monkeypatch.setattr(MaintenanceTask, "run_once", fails)
    monkeypatch.setattr("stillframe.web.service.lifecycle.MAINTENANCE_EVERY_S", 0.0)
    maintenance = MaintenanceTask(
        desk.lifecycle, Rounds(), Metrics(type(desk.registry)()), logging.getLogger("web-test")
    )
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(maintenance.run())

    assert len(looks) == 3
    assert [record.getMessage() for record in caplog.records] == ["maintenance failed; the next round follows"] * 2
