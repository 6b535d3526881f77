from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import Message, Scope
from starlette.websockets import WebSocket
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from stillframe.daemon.config import load_config
from stillframe.daemon.logs import LEVEL_VARIABLE, open_log
from stillframe.daemon.sockets import bind_sockets, uvicorn_config
from stillframe.errors import TooMany
from stillframe.web.http.problems import install_problem_handlers
from stillframe.web.middleware import rate_limit
from stillframe.web.middleware.access import HEALTH_PATHS, AccessMiddleware, actor_of, caller_of, peer_of, share_of
from stillframe.web.middleware.auth import Authenticator, Token
from stillframe.web.middleware.origins import HostOriginCheck
from stillframe.web.middleware.rate_limit import RateLimiter
from stillframe.web.middleware.request_id import RequestIdMiddleware

FRONT = "front-secret-0f9a"
KNOWN = Authenticator([Token("front", hashlib.sha256(FRONT.encode()).hexdigest(), frozenset({"act"}))])
NEAR = HostOriginCheck()  # every port is a loopback one
BEARER = {"Authorization": f"Bearer {FRONT}"}
WAIT_S = 60.0  # bounds what has to happen


async def say_who(request: Request) -> Response:
    """Answer with the caller and the peer."""
    caller = caller_of(request)
    return JSONResponse([caller.name, sorted(caller.scopes), peer_of(request)])


async def move(request: Request) -> Response:
    """Answer whoever may act."""
    return JSONResponse(actor_of(request).name)


async def say_who_over_a_websocket(websocket: WebSocket) -> None:
    """Accept, say the caller, and repeat one message."""
    await websocket.accept()
    await websocket.send_text(caller_of(websocket).name)
    await websocket.send_bytes(await websocket.receive_bytes())


