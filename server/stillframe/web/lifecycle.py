"""Where the daemon stands between its start and its end, and the policy once there is one.

Knows no HTTP and not how a policy is loaded: a loader hands it over when it can.
"""

from __future__ import annotations

from enum import StrEnum

from stillframe.domain import Policy
from stillframe.errors import NotReady


class State(StrEnum):
    """The daemon's states, in their order."""

    LOADING = "loading"
    WARMING = "warming"
    READY = "ready"
    DRAINING = "draining"


_WAIT_S = {State.LOADING: 5.0, State.WARMING: 1.0, State.DRAINING: 10.0}


class Lifecycle:
    """The seam between the loader, which calls `serve` and `drain` from any thread, and the web floor, which asks."""

    def __init__(self, policy: Policy | None = None):
        self._policy = policy
        self._draining = False

    def serve(self, policy: Policy) -> None:
        """Take over a loaded policy; the daemon is ready as soon as the policy says so."""
        self._policy = policy

    def drain(self) -> None:
        """Refuse new frames from now on; those already accepted are answered."""
        self._draining = True

    @property
    def policy(self) -> Policy | None:
        """The policy, ready or not; None while it loads."""
        return self._policy

    @property
    def state(self) -> State:
        """Loading (no policy yet), warming (not ready yet), ready, or draining."""
        if self._draining:
            return State.DRAINING
        if self._policy is None:
            return State.LOADING
        return State.READY if self._policy.ready else State.WARMING

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
        code = "draining" if state is State.DRAINING else "not-ready"
        return NotReady(code, f"The daemon is {state.value}; ask /readyz again in {wait_s:g} s.", retry_after_s=wait_s)
