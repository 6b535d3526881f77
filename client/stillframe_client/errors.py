"""Everything a call to the daemon can raise. Knows no HTTP library.

PolicyError
├── Unreachable            nothing listens there, or the connection broke
├── TimedOut               no answer within timeout_s
├── BadReply               an answer that is not a policy daemon's, or no action
├── StaleAnswer            an answer to another frame than the one asked about, or one that came too late to be played
├── Starved                a ChunkPlayer has no action left to play
├── WireError              an array or base64 text that is not what it claims to be
│   └── UnsupportedDtype   an array of a number type that this wire does not carry
└── Refused                the daemon answered with a problem: `status`, `code`, `detail`, `request_id`, `retry_after_s`
    ├── BadRequest         400  (bad-json, bad-codec, bad-field, session-conflict, ...)
    ├── Unauthorized       401  (unauthorized)
    ├── Forbidden          403  (forbidden)
    ├── UnknownSession     404  (unknown-session)
    ├── Conflict           409  (stale-epoch, stale-seq, seq-conflict, session-in-use, session-exists)
    │   └── Superseded     409  (superseded)
    ├── SessionGone        410  (session-evicted, session-expired, session-closed)
    ├── TooLarge           413  (body-too-large, image-too-large, too-many-images)
    ├── Unprocessable      422  (unknown-unnorm-key, unknown-reuse-mode, image-invalid, ...)
    ├── TooMany            429  (rate-limited, session-busy)
    ├── Overloaded         503  (overloaded, too-many-sessions, out-of-memory)
    ├── NotReady           503  (not-ready, draining, stuck)
    ├── DeadlineExceeded   504  (deadline-exceeded)
    └── ServerFault        5xx  (internal, non-finite-action)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Optional, Tuple, Type


class PolicyError(Exception):
    """The root: its text says what was wrong, what was expected and what to do."""


class Unreachable(PolicyError):
    """Nothing listens at that address, or the connection broke."""


class TimedOut(PolicyError):
    """No answer came in time."""


class BadReply(PolicyError):
    """Something answered, but not as a policy daemon does, or with what is no action."""


class StaleAnswer(PolicyError):
    """The answer belongs to another frame than the one asked about, or is too old to be played."""


class Starved(PolicyError):
    """A ChunkPlayer has no action left to play."""


class WireError(PolicyError):
    """An array or base64 text is not what it claims to be."""


class UnsupportedDtype(WireError):
    """An array of a number type that this wire does not carry."""


@dataclass(frozen=True)
class FieldFault:
    """One field of the request that was at fault."""

    pointer: str  # JSON pointer into the request, such as "/images/wrist"
    detail: str


@dataclass(frozen=True)
class Problem:
    """What the daemon said about a failed request (RFC 9457, application/problem+json)."""

    status: int
    code: str  # stable: programs may branch on it
    detail: str  # for people
    request_id: Optional[str] = None
    retry_after_s: Optional[float] = None
    faults: Tuple[FieldFault, ...] = ()


class Refused(PolicyError):
    """The daemon answered with a problem instead of an action."""

    def __init__(self, problem: Problem):
        request = "" if problem.request_id is None else f" [request {problem.request_id}]"
        super().__init__(f"{problem.code} ({problem.status}): {problem.detail}{request}")
        self.problem = problem

    @property
    def code(self) -> str:
        """The stable name of the problem, such as 'unknown-unnorm-key'."""
        return self.problem.code

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.problem.status

    @property
    def detail(self) -> str:
        """What was wrong, what was expected, what to do."""
        return self.problem.detail

    @property
    def request_id(self) -> Optional[str]:
        """Under this id the daemon's log has the story."""
        return self.problem.request_id

    @property
    def retry_after_s(self) -> Optional[float]:
        """How long the daemon asks to wait; None where waiting does not help."""
        return self.problem.retry_after_s


class BadRequest(Refused):
    """The body could not be read as what it claimed to be."""


class Unauthorized(Refused):
    """The daemon wants a token, and this is none of its own."""


class Forbidden(Refused):
    """Not with this token, or not from there."""


class UnknownSession(Refused):
    """The daemon has no session of that id."""


class Conflict(Refused):
    """The request conflicts with the session's state, or another connection holds it: see `code`."""


class Superseded(Conflict):
    """A newer frame of this session took the frame's place, or its episode ended: it was not computed."""


class SessionGone(Refused):
    """The session was there and is no more: evicted, expired or closed."""


class TooLarge(Refused):
    """A body or picture over one of the daemon's limits."""


class Unprocessable(Refused):
    """A well-formed request that this policy cannot serve."""


class TooMany(Refused):
    """More than one client may have at once; others are served."""


class Overloaded(Refused):
    """There is no room: for a frame, a session, or in the device's memory."""


class NotReady(Refused):
    """The daemon is loading, warming up, stopping or stuck."""


class DeadlineExceeded(Refused):
    """The frame was too old when its turn came, so it was not computed."""


class ServerFault(Refused):
    """The daemon's own fault; its log has the story under the request's id."""


_BY_CODE: Dict[str, Type[Refused]] = {
    "overloaded": Overloaded,
    "too-many-sessions": Overloaded,
    "out-of-memory": Overloaded,
    "superseded": Superseded,
    "unknown-session": UnknownSession,
}
_BY_STATUS: Dict[int, Type[Refused]] = {
    400: BadRequest,
    401: Unauthorized,
    403: Forbidden,
    409: Conflict,
    410: SessionGone,
    413: TooLarge,
    422: Unprocessable,
    429: TooMany,
    503: NotReady,
    504: DeadlineExceeded,
}


def refusal(problem: Problem) -> Refused:
    """The exception for `problem`: by its code where that decides, else by its status."""
    fallback = ServerFault if problem.status >= 500 else Refused
    kind = _BY_CODE.get(problem.code) or _BY_STATUS.get(problem.status, fallback)
    return kind(problem)
