"""Checks that a reply answers the frame that was sent, by session, epoch, seq, statistics and model.

Knows no connection and no numbers. A stream names each frame's position; over HTTP the daemon counts, so a reply must
come after the last one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

from stillframe_client.errors import StaleAnswer

if TYPE_CHECKING:
    from stillframe_client.replies import ActionReply
    from stillframe_client.sessions import SessionPlace

_GO_ON = "nothing was taken from it; call reset() to begin an episode from where the daemon stands"


class ReplyOrder:
    """The order of one session's replies over HTTP.

    A reply must name this session, its epoch, and a later seq than the last reply's. A session that the daemon has
    opened again (it was restarted, or the old one expired) may start at 0, with a keyframe and a new request id.
    Replies without a session are accepted as long as none had one.
    """

    def __init__(self, session_id: Optional[str]):
        self._session_id = session_id  # None: stateless, or what the daemon makes of it
        self._place: Optional[SessionPlace] = None  # of the last answer
        self._epoch: Optional[int] = None  # None: not known
        self._first: Optional[str] = None  # the request's id of the session's first answer

    def begin_reset(self) -> None:
        """A reset is being sent: until it is answered, the epoch is not known."""
        self._epoch = self._place = None

    def begin_epoch(self, epoch: Optional[int]) -> None:
        """An episode begins; None: the daemon keeps no sessions."""
        self._epoch, self._place = epoch, None

    def accept(self, reply: ActionReply) -> None:
        """Accept the next reply. Raises StaleAnswer for another frame's."""
        place = reply.session
        if place is None:
            if self._place is not None:
                raise StaleAnswer(f"The answer names no session, those before it did: {_GO_ON}.")
            return
        if self._session_id is None:
            self._session_id = place.id  # a daemon may give those that name none a session of its own
        if place.id != self._session_id:
            raise StaleAnswer(f"The answer is of session {place.id[:128]!r}, not of {self._session_id!r}.")
        if not self._follows(place) and not self._is_new_session(reply, place):
            raise StaleAnswer(f"The answer is of frame {_name(place)}{self._expected()}: {_GO_ON}.")
        self._epoch, self._place = place.epoch, place
        if place.seq == 0:
            self._first = reply.request_id

    def _follows(self, place: SessionPlace) -> bool:
        if self._epoch is not None and place.epoch != self._epoch:
            return False
        return self._place is None or place.seq > self._place.seq

    def _is_new_session(self, reply: ActionReply, place: SessionPlace) -> bool:
        """Whether it is the first frame of a session that the daemon has just opened, and not that of the old one."""
        whole = reply.cache is not None and reply.cache.frame == "keyframe"
        new = reply.request_id is not None and reply.request_id != self._first
        return (place.epoch, place.seq) == (0, 0) and whole and new and not reply.replayed

    def _expected(self) -> str:
        after = "" if self._place is None else f" after {_name(self._place)}"
        return f"; expected one of epoch {self._epoch}{after}"


def check_reply(reply: ActionReply, *, unnorm_key: Optional[str], model: Optional[str]) -> None:
    """Raise StaleAnswer for an answer by other statistics than the frame asked for, or of another model than named."""
    if unnorm_key is not None and reply.unnorm_key is not None and reply.unnorm_key != unnorm_key:
        raise StaleAnswer(f"The answer is scaled by {reply.unnorm_key[:80]!r}; the frame asked for {unnorm_key!r}.")
    if model is not None and reply.model is not None and reply.model != model:
        told = f"The answer is of model {reply.model[:80]!r}; the daemon named {model!r}."
        raise StaleAnswer(f"{told} If it serves another one now, call info() to learn what its numbers mean.")


def _name(place: SessionPlace) -> str:
    return f"{place.seq} of epoch {place.epoch}"
