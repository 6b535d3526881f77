"""How a feed is sent: to a client that stalls, that leaves, and as the daemon drains. Without a network."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from stillframe.domain import SessionRef
from stillframe.errors import Overloaded
from stillframe.sessions.registry import SessionRegistry
from stillframe.sessions.settings import SessionSettings
from stillframe.testing import EchoPolicy, ManualClock
from stillframe.testing.policy import Observation
from stillframe.web.live.event_stream import EventStream, event
from stillframe.web.live.feed import LiveFeed
from stillframe.web.live.settings import LiveSettings
from stillframe.web.live.watcher import LiveSources, Watcher
from stillframe.web.service.lifecycle import Lifecycle

WAIT_S = 60.0


class Quiet:
    """An observer of sessions."""

    def __getattr__(self, _: str) -> Any:
        return lambda *_: None


@dataclass
class Client:
    """One that reads while `reads` is set, and leaves where it is told to."""

    reads: asyncio.Event = field(default_factory=asyncio.Event)
    leaves: asyncio.Event = field(default_factory=asyncio.Event)
    sent: list[dict[str, Any]] = field(default_factory=list)

    async def receive(self) -> dict[str, Any]:
        """Nothing until it leaves."""
        await self.leaves.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        """Take a message, as soon as it reads."""
        await self.reads.wait()
        self.sent.append(message)

    def told(self, name: str) -> list[Any]:
        """Documents of the events of that name."""
        text = b"".join(message.get("body", b"") for message in self.sent).decode()
        parts = [part.split("\n", 1) for part in text.split("\n\n") if part]
        return [json.loads(data.removeprefix("data: ")) for head, data in parts if head == f"event: {name}"]


def run(story: Any) -> Any:
    """Run a story, within reason."""
    return asyncio.run(asyncio.wait_for(story, WAIT_S))


async def until(condition: Any) -> None:
    """Wait for something that another task does."""
    while not condition():
        await asyncio.sleep(0.002)


@contextlib.contextmanager
def admitted(draining: asyncio.Event, holds: list[str]) -> Iterator[asyncio.Event]:
    """A place, noted while it is held."""
    holds.append("in")
    try:
        yield draining
    finally:
        holds.append("out")


async def ticking(ended: asyncio.Event) -> AsyncGenerator[bytes]:
    """An event after the other until it ends, then a last one."""
    number = 0
    while not ended.is_set():
        yield event("tick", number)
        number += 1
        await asyncio.sleep(0)
    yield event("last", number)


def test_a_client_that_stalls_is_sent_the_newest_when_it_reads_again() -> None:
    """Of a hundred frames that it missed it gets the figures, and two pictures: what was on its way, and the newest."""

    async def story() -> tuple[Client, int]:
        feed, policy = LiveFeed(), EchoPolicy()
        registry = SessionRegistry(SessionSettings(), lambda: policy, ManualClock(), Quiet())
        session, _ = registry.open("arm", owner="anonymous")
        sources = LiveSources(Lifecycle(policy), registry, feed, LiveSettings(rate_hz=30), {})
        watcher = Watcher(sources, None, session, lambda info: info)
        client, draining, wanted = Client(), asyncio.Event(), 0
        client.reads.set()
        stream = EventStream(lambda: admitted(draining, []), watcher.events)
        served = asyncio.create_task(stream({}, client.receive, client.send))
        await until(lambda: client.told("sessions"))
        policy.observer = feed
        see = Observation({"front": np.zeros((8, 8, 3), np.uint8)}, "go")
        policy.step(see, SessionRef("arm", seq=0, serial=session.serial))
        await until(lambda: client.told("picture"))
        client.reads.clear()
        for seq in range(1, 101):
            ref = SessionRef("arm", seq=seq, serial=session.serial)
            wanted += feed.wants_views(ref)
            policy.step(see, ref)
            await asyncio.sleep(0.002)
        client.reads.set()
        await until(lambda: len(client.told("picture")) > 1 and sum(map(len, client.told("frames"))) == 101)
        policy.step(see, SessionRef("arm", seq=101, serial=session.serial))
        await until(lambda: client.told("picture")[-1]["seq"] == 101)
        client.leaves.set()
        await served
        policy.close()
        sources.encoder.close()
        return client, wanted

    client, wanted = run(story())

    assert wanted <= 2
    assert len(client.told("picture")) <= 2 + wanted
    assert [one["seq"] for told in client.told("frames") for one in told] == [*range(102)]


def test_a_feed_ends_as_it_should_when_the_daemon_drains() -> None:
    """With a last word and the body's end; its place is free."""

    async def story() -> tuple[Client, list[str]]:
        client, draining, holds = Client(), asyncio.Event(), []
        client.reads.set()
        served = asyncio.create_task(
            EventStream(lambda: admitted(draining, holds), ticking)({}, client.receive, client.send)
        )
        await until(lambda: client.told("tick"))
        draining.set()
        await served
        return client, holds

    client, holds = run(story())

    assert len(client.told("last")) == 1
    assert client.sent[-1] == {"type": "http.response.body", "body": b""}
    assert holds == ["in", "out"]


@pytest.mark.parametrize("ends", ["leaves", "drains"])
def test_a_client_that_reads_nothing_does_not_keep_its_place(ends: str) -> None:
    """Neither when it goes nor when the daemon does: what is being sent is given up."""

    async def story() -> list[str]:
        client, draining, holds = Client(), asyncio.Event(), []
        served = asyncio.create_task(
            EventStream(lambda: admitted(draining, holds), ticking)({}, client.receive, client.send)
        )
        await until(lambda: holds)
        (client.leaves if ends == "leaves" else draining).set()
        await served
        return holds

    assert run(story()) == ["in", "out"]


def test_what_fails_while_it_is_sent_is_raised() -> None:
    """And leaves no task behind."""

    async def broken(_: asyncio.Event) -> AsyncGenerator[bytes]:
        yield event("tick", 0)
        raise RuntimeError("unforeseen")

    async def story() -> set[Any]:
        client, before = Client(), asyncio.all_tasks()
        client.reads.set()
        with pytest.raises(RuntimeError, match="unforeseen"):
            await EventStream(lambda: admitted(asyncio.Event(), []), broken)({}, client.receive, client.send)
        await asyncio.sleep(0)
        return asyncio.all_tasks() - before

    assert run(story()) == set()


def test_where_there_is_no_place_nothing_is_sent() -> None:
    """So that the refusal can be answered with its status."""

    @contextlib.contextmanager
    def full() -> Iterator[asyncio.Event]:
        raise Overloaded("overloaded", "full", retry_after_s=5)
        yield asyncio.Event()

    async def story() -> Client:
        client = Client()
        with pytest.raises(Overloaded):
            await EventStream(full, ticking)({}, client.receive, client.send)
        return client

    assert run(story()).sent == []
