"""Reads whose frame it is, and how much of that session's last frame may be reused.

Knows no pictures and no engine. A request names its session in a field, in a header, or in both alike; or it has none.
"""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.requests import Request

from stillframe.domain import REUSE_MODES, ReuseMode, SessionRef
from stillframe.errors import BadRequest, Unprocessable, closest
from stillframe_client.wire import SESSION_HEADER, SESSION_ID_RULE, is_session_id

_FIELD = "session_id"
_PLACE = "/session_id"


def header_ids(request: Request) -> list[str]:
    """Every session that the request's headers name: none, or one if the client is sane."""
    return request.headers.getlist(SESSION_HEADER)


def read_session(fields: Mapping[str, Any], headers: Sequence[str]) -> SessionRef | None:
    """The session of a frame with these fields and header ids; None: it is stateless.

    Raises BadRequest for two different sessions, Unprocessable for an id against the rule, for a mode that is none, and
    for a mode without a session.
    """
    session_id, mode = read_session_id(fields, headers), _mode(fields)
    if session_id is not None:
        return SessionRef(session_id, mode)
    if mode is not None:
        detail = f"'reuse' is about a session's last frame; name the session in {_FIELD!r}, or leave 'reuse' out."
        raise Unprocessable("reuse-without-session", detail, pointer="/reuse")
    return None


def read_session_id(fields: Mapping[str, Any], headers: Sequence[str]) -> str | None:
    """The id in these fields and header values; null is none. Raises as `read_session` does."""
    field = fields.get(_FIELD)
    if field is not None and not isinstance(field, str):
        raise BadRequest("bad-field", f"{_FIELD!r} has to be a string or null.", pointer=_PLACE)
    named: list[tuple[str, str, str | None]] = [] if field is None else [(f"{_FIELD!r}", field, _PLACE)]
    named += [(SESSION_HEADER, header, None) for header in headers]
    for where, session_id, place in named:
        if not is_session_id(session_id):
            detail = f"{where} is {reprlib.repr(session_id)}; expected {SESSION_ID_RULE}."
            raise Unprocessable("session-id-invalid", detail, pointer=place)
    ids = {session_id for _, session_id, _ in named}
    if len(ids) > 1:
        detail = f"{_FIELD!r} and {SESSION_HEADER} name {len(ids)} sessions; a request belongs to one: send one id."
        raise BadRequest("session-conflict", detail, pointer=None if field is None else _PLACE)
    return ids.pop() if ids else None


def _mode(fields: Mapping[str, Any]) -> ReuseMode | None:
    mode = fields.get("reuse")
    if mode is None or mode in REUSE_MODES:
        return mode
    if not isinstance(mode, str):
        raise BadRequest("bad-field", "'reuse' has to be a string or null.", pointer="/reuse")
    detail = f"There is no mode {reprlib.repr(mode)}; choose one of {', '.join(REUSE_MODES)}."
    raise Unprocessable("unknown-reuse-mode", detail + closest(mode, REUSE_MODES), pointer="/reuse")
