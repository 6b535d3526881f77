"""State of a stream's session: id and secret, epoch, next seq.

Knows no connection and no frame.
"""

from __future__ import annotations

import uuid
from typing import Optional

from stillframe_client.streaming.incoming import Message, epoch_of, text_of
from stillframe_client.streaming.requests import FramePosition


class SessionState:
    """The current session, or a new one in its place."""

    def __init__(self, session: Optional[str], service: str, reuse: Optional[str]):
        """`session` is the client's name for it; None: a generated one."""
        self.session_id = session or uuid.uuid4().hex
        self.is_named = session is not None
        self.epoch = 0
        self._next_seq = 0
        self._secret: Optional[str] = None  # None: no session to resume
        self._about = {"service": service, **({} if reuse is None else {"reuse": reuse})}

    def open_message(self) -> Message:
        """The message that opens or resumes it."""
        secret = {} if self._secret is None else {"secret": self._secret}
        return {"type": "open", "session_id": self.session_id, **secret, **self._about}

    def session_opened(self, message: Message) -> Optional[int]:
        """Read the daemon's answer to that; return the epoch, or None where the session is a new one."""
        epoch, resumed = epoch_of(message), message.get("resumed") is True and self._secret is not None
        self._secret = text_of(message, "secret")
        if not resumed or epoch != self.epoch:
            self.begin_epoch(epoch)
        return epoch if resumed else None

    def begin_epoch(self, epoch: int) -> None:
        """Begin an episode; its frames count from 0."""
        self.epoch, self._next_seq = epoch, 0

    @property
    def is_fresh(self) -> bool:
        """Whether no frame of this episode has a position yet."""
        return self._next_seq == 0

    def next_position(self) -> FramePosition:
        """Assign the next position."""
        self._next_seq += 1
        return self.epoch, self._next_seq - 1

    @property
    def is_resumable(self) -> bool:
        """Whether there is a secret to resume it with."""
        return self._secret is not None

    def drop_session(self) -> None:
        """Forget the secret: the session is gone or held by another client, and the next one is new."""
        self._secret = None

    def new_id(self) -> None:
        """Generate another id, for a new session."""
        self.drop_session()
        self.session_id = uuid.uuid4().hex
