"""What has to happen without anybody asking: sessions expire, and a stuck device is noticed.

Knows no request. One task on the event loop.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from logging import Logger

from stillframe.metrics import Metrics
from stillframe.sessions.roster import Roster
from stillframe.web.lifecycle import Lifecycle, State

EVERY_S = 0.5


@dataclass
class Upkeep:
    """Looks round twice a second."""

    lifecycle: Lifecycle
    roster: Roster
    metrics: Metrics
    log: Logger
    stuck: bool = False

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                self.look()
            except Exception:
                self.log.exception("the upkeep failed, and goes on")
            await asyncio.sleep(EVERY_S)

    def look(self) -> None:
        """Sweep the roster; say once when the device is stuck, and once when it goes on."""
        self.roster.sweep()
        stuck = self.lifecycle.state is State.STUCK
        if stuck and not self.stuck:
            self.metrics.watchdog_fired()
            self.log.error("the device has been at one frame for over %g s: not ready", self.lifecycle.watchdog_s)
        if self.stuck and not stuck:
            self.log.warning("the device goes on")
        self.stuck = stuck
