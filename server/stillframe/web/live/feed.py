"""LiveFeed: the last figures of each session, and on demand its newest pictures. Implements domain.FrameObserver.

Knows sessions by their key; no caller and no wire. The engine's thread writes, the event loop reads: one lock.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Any

from stillframe.domain import FrameViews, SessionRef, SlackReport, Step
from stillframe.web.live.history import Entry, LatestFrame, PicturedFrame, SessionTrace

MOST_SESSIONS = 64  # whose figures are kept; beyond these, those of the longest idle one go


@dataclass(frozen=True)
class Reading:
    """What a watcher has not seen yet of one session."""

    entries: Sequence[Entry] = ()
    count: int = 0  # the number to read on from
    newest: PicturedFrame | None = None  # the last frame whose pictures were asked for, seen before or not


class LiveFeed:
    """Keeps no picture unless one was asked for, and of each session the newest only."""

    def __init__(self, clock: Callable[[], float] = time.time):
        """`clock`: Unix time."""
        self._clock = clock
        self._traces: OrderedDict[str, SessionTrace] = OrderedDict()  # by key, the longest idle first
        self._lock = Lock()

    def wants_views(self, session: SessionRef) -> bool:
        """See domain.FrameObserver. True once for each time that a watcher asks."""
        trace = self._traces.get(session.id)  # without the lock: the frame after this one would do as well
        return trace is not None and trace.wanted and trace.serial == session.serial

    def answered(self, session: SessionRef, step: Step, views: FrameViews | None) -> None:
        """Keep a frame's figures, and its views if there are any."""
        with self._lock:
            trace = self._trace(session.id, session.serial)
            if trace is None:
                return
            number = trace.add(self._clock(), session.epoch, session.seq, step)
            if views is not None and trace.wanted:
                trace.newest = PicturedFrame(number, session.epoch, session.seq, step, views)
                trace.wanted = False

    def refreshed(self, session: SessionRef, report: SlackReport) -> None:
        """Keep a refresh that measured its frame's drift."""
        if report.drift is None:
            return
        with self._lock:
            trace = self._trace(session.id, session.serial)
            if trace is not None:
                trace.add(self._clock(), session.epoch, session.seq, report)

    def read(self, key: str, serial: int, since: int) -> Reading:
        """What came after entry number `since` of a session, and its newest pictures; asks for the next ones."""
        with self._lock:
            trace = self._trace(key, serial)
            if trace is None:
                return Reading()
            trace.wanted = True
            return Reading(trace.since(since), trace.count, trace.newest)

    def summary(self, key: str) -> Mapping[str, Any] | None:
        """A few figures of a session's last frames; None where it had none."""
        with self._lock:
            trace = self._traces.get(key)
            return None if trace is None or not trace.entries else trace.summary(self._clock())

    def latest(self, key: str) -> LatestFrame | None:
        """A session's newest frame as figures; None where it had none. Asks for no picture."""
        with self._lock:
            trace = self._traces.get(key)
            return None if trace is None else trace.latest(self._clock())

    def release_pictures(self) -> None:
        """Drop every picture, and ask for none: there is no watcher left."""
        with self._lock:
            for trace in self._traces.values():
                trace.wanted, trace.newest = False, None

    def _trace(self, key: str, serial: int) -> SessionTrace | None:
        """The session's trace, a new one where it has none; None where a later session of the same id has begun."""
        trace = self._traces.get(key)
        if trace is not None and trace.serial > serial:
            return None
        if trace is None or trace.serial < serial:
            trace = self._traces[key] = SessionTrace(serial)
        self._traces.move_to_end(key)
        while len(self._traces) > MOST_SESSIONS:
            self._traces.popitem(last=False)
        return trace