def app(
    authenticator: Authenticator = KNOWN, origins: HostOriginCheck = NEAR, began: Callable[[], None] = lambda: None
) -> Starlette:
    """A few routes behind a gate, inside an envelope."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        began()
        yield

    routes = [Route(path, say_who, methods=["GET", "POST"]) for path in (*HEALTH_PATHS, "/act", "/metrics")]
    routes.append(Route("/move", move, methods=["POST"]))
    built = Starlette(routes=[*routes, WebSocketRoute("/", say_who_over_a_websocket)], lifespan=lifespan)
    install_problem_handlers(built)  # type: ignore[arg-type]  # asks for no more than Starlette has
    built.add_middleware(AccessMiddleware, authenticator=authenticator, origins=origins)
    built.add_middleware(RequestIdMiddleware, log=logging.getLogger("gate-test"))
    return built


def ask(asked: Starlette, method: str, path: str, **rest: Any) -> httpx.Response:
    """Send one request to an app in this process, from 10.0.0.7."""

    async def exchange() -> httpx.Response:
        transport = httpx.ASGITransport(asked, client=("10.0.0.7", 4711))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
            return await client.request(method, path, **rest)

    return asyncio.run(exchange())


def assert_problem(reply: httpx.Response, status: int, code: str) -> None:
    """Hold a reply against RFC 9457 and our own additions."""
    document = reply.json()
    assert reply.headers["content-type"] == "application/problem+json"
    assert (reply.status_code, document["status"], document["code"]) == (status, status, code)
    assert document["request_id"] == reply.headers["x-request-id"]


def test_a_known_caller_is_let_in_and_known_inside() -> None:
    """A route learns whose token it was, and from where."""
    assert ask(app(), "POST", "/act", headers=BEARER).json() == ["front", ["act"], "10.0.0.7"]


def test_without_tokens_everybody_is_let_in() -> None:
    """As the anonymous caller, with every scope."""
    assert ask(app(Authenticator()), "GET", "/metrics").json()[:2] == ["anonymous", ["act", "admin"]]


@pytest.mark.parametrize("path", ["/act", "/metrics", "/nothing", "/livez/", "/livez/x"])
def test_without_its_token_nobody_is_let_in(path: str) -> None:
    """Not even to learn what is served; the challenge says which scheme is expected."""
    reply = ask(app(), "GET", path)
    assert_problem(reply, 401, "unauthorized")

    assert reply.headers["www-authenticate"] == "Bearer"
    assert reply.json()["instance"] == path


@pytest.mark.parametrize("headers", [{}, {"X-Api-Key": "wrong"}, BEARER])
@pytest.mark.parametrize("path", sorted(HEALTH_PATHS))
def test_health_needs_no_token(path: str, headers: Mapping[str, str]) -> None:
    """A probe has none; whoever asks there is nobody, whatever it sends."""
    assert ask(app(), "GET", path, headers=headers).json()[:2] == ["unidentified", []]


@pytest.mark.parametrize("path", ["/livez", "/act"])
@pytest.mark.parametrize("header", [("Host", "evil.example"), ("Origin", "https://evil.example")])
def test_a_page_is_refused_even_with_a_token(path: str, header: tuple[str, str]) -> None:
    """Host and Origin come first, on every path."""
    reply = ask(app(), "POST", path, headers=[*BEARER.items(), header])
    assert_problem(reply, 403, "forbidden")

    assert "www-authenticate" not in reply.headers


@pytest.mark.parametrize(("scopes", "status"), [({"act"}, 200), ({"admin"}, 403), (set(), 403)])
def test_who_has_a_robot_moved_may_act(scopes: set[str], status: int) -> None:
    """A token that may only look, or only govern, is known and refused."""
    known = Authenticator([Token("front", hashlib.sha256(FRONT.encode()).hexdigest(), frozenset(scopes))])
    answers = [ask(app(known), "POST", path, headers=BEARER).status_code for path in ("/move", "/metrics")]

    assert answers == [status, 200]


def knock(
    authenticator: Authenticator,
    requests: RateLimiter | None,
    *visits: tuple[str, Mapping[str, str]],
    path: str = "/act",
) -> list[Any]:
    """From these addresses, with these headers: the share that each is let in with, or the status of its refusal."""

    async def say_share(request: Request) -> Response:
        return JSONResponse(share_of(request))

    guarded = AccessMiddleware(
        Starlette(routes=[Route(path, say_share)]), authenticator=authenticator, origins=NEAR, request_limiter=requests
    )

    async def visit(address: str, headers: Mapping[str, str]) -> Any:
        transport = httpx.ASGITransport(guarded, client=(address, 4711))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
            reply = await client.get(path, headers=headers)
            return reply.json() if reply.status_code == 200 else reply.status_code

    async def all_of_them() -> list[Any]:
        return [await visit(address, headers) for address, headers in visits]

    return asyncio.run(all_of_them())


def test_whose_share_a_request_takes_of() -> None:
    """Its token's, from wherever it comes; without one its address', of IPv6 its network's; no name is an address."""
    near, far, wide = "10.0.0.7", "10.0.0.8", "2001:db8:1:2:3:4:5:6"

    assert knock(KNOWN, None, (near, BEARER), (far, BEARER)) == ["token:front"] * 2
    assert knock(Authenticator(), None, (near, {}), (far, {}), (wide, {})) == [near, far, "2001:db8:1:2::/64"]
    assert knock(KNOWN, None, (near, {}), (far, {}), path="/livez") == [near, far]


