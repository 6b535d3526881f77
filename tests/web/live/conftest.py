"""A daemon whose policy echoes, and readers of its feed. Knows HTTP and server-sent events; no test."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
import pytest

from stillframe.domain import TokenScope
from stillframe.testing import EchoPolicy, running
from stillframe.web.app import WebSettings
from stillframe.web.live.feed import LiveFeed
from stillframe.web.live.settings import LiveSettings
from stillframe.web.middleware.auth import Authenticator, Token
from stillframe_client.wire import encode_array

WAIT_S = 60.0
PICTURE = np.arange(8 * 12 * 3, dtype=np.uint8).reshape(8, 12, 3)
FAST = LiveSettings(rate_hz=30)


def token(name: str, *scopes: TokenScope) -> Token:
    """The token of that name, which is its name."""
    return Token(name, hashlib.sha256(name.encode()).hexdigest(), frozenset(scopes))


TOKENS = (
    token("front", TokenScope.ACT),
    token("back", TokenScope.ACT),
    token("boss", TokenScope.ADMIN),
    token("none"),
)


@dataclass
class Watching:
    """One watcher: events as they come."""

    lines: Iterator[str]
    seen: list[tuple[str, Any]] = field(default_factory=list)

    def next(self) -> tuple[str, Any]:
        """The next event's name and document."""
        name = next(self.lines).removeprefix("event: ")
        document = json.loads(next(self.lines).removeprefix("data: "))
        assert next(self.lines) == ""
        self.seen.append((name, document))
        return self.seen[-1]

    def until(self, wanted: str, condition: Callable[[Any], bool] = lambda _: True) -> Any:
        """The next event of a name for which a condition holds."""
        give_up_s = time.monotonic() + WAIT_S
        while time.monotonic() < give_up_s:
            name, document = self.next()
            if name == wanted and condition(document):
                return document
        raise AssertionError(f"no {wanted} came")


@dataclass
class House:
    """A daemon, its feed and its policy."""

    url: str
    feed: LiveFeed
    policy: EchoPolicy
    http: httpx.Client

    def get(self, path: str, as_: str | None = None, **request: Any) -> httpx.Response:
        """One GET, with a token or none."""
        return self.http.get(self.url + path, headers=bearer(as_) | request.pop("headers", {}), **request)

    def act(self, session: str | None = "arm", as_: str | None = None, **fields: Any) -> httpx.Response:
        """One frame."""
        named = {} if session is None else {"session_id": session}
        body = {"image": encode_array(PICTURE), "instruction": "lift the lid"} | named | fields
        reply = self.http.post(self.url + "/v1/act", json=body, headers=bearer(as_))
        assert reply.status_code == 200, reply.text
        return reply

    @contextlib.contextmanager
    def watch(self, session: str | None = None, as_: str | None = None, **asked: str) -> Iterator[Watching]:
        """Watch while the block runs. Raises Refused where it is not let in."""
        parameters = ({} if session is None else {"session": session}) | asked
        with self.http.stream("GET", self.url + "/live/feed", params=parameters, headers=bearer(as_)) as reply:
            if reply.status_code != 200:
                reply.read()
                raise Refused(reply)
            assert reply.headers["content-type"].startswith("text/event-stream")
            yield Watching(reply.iter_lines())

    def series(self, name: str) -> float:
        """A series of /metrics without labels."""
        lines = self.get("/metrics", "boss").text.splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))


class Refused(Exception):
    """The feed was answered with a problem."""

    def __init__(self, reply: httpx.Response):
        super().__init__(reply.text)
        self.reply = reply


def bearer(name: str | None) -> dict[str, str]:
    """The header of a token."""
    return {} if name is None else {"Authorization": f"Bearer {name}"}


@pytest.fixture
def refused() -> type[Refused]:
    """What `watch` raises."""
    return Refused


@pytest.fixture
def house() -> Iterator[Callable[..., House]]:
    """Start daemons: `house()`, `house(tokens=True)`, `house(live=LiveSettings(most=1))`."""
    with contextlib.ExitStack() as opened:

        def make(*, tokens: bool = False, live: LiveSettings = FAST, **settings: Any) -> House:
            feed = LiveFeed()
            policy = EchoPolicy(observer=feed)
            authenticator = Authenticator(TOKENS if tokens else ())
            url = opened.enter_context(
                running(policy, WebSettings(live=live, feed=feed, authenticator=authenticator, **settings))
            )
            return House(url, feed, policy, opened.enter_context(httpx.Client(timeout=WAIT_S)))

        yield make
