"""Session fields of a frame: its session, epoch, seq, idempotency key and reuse mode.

Knows no pictures and no engine. The session may be named in path, field and header, if they agree; or not at all.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from stillframe.domain import REUSE_MODES, ReuseMode
from stillframe.errors import BadRequest, Unprocessable, closest
from stillframe.sessions.pending import FramePosition
from stillframe_client.wire import IDEMPOTENCY_HEADER, MAX_COUNT, SESSION_HEADER, SESSION_ID_RULE, is_session_id

_FIELD = "session_id"
_PLACE = "/session_id"
_MAX_KEY = 128
_CLOCK_END_NS = 2**63


@dataclass(frozen=True)
class RequestAddress:
    """What path, headers and port say of a frame's session."""

    ids: tuple[str, ...] = ()  # sessions named in headers; more than one is an error if they differ
    path_id: str | None = None  # the session in the path
    key: str | None = None  # Idempotency-Key
    fallback: str | None = None  # the session of a frame that names none


@dataclass(frozen=True)
class SessionFields:
    """A frame's session, reuse mode and position."""

    id: str
    mode: ReuseMode | None
    position: FramePosition


def read_address(request: Request, *, path_id: str | None = None, fallback: str | None = None) -> RequestAddress:
    """Read path and headers. Raises BadRequest for two different idempotency keys."""
    ids = tuple(request.headers.getlist(SESSION_HEADER))
    return RequestAddress(ids, path_id, _one_key(request.headers.getlist(IDEMPOTENCY_HEADER)), fallback)


def read_session_fields(fields: Mapping[str, Any], head: RequestAddress = RequestAddress()) -> SessionFields | None:
    """Return the session fields of a frame; None: it is stateless.

    Raises BadRequest for two different sessions, Unprocessable for an invalid id or mode, and for a mode, seq or key
    without a session.
    """
    session_id, mode = read_session_id(fields, head) or head.fallback, read_mode(fields)
    place = FramePosition(epoch=read_count(fields, "epoch"), seq=read_count(fields, "seq"), key=_key(head.key))
    if session_id is not None:
        return SessionFields(session_id, mode, place)
    if mode is not None:
        detail = f"'reuse' is about a session's last frame; name the session in {_FIELD!r}, or leave 'reuse' out."
        raise Unprocessable("reuse-without-session", detail, pointer="/reuse")
    for name, count in (("epoch", place.epoch), ("seq", place.seq)):
        if count is not None:
            detail = f"{name!r} counts a session's frames; name the session in {_FIELD!r}, or leave {name!r} out."
            raise Unprocessable("seq-without-session", detail, pointer=f"/{name}")
    if place.key is not None:
        detail = f"{IDEMPOTENCY_HEADER} tells a session's frames apart; name the session in {_FIELD!r}, or no key."
        raise Unprocessable("seq-without-session", detail)
    return None


def read_session_id(fields: Mapping[str, Any], head: RequestAddress = RequestAddress()) -> str | None:
    """Return the session id in fields, path or headers. Raises as `read_session_fields` does."""
    field = fields.get(_FIELD)
    if field is not None and not isinstance(field, str):
        raise BadRequest("bad-field", f"{_FIELD!r} has to be a string or null.", pointer=_PLACE)
    named: list[tuple[str, str, str | None]] = [] if field is None else [(f"{_FIELD!r}", field, _PLACE)]
    named += [(SESSION_HEADER, header, None) for header in head.ids]
    named += [] if head.path_id is None else [("The path's session", head.path_id, None)]
    for where, session_id, place in named:
        if not is_session_id(session_id):
            detail = f"{where} is {reprlib.repr(session_id)}; expected {SESSION_ID_RULE}."
            raise Unprocessable("session-id-invalid", detail, pointer=place)
    ids = {session_id for _, session_id, _ in named}
    if len(ids) > 1:
        detail = (
            f"Path, {_FIELD!r} and {SESSION_HEADER} name {len(ids)} sessions; a request belongs to one: send one id."
        )
        raise BadRequest("session-conflict", detail, pointer=None if field is None else _PLACE)
    return ids.pop() if ids else None


def read_mode(fields: Mapping[str, Any]) -> ReuseMode | None:
    """Return the reuse mode that a request asks for."""
    mode = fields.get("reuse")
    if mode is None or (isinstance(mode, str) and mode in REUSE_MODES):
        return mode
    return read_choice(fields, "reuse", REUSE_MODES, code="unknown-reuse-mode")  # type: ignore[return-value]  # raises


def read_choice(fields: Mapping[str, Any], name: str, choices: Sequence[str], *, code: str) -> str | None:
    """Return one of `choices`, or None if absent. Raises BadRequest, Unprocessable with `code`."""
    word = fields.get(name)
    if word is None or (isinstance(word, str) and word in choices):
        return word
    if not isinstance(word, str):
        raise BadRequest("bad-field", f"{name!r} has to be a string or null.", pointer=f"/{name}")
    what = {"reuse": "mode"}.get(name, name)
    detail = f"There is no {what} {reprlib.repr(word)}; choose one of {', '.join(choices)}."
    raise Unprocessable(code, detail + closest(word, choices), pointer=f"/{name}")


def read_count(fields: Mapping[str, Any], name: str) -> int | None:
    """Return an epoch or seq: an integer from 0, 64 bits. Raises BadRequest."""
    count = fields.get(name)
    if count is None:
        return None
    if type(count) is not int or not 0 <= count <= MAX_COUNT:
        raise BadRequest("bad-field", f"{name!r} has to be a whole number from 0 to {MAX_COUNT}.", pointer=f"/{name}")
    return count


def is_clock_ns(value: Any) -> bool:
    """Return whether a value is a clock reading in ns: an integer of 64 bits."""
    return type(value) is int and -_CLOCK_END_NS <= value < _CLOCK_END_NS


def _one_key(said: Sequence[str]) -> str | None:
    if len(set(said)) > 1:
        raise BadRequest("bad-field", f"{IDEMPOTENCY_HEADER} stands {len(said)} times, with other keys; send one.")
    return said[0] if said else None


def _key(text: str | None) -> str | None:
    if text is not None and not 1 <= len(text) <= _MAX_KEY:
        raise BadRequest("bad-field", f"{IDEMPOTENCY_HEADER} has to have 1 to {_MAX_KEY} characters.")
    return text
