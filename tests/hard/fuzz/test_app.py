"""Spoilt bytes through the whole app: gate, routes, sessions and streams, over the policy that echoes."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice, product
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import settings

from stillframe.web.app import WebSettings
from stillframe.web.middleware.listeners import Listener
from stillframe.web.middleware.origins import HostOriginCheck
from stillframe.web.openapi.problem_codes import PROBLEM_CODES
from stillframe_client.wire import unpack

MANY = settings().max_examples > 100
POSTS, MESSAGES = (500, 1000) if MANY else (100, 500)  # through each route, over each stream
WAIT_S = 60.0
ROUTES = {
    "act-json": ("/act", "application/json"),
    "v1-msgpack": ("/v1/act", "application/msgpack"),
    "v1-form": ("/v1/sessions/arm/act", "multipart/form-data; boundary=0123456789abcdef0123456789abcdef"),
    "cogact-form": ("/api/inference", "multipart/form-data; boundary=0123456789abcdef0123456789abcdef"),
    "session": ("/v1/sessions", "application/json"),
    "stream-json": ("/reset", "application/json"),
}
HOSTILE_HEADS = [
    *(b"", b"[", b"]", b"[::1", b"[::1]:", b"localhost:99999999", b"localhost@evil", b"evil", b"\xff\xfe", b"a" * 5000),
    *(b"\t", b"localhost/../", b"localhost#", b"localhost?", b"%00", b"127.0.0.1:http", b"http://localhost"),
]
HEADERS = [b"host", b"content-type", b"x-session-id", b"idempotency-key", b"x-request-id", b"origin", b"authorization"]
HEADERS += [b"content-encoding", b"content-length", b"x-api-key", b"accept", b"cookie", b"x-forwarded-for"]
PATHS = ["/act", "/v1/sessions", "/v1/sessions/a b/act", "/v1/models/\0", "/problems/\ud7ff", "//", "/v1/%2e%2e", "/é"]
PATHS += ["/livez", "/v1/sessions/" + "a" * 5000]
METHODS = ["GET", "POST", "DELETE", "BREW"]


@pytest.fixture(scope="module")
def doors(load: Callable[[str], ModuleType]) -> Any:
    """What fuzz/doors.py has to give."""
    return load("hard/fuzz/doors.py")


def desk_for_all(desk: Any) -> Any:
    """The app of a daemon on another address than loopback's, over the same policy."""
    listeners = {80: Listener("native", None, loopback=False)}
    house = WebSettings(listeners=listeners, origins=HostOriginCheck(listeners))
    return type(desk)(desk.policy, house).app


def spoilt(doors: Any, name: str, count: int) -> list[bytes]:
    """Messages for a door, alike in every run."""
    return list(islice(doors.malformed(np.random.default_rng(len(name)), doors.DOORS[name]), count))


def check(status: int, document: Any) -> str:
    """Hold that an answer is a good one or a client's problem from the catalogue; say which."""
    if status < 300:
        return "taken"
    code: str = document["code"]
    assert PROBLEM_CODES[code].status == status
    assert status < 500 or code in {"deadline-exceeded", "too-many-sessions"}, document
    assert "Traceback" not in document["detail"]
    return code


def no_errors(caplog: pytest.LogCaptureFixture) -> bool:
    """Whether nothing was logged that somebody has to look at."""
    return not [record for record in caplog.records if record.levelname in {"ERROR", "CRITICAL", "WARNING"}]


@pytest.mark.parametrize("name", list(ROUTES))
def test_posted(doors: Any, desk: Any, caplog: pytest.LogCaptureFixture, name: str) -> None:
    """Whatever is posted is answered, with a problem from the catalogue or an action, and nothing is logged."""
    path, content_type = ROUTES[name]

    async def post_all() -> Counter[str]:
        met: Counter[str] = Counter()
        async with asyncio.timeout(WAIT_S), desk.client() as client:
            for body in spoilt(doors, name, POSTS):
                reply = await client.post(path, content=body, headers={"content-type": content_type})
                met[check(reply.status_code, None if reply.status_code < 300 else reply.json())] += 1
        return met

    met = asyncio.run(post_all())

    assert met.total() == POSTS
    assert len(met) > 2
    assert no_errors(caplog)


