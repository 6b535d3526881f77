"""The sessions attached to one native stream: opened, resumed or implied by a frame, each with its queue of frames.

Knows no message but its fields; sends nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stillframe.errors import BadRequest
from stillframe.sessions.session import Connection, Session
from stillframe.web.http.parsing import Fields
from stillframe.web.http.session_fields import read_session_id
from stillframe.web.middleware.auth import Caller
from stillframe.web.service.inference import InferenceService
from stillframe.web.service.open_session import open_session
from stillframe.web.streaming.session_queue import SessionQueue

MAX_OPENED = 1024  # explicitly opened sessions whose end a connection remembers


class StreamSessions:
    """For one connection: while a session is attached, no other connection can send its frames."""

    def __init__(self, inference: InferenceService, connection: Connection, caller: Caller, share: str):
        """`connection`: is told by the registry when another connection takes a session over."""
        self._inference, self._connection = inference, connection
        self._caller, self._share = caller, share
        self._queues: dict[str, SessionQueue] = {}
        self._opened: dict[str, None] = {}  # sessions that were opened here explicitly, the last ones

    def open(self, fields: Fields) -> tuple[Session, bool]:
        """Open or resume the session that `fields` describe, and attach it; say which. Raises RequestError."""
        registry = self._inference.registry
        session, resumed = open_session(registry, fields, self._caller, self._share, connection=self._connection)
        self._attach(session)
        self._opened[session.id] = None
        while len(self._opened) > MAX_OPENED:
            del self._opened[next(iter(self._opened))]
        return session, resumed

    def find(self, fields: Fields) -> Session:
        """Return the session that a message names, of this caller. Raises NoSuchSession, Gone or BadRequest."""
        return self._inference.registry.find(required_id(fields), owner=self._caller.name)

    def queue_for(self, session_id: str) -> SessionQueue:
        """Return the queue of a session that a frame names; an unknown one begins implicitly. Raises RequestError."""
        queue = self._queues.get(session_id)
        if queue is None or not queue.session.live:
            if session_id in self._opened:
                self.find({"session_id": session_id})  # raises Gone: an implicit successor would have another secret
            registry = self._inference.registry
            queue = self._attach(registry.find_or_create(session_id, owner=self._caller.name, share=self._share))
        return queue

    async def flush(self, session: Session) -> None:
        """Wait until the session's frames that came so far are submitted."""
        if (queue := self._queues.get(session.id)) is not None:
            await queue.flushed()

    def drop(self, session_id: str) -> None:
        """Forget a session that another connection has taken over."""
        self._queues.pop(session_id, None)
        self._opened.pop(session_id, None)

    def detach_all(self) -> None:
        """Detach every session: the connection is closed, and they may be resumed from another."""
        for queue in self._queues.values():
            self._inference.registry.leave(queue.session, self._connection)

    def _attach(self, session: Session) -> SessionQueue:
        """Attach the session to the connection, with a queue. Raises Conflict while another connection has it."""
        self._inference.registry.attach(session, self._connection)
        queue = self._queues.get(session.id)
        if queue is None or queue.session is not session:
            self._queues = {other.session.id: other for other in self._queues.values() if other.session.live}
            max_in_flight = 1 + self._inference.registry.settings.waiting
            queue = SessionQueue(session, max_in_flight, self._inference.metrics.sessions)
            self._queues[session.id] = queue
        return queue


def required_id(fields: Mapping[str, Any]) -> str:
    """Return the id of the session that a message names. Raises BadRequest where it names none."""
    session_id = read_session_id(fields)
    if session_id is None:
        detail = "'session_id' is missing: a stream's frames belong to sessions; stateless ones go to POST /v1/act."
        raise BadRequest("missing-field", detail, pointer="/session_id")
    return session_id
