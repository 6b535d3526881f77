"""SessionTable: every session's state, the longest idle first.

Knows order and identity; no lock, and no identity check: each frame names its session. For one thread.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Container

from stillframe.domain import KeyframeReason, SessionRef
from stillframe.engine.drafts import DraftProposer
from stillframe.engine.drift import Caution
from stillframe.engine.history import SessionHistory
from stillframe.engine.sent_chunks import SentChunks
from stillframe.engine.session_state import SessionState

MOST_SESSIONS = 4096  # known at once, should none of them be ended; the longest idle one goes


class SessionTable:
    """At most `most` sessions. One that leaves is handed to `on_remove`, which frees what it holds."""

    def __init__(self, drift_budget: float, on_remove: Callable[[SessionState], None], most: int = MOST_SESSIONS):
        self._drift_budget = drift_budget
        self._on_remove = on_remove
        self._most = most
        self._known: OrderedDict[str, SessionState] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def at(self, ref: SessionRef) -> SessionState:
        """The session of the frame that is computed now. An earlier one of the same id is removed."""
        session = self._known.get(ref.id)
        if session is None or session.ref.serial != ref.serial:
            session = self._begin(ref)
        elif session.ref.epoch != ref.epoch:
            session.cause, session.drafts, session.history = KeyframeReason.RESET, DraftProposer(), None
            session.ensemble, session.chunks, session.last_drift = None, SentChunks(), None
        session.ref = ref
        self._known.move_to_end(ref.id)
        return session

    def known(self, session_id: str) -> SessionState | None:
        """The session of that id, if there is one."""
        return self._known.get(session_id)

    def remove(self, session_id: str) -> None:
        """Forget a session."""
        session = self._known.pop(session_id, None)
        if session is not None:
            self._on_remove(session)

    def longest_idle(self, but: Container[str] = ()) -> SessionState | None:
        """Of those that hold KV, `but` some, the one whose last frame is oldest."""
        holding = (session for session in self._known.values() if session.reuse is not None)
        return next((session for session in holding if session.ref.id not in but), None)

    def pending(self, due: Callable[[SessionState], bool] = lambda _: True) -> SessionState | None:
        """Of those that an idle refresh can improve and are `due`, the longest idle: its next frame is due soonest."""
        return next((own for own in self._known.values() if own.pending is not None and due(own)), None)

    @property
    def holding(self) -> int:
        """How many hold KV. Any thread."""
        return sum(session.reuse is not None for session in [*self._known.values()])

    @property
    def histories(self) -> list[SessionHistory]:
        """All sessions' older frames. Any thread."""
        return [history for session in [*self._known.values()] if (history := session.history) is not None]

    def _begin(self, ref: SessionRef) -> SessionState:
        self.remove(ref.id)
        while len(self._known) >= self._most:
            self.remove(next(iter(self._known)))
        session = self._known[ref.id] = SessionState(ref, Caution(self._drift_budget), ref.opening)
        return session