@pytest.mark.parametrize(("name", "path"), [("stream-msgpack", "/v1/stream"), ("stream-json", "/v1/stream")])
def test_streamed(doors: Any, desk: Any, socket: Any, caplog: pytest.LogCaptureFixture, name: str, path: str) -> None:
    """Each message gets one answer, whatever it is, and the connection is kept: a ping after them is answered last."""
    messages: list[bytes | str] = list(spoilt(doors, name, MESSAGES))
    if name == "stream-json":
        messages = [message.decode("utf-8", "replace") for message in messages]  # type: ignore[union-attr] # bytes

    async def say_all() -> Counter[str]:
        met: Counter[str] = Counter()
        async with asyncio.timeout(WAIT_S), socket(desk.app, path) as client:
            await client.hear("hello")
            for message in messages:
                client.put(message)
                answer = await client.hear()
                met[answer["type"]] += 1
                if answer["type"] == "problem":
                    check(answer["problem"]["status"], answer["problem"])
            pong = await client.ask("ping", n=1)
            assert pong == {"type": "pong", "n": 1}
            assert client.unheard() == 0
        return met

    met = asyncio.run(say_all())

    assert met["problem"] > MESSAGES / 2
    assert met["action"] > 0
    assert no_errors(caplog)


def test_openpi(doors: Any, desk: Any, socket: Any, caplog: pytest.LogCaptureFixture) -> None:
    """On openpi's wire too: a binary answer or one line of text, and the connection is kept."""

    async def say_all() -> Counter[type]:
        met: Counter[type] = Counter()
        async with asyncio.timeout(WAIT_S), socket(desk.app, "/", protocol=None) as client:
            await client.hear_data()
            for message in spoilt(doors, "openpi", MESSAGES):
                client.put(message)
                answer = await client.hear_data()
                met[type(answer)] += 1
                assert isinstance(answer, str) or isinstance(unpack(answer), dict)
                assert isinstance(answer, bytes) or "\n" not in answer
            assert client.unheard() == 0
        return met

    met = asyncio.run(say_all())

    assert met[str] > MESSAGES / 2
    assert met[bytes] > 0
    assert no_errors(caplog)


def heads() -> Iterator[tuple[str, str, bytes, bytes]]:
    """Path, method, header and its value: every two of these together; all four where many examples are asked for."""
    for (j, name), (k, value) in product(enumerate(HEADERS), enumerate(HOSTILE_HEADS)):
        turn = [(PATHS[(j + k) % len(PATHS)], METHODS[(j + k // 3) % len(METHODS)])]
        for path, method in product(PATHS, METHODS) if MANY else turn:
            yield path, method, name, value


@pytest.mark.parametrize("loopback", [True, False])
def test_heads(desk: Any, caplog: pytest.LogCaptureFixture, loopback: bool) -> None:  # noqa: FBT001 (a parameter)
    """Whatever stands in a request's line and headers: an answer, and never our fault. Elsewhere any Host may come."""
    app = desk.app if loopback else desk_for_all(desk)

    async def ask(path: str, headers: list[tuple[bytes, bytes]], method: str) -> tuple[int, bytes]:
        sent: list[dict[str, Any]] = []
        incoming = iter([{"type": "http.request", "body": b"{}", "more_body": False}])

        async def receive() -> dict[str, Any]:
            return next(incoming, None) or await asyncio.Future()

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": headers,
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 80),
            "state": {},
        }
        await app(scope, receive, send)
        return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])

    async def ask_all() -> Counter[int]:
        met: Counter[int] = Counter()
        good = [(b"host", b"localhost")]
        for path, method, name, value in heads():
            headers = [(name, value)] if name == b"host" else [*good, (name, value), (name, value)]
            async with asyncio.timeout(WAIT_S):
                status, body = await ask(path, headers, method)
            met[status] += 1
            if status >= 400:
                check(status, json.loads(body))
        return met

    met = asyncio.run(ask_all())

    assert {200, 400, 403, 404, 405} <= set(met)
    assert no_errors(caplog)
