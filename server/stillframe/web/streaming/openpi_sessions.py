"""Maps openpi observations to sessions: the connection's own, or one per session_id and env_id in the observation.

Knows no socket. The ids on this wire are the client's own, often plain numbers; each maps to a session of ours.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from stillframe.errors import BadRequest
from stillframe.sessions.registry import SessionRegistry
from stillframe.sessions.session import Session
from stillframe.web.http.parsing import Fields

MAX_SESSIONS = 64  # sessions on one connection, as simulators with several scenes have them
MAX_NAMED = 1024  # by one reset
_MAX_ID = 128
_NO_ID = ""


class SessionKey(NamedTuple):
    """An observation's session_id and env_id."""

    episode: str  # session_id: a new one ends the last one
    scene: str  # env_id: several are live side by side


class ConnectionSessions:
    """One connection's sessions, closed with it."""

    def __init__(self, registry: SessionRegistry, owner: str, share: str):
        self._registry = registry
        self._owner, self._share = owner, share
        self._sessions: dict[SessionKey, Session] = {}  # oldest first

    def enter(self, fields: Fields) -> Session:
        """Return the session of an observation; `reset` in it begins the next episode. Raises RequestError."""
        key = SessionKey(_read_id(fields, "session_id"), _read_id(fields, "env_id"))
        session = self._sessions.get(key)
        if session is None or not session.live:
            return self._open(key)
        if _flag(fields.get("reset")):
            self._registry.reset(session)
        return session

    def reset(self, fields: Fields) -> None:
        """Begin the next episode of the sessions that are named, or of all."""
        episodes = {_read_id(fields, "session_id"), *_read_ids(fields, "session_ids")} - {_NO_ID}
        scenes = {_read_id(fields, "env_id"), *_read_ids(fields, "env_ids")} - {_NO_ID}
        for key, session in self._sessions.items():
            named = (not episodes or key.episode in episodes) and (not scenes or key.scene in scenes)
            if session.live and named:
                self._registry.reset(session)

    def close(self) -> None:
        """Close all sessions: the connection is closed."""
        for session in self._sessions.values():
            self._registry.close(session)

    def lost(self, session_id: str) -> None:
        """Never called: these sessions' secrets are not given out."""

    def _open(self, key: SessionKey) -> Session:
        for other in self._displaced_by(key):
            self._registry.close(self._sessions.pop(other))
        session, _ = self._registry.open(None, owner=self._owner, share=self._share)
        self._registry.attach(session, self)
        self._sessions[key] = session
        return session

    def _displaced_by(self, key: SessionKey) -> list[SessionKey]:
        """Return the sessions that this one ends: the same robot's last, or the oldest beyond MAX_SESSIONS."""
        over = [other for other in self._sessions if other == key or (_NO_ID not in (other.episode, key.episode))]
        over = [other for other in over if other.scene == key.scene]
        return over or list(self._sessions)[: max(0, len(self._sessions) + 1 - MAX_SESSIONS)]


def _flag(value: Any) -> bool:
    """Return a boolean that may come as an array or a number."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    return isinstance(value, bool | int) and bool(value)


def _read_ids(fields: Fields, name: str) -> list[str]:
    """The ids in a list of them; in one alone, too."""
    value = fields.get(name)
    if isinstance(value, np.ndarray):
        if value.size > MAX_NAMED:  # a message's bytes could be ten million of them
            raise BadRequest("bad-field", f"{name!r} names over {MAX_NAMED} at once.", pointer=f"/{name}")
        value = value.ravel().tolist()
    parts = value if isinstance(value, list) else [value]
    return [_read_id({name: part}, name) for part in parts]


def _read_id(fields: Fields, name: str) -> str:
    """An id: a string, a number, or an array of one number. Raises BadRequest."""
    value = fields.get(name)
    if value is None:
        return _NO_ID
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    if not isinstance(value, str | int) or len(str(value)) > _MAX_ID:
        raise BadRequest("bad-field", f"{name!r} has to be a short string or a whole number.", pointer=f"/{name}")
    return str(value)
