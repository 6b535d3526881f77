"""The names that both ends of the wire use: headers, what may name a session, sub-protocols, close codes.

Knows no HTTP library: plain strings and numbers.
"""

from __future__ import annotations

from typing import Any

SESSION_HEADER = "X-Session-Id"  # of a request: whose frame it is
SECRET_HEADER = "X-Session-Secret"  # noqa: S105 (a header's name)
IDEMPOTENCY_HEADER = "Idempotency-Key"  # of a session's frame without a seq: the same key, the same answer
CHUNK_HEADER = "X-Stillframe-Chunk"  # of a frame at /act: "whole", where a bare answer would be the first action alone
WHOLE_CHUNK = "whole"
CACHE_HEADER = "X-Stillframe-Cache"  # of every answer to a frame: JSON, what it reused
HISTORY_HEADER = "X-Stillframe-History"  # of every answer to a frame: JSON, what is kept of older ones
RTC_HEADER = "X-Stillframe-Rtc"  # of answers to frames that asked: JSON, what the chunk was held to
CAMERAS_HEADER = "X-Stillframe-Cameras"  # of answers: JSON, which of the request's keys was which camera's picture
WARNING_HEADER = "X-Stillframe-Warning"  # of answers: JSON, a list of what is odd about the request and was taken
PLACE_HEADER = "X-Stillframe-Session"  # of the answers to a session's frames: JSON, its id, epoch and seq

MAX_SESSION_ID = 128
SESSION_ID_RULE = f"1 to {MAX_SESSION_ID} printable ASCII characters, with no space at either end, not '.' or '..'"
MAX_COUNT = 2**64 - 1  # of a seq or an epoch
RTC_FIELDS = ("delay_steps", "executed_steps", "horizon", "chunk_seq")  # of a frame's `rtc`
MAX_STATE_NUMBERS = 64  # of a robot's state in one frame

MSGPACK_PROTOCOL = "stillframe.v1.msgpack"  # WebSocket sub-protocols
JSON_PROTOCOL = "stillframe.v1.json"

# WebSocket close codes (RFC 6455, 7.4.1, and the registry of the IANA).
DONE = 1000
GOING = 1001
POLICY = 1008
TOO_BIG = 1009
FATAL = 1011
RESTART = 1012
LATER = 1013


def is_session_id(value: Any) -> bool:
    """Whether a value can name a session: see SESSION_ID_RULE."""
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_SESSION_ID:
        return False
    if value in (".", ".."):  # no path leads to it: clients and proxies take such steps themselves
        return False
    return value.isascii() and value.isprintable() and value == value.strip()
