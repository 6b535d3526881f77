"""Opens the session that a request or a message describes, and says what its owner is told of it.

Knows fields and the sessions' registry; no HTTP and no WebSocket.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stillframe.errors import BadRequest
from stillframe.sessions.registry import SessionRegistry
from stillframe.sessions.session import Connection, ServiceMode, Session
from stillframe.web.http.session_fields import read_choice, read_mode, read_session_id
from stillframe.web.middleware.auth import Caller

SERVICES = tuple(service.value for service in ServiceMode)


def open_session(
    roster: SessionRegistry, fields: Mapping[str, Any], caller: Caller, share: str, connection: Connection | None = None
) -> tuple[Session, bool]:
    """Open the session that `fields` describe, or resume it; say which. Raises RequestError."""
    service = read_choice(fields, "service", SERVICES, code="unknown-service")
    secret = fields.get("secret")
    if secret is not None and not isinstance(secret, str):
        raise BadRequest("bad-field", "'secret' has to be a string or null.", pointer="/secret")
    return roster.open(
        read_session_id(fields),
        owner=caller.name,
        share=share,
        service=ServiceMode(service or ServiceMode.LOCKSTEP),
        mode=read_mode(fields),
        secret=secret,
        connection=connection,
    )


def opened(session: Session, *, resumed: bool) -> dict[str, Any]:
    """What the one who opened a session is told."""
    return {
        "session_id": session.id,
        "secret": session.secret,
        "epoch": session.epoch,
        "service": session.service.value,
        "resumed": resumed,
    }
