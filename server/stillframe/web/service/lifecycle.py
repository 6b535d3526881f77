"""The daemon's state (loading, ready, draining ...), the loaded policy, and the periodic maintenance task.

Knows no HTTP and not how a policy is loaded: a loader calls `serve` when it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from logging import Logger

from stillframe.domain import Policy, RecordingReport
from stillframe.errors import NotReady
from stillframe.metrics import Metrics
from stillframe.sessions.registry import SessionRegistry

WATCHDOG_S = 30.0


class State(StrEnum):
    """The daemon's states, in order; ready becomes stuck while a frame has been computed for too long."""

    LOADING = "loading"
    WARMING = "warming"
    READY = "ready"
    STUCK = "stuck"
    DRAINING = "draining"
    FAILED = "failed"  # the engine has ended, and the process will


_WAIT_S = {State.LOADING: 5.0, State.WARMING: 1.0, State.STUCK: 5.0, State.DRAINING: 10.0, State.FAILED: 10.0}
_CODES = {State.DRAINING: "draining", State.STUCK: "stuck", State.FAILED: "engine-ended"}


class Lifecycle:
    """Shared by the loader, which calls `serve` and `drain` from any thread, and the web layer, which reads it."""

    def __init__(self, policy: Policy | None = None, *, watchdog_s: float = WATCHDOG_S):
        self.watchdog_s = watchdog_s
        self._policy = policy
        self._draining = self._failed = False
        self.recording: Callable[[], RecordingReport] | None = None  # recording's state; None: off
        self._on_drain: list[Callable[[], None]] = []

    def serve(self, policy: Policy) -> None:
        """Set the loaded policy; the daemon is ready as soon as the policy is."""
        self._policy = policy

    def drain(self) -> None:
        """Refuse new frames from now on; accepted ones are still answered."""
        self._draining = True
        for tell in self._on_drain:
            tell()

    def fail(self) -> None:
        """The engine has ended: no frame is accepted or answered any more."""
        self._failed = True
        self.drain()

    def on_drain(self, tell: Callable[[], None]) -> None:
        """Call `tell` when draining begins, from the thread or signal handler that began it."""
        self._on_drain.append(tell)

    @property
    def policy(self) -> Policy | None:
        """The policy, ready or not; None while it loads."""
        return self._policy

    @property
    def state(self) -> State:
        """Loading (no policy yet), warming (not ready yet), ready, stuck, draining, or failed."""
        if self._failed:
            return State.FAILED
        if self._draining:
            return State.DRAINING
        if self._policy is None:
            return State.LOADING
        if not self._policy.ready:
            return State.WARMING
        return State.STUCK if self._policy.busy_s > self.watchdog_s else State.READY

    def loaded_policy(self) -> Policy:
        """Return the policy whatever its state; raise NotReady while there is none."""
        if self._policy is None:
            raise self.refusal(State.LOADING)
        return self._policy

    def ready_policy(self) -> Policy:
        """Return the policy if it accepts frames now; raise NotReady with the daemon's state."""
        state = self.state
        if state is not State.READY or self._policy is None:
            raise self.refusal(state)
        return self._policy

    def refusal(self, state: State) -> NotReady:
        """The error for a request while the daemon is in `state`."""
        wait_s = _WAIT_S.get(state, 1.0)
        code = _CODES.get(state, "not-ready")
        return NotReady(code, f"The daemon is {state.value}; ask /readyz again in {wait_s:g} s.", retry_after_s=wait_s)


MAINTENANCE_EVERY_S = 0.5


@dataclass
class MaintenanceTask:
    """Expires sessions and watches for a stuck device, twice a second."""

    lifecycle: Lifecycle
    registry: SessionRegistry
    metrics: Metrics
    log: Logger
    stuck: bool = False

    async def run(self) -> None:
        """Run until cancelled; an error is logged and the loop continues."""
        while True:
            try:
                self.run_once()
            except Exception:
                self.log.exception("maintenance failed; the next round follows")
            await asyncio.sleep(MAINTENANCE_EVERY_S)

    def run_once(self) -> None:
        """Expire idle sessions; log once when the device gets stuck, and once when it recovers."""
        self.registry.sweep()
        stuck = self.lifecycle.state is State.STUCK
        if stuck and not self.stuck:
            self.metrics.watchdog_fired()
            self.log.error("device stuck: one frame for over %g s; not ready", self.lifecycle.watchdog_s)
        if self.stuck and not stuck:
            self.log.warning("device recovered")
        self.stuck = stuck
