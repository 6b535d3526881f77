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
class Entry:
    """One kind of problem."""

    kind: type[RequestError]  # whose status and title it has
    meaning: str

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.kind.status

    @property
    def title(self) -> str:
        """The short name that all problems of this kind share."""
        return self.kind.title


CATALOGUE: Mapping[str, Entry] = MappingProxyType(
    {
        "bad-request": Entry(BadRequest, "What came is no HTTP/1.1 request, or one whose end would be a guess."),
        "head-timeout": Entry(RequestTimeout, "The request's line and headers did not arrive in time."),
        "head-too-large": Entry(HeadTooLarge, "The request's line and headers have too many bytes or lines."),
        "bad-json": Entry(BadRequest, "The body is not one JSON object."),
        "bad-codec": Entry(
            BadRequest, "Base64, an array, msgpack, a form or the content type is not what it claims to be."
        ),
        "missing-field": Entry(BadRequest, "A field that every frame needs is not there."),
        "bad-field": Entry(BadRequest, "A field has the wrong type or lies outside its range."),
        "session-conflict": Entry(BadRequest, "Path, body and header name different sessions."),
        "body-timeout": Entry(BadRequest, "The body did not arrive in time, or the client went away."),
        "unauthorized": Entry(Unauthorized, "The daemon asks for a token, and there is none or an unknown one."),
        "forbidden": Entry(Forbidden, "The token may not do that, or the Host or Origin is not let in."),
        "unknown-session": Entry(
            NoSuchSession, "No session of the caller's has that id; the daemon may have restarted."
        ),
        "not-found": Entry(NoSuchRoute, "Nothing is served at that path."),
        "method-not-allowed": Entry(WrongMethod, "The path is served, but not by that method."),
        "stale-epoch": Entry(Conflict, "The frame belongs to another episode than the session's."),
        "stale-seq": Entry(Conflict, "The frame is not after the session's last, nor a repeat whose answer is kept."),
        "seq-conflict": Entry(Conflict, "Another frame came under the same seq or Idempotency-Key before."),
        "superseded": Entry(Conflict, "A newer frame of a realtime session took this one's place."),
        "session-in-use": Entry(Conflict, "A connection holds the session; its secret takes it over."),
        "session-ambiguous": Entry(Conflict, "Several owners have a session of that id; an admin has to say whose."),
        "session-exists": Entry(Conflict, "A session of that id is open; its secret resumes it."),
        "session-evicted": Entry(Gone, "The session was idle and made room for another; open a new one."),
        "session-expired": Entry(Gone, "Nobody used the session for too long; open a new one."),
        "session-closed": Entry(Gone, "The session was closed; open a new one."),
        "body-too-large": Entry(TooLarge, "The body has more bytes than the daemon accepts."),
        "image-too-large": Entry(TooLarge, "A picture has more pixels, or a longer side, than the daemon accepts."),
        "too-many-images": Entry(TooLarge, "A frame holds more pictures than the daemon accepts."),
        "image-invalid": Entry(Unprocessable, "A picture cannot be read as RGB of a usable size."),
        "unsupported-dtype": Entry(Unprocessable, "A raw picture is not an array of unsigned bytes."),
        "unknown-camera": Entry(Unprocessable, "The policy has no camera of that name."),
        "missing-camera": Entry(
            Unprocessable, "The policy needs a picture from a camera that the frame does not hold."
        ),
        "ambiguous-camera": Entry(
            Unprocessable, "Several pictures fit one of the policy's cameras, and no name decides which it is."
        ),
        "unknown-unnorm-key": Entry(
            Unprocessable, "The checkpoint has no such statistics, or has several and the frame names none."
        ),
        "session-id-invalid": Entry(
            Unprocessable,
            "A session's id is 1 to 128 printable ASCII characters, with no space at either end, not '.' or '..'.",
        ),
        "unknown-reuse-mode": Entry(Unprocessable, "'reuse' names no mode that there is."),
        "reuse-without-session": Entry(Unprocessable, "'reuse' is given, but the frame names no session."),
        "seq-without-session": Entry(
            Unprocessable, "'epoch', 'seq' or an Idempotency-Key is given, but the frame names no session."
        ),
        "unknown-service": Entry(Unprocessable, "'service' is neither lockstep nor realtime."),
        "instruction-empty": Entry(Unprocessable, "The instruction holds no words."),
        "instruction-too-long": Entry(Unprocessable, "The instruction is longer than the daemon accepts."),
        "non-finite-action": Entry(Internal, "The policy returned NaN or infinity; nothing was passed on."),
        "not-an-action": Entry(
            Internal, "What the policy said is no action: a token of text, or numbers beyond its statistics."
        ),
        "internal": Entry(Internal, "The daemon's own fault; its log has the story under the request's id."),
        "rate-limited": Entry(TooMany, "This client sends more frames a second than it may; wait as long as is said."),
        "session-busy": Entry(TooMany, "As many of the session's frames are under way as may be; wait for an answer."),
        "overloaded": Entry(Overloaded, "More frames wait than may wait; try again, or try another replica."),
        "too-many-sessions": Entry(
            Overloaded, "As many sessions are in use as there is room for; try another replica."
        ),
        "out-of-memory": Entry(Overloaded, "The device had no memory for this frame; try again, or send less at once."),
        "not-ready": Entry(NotReady, "The policy is loading or warming up."),
        "stuck": Entry(NotReady, "The device has been at one frame for too long."),
        "engine-ended": Entry(NotReady, "The engine has ended; the daemon stops, for a supervisor to start it anew."),
        "draining": Entry(NotReady, "The daemon is stopping and takes no new frames."),
        "deadline-exceeded": Entry(
            DeadlineExceeded, "The frame was too old when its turn came, or no action came in time."
        ),
    }
)
