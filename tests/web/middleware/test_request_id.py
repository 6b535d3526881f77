from __future__ import annotations

import asyncio
import logging

import pytest

from stillframe.web.middleware.request_id import RequestIdMiddleware

LOG = logging.getLogger("web-test")


def through(app, headers=()):
    """What an app behind the envelope sends for one request."""
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "http.request", "body": b""}

    scope = {"type": "http", "method": "GET", "path": "/x", "query_string": b"", "headers": list(headers)}
    return RequestIdMiddleware(app, log=LOG)(scope, receive, send), sent


def test_what_breaks_off_is_not_answered_twice(caplog):
    """An answer that has begun cannot become a problem: the connection breaks, and the log has the story."""

    async def app(_, __, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ZeroDivisionError("half-way")

    talk, sent = through(app)
    with pytest.raises(ZeroDivisionError):
        asyncio.run(talk)

    assert [message["type"] for message in sent] == ["http.response.start"]
    assert "half-way" in caplog.text


def test_what_fails_before_is_answered_and_logged_under_its_id(caplog):
    """500, in one answer, with the id that the log names and that the client gave."""

    async def app(_, __, ___):
        raise ZeroDivisionError("at once")

    talk, sent = through(app, [(b"x-request-id", b"robot-7")])
    asyncio.run(talk)

    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert sent[0]["status"] == 500
    assert (b"x-request-id", b"robot-7") in sent[0]["headers"]
    assert "request robot-7 failed" in caplog.text


def test_ids_of_our_own_are_all_different():
    """Where the client gives none, or one that has no place in a log."""

    async def app(scope, _, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        seen.append(scope["state"]["request_id"])

    seen = []
    for headers in ([], [], [(b"x-request-id", b"a\nb")], [(b"x-request-id", b"x" * 65)]):
        talk, sent = through(app, headers)
        asyncio.run(talk)
        assert dict(sent[0]["headers"])[b"x-request-id"].decode() == seen[-1]

    assert len(set(seen)) == 4
    assert all(len(request_id) == 32 for request_id in seen)