def test_each_share_may_ask_so_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A token from all its addresses together, an address without one by itself."""
    monkeypatch.setattr(rate_limit, "THROTTLE_DELAY_S", 0.0)
    rates = RateLimiter(1.0, burst_s=1.0, clock=lambda: 0.0)

    assert knock(KNOWN, rates, ("10.0.0.7", BEARER), ("10.0.0.8", BEARER)) == ["token:front", 429]
    visits = [("10.0.0.7", {}), ("10.0.0.7", {}), ("10.0.0.8", {})]
    assert knock(Authenticator(), rates, *visits) == ["10.0.0.7", 429, "10.0.0.8"]


def test_who_is_not_let_in_counts_by_its_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guessing tokens is asking, too; who guesses takes nothing of the caller whose token it is."""
    monkeypatch.setattr(rate_limit, "THROTTLE_DELAY_S", 0.0)
    rates = RateLimiter(1.0, burst_s=1.0, clock=lambda: 0.0)
    visits = [("10.0.0.7", {}), ("10.0.0.7", {"Authorization": "Bearer guess"}), ("10.0.0.8", {}), ("10.0.0.7", BEARER)]

    assert knock(KNOWN, rates, *visits) == [401, 429, 401, "token:front"]


def test_two_tokens_are_a_malformed_request() -> None:
    """400, not 401: asking again with the same headers is no use."""
    assert_problem(ask(app(), "POST", "/act", headers={**BEARER, "X-Api-Key": "other"}), 400, "bad-field")


def test_a_refusal_does_not_wait_for_the_body() -> None:
    """Whoever may not ask cannot make us read."""

    def body() -> Iterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    async def receive() -> Message:
        return next(body())  # type: ignore[return-value]  # it never gets there

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/act",
        "headers": [(b"host", b"localhost")],
        "query_string": b"",
    }
    asyncio.run(app()(scope, receive, send))

    assert sent[0]["status"] == 401


def test_the_lifespan_passes() -> None:
    """What is neither a request nor a WebSocket is none of the gate's business."""
    begun: list[bool] = []
    with running(app(began=lambda: begun.append(True))):
        pass

    assert begun == [True]


def test_a_server_that_cannot_refuse_an_upgrade_in_words_closes_it() -> None:
    """Without ASGI's extension the handshake is refused without a problem, and still before it is accepted."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Scope = {"type": "websocket", "path": "/", "headers": [(b"host", b"localhost")]}
    asyncio.run(app()(scope, receive, send))

    assert sent == [{"type": "websocket.close", "code": 1008}]


HEADERS = st.lists(
    st.tuples(
        st.sampled_from([b"host", b"origin", b"authorization", b"x-api-key", b"x-request-id"]), st.binary(max_size=40)
    ),
    max_size=8,
)


@given(headers=HEADERS, kind=st.sampled_from(["http", "websocket"]), path=st.text(max_size=20))
def test_garbage_ends_in_a_problem(headers: list[tuple[bytes, bytes]], kind: str, path: str) -> None:
    """Whatever bytes stand in the head: a refusal with one of three statuses, and the app behind is not reached."""
    sent: list[Message] = []

    async def behind(*_: object) -> None:
        raise AssertionError("garbage was let in")

    async def receive() -> Message:
        return {"type": f"{kind}.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    scope: Scope = {"type": kind, "method": "GET", "path": f"/{path}", "headers": headers, "query_string": b""}
    scope["extensions"] = {"websocket.http.response": {}}
    if scope["path"] not in HEALTH_PATHS:
        asyncio.run(AccessMiddleware(behind, authenticator=KNOWN, origins=NEAR)(scope, receive, send))

        assert sent[0]["status"] in {400, 401, 403}
        assert json.loads(sent[1]["body"])["status"] == sent[0]["status"]


@contextmanager
def running(served: Starlette) -> Iterator[str]:
    """Serve an app on loopback as the daemon is served; its address without the scheme."""
    config = load_config(None, {"checkpoint": Path("nowhere"), "port": 0})
    (door,) = bind_sockets(config)
    server = uvicorn.Server(uvicorn_config(served, config))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [door.socket]})
    thread.start()
    try:
        give_up_s = time.monotonic() + WAIT_S
        while not server.started and time.monotonic() < give_up_s:
            time.sleep(0.005)
        yield f"127.0.0.1:{door.port}"
    finally:
        server.should_exit = True
        thread.join(WAIT_S)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A daemon's door with one token."""
    with running(app()) as served:
        yield served


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({}, 401, "unauthorized"),
        ({"Authorization": "Api-Key wrong"}, 401, "unauthorized"),
        ({**BEARER, "Origin": "https://evil.example"}, 403, "forbidden"),
        ({**BEARER, "X-Api-Key": "other"}, 400, "bad-field"),
    ],
)
def test_a_websocket_is_refused_before_the_upgrade(
    address: str, headers: Mapping[str, str], status: int, code: str
) -> None:
    """A real client learns why from the answer to its handshake: status and problem, no frame of the protocol."""
    with pytest.raises(InvalidStatus) as caught, connect(f"ws://{address}/", additional_headers=headers, proxy=None):
        pass
    answer = caught.value.response
    document = json.loads(answer.body or b"{}")

    assert (answer.status_code, document["status"], document["code"]) == (status, status, code)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers.get("WWW-Authenticate") == ("Bearer" if status == 401 else None)


