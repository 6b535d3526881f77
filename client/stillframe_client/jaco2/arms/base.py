"""What the streamer asks of an arm. Free of any one arm's words: a back end of another arm may come.

Knows no limit: what arrives here has passed the safety filter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Mapping, Optional, Protocol

if TYPE_CHECKING:
    from stillframe_client.jaco2.domain import ArmState, Twist


class ArmError(Exception):
    """The arm cannot be reached or commanded; the text says what was expected and what to do."""


@dataclass(frozen=True)
class ArmInfo:
    """What an arm says of itself, for `check` and the log."""

    kind: str
    name: str
    has_hand: bool  # whether a twist's closure moves one
    reports_hz: Optional[float]  # of its state, where known
    details: Mapping[str, str]  # versions, addresses, topics


class Arm(Protocol):
    """One arm. Calls come from one thread, and none but `connect`, `home` and `close` may take over a millisecond."""

    def connect(self, timeout_s: float) -> ArmInfo:
        """Reach the arm and begin to read its state; nothing moves. Raises ArmError."""
        ...

    def state(self) -> Optional[ArmState]:
        """The newest report, `seq` growing with each; None: none yet. Never waits."""
        ...

    def send(self, twist: Twist) -> None:
        """Command the next 10 ms: linear m/s in the base frame, angular rad/s in the tool's, closure 0 (open) to 1.

        Never waits and never queues: what cannot go out at once is dropped. Raises ArmError where the arm is gone.
        """
        ...

    def start(self) -> None:
        """Let commands take effect, after a stop. Never waits."""
        ...

    def stop(self) -> None:
        """Drop all commands and stop. Never waits: it is delivered as soon as the arm can be reached. Never raises."""
        ...

    def home(self, timeout_s: float) -> None:
        """Move to the arm's own home position and wait. Raises ArmError."""
        ...

    def close(self) -> None:
        """Let go of it; moves nothing."""
        ...
