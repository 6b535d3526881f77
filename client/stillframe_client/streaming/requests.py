"""What was asked and is not answered yet, in the order it was asked.

Knows no message: who reads them says which frame they are about.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Deque, Iterator, List, Optional

from stillframe_client.errors import PolicyError, Problem, refusal
from stillframe_client.streaming.asked import BARRIERS, Asked, Kind, Place

_REMEMBERED = 64  # given-up frames whose late answers are known as such


class UnderWay:
    """A line of questions. What leaves it is settled, or nobody's any more."""

    def __init__(self) -> None:
        self._line: List[Asked] = []
        self._given_up: Deque[Place] = deque(maxlen=_REMEMBERED)

    def __iter__(self) -> Iterator[Asked]:
        return iter(list(self._line))

    def add(self, asked: Asked) -> None:
        """Put it at the end."""
        self._line.append(asked)

    @property
    def wanted(self) -> bool:
        """Whether somebody waits for something."""
        return any(not asked.abandoned for asked in self._line)

    @property
    def sent(self) -> List[Asked]:
        """What the daemon owes an answer to, on the connection that there is now."""
        return [asked for asked in self._line if asked.sent]

    @property
    def barrier(self) -> Optional[Asked]:
        """The reset or close that the daemon has not answered."""
        return next((asked for asked in self.sent if asked.kind in BARRIERS), None)

    def at(self, place: Place) -> Optional[Asked]:
        """The frame that was sent with this place."""
        return next((asked for asked in self.sent if asked.place == place), None)

    def was_given_up(self, place: Place) -> bool:
        """Whether a frame with this place was sent and given up; asked once, as it is answered once."""
        known = place in self._given_up
        if known:
            self._given_up.remove(place)
        return known

    def settle(self, asked: Asked, answer: Any) -> None:
        """Answer it."""
        self._line.remove(asked)
        asked.settle(answer)

    def fail(self, asked: Asked, error: PolicyError) -> None:
        """End it without an action: so the daemon says, or it is not to be sent."""
        self._line.remove(asked)
        asked.fail(error)

    def fail_all(self, error: PolicyError) -> None:
        """End everything. The connection has to go with it: what the daemon makes of it is not known any more."""
        line, self._line = self._line, []
        for asked in line:
            asked.fail(error)

    def give_up(self, asked: Asked) -> None:
        """Nobody waits for it any more. A reset under way has to be answered all the same: frames wait behind it."""
        if asked not in self._line:
            return
        if asked.kind is Kind.RESET and asked.sent:
            asked.abandoned = True
            return
        self._line.remove(asked)
        if asked.sent and asked.place is not None:
            self._given_up.append(asked.place)

    def unsent(self) -> None:
        """The connection is gone: what it carried has to be sent again, as it was."""
        for asked in self._line:
            asked.sent = False

    def reopened(self, before: int, after: Optional[int]) -> None:
        """The session is open again: in epoch `after`, after `before`; None: it is a new one.

        What belongs to an ended episode ends. What has a place in this one keeps it, else it is given a new one. Where
        a reset waits and the epoch has changed, the reset was done, and what was asked before it has ended.
        """
        anew = after != before
        was_reset = anew and after is not None and any(asked.kind is Kind.RESET for asked in self._line)
        for asked in self:
            if asked.place is not None and (was_reset or asked.place[0] != before):
                detail = "The episode of this frame ended before its answer came."
                self.fail(asked, refusal(Problem(409, "superseded", detail)))
            elif anew:
                asked.forget_place()
        if anew:
            self._given_up.clear()
