"""The robots that are known: each one's epoch, what its last frames left, and who was here longest ago.

Knows order and identity; no tensor. Episodes are asked for by any thread, everything else by the engine's alone.
"""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

from stillframe.domain import KeyframeReason
from stillframe.engine.drift import Caution
from stillframe.reuse.remembered import Remembered

P = TypeVar("P")


@dataclass(frozen=True)
class Episode:
    """What a frame belongs to, as of its submission."""

    session_id: str
    epoch: int
    serial: int  # never given twice: tells a session that was forgotten and came back from one that was always here


@dataclass
class Session(Generic[P]):
    """One robot. Belongs to the engine's thread."""

    episode: Episode  # of its last computed frame
    caution: Caution
    seq: int = -1  # of its last computed frame, in that episode
    remembered: Remembered | None = None
    cause: KeyframeReason | None = KeyframeReason.FIRST_FRAME  # why its next frame has to be whole; None: it has not
    pending: P | None = None  # what a pause can still do for its last frame


class Sessions(Generic[P]):
    """At most `most` sessions; beyond, the one that was idle longest goes."""

    def __init__(self, most: int, drift_budget: float):
        self._most = most
        self._drift_budget = drift_budget
        self._serials = itertools.count()
        self._episodes: OrderedDict[str, Episode] = OrderedDict()  # the longest idle first; guarded by _lock
        self._known: OrderedDict[str, Session[P]] = OrderedDict()  # the longest idle first; the engine's thread only
        self._gone: OrderedDict[str, None] = OrderedDict()  # that had to make room, the last few; the engine's thread
        self._lock = threading.Lock()

    def episode(self, session_id: str) -> Episode:
        """The episode that a frame submitted now belongs to. Any thread."""
        with self._lock:
            known = self._episodes.get(session_id)
            return self._enter(known or Episode(session_id, 0, next(self._serials)))

    def reset(self, session_id: str) -> Episode:
        """Begin the next episode; epoch 0 for a session that nobody knew. Any thread."""
        with self._lock:
            known = self._episodes.get(session_id)
            return self._enter(Episode(session_id, known.epoch + 1 if known else 0, next(self._serials)))

    def _enter(self, episode: Episode) -> Episode:
        self._episodes[episode.session_id] = episode
        self._episodes.move_to_end(episode.session_id)
        if len(self._episodes) > self._most:  # those whose frames were computed leave by `surplus` instead
            strangers = (session_id for session_id in self._episodes if session_id not in self._known)
            del self._episodes[next(strangers, episode.session_id)]
        return episode

    def at(self, episode: Episode) -> Session[P]:
        """The session as a frame of `episode` finds it, which is computed now; its seq has counted on."""
        session = self._known.get(episode.session_id)
        if session is None:
            session = self._known[episode.session_id] = Session(episode, Caution(self._drift_budget))
            if episode.session_id in self._gone:
                del self._gone[episode.session_id]
                session.cause = KeyframeReason.EVICTED
        self._known.move_to_end(episode.session_id)
        if session.episode != episode:
            session.episode, session.seq, session.cause = episode, -1, KeyframeReason.RESET
        session.seq += 1
        return session

    def surplus(self) -> Iterator[Session[P]]:
        """Take out those beyond the most, the longest idle first. One that comes back is told, and begins anew."""
        while len(self._known) > self._most:
            session_id, session = self._known.popitem(last=False)
            with self._lock:
                self._episodes.pop(session_id, None)
            self._gone[session_id] = None
            if len(self._gone) > self._most:
                self._gone.popitem(last=False)
            yield session

    def longest_idle(self) -> Session[P] | None:
        """Of those that hold keys and values, the one that was here longest ago."""
        return next((session for session in self._known.values() if session.remembered is not None), None)

    def pending(self) -> Session[P] | None:
        """Of those for which a pause can still do something, the one that was here longest ago: it is due soonest."""
        return next((session for session in self._known.values() if session.pending is not None), None)

    @property
    def holding(self) -> int:
        """How many hold keys and values."""
        return sum(session.remembered is not None for session in [*self._known.values()])
