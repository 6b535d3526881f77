"""The last frames of an episode with their answers, kept for a repeat.

Knows no session. Bounded: beyond the limit the oldest that has ended goes.
"""

from __future__ import annotations

from stillframe.sessions.exchange import Exchange, Place


class Replies:
    """Exchanges by seq, at most `limit` of them and those still open."""

    def __init__(self, limit: int):
        self._limit = limit
        self._by_seq: dict[int, Exchange] = {}  # in the order in which they were first asked for

    def __len__(self) -> int:
        return len(self._by_seq)

    def find(self, place: Place) -> Exchange | None:
        """The exchange of which a frame at this place is a repeat: by its seq, or else by its key."""
        if place.seq is not None:
            return self._by_seq.get(place.seq)
        if place.key is None:
            return None
        return next((exchange for exchange in self._by_seq.values() if exchange.key == place.key), None)

    def keep(self, exchange: Exchange) -> None:
        """Keep one that was begun, or begun again."""
        self._by_seq[exchange.seq] = exchange
        self.trim()

    def trim(self) -> None:
        """Let go of the oldest that have ended, beyond the limit."""
        surplus = len(self._by_seq) - self._limit
        for exchange in list(self._by_seq.values()) if surplus > 0 else []:
            if surplus > 0 and exchange.settled:
                del self._by_seq[exchange.seq]
                surplus -= 1

    def clear(self) -> None:
        """Begin anew."""
        self._by_seq.clear()
