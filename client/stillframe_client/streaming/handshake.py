"""Brings one connection to an open session: hello, warm-up, open or resume.

Knows no request and no socket: messages go in, control messages come out.
"""

from __future__ import annotations

from enum import Enum
from typing import List, Optional, Tuple

from stillframe_client.action_spec import ActionSpec, action_spec_of
from stillframe_client.errors import (
    BadReply,
    NotReady,
    PolicyError,
    Problem,
    Refused,
    SessionGone,
    StaleAnswer,
    UnknownSession,
    refusal,
)
from stillframe_client.replies import NO_CARD, ModelInfo, model_info
from stillframe_client.streaming.incoming import Message, session_of, text_of
from stillframe_client.streaming.session_state import SessionState
from stillframe_client.wire import pack

PROTOCOL = 1
GONE = (SessionGone, UnknownSession)
TAKEN = ("session-in-use", "session-exists")
_NOT_YET = ("loading", "warming", "stuck")


class Phase(Enum):
    """How far the connection is; the text completes a timeout's message."""

    AWAY = "There is no connection."
    GREETING = "The daemon has not said hello."
    WARMING = "The daemon is not ready."
    OPENING = "The daemon has not opened the session."
    OPEN = "The daemon has not answered; a slower policy needs a longer timeout_s."


class Reconnect(Exception):
    """Leave the connection for a new one. Never raised to callers."""

    def __init__(self, reason: PolicyError):
        super().__init__(str(reason))
        self.reason = reason


class Handshake:
    """The phases of one connection after the other, for one session."""

    def __init__(self, session: SessionState):
        self.info: Optional[ModelInfo] = None  # as of the last hello
        self.action_spec = ActionSpec()  # of the last hello, else of the first answer
        self.phase = Phase.AWAY
        self._session = session
        self._daemon_state = ""  # in the daemon's words
        self._control: List[bytes] = []  # goes out before any request

    @property
    def is_open(self) -> bool:
        """Whether the session is open on the current connection."""
        return self.phase is Phase.OPEN

    @property
    def status_text(self) -> str:
        """How far it is, for a timeout's message."""
        shown = self._daemon_state and self.phase in (Phase.GREETING, Phase.WARMING)
        return self.phase.value + (f" It says: {self._daemon_state}." if shown else "")

    def connection_made(self) -> None:
        """There is a new connection; the daemon speaks first."""
        self.phase, self._daemon_state = Phase.GREETING, ""

    def connection_lost(self) -> None:
        """The connection is gone."""
        self.phase = Phase.AWAY
        self._control.clear()

    def ping(self) -> None:
        """Queue a ping, once the daemon has said hello."""
        if self.phase in (Phase.OPENING, Phase.OPEN):
            self._control.append(pack({"type": "ping"}))

    def data_to_send(self) -> List[bytes]:
        """Take the control messages that are due, in order."""
        out, self._control = self._control, []
        return out

    def check_kind(self, kind: object) -> None:
        """Raise BadReply where a daemon's first message cannot be of this kind."""
        if self.phase is Phase.GREETING and kind not in ("hello", "status", "problem", "goaway"):
            raise BadReply("What answers there does not say hello as a stillframe daemon does; check the address.")

    def on_hello(self, message: Message) -> None:
        """Learn what is served, and open the session if the daemon is ready. Raises BadReply."""
        if message.get("protocol") != PROTOCOL:
            raise BadReply(f"The daemon does not speak protocol {PROTOCOL}, as this client does; update the older one.")
        card = message.get("model")
        try:
            self.info = None if card is None else model_info(card)
        except NO_CARD as error:
            raise BadReply("The daemon's hello holds no model's card; check the address.") from error
        self.action_spec = ActionSpec() if self.info is None else action_spec_of(self.info)
        self._daemon_state = text_of(message, "state")
        if self._daemon_state in _NOT_YET:
            self.phase = Phase.WARMING
        elif self.phase is Phase.GREETING:
            self._open()

    def on_status(self, message: Message) -> None:
        """Note the daemon's state. Raises Reconnect once it is ready: a new hello tells what is served."""
        self._daemon_state = text_of(message, "state")
        if self._daemon_state == "ready" and self.phase is Phase.WARMING:
            raise Reconnect(refusal(Problem(503, "not-ready", "The daemon was not ready.")))

    def on_session(self, message: Message) -> Tuple[int, Optional[int]]:
        """The session is open: the epoch before, and the epoch now, None in a new session. Raises StaleAnswer."""
        if self.phase is not Phase.OPENING or session_of(message) != self._session.session_id:
            raise StaleAnswer("The daemon opened a session that was not asked for.")
        before = self._session.epoch
        after = self._session.session_opened(message)
        self.phase = Phase.OPEN
        return before, after

    def on_problem(self, error: Refused) -> None:
        """The daemon refused before the session was open: open another, or raise Reconnect or the error."""
        if self.phase is not Phase.OPENING:
            raise _final(error)
        if isinstance(error, GONE) and self._session.is_resumable:
            self._session.drop_session()
            self._open()
        elif error.code in TAKEN and not self._session.is_named:
            self._session.new_id()  # it was opened, and the answer was lost with its connection
            self._open()
        elif error.code in TAKEN:
            self._session.drop_session()
            raise Reconnect(error)  # ours from before, which the daemon will let go of, or another client's
        else:
            raise _final(error)

    def _open(self) -> None:
        self.phase = Phase.OPENING
        self._control.append(pack(self._session.open_message()))


def _final(error: Refused) -> Exception:
    """The error, or Reconnect where a later connection may find the daemon ready."""
    return Reconnect(error) if isinstance(error, NotReady) else error
