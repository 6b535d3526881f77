"""The client's half of a stream: which message goes out next, and what an incoming one means.

Knows no socket and waits for nothing: bytes go in, bytes come out, and what was asked is settled on the way. A frame
has one place (epoch, seq) for as long as its session lives, so that one which is sent again is computed once.
"""

from __future__ import annotations

import time
from dataclasses import replace
from enum import Enum
from typing import Any, Callable, Iterator, List, Mapping, Optional, Union

from stillframe_client.contract import Contract, contract_of
from stillframe_client.errors import (
    BadReply,
    NotReady,
    PolicyError,
    Problem,
    Refused,
    SessionGone,
    StaleAnswer,
    UnknownSession,
    WireError,
    refusal,
)
from stillframe_client.places import check_asked
from stillframe_client.replies import NO_CARD, ActionReply, ModelInfo, model_info
from stillframe_client.streaming.asked import BARRIERS, Asked, Kind
from stillframe_client.streaming.incoming import (
    Close,
    Message,
    action_of,
    epoch_of,
    place_of,
    refusal_of,
    session_of,
    text_of,
)
from stillframe_client.streaming.requests import UnderWay
from stillframe_client.streaming.session_state import Footing
from stillframe_client.wire import MSGPACK, pack

PROTOCOL = 1
_NOT_YET = ("loading", "warming", "stuck")
_TAKEN = ("session-in-use", "session-exists")
_GONE = (SessionGone, UnknownSession)


class Phase(Enum):
    """How far the connection is; the text is for whoever waited in vain."""

    AWAY = "There is no connection."
    GREETING = "The daemon has not said hello."
    WARMING = "The daemon is not ready."
    OPENING = "The daemon has not opened the session."
    OPEN = "The daemon has not answered; a slower policy needs a longer timeout_s."


class Redial(Exception):
    """Leave this connection; another one may do. Never raised to callers."""

    def __init__(self, reason: PolicyError):
        super().__init__(str(reason))
        self.reason = reason


