from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from stillframe.daemon.shutdown import SIGNALS, DrainingServer, stopping_on_signals
from stillframe.web.service.lifecycle import Lifecycle

WAIT_S = 60


@dataclass
class Daemon:
    """A real server on a free port: /slow answers when the gate opens, /state with the lifecycle's state."""

    lifecycle: Lifecycle = field(default_factory=Lifecycle)
    entered: threading.Event = field(default_factory=threading.Event)
    gate: threading.Event = field(default_factory=threading.Event)
    drain_s: float = WAIT_S

    def __post_init__(self) -> None:
        async def slow(_: Request) -> PlainTextResponse:
            self.entered.set()
            await asyncio.to_thread(self.gate.wait, WAIT_S)
            return PlainTextResponse("answered")

        async def state(_: Request) -> PlainTextResponse:
            return PlainTextResponse(self.lifecycle.state)

        app = Starlette(routes=[Route("/slow", slow), Route("/state", state)])
        config = uvicorn.Config(app, port=0, log_config=None, timeout_graceful_shutdown=1)
        self.server = DrainingServer(config, self.lifecycle, self.drain_s)
        self.thread = threading.Thread(target=self.server.run)

    @property
    def url(self) -> str:
        """Where it listens, once it does."""
        until(lambda: self.server.started)
        host, port = self.server.servers[0].sockets[0].getsockname()
        return f"http://{host}:{port}"


def until(condition: Callable[[], bool]) -> None:
    """Wait, within reason, for something that another thread does."""
    give_up_s = time.monotonic() + WAIT_S
    while not condition() and time.monotonic() < give_up_s:
        time.sleep(0.005)
    assert condition()


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    """A daemon that runs until the test is over, if it is not told to stop before."""
    made = Daemon()
    made.thread.start()
    yield made
    made.gate.set()
    made.server.should_exit = True
    made.thread.join(WAIT_S)


def test_draining_is_seen_from_outside(daemon: Daemon) -> None:
    """Told to stop, it answers what is in flight; meanwhile old and new connections are told that it drains."""
    answers: list[str] = []
    with httpx.Client(base_url=daemon.url, timeout=WAIT_S, trust_env=False) as kept:
        before = kept.get("/state").text
        asking = threading.Thread(target=lambda: answers.append(httpx.get(f"{daemon.url}/slow", timeout=WAIT_S).text))
        asking.start()
        assert daemon.entered.wait(WAIT_S)
        daemon.server.handle_exit(signal.SIGTERM, None)
        meanwhile = [kept.get("/state").text, httpx.get(f"{daemon.url}/state", timeout=WAIT_S).text]
        listening = not daemon.server.should_exit
        daemon.gate.set()
        asking.join(WAIT_S)
    daemon.thread.join(WAIT_S)

    assert before == "loading"
    assert meanwhile == ["draining", "draining"]
    assert listening
    assert answers == ["answered"]
    assert not daemon.thread.is_alive()


def test_an_idle_daemon_leaves(daemon: Daemon) -> None:
    """With nothing in flight there is nothing to wait for, even if somebody keeps a connection open."""
    with httpx.Client(base_url=daemon.url, timeout=WAIT_S, trust_env=False) as kept:
        kept.get("/state")
        daemon.server.handle_exit(signal.SIGTERM, None)
        daemon.thread.join(WAIT_S)

    assert not daemon.thread.is_alive()


def test_draining_has_an_end() -> None:
    """A frame that takes longer than the drain may does not keep the daemon."""
    daemon = Daemon(drain_s=0)
    daemon.thread.start()
    asking = threading.Thread(target=lambda: httpx.get(f"{daemon.url}/slow", timeout=WAIT_S))
    asking.start()
    assert daemon.entered.wait(WAIT_S)
    daemon.server.handle_exit(signal.SIGTERM, None)
    until(lambda: daemon.server.should_exit)

    assert asking.is_alive()
    daemon.gate.set()
    asking.join(WAIT_S)
    daemon.thread.join(WAIT_S)


def test_a_second_signal_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first is heeded; the second does what the system does with it."""
    done: list[object] = []
    monkeypatch.setattr(signal, "signal", lambda *what: done.append(what))
    monkeypatch.setattr(signal, "raise_signal", done.append)
    server = Daemon().server
    server.handle_exit(signal.SIGTERM, None)
    first = list(done)
    server.handle_exit(signal.SIGINT, None)

    assert first == []
    assert done == [(signal.SIGINT, signal.SIG_DFL), signal.SIGINT]


def test_handlers_are_put_back() -> None:
    """While it lasts both signals are the server's; afterwards they do what they did."""
    before = [signal.getsignal(number) for number in SIGNALS]
    server = Daemon().server
    with stopping_on_signals(server):
        during = [signal.getsignal(number) for number in SIGNALS]

    assert during == [server.handle_exit] * 2
    assert [signal.getsignal(number) for number in SIGNALS] == before
