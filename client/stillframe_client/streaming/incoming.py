"""Parses a stream's incoming messages: actions, problems, close frames.

Knows no connection and no order of messages. Malformed messages raise BadReply.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Dict, Mapping, Optional

from stillframe_client.actions import finite_actions
from stillframe_client.errors import BadReply, PolicyError, Problem, Refused, Unreachable, refusal
from stillframe_client.replies import (
    ActionReply,
    first_step_of,
    read_problem,
    text_or_none,
    texts,
    whole_or_none,
)
from stillframe_client.sessions import cache_report, history_report, rtc_report, session_place
from stillframe_client.wire import FATAL, MAX_COUNT, POLICY, TOO_BIG

if TYPE_CHECKING:
    from stillframe_client.streaming.requests import FramePosition

Message = Mapping[str, Any]

_KEEPALIVE = "keepalive"  # in the reason of a 1011 that says only that one end heard nothing of the other
_FATAL_CLOSES: Mapping[int, Problem] = MappingProxyType(
    {
        POLICY: Problem(403, "forbidden", "The daemon closed the connection: it does not want this client"),
        TOO_BIG: Problem(
            413, "body-too-large", "The daemon closed the connection: the frame has more bytes than it takes"
        ),
        FATAL: Problem(500, "internal", "The daemon closed the connection: it failed; its log has the story"),
    }
)


@dataclass(frozen=True)
class Close:
    """How a connection ended; without a code: it broke."""

    code: Optional[int] = None
    reason: str = ""
    by_us: bool = False  # closed by this end: a message was too large

    def error(self) -> Optional[PolicyError]:
        """The error for pending requests; None: a new connection may help."""
        if self.by_us:
            return BadReply("An answer has more bytes than an action can have.") if self.code == TOO_BIG else None
        problem = _FATAL_CLOSES.get(self.code or 0)
        if problem is None or (self.code == FATAL and _KEEPALIVE in self.reason):
            return None
        said = f" ({self.reason})." if self.reason else "."
        return refusal(Problem(problem.status, problem.code, problem.detail + said))

    def unreachable(self) -> Unreachable:
        """The error as Unreachable, for a retry."""
        how = "broke" if self.code is None else f"was closed with {self.code}"
        return Unreachable(f"The connection {how}{f' ({self.reason})' if self.reason else ''} before the answer.")


def action_of(message: Message) -> ActionReply:
    """Parse an action."""
    timing = message.get("timing_ms")
    stages = timing.items() if isinstance(timing, dict) else ()
    numbers: Dict[str, float] = {str(name): float(ms) for name, ms in stages if _is_number(ms)}
    return ActionReply(
        actions=finite_actions(message.get("actions")),
        timing_ms=MappingProxyType(numbers),
        late=message.get("late") is True,
        request_id=None,
        cache=cache_report(message.get("cache")),
        session=session_place(message.get("session")),
        replayed=message.get("replayed") is True,
        t_obs_ns=whole_or_none(message.get("t_obs_ns")),
        history=history_report(message.get("history")),
        unnorm_key=text_or_none(message.get("unnorm_key")),
        model=text_or_none(message.get("model")),
        first_step=first_step_of(message.get("steps")),
        warnings=texts(message.get("warnings")),
        rtc=rtc_report(message.get("rtc")),
    )


def refusal_of(message: Message) -> Refused:
    """Parse a problem."""
    problem = message.get("problem")
    if not isinstance(problem, dict) or not isinstance(problem.get("code"), str):
        raise BadReply("The daemon's message says 'problem' and holds none.")
    status, request_id = problem.get("status"), problem.get("request_id")
    return refusal(
        read_problem(
            problem,
            status if type(status) is int else 500,
            request_id if isinstance(request_id, str) else None,
            _retry_after_s(problem),
        )
    )


def session_of(message: Message) -> Optional[str]:
    """The id of the session that a message is about; None for none."""
    said = message.get("session")
    session_id = said.get("id") if isinstance(said, dict) else message.get("session_id")
    return session_id if isinstance(session_id, str) else None


def position_of(message: Message) -> Optional[FramePosition]:
    """The frame that a message is about, by epoch and seq; None for none."""
    said = message.get("session")
    if not isinstance(said, dict) or not (_is_count(said.get("epoch")) and _is_count(said.get("seq"))):
        return None
    return said["epoch"], said["seq"]


def epoch_of(message: Message) -> int:
    """The epoch that a message names."""
    epoch: Any = message.get("epoch")
    if not _is_count(epoch):
        raise BadReply("The daemon's message names no epoch.")
    return int(epoch)


def text_of(message: Message, name: str) -> str:
    """A text that a message holds."""
    text = message.get(name)
    if not isinstance(text, str):
        raise BadReply(f"The daemon's message holds no '{name}'.")
    return text


def _retry_after_s(problem: Message) -> Optional[float]:
    said: Any = problem.get("retry_after_ms")
    return float(said) / 1000 if _is_number(said) and said >= 0 else None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= MAX_COUNT


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_COUNT
