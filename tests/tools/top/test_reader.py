"""Readings of a daemon over real HTTP, and what is said where there is none to read."""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import numpy as np
import pytest

from stillframe.domain import TokenScope
from stillframe.testing import EchoPolicy, running
from stillframe.tools.top.reader import DaemonReader
from stillframe.tools.top.snapshot import Reading
from stillframe.web.app import WebSettings
from stillframe.web.live.feed import LiveFeed
from stillframe.web.live.settings import LiveSettings
from stillframe.web.middleware.auth import Authenticator, Token
from stillframe_client import BadReply, Refused, Unreachable
from stillframe_client.wire import encode_array

WAIT_S = 60.0
PICTURE = encode_array(np.zeros((8, 8, 3), np.uint8))


@contextmanager
def daemon(*, tokens: tuple[str, ...] = (), enabled: bool = True) -> Iterator[tuple[str, EchoPolicy]]:
    """A daemon with the live page, or without; each token is its name."""
    feed = LiveFeed()
    known = (Token(name, hashlib.sha256(name.encode()).hexdigest(), frozenset({TokenScope.ACT})) for name in tokens)
    policy = EchoPolicy(observer=feed)
    settings = WebSettings(live=LiveSettings(enabled=enabled, most=1), feed=feed, authenticator=Authenticator(known))
    with running(policy, settings) as url:
        yield url, policy


def act(url: str, session: str, token: str | None = None) -> None:
    """One frame."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    body = {"image": PICTURE, "instruction": "go", "session_id": session}
    httpx.post(f"{url}/v1/act", json=body, headers=headers, timeout=WAIT_S).raise_for_status()


@contextmanager
def answering(replies: dict[str, bytes], refused: str | None = None) -> Iterator[str]:
    """Another HTTP server, with these bodies by path; the one at `refused` is a 503's."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = replies.get(self.path, b"[]")
            self.send_response(503 if self.path == refused else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_reading_is_what_the_daemon_says() -> None:
    """Each session with its newest frame, the totals, the contract; the next reading knows the one before."""
    with daemon() as (url, policy), DaemonReader(url) as reader:
        first = reader.read()
        for _ in range(3):
            act(url, "arm")
        second = reader.read()
    (arm,) = second.snapshot.sessions

    assert (first.snapshot.sessions, first.before) == ([], None)
    assert arm.latest is not None
    assert (arm.id, arm.latest.seq, arm.latest.passes, arm.latest.cache.reason) == ("arm", 2, 2, None)
    assert arm.latest.median_ms == {"queue": 0.5, "prefill": 2.0}
    assert second.totals.answered == 3
    assert second.before == first.totals
    assert second.contract is not None
    assert second.contract.name == policy.info.name


def test_reading_takes_no_place_and_makes_no_picture() -> None:
    """A browser may still watch, though one is all that may; nothing is drawn for a terminal."""
    with daemon() as (url, policy), DaemonReader(url) as reader:
        act(url, "arm")
        reader.read()
        act(url, "arm")
        text = httpx.get(f"{url}/metrics", timeout=WAIT_S).text
        assert policy.observer is not None
        wanted = [policy.observer.wants_views(session) for session in policy.sessions if session]

    assert wanted == [False, False]
    assert "stillframe_live_watchers 0.0" in text
    assert "stillframe_live_pictures_total 0.0" in text


def test_a_token_shows_its_own_sessions() -> None:
    """As everywhere; without one nothing is shown, and the refusal says why."""
    with daemon(tokens=("front", "back")) as (url, _):
        act(url, "mine", "front")
        act(url, "theirs", "back")
        with DaemonReader(url, "front") as reader:
            listed = [(one.owner, one.id) for one in reader.read().snapshot.sessions]
        with DaemonReader(url) as reader, pytest.raises(Refused, match="unauthorized"):
            reader.read()

    assert listed == [("front", "mine")]


def test_a_daemon_without_the_live_page_says_so() -> None:
    """The setting's name is in the error."""
    with daemon(enabled=False) as (url, _), DaemonReader(url) as reader, pytest.raises(BadReply) as caught:
        reader.read()

    assert "'live: {enabled: false}'" in str(caught.value)


def test_where_nothing_answers_it_is_said(new_port: Callable[[], int]) -> None:
    """With the address."""
    port = new_port()
    with DaemonReader(f"http://127.0.0.1:{port}") as reader, pytest.raises(Unreachable, match=f"{port}.*stillframe"):
        reader.read()


@pytest.mark.parametrize("url", ["nonsense", "ftp://there", "http://there?x=1"])
def test_a_url_that_is_none_is_refused_at_once(url: str) -> None:
    """Before anything is asked."""
    with pytest.raises(ValueError, match="url is"):
        DaemonReader(url)


@pytest.mark.parametrize(
    ("replies", "said"),
    [
        ({}, "/live/sessions is not as this version reads it"),
        ({"/live/sessions": b'{"state": "ready\\u001b[2J", "version": 7}'}, "version: Input should be a valid string"),
        ({"/live/sessions": b"<html>"}, "JSON"),
    ],
)
def test_another_server_is_no_daemon(replies: dict[str, bytes], said: str) -> None:
    """Its answers are named, not shown."""
    with answering(replies) as url, DaemonReader(url) as reader, pytest.raises(BadReply) as caught:
        reader.read()

    assert said in str(caught.value)
    assert str(caught.value).isprintable()


def snapshot_of(reading: Reading) -> bytes:
    """What its daemon would say."""
    return reading.snapshot.model_dump_json().encode()


def test_a_daemon_may_be_below_a_path(reading: Callable[..., Reading]) -> None:
    """A proxy's prefix stays before each route."""
    there = reading()
    assert there.contract is not None
    replies = {
        "/robots/seven/live/sessions": snapshot_of(there),
        "/robots/seven/metrics": b"stillframe_ready 1\n",
        "/robots/seven/v1/models": b'{"models": [' + there.contract.model_dump_json().encode() + b"]}",
    }
    with answering(replies) as url, DaemonReader(f"{url}/robots/seven/") as reader:
        read = reader.read()

    assert (read.snapshot, read.contract) == (there.snapshot, there.contract)
    assert read.url == f"{url}/robots/seven"


def test_a_daemon_that_loads_has_no_contract_yet(reading: Callable[..., Reading]) -> None:
    """It answers 503 for it, which is no trouble: its state is shown."""
    loading = reading(state="loading")
    not_ready = b'{"status": 503, "code": "not-ready", "detail": "The daemon is loading."}'
    replies = {"/live/sessions": snapshot_of(loading), "/metrics": b"stillframe_ready 0\n", "/v1/models": not_ready}
    with answering(replies, refused="/v1/models") as url, DaemonReader(url) as reader:
        read = reader.read()

    assert (read.snapshot.state, read.contract) == ("loading", None)
