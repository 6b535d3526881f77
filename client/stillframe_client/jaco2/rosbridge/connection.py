"""A connection to rosbridge_server that is made anew when it breaks: topics, services, statuses.

Knows no robot. One thread connects and reads, one sends (outbox.py); callers never wait but where they ask to. On every
connect all topics are advertised and subscribed again, since a server forgets them, and with queues of one: what is
late is dropped there too.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Mapping, Optional, Tuple

from stillframe_client.jaco2.rosbridge.calls import Calls, Reply
from stillframe_client.jaco2.rosbridge.counts import Counts
from stillframe_client.jaco2.rosbridge.dial import RosbridgeError, address, dial
from stillframe_client.jaco2.rosbridge.incoming import Incoming
from stillframe_client.jaco2.rosbridge.session import LEAVE_S, Session

if TYPE_CHECKING:
    from stillframe_client.jaco2.rosbridge.outbox import Outbox

DIAL_S = 2.0
RETRY_S = 0.25
RETRY_MOST_S = 2.0
LOG = logging.getLogger("stillframe_client.jaco2.rosbridge")


class Connection:
    """One rosbridge_server. `max_bytes`: of one message."""

    def __init__(self, url: str, *, max_bytes: int = 2**20, clock: Callable[[], float] = time.monotonic):
        """Reaches nothing yet. Raises RosbridgeError for what is no address."""
        address(url)
        self.url, self.counts = url, Counts()
        self._max_bytes, self._clock = max_bytes, clock
        self._opened: Callable[[], None] = lambda: None
        self._calls = Calls()
        self._incoming = Incoming(self._calls, self.counts)
        self._lock = threading.Lock()
        self._said: Dict[str, str] = {}  # advertise and subscribe, by operation and topic
        self._outbox: Optional[Outbox] = None
        self._why = f"rosbridge at {url} has not been reached"
        self._connected, self._closing = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="stillframe-rosbridge", daemon=True)

    @property
    def is_open(self) -> bool:
        """Whether it is connected now."""
        return self._outbox is not None

    @property
    def why_closed(self) -> str:
        """Why it is not connected, or was not the last time."""
        return self._why

    @property
    def errors(self) -> Tuple[str, ...]:
        """The newest complaints of the server, oldest first."""
        return tuple(self._incoming.errors)

    def on_open(self, opened: Callable[[], None]) -> None:
        """Call it after every connect, on the connection's thread."""
        self._opened = opened

    def advertise(self, topic: str, kind: str) -> None:
        """Make known what will be published, now and on every connect."""
        self._say("advertise", topic, {"type": kind, "queue_size": 1, "latch": False})

    def subscribe(self, topic: str, kind: str, take: Callable[[Dict[str, Any]], None], throttle_ms: int = 0) -> None:
        """Ask for a topic, now and on every connect; `take` gets each message, on the connection's thread."""
        self._incoming.take_topic(topic, take)
        self._say("subscribe", topic, {"type": kind, "throttle_rate": throttle_ms, "queue_length": 1})

    def open(self, timeout_s: float) -> None:
        """Connect, and stay connected until `close`. Raises RosbridgeError where the first connect takes too long."""
        self._thread.start()
        if not self._connected.wait(timeout_s):
            raise RosbridgeError(self._why)

    def publish(self, topic: str, message: Mapping[str, Any]) -> bool:
        """Send a message, or drop it and return False. Never waits. Raises ValueError for numbers not finite."""
        text = _json({"op": "publish", "topic": topic, "msg": message})
        outbox = self._outbox
        return outbox is not None and outbox.publish(topic, text)

    def discard(self, topic: str) -> None:
        """Drop what of the topic has not gone out."""
        outbox = self._outbox
        if outbox is not None:
            outbox.discard(topic)

    def call(
        self, service: str, arguments: Mapping[str, Any], done: Callable[[Reply], None], kind: Optional[str] = None
    ) -> str:
        """Call a service without waiting; `done` gets the reply, on some thread, once. Returns the call's id."""
        name = self._calls.new(service, done)
        message = {"op": "call_service", "id": name, "service": service, "args": arguments}
        with self._lock:
            outbox = self._outbox
            if outbox is not None:
                outbox.order(_json(message if kind is None else {**message, "type": kind}))
        if outbox is None:
            self._calls.end(name, Reply(self._why))
        return name

    def call_and_wait(
        self, service: str, arguments: Mapping[str, Any], timeout_s: float, kind: Optional[str] = None
    ) -> Mapping[str, Any]:
        """Call a service and return its values. Raises RosbridgeError."""
        replies: List[Reply] = []
        answered = threading.Event()

        def done(reply: Reply) -> None:
            replies.append(reply)
            answered.set()

        name = self.call(service, arguments, done, kind)
        if not answered.wait(timeout_s):
            self._calls.end(name, Reply("not waited for"))
            raise RosbridgeError(f"{service}: no answer within {timeout_s:g} s: does what offers it run?")
        if replies[0].error:
            raise RosbridgeError(f"{service}: {replies[0].error}")
        return replies[0].values

    def close(self) -> None:
        """Send the calls that wait, and hang up."""
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join(DIAL_S + 4 * LEAVE_S)

    def _say(self, operation: str, topic: str, rest: Mapping[str, Any]) -> None:
        name = f"{operation}:{topic}"
        text = _json({"op": operation, "id": name, "topic": topic, **rest})
        with self._lock:
            self._said[name] = text
            if self._outbox is not None:
                self._outbox.order(text)

    def _run(self) -> None:
        pause_s = RETRY_S
        while not self._closing.is_set():
            try:
                connection = dial(self.url, DIAL_S, self._max_bytes)
            except RosbridgeError as error:
                self._why = str(error)
                self._closing.wait(pause_s)
                pause_s = min(2 * pause_s, RETRY_MOST_S)
            else:
                pause_s = RETRY_S
                self._live(connection)
                self._closing.wait(RETRY_S)

    def _live(self, connection: Any) -> None:
        """One connection from its first to its last message."""
        session = Session(connection, self._incoming, self.counts, self._clock)
        why = "its thread ended"
        try:
            self._begin(session.outbox)
            session.start()
            self._opened()
            why = session.read(self._closing)
        finally:
            self._end(why)
            session.end(in_order=self._closing.is_set())

    def _begin(self, outbox: Outbox) -> None:
        self.counts.connects += 1
        with self._lock:
            for text in self._said.values():
                outbox.order(text)
            self._outbox = outbox
        self._connected.set()

    def _end(self, why: str) -> None:
        self._why = f"the connection to rosbridge at {self.url} broke: {why}"
        with self._lock:
            self._outbox = None
        self._calls.end_all(Reply(self._why))
        if not self._closing.is_set():
            LOG.warning("%s", self._why)


def _json(message: Mapping[str, Any]) -> str:
    return json.dumps(message, separators=(",", ":"), allow_nan=False)
