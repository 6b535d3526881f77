"""Parses what a reply says of its session: reuse, history, position; and checks session ids.

Knows no connection and no pictures. Members that are missing or malformed are None.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Mapping, Optional

from stillframe_client.errors import WireError
from stillframe_client.wire import (
    CACHE_HEADER,
    HISTORY_HEADER,
    MAX_COUNT,
    PLACE_HEADER,
    RTC_HEADER,
    SESSION_ID_RULE,
    PackLimits,
    is_session_id,
    read_json,
)

if TYPE_CHECKING:
    import httpx

_CHUNKS = ("held", "kept", "dropped", "kv_bytes")


@dataclass(frozen=True)
class CacheReport:
    """What one frame reused of those before it. Tokens are the prompt's, pictures included."""

    mode: str  # off, exact, adaptive, paper, static-only, fastv, sparsevlm or tome
    frame: str  # "keyframe": computed whole; "delta": it reused something
    reason: Optional[str]  # why it was a keyframe; None for a delta frame
    reuse_ratio: float  # share of the decoder's work on the prompt that was reused, 0 to 1
    reused_tokens: int  # in the decoder's last layer, where most are
    total_tokens: int
    kv_bytes: int  # that the daemon holds for this session
    age_max: int  # frames since the oldest reused token was computed
    relaxed: bool = False  # whether an action token could be a guess that was near enough, instead of the likeliest
    bit_equal: Optional[bool] = None  # to decoding this frame alone and without guesses; None: the daemon does not say
    beside_ms: float = 0.0  # device time that refreshes and audits of this session took since the answer before
    pruned_ratio: float = 0.0  # share of that work that was left out, with nothing reused in its place


@dataclass(frozen=True)
class HistoryReport:
    """What the daemon keeps of this session's older frames, in chunks."""

    enabled: bool  # whether the answer could look at them
    why: Optional[str] = None  # it could not
    held: int = 0  # now
    kept: int = 0  # since the episode began: that stayed when the window had gone past them
    dropped: int = 0  # since the episode began: that went, as they came or later
    kv_bytes: int = 0  # of those held
    warning: Optional[str] = None  # history is forced on a policy that was not trained with it


@dataclass(frozen=True)
class RtcReport:
    """What a chunk was held to."""

    frozen: int  # steps held fast, the first of the chunk
    guided: int  # steps behind these, held less and less
    chunk_seq: Optional[int] = None  # the frame of the chunk that it was held to
    why: Optional[str] = None  # it was computed freely: no-chunk, unknown-chunk, played-out, ...


@dataclass(frozen=True)
class SessionPlace:
    """Position of a frame in its session."""

    id: str
    epoch: int  # counts the session's episodes, from 0
    seq: int  # counts the frames of its epoch, from 0


def open_session(session: Optional[str], *, stateless: bool) -> Optional[str]:
    """Return the id of a client's session: the one it was given, a new one, or None. Raises ValueError."""
    if stateless:
        if session is not None:
            raise ValueError(f"session is {session!r} and stateless is True; give one of the two.")
        return None
    return session_name(session) or uuid.uuid4().hex


def session_name(session: Optional[str]) -> Optional[str]:
    """Return a session name that the caller gave, if any. Raises ValueError for an invalid one."""
    if session is not None and not is_session_id(session):
        raise ValueError(f"session is {session!r}; expected {SESSION_ID_RULE}.")
    return session


def read_cache(response: httpx.Response, document: Any) -> Optional[CacheReport]:
    """Read what the frame reused; None where the answer does not say."""
    return cache_report(_said(response, document, "cache", CACHE_HEADER))


def read_history(response: httpx.Response, document: Any) -> Optional[HistoryReport]:
    """Read what is kept of older frames; None where the answer does not say."""
    return history_report(_said(response, document, "history", HISTORY_HEADER))


def read_rtc(response: httpx.Response, document: Any) -> Optional[RtcReport]:
    """Read what the chunk was held to; None where the answer does not say."""
    return rtc_report(_said(response, document, "rtc", RTC_HEADER))


def read_place(response: httpx.Response, document: Any) -> Optional[SessionPlace]:
    """Read which frame of which session it was; None where the answer does not say."""
    return session_place(_said(response, document, "session", PLACE_HEADER))


def cache_report(said: Any) -> Optional[CacheReport]:
    """What an answer's member `cache` says; None for what cannot be read."""
    try:
        return CacheReport(
            mode=_text(said["mode"]),
            frame=_text(said["frame"]),
            reason=None if said["reason"] is None else _text(said["reason"]),
            reuse_ratio=_number(said["reuse_ratio"]),
            reused_tokens=_count(said["reused_tokens"]),
            total_tokens=_count(said["total_tokens"]),
            kv_bytes=_count(said["kv_bytes"]),
            age_max=_count(said["age_max"]),
            relaxed=said.get("relaxed") is True,
            bit_equal=_flag(said.get("bit_equal")),
            beside_ms=_number(said.get("beside_ms", 0.0)),
            pruned_ratio=_number(said.get("pruned_ratio", 0.0)),
        )
    except _UNREADABLE:
        return None


def history_report(said: Any) -> Optional[HistoryReport]:
    """What an answer's member `history` says; None for what cannot be read."""
    try:
        enabled = said["enabled"] is True
        counts = {name: _count(said[name]) for name in _CHUNKS} if enabled else {}
        why, warning = (None if said.get(name) is None else _text(said[name]) for name in ("why", "warning"))
        return HistoryReport(enabled, why=why, warning=warning, **counts)
    except _UNREADABLE:
        return None


def rtc_report(said: Any) -> Optional[RtcReport]:
    """What an answer's member `rtc` says; None for what cannot be read."""
    try:
        seq, why = said.get("chunk_seq"), said.get("why")
        return RtcReport(
            frozen=_count(said["frozen"]),
            guided=_count(said["guided"]),
            chunk_seq=None if seq is None else _count(seq),
            why=None if why is None else _text(why),
        )
    except _UNREADABLE:
        return None


def session_place(said: Any) -> Optional[SessionPlace]:
    """What an answer's member `session` says; None for what cannot be read."""
    try:
        return SessionPlace(id=_text(said["id"]), epoch=_count(said["epoch"]), seq=_count(said["seq"]))
    except _UNREADABLE:
        return None


def _said(response: httpx.Response, document: Any, member: str, header: str) -> Mapping[str, Any]:
    """What the answer says under `member`, or in `header`: an answer that is an array alone has no members."""
    said = document.get(member) if isinstance(document, dict) else None
    if said is None:
        said = _object(response.headers.get(header, "{}"))
    return said if isinstance(said, dict) else {}


def _object(text: str) -> Any:
    try:
        return read_json(text, PackLimits(), dict)
    except WireError:
        return None


# Members that are missing, or of a map that is none: numpy's arrays have errors of their own for that.
_UNREADABLE = (KeyError, TypeError, ValueError, IndexError, AttributeError)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


def _flag(value: Any) -> Optional[bool]:
    return value if isinstance(value, bool) else None


def _count(value: Any) -> int:
    """A whole number from 0; a peer may write it as 3.0."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if type(value) is not int or not 0 <= value <= MAX_COUNT:
        raise ValueError
    return int(value)


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not abs(value) <= MAX_COUNT:  # NaN is not
        raise ValueError
    return float(value)
