"""The index of live sessions, by owner and id and in order of last use, and the tombstones of ended ones.

Knows no frame and no policy: ids, states and times. Not locked: the registry's lock guards it. Only counts and listings
walk all sessions.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from stillframe.sessions.session import Session
from stillframe.sessions.states import GONE, LIVE, Event, State, after
from stillframe.stopwatch import Clock

MOST_TOMBSTONES = 4096
Key = tuple[str, str]  # owner, id
RESTING = {State.IDLE, State.AWAY}  # nothing in flight: may expire or be evicted
USES = {Event.FRAME, Event.SETTLE, Event.RESET, Event.RESUME}  # these renew the lease


@dataclass(frozen=True)
class Tombstone:
    """What is kept of an ended session."""

    owner: str
    state: State  # a gone one
    ended_s: float


class SessionIndex:
    """Live sessions by id and by last use; tombstones of ended ones."""

    def __init__(self, clock: Clock):
        self._clock = clock
        self._live: dict[Key, Session] = {}
        self._shares: Counter[str] = Counter()  # how many sessions each share has
        # By serial: an id may belong to a new session before the old one's last frame settles.
        self._resting: OrderedDict[int, Session] = OrderedDict()  # least recently used first
        self._resting_of: dict[str, OrderedDict[int, Session]] = {}  # of each share, likewise
        self._away: OrderedDict[int, Session] = OrderedDict()  # longest away first
        self._tombstones: OrderedDict[Key, Tombstone] = OrderedDict()  # oldest first

    def __len__(self) -> int:
        return len(self._live)

    def __iter__(self) -> Iterator[Session]:
        return iter(self._live.values())

    def get(self, owner: str, session_id: str) -> Session | None:
        """The owner's live session of that id."""
        return self._live.get((owner, session_id))

    def with_id(self, session_id: str) -> list[Session]:
        """All owners' live sessions of that id."""
        return [session for session in self if session.id == session_id]

    def tombstone(self, owner: str | None, session_id: str) -> Tombstone | None:
        """The tombstone of the owner's last session of that id; owner None: of any owner's."""
        if owner is not None:
            return self._tombstones.get((owner, session_id))
        return next((stone for (_, name), stone in reversed(self._tombstones.items()) if name == session_id), None)

    def ended(self, owner: str | None, most: int) -> list[tuple[str, Tombstone]]:
        """Ids and tombstones of an owner's last ended sessions, the newest first; owner None: of any owner's."""
        ended = reversed(self._tombstones)
        own = ((key[1], self._tombstones[key]) for key in ended if owner in (None, key[0]))
        return list(islice(own, most))

    def add(self, session: Session) -> None:
        """Add a new session and drop the tombstone of its id."""
        before = self._tombstones.pop((session.owner, session.id), None)
        session.state = State.IDLE if before is None else after(before.state, Event.OPEN)
        session.opened_s = session.used_s = self._clock()
        self._live[session.owner, session.id] = session
        self._shares[session.share] += 1
        self._mark_resting(session)

    def apply(self, session: Session, event: Event) -> None:
        """Move a session to the state that follows the event. Raises Gone for an ended one."""
        was_gone = session.state in GONE
        session.state = after(session.state, event)
        if event in USES:
            session.used_s = self._clock()
            self._unmark_resting(session)
        self._requeue(session)
        if session.state in GONE and not was_gone:
            self._entomb(session)

    def least_recently_used(self) -> Session | None:
        """The least recently used session with nothing in flight."""
        return next(iter(self._resting.values()), None)

    def held_by(self, share: str) -> int:
        """How many sessions a share has."""
        return self._shares[share]

    def least_recently_used_by_share(self) -> dict[str, Session]:
        """For each share, its least recently used session with nothing in flight."""
        return {share: next(iter(resting.values())) for share, resting in self._resting_of.items()}

    def due(self, ttl_s: float, resume_s: float) -> Session | None:
        """A session that has been idle for `ttl_s`, or away for `resume_s`."""
        now_s = self._clock()
        away = next(iter(self._away.values()), None)
        if away is not None and away.left_s + resume_s <= now_s:
            return away
        idle = self.least_recently_used()
        return idle if idle is not None and idle.used_s + ttl_s <= now_s else None

    def clear_tombstones(self, kept_s: float) -> None:
        """Drop tombstones of that age."""
        until_s = self._clock() - kept_s
        while self._tombstones and next(iter(self._tombstones.values())).ended_s <= until_s:
            self._tombstones.popitem(last=False)

    def counts(self) -> Mapping[str, int]:
        """How many sessions are in each live state."""
        counted = Counter(session.state for session in self)
        return {state.value: counted[state] for state in LIVE}

    def _requeue(self, session: Session) -> None:
        """Put it into the queues of its state, and take it out of the others."""
        if session.state not in RESTING:
            self._unmark_resting(session)
        elif session.serial not in self._resting:
            self._mark_resting(session)
        if session.state is not State.AWAY:
            self._away.pop(session.serial, None)
        elif session.serial not in self._away:
            session.left_s = self._clock()
            self._away[session.serial] = session

    def _mark_resting(self, session: Session) -> None:
        self._resting[session.serial] = session
        self._resting_of.setdefault(session.share, OrderedDict())[session.serial] = session

    def _unmark_resting(self, session: Session) -> None:
        if self._resting.pop(session.serial, None) is not None:
            resting = self._resting_of[session.share]
            del resting[session.serial]
            if not resting:
                del self._resting_of[session.share]

    def _entomb(self, session: Session) -> None:
        del self._live[session.owner, session.id]
        self._shares[session.share] -= 1
        if not self._shares[session.share]:
            del self._shares[session.share]
        self._tombstones[session.owner, session.id] = Tombstone(session.owner, session.state, self._clock())
        if len(self._tombstones) > MOST_TOMBSTONES:
            self._tombstones.popitem(last=False)
