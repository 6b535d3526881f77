from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from stillframe_client.jaco2.rosbridge.counts import Counts
from stillframe_client.jaco2.rosbridge.outbox import CONGESTED_S, FRESH_S, Outbox


class Socket:
    """A connection that sends when it is let."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.pongs: list[threading.Event] = []
        self.may_send = threading.Event()
        self.may_send.set()
        self.sending = threading.Event()

    def send(self, text: str) -> None:
        """Wait until it is let."""
        self.sending.set()
        self.may_send.wait(20)
        self.sent.append(text)

    def ping(self) -> threading.Event:
        """A ping that the test answers."""
        self.pongs.append(threading.Event())
        return self.pongs[-1]


class Hands:
    """A clock that a test sets."""

    now_s = 100.0

    def __call__(self) -> float:
        """Its time."""
        return self.now_s


def until(holds: Callable[[], Any]) -> None:
    """Wait until it holds."""
    ends_s = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < ends_s, "it did not come to hold"
        time.sleep(0.001)


@pytest.fixture
def socket() -> Socket:
    """The other side."""
    return Socket()


@pytest.fixture
def clock() -> Hands:
    """The time that all goes by."""
    return Hands()


@pytest.fixture
def outbox(socket: Socket, clock: Hands) -> Outbox:
    """An outbox whose thread does not run yet."""
    return Outbox(socket, Counts(), clock)


@pytest.fixture
def running(outbox: Outbox, socket: Socket) -> Iterator[Outbox]:
    """One whose thread runs."""
    thread = threading.Thread(target=outbox.run)
    thread.start()
    yield outbox
    socket.may_send.set()
    outbox.close()
    thread.join()


def ran(outbox: Outbox) -> None:
    """Let it send all it has."""
    outbox.close()
    outbox.run()


def test_orders_go_first_and_in_their_order(outbox: Outbox, socket: Socket) -> None:
    """Calls and subscriptions are sent before any message, one after another, even when it is closed already."""
    outbox.order("a")
    outbox.order("b")
    ran(outbox)
    assert socket.sent == ["a", "b"]


def test_a_message_in_waiting_is_replaced(running: Outbox, socket: Socket) -> None:
    """While one is being sent, of each topic only the newest of those after it waits; the rest are dropped."""
    socket.may_send.clear()
    running.publish("/a", "a0")
    socket.sending.wait(20)
    for number in range(1, 5):
        running.publish("/a", f"a{number}")
    running.publish("/b", "b1")
    running.order("call")
    socket.may_send.set()
    until(lambda: len(socket.sent) == 4)

    assert socket.sent == ["a0", "call", "a4", "b1"]


def test_a_message_that_waited_too_long_is_not_sent(running: Outbox, socket: Socket, clock: Hands) -> None:
    """An old command is worse than none."""
    socket.may_send.clear()
    running.publish("/a", "a0")
    socket.sending.wait(20)
    running.publish("/a", "old")
    clock.now_s += FRESH_S + 0.01
    socket.may_send.set()
    until(lambda: running._counts.dropped == 1)
    running.publish("/a", "new")
    until(lambda: len(socket.sent) == 2)

    assert socket.sent == ["a0", "new"]


def test_while_the_socket_takes_nothing_all_is_dropped(running: Outbox, socket: Socket, clock: Hands) -> None:
    """A send that hangs for CONGESTED_S: publishing returns False at once, until it goes on; orders are kept."""
    socket.may_send.clear()
    running.publish("/a", "a0")
    socket.sending.wait(20)
    clock.now_s += CONGESTED_S + 0.01

    assert not running.publish("/a", "a1")
    assert running.unanswered_s() > CONGESTED_S
    running.order("call")
    socket.may_send.set()
    until(lambda: socket.sent == ["a0", "call"])
    until(lambda: running.publish("/a", "a2"))
    until(lambda: socket.sent == ["a0", "call", "a2"])


def test_while_a_ping_is_unanswered_all_is_dropped(running: Outbox, socket: Socket, clock: Hands) -> None:
    """The kernel takes what a hung server does not: so it is the answer to a ping that counts."""
    clock.now_s += 0.2
    until(lambda: socket.pongs)
    until(lambda: running.publish("/a", "a0"))
    clock.now_s += CONGESTED_S + 0.01
    assert not running.publish("/a", "a1")

    for pong in list(socket.pongs):
        pong.set()
    until(lambda: [pong.set() for pong in list(socket.pongs)] and running.publish("/a", "a2"))


def test_what_is_discarded_is_not_sent(outbox: Outbox, socket: Socket) -> None:
    """A stop takes back the command that still waits."""
    outbox.publish("/a", "a0")
    outbox.discard("/a")
    outbox.order("stop")
    ran(outbox)
    assert socket.sent == ["stop"]


def test_closed_it_takes_no_message(outbox: Outbox, socket: Socket) -> None:
    """After `close` publishing is refused, and what waited is not sent."""
    outbox.publish("/a", "a0")
    outbox.close()
    assert not outbox.publish("/a", "a1")
    outbox.run()
    assert socket.sent == []
