"""Who is here, in the order of their last use, and who was here.

Knows no frame and no policy: ids, states and times. Not locked: the roster's lock guards it. No call walks the books
but a count, a listing, and those that take out what is due.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from stillframe.sessions.session import Session
from stillframe.sessions.states import GONE, LIVE, Event, State, after
from stillframe.stopwatch import Clock

MOST_TOMBSTONES = 4096
RESTING = {State.IDLE, State.AWAY}  # nothing in flight: these may expire, or make room
USES = {Event.FRAME, Event.SETTLE, Event.RESET, Event.RESUME}  # after these a lease begins anew


@dataclass(frozen=True)
class Tombstone:
    """What is remembered of a session that is no more."""

    owner: str
    state: State  # a gone one
    ended_s: float


class Attendance:
    """The sessions that live, by id and by last use, and the tombstones of those that do not."""

    def __init__(self, clock: Clock):
        self._clock = clock
        self._here: dict[str, Session] = {}
        # By serial: an id may be another session's by the time that an earlier one's last frame settles.
        self._resting: OrderedDict[int, Session] = OrderedDict()  # least recently used first
        self._away: OrderedDict[int, Session] = OrderedDict()  # longest away first
        self._tombstones: OrderedDict[str, Tombstone] = OrderedDict()  # oldest first

    def __len__(self) -> int:
        return len(self._here)

    def __iter__(self) -> Iterator[Session]:
        return iter(self._here.values())

    def get(self, session_id: str) -> Session | None:
        """The session that lives under that id."""
        return self._here.get(session_id)

    def tombstone(self, session_id: str) -> Tombstone | None:
        """What is remembered of the last session of that id, where none lives."""
        return self._tombstones.get(session_id)

    def arrive(self, session: Session) -> None:
        """Enter a new session; its id's tombstone, if any, is forgotten."""
        before = self._tombstones.pop(session.id, None)
        session.state = State.IDLE if before is None else after(before.state, Event.OPEN)
        session.opened_s = session.used_s = self._clock()
        self._here[session.id] = session
        self._resting[session.serial] = session

    def happen(self, session: Session, event: Event) -> None:
        """Let an event take its session to the next state. Raises Gone for one that is no more."""
        was_gone = session.state in GONE
        session.state = after(session.state, event)
        if event in USES:
            session.used_s = self._clock()
            self._resting.pop(session.serial, None)
        self._place(session)
        if session.state in GONE and not was_gone:
            self._bury(session)

    def longest_resting(self) -> Session | None:
        """The least recently used of those with nothing in flight."""
        return next(iter(self._resting.values()), None)

    def due(self, ttl_s: float, resume_s: float) -> Session | None:
        """One that has been idle for `ttl_s`, or away for `resume_s`."""
        now_s = self._clock()
        away = next(iter(self._away.values()), None)
        if away is not None and away.left_s + resume_s <= now_s:
            return away
        idle = self.longest_resting()
        return idle if idle is not None and idle.used_s + ttl_s <= now_s else None

    def clear_tombstones(self, kept_s: float) -> None:
        """Forget those who went so long ago."""
        until_s = self._clock() - kept_s
        while self._tombstones and next(iter(self._tombstones.values())).ended_s <= until_s:
            self._tombstones.popitem(last=False)

    def counts(self) -> Mapping[str, int]:
        """How many are in each live state."""
        counted = Counter(session.state for session in self)
        return {state.value: counted[state] for state in LIVE}

    def _place(self, session: Session) -> None:
        """Enter it in the orders in which its state stands, and strike it from the others."""
        if session.state in RESTING:
            self._resting.setdefault(session.serial, session)
        else:
            self._resting.pop(session.serial, None)
        if session.state is not State.AWAY:
            self._away.pop(session.serial, None)
        elif session.serial not in self._away:
            session.left_s = self._clock()
            self._away[session.serial] = session

    def _bury(self, session: Session) -> None:
        del self._here[session.id]
        self._tombstones[session.id] = Tombstone(session.owner, session.state, self._clock())
        if len(self._tombstones) > MOST_TOMBSTONES:
            self._tombstones.popitem(last=False)
