"""Opens or resumes the session that a request or message describes, and writes the reply.

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
    registry: SessionRegistry,
    fields: Mapping[str, Any],
    caller: Caller,
    share: str,
    connection: Connection | None = None,
) -> tuple[Session, bool]:
    """Open or resume the session that `fields` describe; return it, and whether resumed. Raises RequestError."""
    service = read_choice(fields, "service", SERVICES, code="unknown-service")
    secret = fields.get("secret")
    if secret is not None and not isinstance(secret, str):
        raise BadRequest("bad-field", "'secret' has to be a string or null.", pointer="/secret")
    return registry.open(
        read_session_id(fields),
        owner=caller.name,
        share=share,
        service=ServiceMode(service or ServiceMode.LOCKSTEP),
        mode=read_mode(fields),
        secret=secret,
        connection=connection,
    )


def session_document(session: Session, *, resumed: bool) -> dict[str, Any]:
    """Return the reply to opening a session; its secret resumes it."""
    return {
        "session_id": session.id,
        "secret": session.secret,
        "epoch": session.epoch,
        "service": session.service.value,
        "resumed": resumed,
    }
