from __future__ import annotations

import asyncio
from typing import Any

import pytest

from stillframe.web.middleware.absolute_form import AbsoluteFormMiddleware


def passed_on(raw_path: bytes, host: bytes = b"localhost", kind: str = "http") -> dict[str, Any]:
    """What the app behind the middleware sees."""
    seen: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG001
        seen.append(scope)

    scope = {"type": kind, "raw_path": raw_path, "path": raw_path.decode(), "headers": [(b"host", host), (b"a", b"b")]}
    asyncio.run(AbsoluteFormMiddleware(app)(scope, None, None))  # type: ignore[arg-type]
    return seen[0]


@pytest.mark.parametrize(
    ("target", "host", "path"),
    [
        (b"http://127.0.0.1:8000/livez", b"127.0.0.1:8000", "/livez"),
        (b"HTTPS://robot.lab/v1/a%20b", b"robot.lab", "/v1/a b"),
        (b"http://localhost", b"localhost", "/"),
        (b"ws://[::1]:8000/v1/stream", b"[::1]:8000", "/v1/stream"),
    ],
)
def test_a_target_in_full_is_its_path(target: bytes, host: bytes, path: str) -> None:
    """Its authority replaces what Host says: else one could be checked, and the other meant."""
    scope = passed_on(target, b"attacker.example")

    assert (scope["path"], dict(scope["headers"])) == (path, {b"host": host, b"a": b"b"})
    assert scope["raw_path"].startswith(b"/")
    assert [name for name, _ in scope["headers"]].count(b"host") == 1


def test_a_websockets_target_too() -> None:
    """Its client is behind the same proxy."""
    scope = passed_on(b"ws://robot.lab/v1/stream", b"attacker.example", kind="websocket")

    assert (scope["path"], scope["raw_path"]) == ("/v1/stream", b"/v1/stream")
    assert dict(scope["headers"])[b"host"] == b"robot.lab"


@pytest.mark.parametrize("target", [b"/livez", b"/http://x/", b"*", b"", b"ftp://x/y"])
def test_any_other_target_is_left_alone(target: bytes) -> None:
    """The usual form, and what is none."""
    scope = passed_on(target)

    assert (scope["raw_path"], scope["path"]) == (target, target.decode())
    assert dict(scope["headers"])[b"host"] == b"localhost"


def test_what_is_no_request_passes() -> None:
    """The lifespan has no path."""
    assert passed_on(b"http://x/y", kind="lifespan")["raw_path"] == b"http://x/y"


def test_the_daemon_takes_it(desk: Any) -> None:
    """Of a host of ours it is served; of another's it is refused as Host would be."""

    async def ask(target: bytes) -> int:
        status: list[int] = []

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                status.append(message["status"])

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        scope = {
            "type": "http",
            "method": "GET",
            "raw_path": target,
            "path": target.decode(),
            "query_string": b"",
            "headers": [(b"host", b"localhost")],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8000),
            "scheme": "http",
        }
        await desk.app(scope, receive, send)
        return status[0]

    assert asyncio.run(ask(b"http://127.0.0.1:8000/livez")) == 200
    assert asyncio.run(ask(b"http://attacker.example/livez")) == 403
