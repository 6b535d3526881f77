from __future__ import annotations

import asyncio
import json

import pytest
from starlette.requests import Request

from stillframe.errors import BadRequest
from stillframe.web.http.body import read_body
from stillframe.web.http.limits import Limits

SMALL = Limits(max_body_bytes=10_000, body_timeout_s=0.05)


def code_of(reply):
    return reply.status_code, reply.json()["code"]


def test_a_body_announced_too_long(new_desk):
    """Content-Length over the limit is refused, and the policy never hears of it."""
    desk = new_desk(SMALL)
    reply = desk.ask("POST", "/act", content=b" " * 10_001)

    assert code_of(reply) == (413, "body-too-large")
    assert desk.policy.seen == []


@pytest.mark.parametrize("digits", ["9" * 19, "9" * 100_000, "0" * 100_000 + "1"], ids=len)
def test_a_length_of_many_digits(desk, digits):
    """A number that nobody means is too large, without being made into one."""
    reply = desk.ask("POST", "/act", content=b"{}", headers={"Content-Length": digits})

    assert code_of(reply) == (413, "body-too-large")


def test_what_arrives_is_counted_as_it_arrives():
    """Each part's bytes, once, before the next is asked for; what is refused there is not read on."""
    taken = []

    def request(*parts):
        said = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
        said.append({"type": "http.request", "body": b"", "more_body": False})

        async def receive():
            return said.pop(0)

        return Request({"type": "http", "headers": [], "method": "POST"}, receive), said

    def take(n_bytes):
        taken.append(n_bytes)
        if sum(taken) > 12:
            raise ValueError("no room")

    whole, _ = request(b"abc", b"defgh")
    assert asyncio.run(read_body(whole, SMALL, take)) == b"abcdefgh"
    assert [count for count in taken if count] == [3, 5]
    broken, left = request(b"ijklm", b"n", b"o")
    with pytest.raises(ValueError, match="no room"):
        asyncio.run(read_body(broken, SMALL, take))
    assert len(left) == 3


def test_a_client_that_goes_is_told_from_a_failure():
    """Its body ends before it was whole: nothing of ours has failed."""
    said = [{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}]

    async def receive():
        return said.pop(0)

    with pytest.raises(BadRequest, match="connection closed") as caught:
        asyncio.run(
            read_body(Request({"type": "http", "headers": [], "method": "POST"}, receive), SMALL, lambda _: None)
        )
    assert caught.value.code == "body-timeout"


def test_a_body_that_does_not_say_how_long(new_desk):
    """A chunked body is cut off at the limit: the rest is not even asked for."""
    desk = new_desk(SMALL)
    sent = []

    async def parts():
        for number in range(1000):
            sent.append(number)
            yield b" " * 1000

    reply = desk.ask("POST", "/act", content=parts())

    assert code_of(reply) == (413, "body-too-large")
    assert len(sent) == 11


def test_a_body_at_the_limit_is_read(new_desk, frame):
    """Exactly as many bytes as are allowed pass, announced or streamed."""
    body = json.dumps(frame).encode()
    desk = new_desk(Limits(max_body_bytes=len(body)))

    async def parts():
        yield body[:100]
        yield body[100:]

    assert desk.ask("POST", "/act", content=body).status_code == 200
    assert desk.ask("POST", "/act", content=parts()).status_code == 200


def test_a_body_that_trickles(new_desk):
    """A client that stops sending is told so instead of being waited for."""
    desk = new_desk(SMALL)

    async def parts():
        yield b"{"
        await asyncio.Event().wait()

    assert code_of(desk.ask("POST", "/act", content=parts())) == (400, "body-timeout")


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "image/jpeg"},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Encoding": "gzip"},
        {"Content-Length": "-1"},
        {"Content-Length": "many"},
    ],
)
def test_bodies_that_are_something_else(desk, headers):
    """A body that says it is not plain JSON is refused unread."""
    assert code_of(desk.ask("POST", "/act", content=b"{}", headers=headers)) == (400, "bad-codec")


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/vnd.x+json"])
def test_json_by_its_other_names(desk, frame, kind):
    """Parameters, capitals and +json types are JSON too."""
    reply = desk.ask("POST", "/act", content=json.dumps(frame).encode(), headers={"Content-Type": kind})

    assert reply.status_code == 200
