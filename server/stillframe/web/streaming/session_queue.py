"""Queue of one session's frames on a stream: decoded one at a time, in arrival order.

Knows no wire. Lock-step: a bounded queue, every frame is served. Realtime: the newest frame supersedes waiting ones.
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
from stillframe.sessions.submission import BUSY_WAIT_S


@dataclass(eq=False)
class QueueSlot:
    """A frame's place in the queue."""

    seq: int | None = None  # of its frame; None: not given
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    superseded_by: QueueSlot | None = None


class SessionQueue:
    """The first frame is decoded; its slot is freed as it is submitted to the registry."""

    def __init__(self, session: Session, max_in_flight: int, watch: SessionObserver):
        """`max_in_flight`: frames under way in lock-step."""
        self.session = session
        self._max_in_flight = max_in_flight
        self._watch = watch
        self._slots: deque[QueueSlot] = deque()

    def join(self, seq: int | None) -> QueueSlot:
        """Append a slot, without waiting. Raises TooMany where a lock-step session has max_in_flight frames."""
        if self.session.service is ServiceMode.LOCKSTEP:
            self._check_in_flight(seq)
        slot = QueueSlot(seq)
        if self.session.service is ServiceMode.REALTIME:
            self._supersede(slot)
        return self._append(slot)

    @asynccontextmanager
    async def turn(self, slot: QueueSlot) -> AsyncIterator[None]:
        """Wait for the slot's turn and hold it. Raises Conflict (superseded) as soon as a newer frame came."""
        try:
            await slot.ready.wait()
            if slot.superseded_by is not None:
                raise _superseded(slot.superseded_by.seq)
            yield
        finally:
            self._leave(slot)

    async def flushed(self) -> None:
        """Wait until the frames queued so far are submitted. Nothing may join meanwhile."""
        async with self.turn(self._append(QueueSlot())):
            pass

    def _check_in_flight(self, seq: int | None) -> None:
        """A possible repeat does not count frames in flight: the registry decides whether it is one."""
        new = seq is None or seq > self.session.last_seq
        under_way = len(self._slots) + (len(self.session.in_flight) if new else 0)
        if under_way >= self._max_in_flight:
            detail = f"{under_way} frames of this session are under way; wait for an answer before you send the next."
            raise TooMany("session-busy", detail, retry_after_s=BUSY_WAIT_S)

    def _supersede(self, newer: QueueSlot) -> None:
        for waiting in self._slots:
            if not waiting.ready.is_set():
                waiting.superseded_by = newer
                waiting.ready.set()
                self._watch.superseded()

    def _append(self, slot: QueueSlot) -> QueueSlot:
        self._slots.append(slot)
        if self._slots[0] is slot:
            slot.ready.set()
        return slot

    def _leave(self, slot: QueueSlot) -> None:
        self._slots.remove(slot)
        if self._slots:
            self._slots[0].ready.set()


def _superseded(by: int | None) -> Conflict:
    if by is not None:
        return Superseded(by)
    return Conflict("superseded", "A newer frame came before this one's turn, and the newest frame wins.")
