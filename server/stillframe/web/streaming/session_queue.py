"""The order of one session's frames on a stream: unpacked one at a time, as they came.

Knows no wire. Lock-step: a bounded line, nobody is left out. Realtime: the newest frame takes the waiting one's place.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from stillframe.errors import Conflict, TooMany
from stillframe.sessions.pending import Superseded
from stillframe.sessions.session import ServiceMode, Session, SessionObserver

BUSY_WAIT_S = 0.05


@dataclass(eq=False)
class Turn:
    """A place in the line."""

    seq: int | None = None  # what its frame says; None: it does not say
    come: asyncio.Event = field(default_factory=asyncio.Event)
    overtaken_by: Turn | None = None


class Lane:
    """Whoever stands first in the line is unpacked; he leaves it as he is handed to the roster."""

    def __init__(self, session: Session, most: int, watch: SessionObserver):
        """`most`: frames that may be under way in lock-step."""
        self.session = session
        self._most = most
        self._watch = watch
        self._line: deque[Turn] = deque()

    def join(self, seq: int | None) -> Turn:
        """Stand in line, at once. Raises TooMany where a lock-step session has enough under way."""
        if self.session.service is ServiceMode.LOCKSTEP:
            self._check_room(seq)
        turn = Turn(seq)
        if self.session.service is ServiceMode.REALTIME:
            self._overtake(turn)
        return self._stand(turn)

    @asynccontextmanager
    async def reached(self, turn: Turn) -> AsyncIterator[None]:
        """Have the turn, after all who came before. Raises Conflict superseded as soon as a newer frame came."""
        try:
            await turn.come.wait()
            if turn.overtaken_by is not None:
                raise _superseded(turn.overtaken_by.seq)
            yield
        finally:
            self._leave(turn)

    async def settled(self) -> None:
        """Until the frames that came so far are with the roster. Nobody may join meanwhile."""
        async with self.reached(self._stand(Turn())):
            pass

    def _check_room(self, seq: int | None) -> None:
        """What may be a repeat is the roster's question, as long as the line is short."""
        new = seq is None or seq > self.session.last_seq
        under_way = len(self._line) + (len(self.session.in_flight) if new else 0)
        if under_way >= self._most:
            detail = f"{under_way} frames of this session are under way; wait for an answer before you send the next."
            raise TooMany("session-busy", detail, retry_after_s=BUSY_WAIT_S)

    def _overtake(self, newer: Turn) -> None:
        for waiting in self._line:
            if not waiting.come.is_set():
                waiting.overtaken_by = newer
                waiting.come.set()
                self._watch.superseded()

    def _stand(self, turn: Turn) -> Turn:
        self._line.append(turn)
        if self._line[0] is turn:
            turn.come.set()
        return turn

    def _leave(self, turn: Turn) -> None:
        self._line.remove(turn)
        if self._line:
            self._line[0].come.set()


def _superseded(by: int | None) -> Conflict:
    if by is not None:
        return Superseded(by)
    return Conflict("superseded", "A newer frame came before this one's turn, and the newest frame wins.")