def test_a_refused_upgrade_is_no_error_of_ours(address: str, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody fills the log by asking without a token."""
    with caplog.at_level(logging.WARNING):
        with pytest.raises(InvalidStatus), connect(f"ws://{address}/", proxy=None):
            pass
        httpx.get(f"http://{address}/livez", trust_env=False)  # the loop's next turn: it is done with the first

    assert caplog.records == []


def test_a_health_path_is_no_way_in_for_a_websocket(address: str) -> None:
    """Only a plain request is let through there without a token."""
    with pytest.raises(InvalidStatus) as caught, connect(f"ws://{address}/livez", proxy=None):
        pass

    assert caught.value.response.status_code == 401


@pytest.mark.parametrize("header", [("Authorization", f"Api-Key {FRONT}"), ("X-Api-Key", FRONT), *BEARER.items()])
def test_a_websocket_with_its_token_is_let_in(address: str, header: tuple[str, str]) -> None:
    """And is known inside, as openpi's client sends it and in the other forms."""
    with connect(f"ws://{address}/", additional_headers=[header], proxy=None, open_timeout=WAIT_S) as client:
        name = client.recv(WAIT_S)
        client.send(b"frame")

        assert (name, client.recv(WAIT_S)) == ("front", b"frame")


def test_a_refused_body_leaves_the_connection_usable(address: str) -> None:
    """A client that posts a picture without a token reads its 401, and may ask again on the same connection."""
    with httpx.Client(base_url=f"http://{address}", timeout=WAIT_S, trust_env=False) as client:
        refused = client.post("/act", content=bytes(2**20))
        again = client.post("/act", headers=BEARER)

    assert (refused.status_code, again.status_code) == (401, 200)


def test_a_token_is_never_logged(monkeypatch: pytest.MonkeyPatch, tidy_logging: None) -> None:  # noqa: ARG001 -- puts back
    """Not even at level debug, good or bad, over either protocol."""
    screen = StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv(LEVEL_VARIABLE, "debug")
    open_log().debug("begun")
    bad = {"X-Api-Key": "bad-secret"}
    silent = logging.Logger("client")  # the client's own log is its own affair
    with running(app()) as address:
        for headers in (BEARER, bad):
            httpx.get(f"http://{address}/act", headers=headers, trust_env=False)
        with connect(f"ws://{address}/", additional_headers=BEARER, proxy=None, logger=silent) as client:
            client.recv(WAIT_S)
        with (
            pytest.raises(InvalidStatus),
            connect(f"ws://{address}/", additional_headers=bad, proxy=None, logger=silent),
        ):
            pass

    assert "begun" in screen.getvalue()
    assert FRONT not in screen.getvalue()
    assert "bad-secret" not in screen.getvalue()


def asked(
    authenticator: Authenticator, *requests: tuple[str, str, dict[str, str]], per_s: float = 1e-6
) -> list[tuple[int, str]]:
    """What requests (address, path, headers) are answered, each with whose share it took; one each in a million s."""

    async def say_share(request: Request) -> Response:
        return Response(share_of(request))

    served = Starlette(routes=[Route("/{path:path}", say_share)])
    install_problem_handlers(served)  # type: ignore[arg-type]
    guarded = AccessMiddleware(
        served,
        authenticator=authenticator,
        origins=NEAR,
        request_limiter=RateLimiter(per_s, burst_s=0.0, of="requests"),
    )

    async def ask_all() -> list[tuple[int, str]]:
        answers = []
        for address, path, headers in requests:
            transport = httpx.ASGITransport(guarded, client=(address, 1))
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
                answer = await client.get(path, headers=headers)
                answers.append((answer.status_code, answer.json()["code"] if answer.is_error else answer.text))
        return answers

    return asyncio.run(ask_all())


def test_whose_share_a_request_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A known token's wherever it is used; else the address', be it a probe's: never what a client writes of itself."""
    monkeypatch.setattr(rate_limit, "THROTTLE_DELAY_S", 0.0)
    other = {"X-Session-Id": "another", "X-Forwarded-For": "10.9.9.9"}

    assert asked(KNOWN, ("10.0.0.1", "/a", BEARER), ("10.0.0.2", "/livez", {}), per_s=1e6) == [
        (200, "token:front"),
        (200, "10.0.0.2"),
    ]
    assert asked(Authenticator(), ("10.0.0.1", "/a", other), ("2001:db8::7", "/a", other), per_s=1e6) == [
        (200, "10.0.0.1"),
        (200, "2001:db8::/64"),
    ]


def test_every_request_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it asks for; one caller's are nothing to another, and one that is not let in counts by its address."""
    monkeypatch.setattr(rate_limit, "THROTTLE_DELAY_S", 0.0)
    wrong = {"X-Api-Key": "wrong"}
    answers = asked(
        KNOWN,
        ("10.0.0.1", "/a", BEARER),
        ("10.0.0.2", "/b", BEARER),  # the same caller from elsewhere
        ("10.0.0.1", "/a", wrong),
        ("10.0.0.1", "/a", wrong),
        ("10.0.0.1", "/livez", {}),
        ("10.0.0.3", "/livez", {}),
    )

    assert answers == [
        (200, "token:front"),
        (429, "rate-limited"),
        (401, "unauthorized"),
        (429, "rate-limited"),
        (429, "rate-limited"),
        (200, "10.0.0.3"),
    ]


def test_one_that_asks_too_often_waits_for_being_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a flood stays with its sender."""
    waited: list[float] = []

    async def sleep(seconds: float) -> None:
        waited.append(seconds)

    monkeypatch.setattr(rate_limit.asyncio, "sleep", sleep)
    answers = asked(Authenticator(), *[("10.0.0.1", "/", {})] * 2)

    assert [status for status, _ in answers] == [200, 429]
    assert waited.count(rate_limit.THROTTLE_DELAY_S) == 1


@pytest.mark.parametrize(
    ("status", "charged"), [(200, False), (404, True), (422, True), (503, True), (409, False), (410, False)]
)
def test_what_is_refused_counts_for_more(status: int, charged: bool) -> None:  # noqa: FBT001 (a parameter)
    """It cost its caller little and the daemon as much as an answer; a frame that came too late is no such thing."""
    requests = RateLimiter(10.0, burst_s=1.0, clock=lambda: 0.0)

    async def answer(request: Request) -> Response:  # noqa: ARG001
        return Response(status_code=status)

    guarded = AccessMiddleware(
        Starlette(routes=[Route("/", answer)]), authenticator=Authenticator(), origins=NEAR, request_limiter=requests
    )

    async def ask() -> None:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(guarded), base_url="http://localhost") as client:
            await client.get("/")

    asyncio.run(ask())
    left = 0
    while True:
        try:
            requests.acquire(("127.0.0.1",))
        except TooMany:
            break
        left += 1

    assert left == (0 if charged else 9)
