"""Which session an openpi client's observation belongs to: the connection's own, or one that a key in it names.

Knows no socket. The ids on this wire are the clients' own, often just numbers; ours stand behind them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from stillframe.errors import BadRequest
from stillframe.sessions.registry import SessionRegistry
from stillframe.sessions.session import Session
from stillframe.web.http.objects import Fields

MOST_SCENES = 64  # sessions on one connection, as simulators with several scenes have them
MOST_NAMED = 1024  # by one reset
_MAX_WORD = 128
_UNSAID = ""


class Key(NamedTuple):
    """What an observation says of whose it is."""

    episode: str  # session_id: another one begins as the last one ends
    scene: str  # env_id: several live side by side


class Scenes:
    """One connection's sessions. They end with it."""

    def __init__(self, roster: SessionRegistry, owner: str, share: str):
        self._roster = roster
        self._owner, self._share = owner, share
        self._sessions: dict[Key, Session] = {}  # the longest known first

    def enter(self, fields: Fields) -> Session:
        """The session of an observation; with `reset` in it, in its next episode. Raises RequestError."""
        key = Key(_word(fields, "session_id"), _word(fields, "env_id"))
        session = self._sessions.get(key)
        if session is None or not session.live:
            return self._open(key)
        if _flag(fields.get("reset")):
            self._roster.reset(session)
        return session

    def reset(self, fields: Fields) -> None:
        """Begin the next episode of the sessions that are named, or of all."""
        episodes = {_word(fields, "session_id"), *_words(fields, "session_ids")} - {_UNSAID}
        scenes = {_word(fields, "env_id"), *_words(fields, "env_ids")} - {_UNSAID}
        for key, session in self._sessions.items():
            named = (not episodes or key.episode in episodes) and (not scenes or key.scene in scenes)
            if session.live and named:
                self._roster.reset(session)

    def close(self) -> None:
        """The connection is no more, so its sessions are not."""
        for session in self._sessions.values():
            self._roster.close(session)

    def lost(self, session_id: str) -> None:
        """Nobody else knows the secrets of these sessions."""

    def _open(self, key: Key) -> Session:
        for other in self._ended_by(key):
            self._roster.close(self._sessions.pop(other))
        session, _ = self._roster.open(None, owner=self._owner, share=self._share)
        self._roster.attach(session, self)
        self._sessions[key] = session
        return session

    def _ended_by(self, key: Key) -> list[Key]:
        """Whose episode is over when this one begins, or who has to make room for it."""
        over = [other for other in self._sessions if other == key or (_UNSAID not in (other.episode, key.episode))]
        over = [other for other in over if other.scene == key.scene]
        return over or list(self._sessions)[: max(0, len(self._sessions) + 1 - MOST_SCENES)]


def _flag(value: Any) -> bool:
    """A truth value, whichever way it was sent."""
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    return isinstance(value, bool | int) and bool(value)


def _words(fields: Fields, name: str) -> list[str]:
    """The ids in a list of them; in one alone, too."""
    value = fields.get(name)
    if isinstance(value, np.ndarray):
        if value.size > MOST_NAMED:  # a message's bytes could be ten million of them
            raise BadRequest("bad-field", f"{name!r} names over {MOST_NAMED} at once.", pointer=f"/{name}")
        value = value.ravel().tolist()
    parts = value if isinstance(value, list) else [value]
    return [_word({name: part}, name) for part in parts]


def _word(fields: Fields, name: str) -> str:
    """An id: a string, a number, or an array of one number. Raises BadRequest."""
    value = fields.get(name)
    if value is None:
        return _UNSAID
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    if not isinstance(value, str | int) or len(str(value)) > _MAX_WORD:
        raise BadRequest("bad-field", f"{name!r} has to be a short string or a whole number.", pointer=f"/{name}")
    return str(value)
