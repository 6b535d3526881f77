"""Everything that can go wrong, as the caller or the operator sees it. Knows no HTTP library and no torch.

StillframeError
├── ConfigError                a YAML or command line that cannot be served
├── CheckpointError            a folder that is not a checkpoint we can run
└── RequestError               answers one request; has a stable `code` and an HTTP `status`
    ├── BadRequest             400  malformed body                    (bad-json, bad-codec, missing-field, ...)
    ├── Unauthorized           401  no token, or an unknown one       (unauthorized)
    ├── Forbidden              403  not with this token, or from here (forbidden)
    ├── NoSuchRoute            404  nothing is served there           (not-found)
    ├── NoSuchSession          404  no session has that id            (unknown-session)
    ├── WrongMethod            405  served there, but not that way    (method-not-allowed)
    ├── RequestTimeout         408  it takes too long to arrive       (head-timeout)
    ├── Conflict               409  against what the session did last (stale-epoch, stale-seq, seq-conflict, ...)
    ├── Gone                   410  the session was here, and is not  (session-evicted, session-expired, session-closed)
    ├── TooLarge               413  body or picture over a limit      (body-too-large, image-too-large)
    ├── Unprocessable          422  well-formed, but not for us       (unknown-unnorm-key, unknown-camera, ...)
    ├── TooMany                429  this client asks too often        (rate-limited, session-busy)
    ├── HeadTooLarge           431  over a limit of a request's head  (head-too-large)
    ├── Overloaded             503  there is no room                  (overloaded, too-many-sessions, out-of-memory)
    ├── NotReady               503  loading, warming, stopping, stuck (not-ready, draining, stuck, engine-ended)
    ├── DeadlineExceeded       504  too old when its turn came        (deadline-exceeded)
    └── Internal               500  our fault                         (internal, non-finite-action, not-an-action)
"""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable
from enum import StrEnum

_LONGEST_TYPO = 256  # characters


class StillframeError(Exception):
    """The root: its text says what was wrong, what was expected and what to do."""


class ConfigError(StillframeError):
    """A configuration that cannot be served."""


class CheckpointError(StillframeError):
    """A folder that is not a checkpoint we can run."""


class RequestError(StillframeError):
    """Answers one request. `code` is stable; `detail` is for people; `pointer` names the field at fault."""

    status = 500
    title = "Request failed"

    def __init__(self, code: str, detail: str, *, pointer: str | None = None, retry_after_s: float | None = None):
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.pointer = pointer
        self.retry_after_s = retry_after_s


class BadRequest(RequestError):
    """The body cannot be read as what it claims to be."""

    status = 400
    title = "Malformed request"


class Unauthorized(RequestError):
    """No token, or an unknown one."""

    status = 401
    title = "Not authorised"


class Forbidden(RequestError):
    """Not with this token, or not from there."""

    status = 403
    title = "Forbidden"


class NoSuchRoute(RequestError):
    """Nothing is served at that path."""

    status = 404
    title = "Not found"


class NoSuchSession(RequestError):
    """No session has that id."""

    status = 404
    title = "Unknown session"


class WrongMethod(RequestError):
    """Something is served at that path, but not by this method."""

    status = 405
    title = "Method not allowed"


class RequestTimeout(RequestError):
    """The request takes too long to arrive."""

    status = 408
    title = "Request timeout"


class Conflict(RequestError):
    """Against what the session did last."""

    status = 409
    title = "Conflict"


class Gone(RequestError):
    """The session was here and is no more."""

    status = 410
    title = "Session gone"


class TooLarge(RequestError):
    """A body or picture over a limit."""

    status = 413
    title = "Too large"


class Unprocessable(RequestError):
    """A well-formed request that this policy cannot serve."""

    status = 422
    title = "Cannot be served"


class TooMany(RequestError):
    """One client asks for more than it may have at once; others are served."""

    status = 429
    title = "Too many requests"


class HeadTooLarge(RequestError):
    """The request's line and headers are over a limit."""

    status = 431
    title = "Head too large"


class Overloaded(RequestError):
    """There is no room: for a frame, a session, or in the device's memory."""

    status = 503
    title = "No room"


class NotReady(RequestError):
    """Loading, warming up, stopping or stuck."""

    status = 503
    title = "Not ready"


class DeadlineExceeded(RequestError):
    """The frame was too old when its turn came, so it was not computed."""

    status = 504
    title = "Deadline exceeded"


class Flaw(StrEnum):
    """Why what a policy gave is no action. Counted by these words."""

    NON_FINITE = "non-finite"  # NaN or infinity, on the way or at its end
    FLAT = "flat"  # every token is as likely as every other: the first in the vocabulary would win
    NO_ACTION_TOKEN = "no-action-token"  # noqa: S105 (a word of the vocabulary)
    OUT_OF_RANGE = "out-of-range"  # far beyond what its statistics say that a robot of that data set does
    WRONG_SHAPE = "wrong-shape"  # not as many numbers as the contract names


class Internal(RequestError):
    """Our fault; the log has the story under the request's id. `flaw`: why the policy's output is no action."""

    status = 500
    title = "Internal error"
    flaw: Flaw | None = None


def not_an_action(flaw: Flaw, detail: str) -> Internal:
    """The answer where the policy gave no action; `detail`: what was found, and what was expected.

    Nothing of what it gave is passed on, kept or learnt from.
    """
    code = "non-finite-action" if flaw is Flaw.NON_FINITE else "not-an-action"
    error = Internal(code, f"{detail} Stop the robot and look at the log.")
    error.flaw = flaw
    return error


def not_finite() -> Internal:
    """The answer where a number on the way to an action, or of the action, is none."""
    return not_an_action(Flaw.NON_FINITE, "The policy computed NaN or infinity.")


def unknown_unnorm_key(key: str | None, choices: Iterable[str]) -> Unprocessable:
    """The answer to a key that names none of a checkpoint's statistics, or to none (None) where there is a choice."""
    known = sorted(choices)
    wrong = f"There are no statistics {reprlib.repr(key)}" if key is not None else "'unnorm_key' is missing"
    detail = f"{wrong}; choose one of {', '.join(known)}.{closest(key or '', known)}"
    return Unprocessable("unknown-unnorm-key", detail, pointer="/unnorm_key")


def closest(word: str, choices: Iterable[str]) -> str:
    """A did-you-mean clause for `word`, or nothing: ' Did you mean ...?'."""
    # Nothing that long is a typing error, and difflib takes fifty bytes for each of its characters.
    near = difflib.get_close_matches(word, list(choices), n=1) if len(word) <= _LONGEST_TYPO else []
    return f" Did you mean {near[0]!r}?" if near else ""
