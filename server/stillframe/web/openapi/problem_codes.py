"""The problems this daemon can answer with: code, status, and what they mean.

Knows no request. Programs branch on the code; /problems/<code> and /openapi.json read this table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from stillframe.errors import (
    BadRequest,
    Conflict,
    DeadlineExceeded,
    Forbidden,
    Gone,
    HeadTooLarge,
    Internal,
    NoSuchRoute,
    NoSuchSession,
    NotReady,
    Overloaded,
    RequestError,
    RequestTimeout,
    TooLarge,
    TooMany,
    Unauthorized,
    Unprocessable,
    WrongMethod,
)


@dataclass(frozen=True)
class ProblemCode:
    """One kind of problem."""

    kind: type[RequestError]  # gives status and title
    meaning: str

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.kind.status

    @property
    def title(self) -> str:
        """The short name that all problems of this kind share."""
        return self.kind.title


PROBLEM_CODES: Mapping[str, ProblemCode] = MappingProxyType(
    {
        "bad-request": ProblemCode(BadRequest, "What came is no HTTP/1.1 request, or one whose end would be a guess."),
        "head-timeout": ProblemCode(RequestTimeout, "The request's line and headers did not arrive in time."),
        "head-too-large": ProblemCode(HeadTooLarge, "The request's line and headers have too many bytes or lines."),
        "bad-json": ProblemCode(BadRequest, "The body is not one JSON object."),
        "bad-codec": ProblemCode(
            BadRequest, "Base64, an array, msgpack, a form or the content type is not what it claims to be."
        ),
        "missing-field": ProblemCode(BadRequest, "A field that every frame needs is not there."),
        "bad-field": ProblemCode(BadRequest, "A field has the wrong type or lies outside its range."),
        "session-conflict": ProblemCode(BadRequest, "Path, body and header name different sessions."),
        "body-timeout": ProblemCode(BadRequest, "The body did not arrive in time, or the client went away."),
        "unauthorized": ProblemCode(Unauthorized, "The daemon asks for a token, and there is none or an unknown one."),
        "forbidden": ProblemCode(Forbidden, "The token may not do that, or the Host or Origin is not let in."),
        "unknown-session": ProblemCode(
            NoSuchSession, "No session of the caller's has that id; the daemon may have restarted."
        ),
        "not-found": ProblemCode(NoSuchRoute, "Nothing is served at that path."),
        "method-not-allowed": ProblemCode(WrongMethod, "The path is served, but not by that method."),
        "stale-epoch": ProblemCode(Conflict, "The frame belongs to another episode than the session's."),
        "stale-seq": ProblemCode(
            Conflict, "The frame is not after the session's last, nor a repeat whose answer is kept."
        ),
        "seq-conflict": ProblemCode(Conflict, "Another frame came under the same seq or Idempotency-Key before."),
        "superseded": ProblemCode(Conflict, "A newer frame of a realtime session took this one's place."),
        "session-in-use": ProblemCode(Conflict, "A connection holds the session; its secret takes it over."),
        "session-ambiguous": ProblemCode(
            Conflict, "Several owners have a session of that id; an admin has to say whose."
        ),
        "session-exists": ProblemCode(Conflict, "A session of that id is open; its secret resumes it."),
        "session-evicted": ProblemCode(Gone, "The session was idle and made room for another; open a new one."),
        "session-expired": ProblemCode(Gone, "The session was unused for too long; open a new one."),
        "session-closed": ProblemCode(Gone, "The session was closed; open a new one."),
        "body-too-large": ProblemCode(TooLarge, "The body has more bytes than the daemon accepts."),
        "image-too-large": ProblemCode(
            TooLarge, "A picture has more pixels, or a longer side, than the daemon accepts."
        ),
        "too-many-images": ProblemCode(TooLarge, "A frame holds more pictures than the daemon accepts."),
        "image-invalid": ProblemCode(Unprocessable, "A picture cannot be read as RGB of a usable size."),
        "mask-invalid": ProblemCode(
            Unprocessable, "A mask cannot be read as one channel, or is not as large as its picture."
        ),
        "unsupported-dtype": ProblemCode(Unprocessable, "A raw picture is not an array of unsigned bytes."),
        "unknown-camera": ProblemCode(Unprocessable, "The policy has no camera of that name."),
        "missing-camera": ProblemCode(
            Unprocessable, "The policy needs a picture from a camera that the frame does not hold."
        ),
        "ambiguous-camera": ProblemCode(
            Unprocessable, "Several pictures fit one of the policy's cameras, and no name decides which it is."
        ),
        "missing-state": ProblemCode(Unprocessable, "The policy reads the robot's state, and the frame holds none."),
        "wrong-state": ProblemCode(
            Unprocessable, "The robot's state is not what the policy reads: other numbers, other names, or NaN."
        ),
        "unknown-unnorm-key": ProblemCode(
            Unprocessable, "The checkpoint has no such statistics, or has several and the frame names none."
        ),
        "session-id-invalid": ProblemCode(
            Unprocessable,
            "A session's id is 1 to 128 printable ASCII characters, with no space at either end, not '.' or '..'.",
        ),
        "unknown-reuse-mode": ProblemCode(Unprocessable, "'reuse' names no mode that there is."),
        "rtc-unsupported": ProblemCode(
            Unprocessable, "'rtc' is given, and this policy's chunks cannot be held to the one before."
        ),
        "rtc-without-session": ProblemCode(Unprocessable, "'rtc' is given, but the frame names no session."),
        "reuse-without-session": ProblemCode(Unprocessable, "'reuse' is given, but the frame names no session."),
        "seq-without-session": ProblemCode(
            Unprocessable, "'epoch', 'seq' or an Idempotency-Key is given, but the frame names no session."
        ),
        "unknown-service": ProblemCode(Unprocessable, "'service' is neither lockstep nor realtime."),
        "instruction-empty": ProblemCode(Unprocessable, "The instruction holds no words."),
        "instruction-too-long": ProblemCode(Unprocessable, "The instruction is longer than the daemon accepts."),
        "non-finite-action": ProblemCode(Internal, "The policy returned NaN or infinity; nothing was passed on."),
        "not-an-action": ProblemCode(
            Internal, "What the policy said is no action: a token of text, or numbers beyond its statistics."
        ),
        "internal": ProblemCode(Internal, "The daemon's own fault; its log has the story under the request's id."),
        "rate-limited": ProblemCode(
            TooMany, "This client sends more frames a second than it may; wait as long as is said."
        ),
        "session-busy": ProblemCode(
            TooMany, "As many of the session's frames are under way as may be; wait for an answer."
        ),
        "overloaded": ProblemCode(Overloaded, "More frames wait than may wait; try again, or try another replica."),
        "too-many-sessions": ProblemCode(
            Overloaded, "As many sessions are in use as there is room for; try another replica."
        ),
        "out-of-memory": ProblemCode(
            Overloaded, "The device had no memory for this frame; try again, or send less at once."
        ),
        "not-ready": ProblemCode(NotReady, "The policy is loading or warming up."),
        "stuck": ProblemCode(NotReady, "The device has been at one frame for too long."),
        "engine-ended": ProblemCode(
            NotReady, "The engine has ended; the daemon stops, for a supervisor to start it anew."
        ),
        "draining": ProblemCode(NotReady, "The daemon is stopping and takes no new frames."),
        "deadline-exceeded": ProblemCode(
            DeadlineExceeded, "The frame was too old when its turn came, or no action came in time."
        ),
    }
)
