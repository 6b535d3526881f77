from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from stillframe_client.jaco2.rosbridge.calls import Reply
from stillframe_client.jaco2.rosbridge.messages import Names
from stillframe_client.jaco2.rosbridge.switch import AGAIN_S, Switch
from stillframe_client.jaco2.settings import ArmSettings

DONE, BROKEN = Reply(), Reply("the connection broke")


class Server:
    """Keeps the calls; the test answers them, in any order."""

    is_open = True

    def __init__(self) -> None:
        self.calls: list[tuple[str, Callable[[Reply], None]]] = []
        self.now_s = 0.0

    def call(self, service: str, arguments: Any, done: Callable[[Reply], None], kind: Any) -> None:  # noqa: ARG002
        """Note it."""
        self.calls.append((service.removeprefix("/j2n6s300_driver/in/"), done))

    def names(self) -> list[str]:
        """What was called, without the clearing of trajectories."""
        return [name for name, _ in self.calls if name != "clear_trajectories"]

    def answer(self, name: str, reply: Reply = DONE) -> None:
        """Answer the oldest such call."""
        index = next(index for index, (called, _) in enumerate(self.calls) if called == name)
        self.calls.pop(index)[1](reply)


@pytest.fixture
def server() -> Server:
    """The driver's services."""
    return Server()


@pytest.fixture
def switch(server: Server) -> Switch:
    """A switch of a driver that can be reached."""
    return Switch(server, Names(ArmSettings()), lambda: server.now_s)


def test_a_start_that_is_answered_after_a_stop_is_stopped_again(server: Server, switch: Switch) -> None:
    """Servers answer calls in threads of their own: a late start must not outlast the stop."""
    switch.start()
    switch.stop()
    server.answer("stop")
    assert switch.is_settled
    server.answer("start")
    assert not switch.is_settled
    switch.deliver()
    assert server.names() == ["stop"]
    server.answer("stop")
    assert switch.is_settled


def test_an_answer_to_an_earlier_stop_confirms_no_later_one(server: Server, switch: Switch) -> None:
    """Each stop is confirmed by an answer of its own."""
    switch.stop()
    switch.stop()
    server.answer("stop")
    assert not switch.is_settled
    server.answer("stop")
    assert switch.is_settled


def test_a_stop_without_an_answer_is_repeated(server: Server, switch: Switch) -> None:
    """Twice a second, however often `deliver` is called, and at once on a new connection."""
    switch.stop()
    for _ in range(10):
        switch.deliver()
    assert server.names() == ["stop"]
    server.now_s += AGAIN_S
    switch.deliver()
    assert server.names() == ["stop", "stop"]
    server.answer("stop", BROKEN)
    server.answer("stop", BROKEN)
    switch.reached()
    assert server.names() == ["stop"]
    assert not switch.is_settled


def test_a_stop_waits_for_a_connection(server: Server, switch: Switch) -> None:
    """Nothing is called while there is none."""
    server.is_open = False
    switch.stop()
    switch.deliver()
    assert server.names() == []
    assert switch.is_stopped
    server.is_open = True
    switch.reached()
    assert server.names() == ["stop"]


def test_a_start_waits_for_no_stop(server: Server, switch: Switch) -> None:
    """While a stop is open a start is refused, not queued behind it; once confirmed it is sent."""
    switch.stop()
    switch.start()
    assert "in/stop is not confirmed yet" in switch.error
    assert server.names() == ["stop"]
    server.answer("stop")
    assert server.names() == []
    switch.start()
    assert server.names() == ["start"]
    assert switch.error == ""
    assert not switch.is_stopped


def test_a_start_that_broke_off_is_an_error(server: Server, switch: Switch) -> None:
    """Whether the driver started is not known: the next command says so, and no start is repeated."""
    switch.start()
    server.answer("start", BROKEN)
    switch.reached()
    assert server.names() == []
    assert switch.error == "/j2n6s300_driver/in/start failed: the connection broke"