class Conversation:
    """One robot's session, over as many connections as it takes. For one thread."""

    def __init__(
        self,
        session: Optional[str] = None,
        *,
        service: str = "lockstep",
        reuse: Optional[str] = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        """`session` is the client's name for it; None: a new one is made up."""
        self.info: Optional[ModelInfo] = None  # once the daemon has said hello
        self._contract = Contract()  # what an action is, by the last hello or else by the first answer
        self.answers = 0  # that came, however late
        self._clock = clock
        self._phase = Phase.AWAY
        self._state = ""  # of the daemon, in its words
        self._going = False  # the daemon has asked us to leave
        self._footing = Footing(session, service, reuse)
        self._taken: Optional[Refused] = None  # another connection speaks for this session now
        self._under_way = UnderWay()
        self._control: List[bytes] = []  # goes out whatever else may
        self._handlers: Mapping[str, Callable[[Message], None]] = {
            "hello": self._on_hello,
            "status": self._on_status,
            "session": self._on_session,
            "action": self._on_action,
            "superseded": self._on_superseded,
            "problem": self._on_problem,
            "reset": self._on_reset,
            "closed": self._on_closed,
            "goaway": self._on_goaway,
        }

    @property
    def session_id(self) -> str:
        """The session's name. One of our own making is another where the first cannot be had."""
        return self._footing.session_id

    # What the robot wants.

    def ask(self, kind: Kind, fields: Optional[Mapping[str, Any]] = None) -> Asked:
        """Ask for something; what cannot be had any more has failed already."""
        max_age_ms = (fields or {}).get("max_age_ms")
        asked = Asked(kind, self._clock(), fields or {}, None if max_age_ms is None else max_age_ms / 1000)
        if self._taken is not None:
            asked.fail(self._taken)
        else:
            self._under_way.add(asked)
        return asked

    def give_up(self, asked: Asked) -> None:
        """Nobody waits for it any more; an answer that comes late is dropped."""
        self._under_way.give_up(asked)

    def fail(self, error: PolicyError) -> None:
        """End everything that was asked; the connection has to go with it."""
        self._under_way.fail_all(error)

    @property
    def wanted(self) -> bool:
        """Whether somebody waits for something."""
        return self._under_way.wanted

    @property
    def is_open(self) -> bool:
        """Whether the session is open on the connection that there is."""
        return self._phase is Phase.OPEN

    @property
    def standing(self) -> str:
        """How far it is, for whoever waited in vain."""
        said = f" It says: {self._state}." if self._state and self._phase in (Phase.GREETING, Phase.WARMING) else ""
        return self._phase.value + said

    # What happens to the connection.

    def connected(self) -> None:
        """There is a new connection; the daemon speaks first."""
        self._phase, self._state = Phase.GREETING, ""

    def lost(self, close: Optional[Close] = None) -> None:
        """The connection is gone; what was under way is sent again on the next one, unless its end forbids that."""
        self._phase, self._going = Phase.AWAY, False
        self._control.clear()
        self._under_way.unsent()
        error = None if close is None else close.error()
        if error is not None:
            self.fail(error)

    @property
    def may_leave(self) -> bool:
        """Whether the daemon has asked us to leave and owes us nothing any more."""
        return self._going and not self._under_way.sent

    def ping(self) -> None:
        """Ask for a sign of life, if the daemon listens already."""
        if self._phase in (Phase.OPENING, Phase.OPEN):
            self._control.append(pack({"type": "ping"}))

    def outgoing(self) -> List[bytes]:
        """What is to be sent now, in order. It counts as sent."""
        out, self._control = self._control, []
        if self._phase is Phase.OPEN and not self._going:
            out.extend(self._askings())
        return out

    def received(self, data: Union[bytes, str]) -> None:
        """Take one message in.

        Raises Redial where only another connection helps, and a PolicyError for what no daemon would say: then nothing
        on this connection can be trusted, and all that was asked has to `fail`.
        """
        message = _load(data)
        kind = message.get("type")
        if self._phase is Phase.GREETING and kind not in ("hello", "status", "problem", "goaway"):
            raise BadReply("What answers there does not say hello as a stillframe daemon does; check the address.")
        handler = self._handlers.get(kind) if isinstance(kind, str) else None
        if handler is not None:  # else a pong, or a word of next year: that it came is all there is to know
            handler(message)

    # What goes out.

    def _askings(self) -> Iterator[bytes]:
        for asked in self._under_way:
            if not asked.sent:
                yield from self._say(asked)
            if asked.sent and asked.kind in BARRIERS:
                return

    def _say(self, asked: Asked) -> Iterator[bytes]:
        """The message for what was asked, if it takes one."""
        if asked.kind is Kind.OPEN:
            self._under_way.settle(asked, None)
        elif asked.kind is Kind.RESET and self._footing.fresh:
            self._under_way.settle(asked, self._footing.epoch)  # there is nothing to end
        elif asked.is_too_old(self._clock()):
            self._under_way.fail(asked, refusal(Problem(504, "deadline-exceeded", asked.too_old(self._clock()))))
        else:
            yield from self._written(asked)

    def _written(self, asked: Asked) -> Iterator[bytes]:
        try:
            asked.data = asked.data or pack(self._message(asked))
        except WireError as error:
            self._under_way.fail(asked, error)
        else:
            asked.sent = True
            yield asked.data

    def _message(self, asked: Asked) -> Message:
        message = {"type": asked.kind.value, "session_id": self.session_id}
        if asked.kind is Kind.CLOSE:
            return message
        if asked.kind is Kind.RESET:
            return {**message, "epoch": self._footing.epoch + 1}  # named, so that one which is sent again is done once
        asked.place = self._footing.next_place()
        return {**message, "epoch": asked.place[0], "seq": asked.place[1], **asked.fields}

    def _open(self) -> None:
        self._phase = Phase.OPENING
        self._control.append(pack(self._footing.opening()))

    # What came in.

    def _on_hello(self, message: Message) -> None:
        if message.get("protocol") != PROTOCOL:
            raise BadReply(f"The daemon does not speak protocol {PROTOCOL}, as this client does; update the older one.")
        card = message.get("model")
        try:
            self.info = None if card is None else model_info(card)
        except NO_CARD as error:
            raise BadReply("The daemon's hello holds no model's card; check the address.") from error
        self._contract = Contract() if self.info is None else contract_of(self.info)
        self._state = text_of(message, "state")
        if self._state in _NOT_YET:
            self._phase = Phase.WARMING
        elif self._phase is Phase.GREETING:
            self._open()

    def _on_status(self, message: Message) -> None:
        self._state = text_of(message, "state")
        if self._state == "ready" and self._phase is Phase.WARMING:  # a new hello tells what is served
            raise Redial(refusal(Problem(503, "not-ready", "The daemon was not ready.")))

    def _on_session(self, message: Message) -> None:
        if self._phase is not Phase.OPENING or session_of(message) != self.session_id:
            raise StaleAnswer("The daemon opened a session that nobody here asked for.")
        before = self._footing.epoch
        self._under_way.reopened(before, self._footing.opened(message))
        self._phase = Phase.OPEN

    def _on_action(self, message: Message) -> None:
        asked = self._asked_about(message)
        if asked is not None:
            reply = self._checked(action_of(message), asked)
            late = reply.late or asked.is_too_old(self._clock())
            self.answers += 1
            self._under_way.settle(asked, replace(reply, late=late))

    def _checked(self, reply: ActionReply, asked: Asked) -> ActionReply:
        """An answer, if it is one to what was asked. Raises BadReply and StaleAnswer."""
        self._contract.check(reply.actions)
        model = None if self.info is None else self.info.name
        check_asked(reply, unnorm_key=asked.fields.get("unnorm_key"), model=model)
        self._contract = self._contract.learned(reply.actions)
        return reply

    def _on_superseded(self, message: Message) -> None:
        asked = self._asked_about(message)
        if asked is not None:
            detail = f"Frame {message.get('by')!r:.20} of this session is newer: it took this one's place."
            self._under_way.fail(asked, refusal(Problem(409, "superseded", detail)))

    def _on_reset(self, message: Message) -> None:
        asked = self._barrier(Kind.RESET, message)
        if epoch_of(message) != self._footing.epoch + 1:
            raise StaleAnswer(
                f"The daemon answered a reset to epoch {epoch_of(message)}, which is not the one asked for."
            )
        self._footing.begin(epoch_of(message))
        self.answers += 1
        self._under_way.settle(asked, self._footing.epoch)

    def _on_closed(self, message: Message) -> None:
        self._under_way.settle(self._barrier(Kind.CLOSE, message), None)

    def _on_goaway(self, _: Message) -> None:
        self._going = True

    def _on_problem(self, message: Message) -> None:
        error = refusal_of(message)
        if self._phase is Phase.OPENING:
            self._open_refused(error)
        elif self._phase is not Phase.OPEN:
            raise Redial(error) if isinstance(error, NotReady) else error
        elif place_of(message) is not None:
            asked = self._asked_about(message)
            if asked is not None:
                self._refused(asked, error)
        elif error.code in _TAKEN:
            self._lose(error)
        elif self._under_way.barrier is not None:
            self._refused(self._under_way.barrier, error)
        else:  # of no frame in particular, so of any that is under way
            for asked in self._under_way.sent:
                self._under_way.give_up(asked)
                asked.fail(error)

    # What the daemon does not do.

    def _open_refused(self, error: Refused) -> None:
        """The session is not to be had: not any more, not yet, or not by us."""
        if isinstance(error, _GONE) and self._footing.resumable:
            self._footing.forget()
            self._open()
        elif error.code in _TAKEN and not self._footing.named:
            self._footing.rename()  # it was opened, and the answer was lost with its connection
            self._open()
        elif error.code in _TAKEN:
            self._footing.forget()
            raise Redial(error)  # ours from before, or another robot's: the daemon lets go of it, or does not
        elif isinstance(error, NotReady):
            raise Redial(error)
        else:
            raise error

    def _refused(self, asked: Asked, error: Refused) -> None:
        """A frame, a reset or a close was not done."""
        if asked.kind is Kind.CLOSE:
            self._under_way.settle(asked, None)
        elif (isinstance(error, _GONE) or error.code == "stale-epoch") and not asked.reborn:
            asked.reborn = True
            if isinstance(error, _GONE):
                self._footing.forget()
            raise Redial(error)  # to open the session says where it stands: somebody else has ended it, or its episode
        elif error.code == "draining":
            raise Redial(error)
        elif error.code in _TAKEN:
            self._lose(error)
        else:
            self._under_way.fail(asked, error)

    def _asked_about(self, message: Message) -> Optional[Asked]:
        """The frame that a message is about; None if it was given up. Raises StaleAnswer for one that nobody asked."""
        place = place_of(message)
        if session_of(message) != self.session_id or place is None:
            raise StaleAnswer("The daemon answered a frame of another session than this one.")
        asked = self._under_way.at(place)
        if asked is None and not self._under_way.was_given_up(place):
            raise StaleAnswer(
                f"The daemon answered frame {place[1]} of epoch {place[0]}, which nobody here asked about."
            )
        return asked

    def _barrier(self, kind: Kind, message: Message) -> Asked:
        """The reset or close that a message answers. Raises StaleAnswer for one that nobody asked."""
        asked = self._under_way.barrier
        if asked is None or asked.kind is not kind or session_of(message) != self.session_id:
            raise StaleAnswer(f"The daemon answered a {kind.value} that nobody here asked for.")
        return asked

    def _lose(self, error: Refused) -> None:
        """Another connection speaks for this session: to go on would be two hands on one arm."""
        self._taken = error
        raise error


def _load(data: Union[bytes, str]) -> Message:
    """Read a message. Raises BadReply."""
    try:
        return MSGPACK.load(data)
    except WireError as error:
        raise BadReply(f"What answers there is not a stillframe daemon's stream: {error}") from error
