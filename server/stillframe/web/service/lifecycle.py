"""Where the daemon stands between its start and its end, and the policy once there is one.

Knows no HTTP and not how a policy is loaded: a loader hands it over when it can.
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
    """The daemon's states, in their order; stuck is where ready goes when a frame is computed for too long."""

    LOADING = "loading"
    WARMING = "warming"
    READY = "ready"
    STUCK = "stuck"
    DRAINING = "draining"
    FAILED = "failed"  # the engine has ended, and the process follows


_WAIT_S = {State.LOADING: 5.0, State.WARMING: 1.0, State.STUCK: 5.0, State.DRAINING: 10.0, State.FAILED: 10.0}
_CODES = {State.DRAINING: "draining", State.STUCK: "stuck", State.FAILED: "engine-ended"}


class Lifecycle:
    """The seam between the loader, which calls `serve` and `drain` from any thread, and the web floor, which asks."""

    def __init__(self, policy: Policy | None = None, *, watchdog_s: float = WATCHDOG_S):
        self.watchdog_s = watchdog_s
        self._policy = policy
        self._draining = self._failed = False
        self.recording: Callable[[], RecordingReport] | None = None  # what is recorded; None: nothing is
        self._on_drain: list[Callable[[], None]] = []

    def serve(self, policy: Policy) -> None:
        """Take over a loaded policy; the daemon is ready as soon as the policy says so."""
        self._policy = policy

    def drain(self) -> None:
        """Refuse new frames from now on; those already accepted are answered."""
        self._draining = True
        for tell in self._on_drain:
            tell()

    def fail(self) -> None:
        """The engine has ended: no frame is taken or answered any more."""
        self._failed = True
        self.drain()

    def on_drain(self, tell: Callable[[], None]) -> None:
        """Call `tell` when the daemon begins to drain, in whatever thread or signal handler says so."""
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
        """Return the policy that takes frames now, or raise NotReady saying in which state the daemon is."""
        state = self.state
        if state is not State.READY or self._policy is None:
            raise self.refusal(state)
        return self._policy

    def refusal(self, state: State) -> NotReady:
        """What a request is told while the daemon is in `state`."""
        wait_s = _WAIT_S.get(state, 1.0)
        code = _CODES.get(state, "not-ready")
        return NotReady(code, f"The daemon is {state.value}; ask /readyz again in {wait_s:g} s.", retry_after_s=wait_s)


EVERY_S = 0.5


@dataclass
class Upkeep:
    """Looks round twice a second."""

    lifecycle: Lifecycle
    roster: SessionRegistry
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
