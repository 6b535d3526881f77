"""Which sessions live, in the order of their last use and by whose they are, and which were here.

Knows no frame and no policy: ids, states and times. Not locked: the roster's lock guards it. No call walks all sessions
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
Key = tuple[str, str]  # owner, id
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
        self._here: dict[Key, Session] = {}
        self._shares: Counter[str] = Counter()  # how many sessions each share has
        # By serial: an id may be another session's by the time that an earlier one's last frame settles.
        self._resting: OrderedDict[int, Session] = OrderedDict()  # least recently used first
        self._resting_of: dict[str, OrderedDict[int, Session]] = {}  # of each share, likewise
        self._away: OrderedDict[int, Session] = OrderedDict()  # longest away first
        self._tombstones: OrderedDict[Key, Tombstone] = OrderedDict()  # oldest first

    def __len__(self) -> int:
        return len(self._here)

    def __iter__(self) -> Iterator[Session]:
        return iter(self._here.values())

    def get(self, owner: str, session_id: str) -> Session | None:
        """The owner's session that lives under that id."""
        return self._here.get((owner, session_id))

    def named(self, session_id: str) -> list[Session]:
        """All owners' sessions that live under that id."""
        return [session for session in self if session.id == session_id]

    def tombstone(self, owner: str | None, session_id: str) -> Tombstone | None:
        """What is remembered of the owner's last session of that id; None: of any owner's."""
        if owner is not None:
            return self._tombstones.get((owner, session_id))
        return next((stone for (_, name), stone in reversed(self._tombstones.items()) if name == session_id), None)

    def arrive(self, session: Session) -> None:
        """Enter a new session; its id's tombstone, if any, is forgotten."""
        before = self._tombstones.pop((session.owner, session.id), None)
        session.state = State.IDLE if before is None else after(before.state, Event.OPEN)
        session.opened_s = session.used_s = self._clock()
        self._here[session.owner, session.id] = session
        self._shares[session.share] += 1
        self._rest(session)

    def happen(self, session: Session, event: Event) -> None:
        """Let an event take its session to the next state. Raises Gone for one that is no more."""
        was_gone = session.state in GONE
        session.state = after(session.state, event)
        if event in USES:
            session.used_s = self._clock()
            self._stir(session)
        self._place(session)
        if session.state in GONE and not was_gone:
            self._bury(session)

    def longest_resting(self) -> Session | None:
        """The least recently used of those with nothing in flight."""
        return next(iter(self._resting.values()), None)

    def held_by(self, share: str) -> int:
        """How many sessions a share has."""
        return self._shares[share]

    def resting_by_share(self) -> dict[str, Session]:
        """Of each share that has sessions with nothing in flight, the least recently used."""
        return {share: next(iter(resting.values())) for share, resting in self._resting_of.items()}

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
        if session.state not in RESTING:
            self._stir(session)
        elif session.serial not in self._resting:
            self._rest(session)
        if session.state is not State.AWAY:
            self._away.pop(session.serial, None)
        elif session.serial not in self._away:
            session.left_s = self._clock()
            self._away[session.serial] = session

    def _rest(self, session: Session) -> None:
        self._resting[session.serial] = session
        self._resting_of.setdefault(session.share, OrderedDict())[session.serial] = session

    def _stir(self, session: Session) -> None:
        if self._resting.pop(session.serial, None) is not None:
            resting = self._resting_of[session.share]
            del resting[session.serial]
            if not resting:
                del self._resting_of[session.share]

    def _bury(self, session: Session) -> None:
        del self._here[session.owner, session.id]
        self._shares[session.share] -= 1
        if not self._shares[session.share]:
            del self._shares[session.share]
        self._tombstones[session.owner, session.id] = Tombstone(session.owner, session.state, self._clock())
        if len(self._tombstones) > MOST_TOMBSTONES:
            self._tombstones.popitem(last=False)
