from __future__ import annotations

import asyncio
import json

import pytest

from stillframe.domain import REUSE_MODES, SessionRef
from stillframe.errors import NotReady, RequestError
from stillframe.web.reset import MAX_BODY_BYTES
from stillframe.web.sessions import read_session
from stillframe_client.wire import MAX_SESSION_ID, is_session_id

CACHE = ["mode", "frame", "reason", "reuse_ratio", "reused_tokens", "total_tokens", "kv_bytes", "age_max"]


@pytest.fixture
def still(encoded):
    """A frame in the readable dialect, without a session."""
    return {"image": encoded("PNG"), "instruction": "go"}


def header_of(reply, name):
    """A reply's header that holds JSON."""
    return json.loads(reply.headers[name])


def refusal(fields, headers=()):
    with pytest.raises(RequestError) as caught:
        read_session(fields, headers)
    return caught.value


def test_a_frame_without_an_id_is_stateless(desk, frame, still):
    """Nothing names a session: the policy gets none, and the reply says that nothing was reused and why."""
    replies = [desk.act(frame), desk.act(still), desk.act({**still, "session_id": None, "reuse": None})]

    assert desk.policy.sessions == [None, None, None]
    assert [header_of(reply, "x-stillframe-cache")["reason"] for reply in replies] == ["stateless"] * 3
    assert not any("x-stillframe-session" in reply.headers for reply in replies)
    assert "session" not in replies[1].json()


@pytest.mark.parametrize("path", ["/act", "/v1/act"])
def test_a_session_is_named_in_a_field_or_a_header(desk, still, path):
    """Field, header and both alike name the same session, whose mode is the daemon's."""
    for fields, headers in [
        ({"session_id": "arm 1"}, {}),
        ({}, {"X-Session-Id": "arm 1"}),
        ({"session_id": "arm 1"}, {"x-session-id": "arm 1"}),
    ]:
        assert desk.ask("POST", path, json={**still, **fields}, headers=headers).status_code == 200

    assert desk.policy.sessions == [SessionRef("arm 1", None)] * 3


def test_a_session_inside_the_double_encoding(desk, still):
    """A double-encoded frame has its session where its other fields are."""
    reply = desk.act({"encoded": json.dumps({**still, "session_id": "arm"})})

    assert json.loads(reply.json())["session"] == {"id": "arm", "epoch": 0, "seq": 0}


@pytest.mark.parametrize("mode", REUSE_MODES)
def test_a_frame_chooses_its_mode(desk, still, mode):
    """Every mode there is reaches the policy, and comes back in the reply."""
    reply = desk.act({**still, "session_id": "arm", "reuse": mode})

    assert desk.policy.sessions == [SessionRef("arm", mode)]
    assert reply.json()["cache"]["mode"] == mode


def test_a_readable_reply_says_what_was_reused(desk, still):
    """A first frame is a keyframe with its reason; the next is a delta with its figures; the headers say the same."""
    first, second = (desk.act({**still, "session_id": "arm"}) for _ in range(2))

    assert list(first.json()["cache"]) == CACHE
    assert (first.json()["cache"]["frame"], first.json()["cache"]["reason"]) == ("keyframe", "first-frame")
    assert list(second.json()["cache"].values()) == ["adaptive", "delta", None, 0.5, 10, 20, 1000, 1]
    assert second.json()["session"] == {"id": "arm", "epoch": 0, "seq": 1}
    for reply in first, second:
        assert header_of(reply, "x-stillframe-cache") == reply.json()["cache"]
        assert header_of(reply, "x-stillframe-session") == reply.json()["session"]


def test_a_bare_reply_is_the_array_alone(desk, frame):
    """With a session the bytes of OpenVLA's dialect stay what they were; the report is in the headers."""
    without = desk.act(frame)
    desk.act({**frame, "session_id": "arm"})
    reply = desk.act({**frame, "session_id": "arm"})

    assert reply.content == without.content
    assert header_of(reply, "x-stillframe-cache")["frame"] == "delta"
    assert header_of(reply, "x-stillframe-session") == {"id": "arm", "epoch": 0, "seq": 1}


def test_two_sessions_never_mix(desk, still):
    """Frames of two robots that arrive at once: each is answered under its own id, with its own count."""

    async def robot(client, name):
        frame = {**still, "session_id": name}
        return [(await client.post("/act", json=frame)).json()["session"] for _ in range(6)]

    async def both():
        async with desk.client() as client:
            return await asyncio.gather(robot(client, "left"), robot(client, "right"))

    left, right = asyncio.run(both())

    assert left == [{"id": "left", "epoch": 0, "seq": seq} for seq in range(6)]
    assert right == [{"id": "right", "epoch": 0, "seq": seq} for seq in range(6)]


@pytest.mark.parametrize(
    ("fields", "headers"),
    [({"session_id": "a"}, ["b"]), ({}, ["a", "b"]), ({"session_id": "a"}, ["a", "A"])],
)
def test_two_names_are_a_conflict(fields, headers):
    """A request that names two sessions belongs to neither."""
    error = refusal(fields, headers)

    assert (error.status, error.code) == (400, "session-conflict")
    assert error.pointer == ("/session_id" if fields else None)


def test_a_conflict_over_the_wire(desk, still):
    """The frame is refused before the policy hears of it."""
    reply = desk.act({**still, "session_id": "left"}, **{"X-Session-Id": "right"})

    assert (reply.status_code, reply.json()["code"]) == (400, "session-conflict")
    assert desk.policy.sessions == []


@pytest.mark.parametrize("good", ["a", "!", "arm 1", "{\"a\": '\\'}", "x" * MAX_SESSION_ID, "~"])
def test_what_may_name_a_session(good):
    """Printable ASCII, a space inside included, up to the limit."""
    assert is_session_id(good)
    assert read_session({"session_id": good}, [good]) == SessionRef(good, None)


@pytest.mark.parametrize("bad", ["", " ", "a ", " a", "a\n", "a\tb", "\x7f", "é", "\ud800", "٣", "x" * 129])
def test_what_may_not(bad):
    """Anything else is refused with the rule, in the field as in the header."""
    for fields, headers, pointer in [({"session_id": bad}, [], "/session_id"), ({}, [bad], None)]:
        error = refusal(fields, headers)
        assert (error.status, error.code, error.pointer) == (422, "session-id-invalid", pointer)
        assert "1 to 128 printable ASCII characters, with no space at either end" in error.detail


def test_an_empty_header_names_nobody(desk, frame):
    """A header that is there but empty is a client's mistake, not a stateless frame."""
    reply = desk.act(frame, **{"X-Session-Id": ""})

    assert (reply.status_code, reply.json()["code"]) == (422, "session-id-invalid")


def test_an_unknown_mode_gets_the_list():
    """All modes are named, and the nearest one."""
    error = refusal({"session_id": "arm", "reuse": "adaptiv"})

    assert (error.status, error.code) == (422, "unknown-reuse-mode")
    assert "choose one of off, exact, adaptive, paper, static-only." in error.detail
    assert error.detail.endswith("Did you mean 'adaptive'?")


def test_a_mode_needs_a_session(desk, still):
    """Reuse of nobody's last frame is refused with what to do."""
    reply = desk.act({**still, "reuse": "off"})

    assert (reply.status_code, reply.json()["code"]) == (422, "reuse-without-session")
    assert "name the session in 'session_id'" in reply.json()["detail"]


@pytest.mark.parametrize("path", ["/reset", "/v1/reset"])
def test_reset_begins_the_next_episode(desk, still, path):
    """The epoch rises by one, frames count from 0 again, and the first is a keyframe for that reason."""
    for _ in range(3):
        desk.act({**still, "session_id": "arm"})
    reset = desk.ask("POST", path, json={"session_id": "arm"})
    after = desk.act({**still, "session_id": "arm"}).json()

    assert (reset.status_code, reset.json()) == (200, {"session_id": "arm", "epoch": 1})
    assert after["session"] == {"id": "arm", "epoch": 1, "seq": 0}
    assert after["cache"]["reason"] == "reset"


def test_reset_leaves_others_alone(desk, still):
    """One robot's new episode is not another's."""
    for name in ("left", "right"):
        desk.act({**still, "session_id": name})
    desk.ask("POST", "/reset", json={"session_id": "left"})

    assert desk.act({**still, "session_id": "right"}).json()["session"] == {"id": "right", "epoch": 0, "seq": 1}


def test_reset_of_a_session_that_nobody_knows(desk):
    """It begins with epoch 0: a controller may reset before its first frame."""
    assert desk.ask("POST", "/reset", json={"session_id": "new"}).json() == {"session_id": "new", "epoch": 0}
    assert desk.ask("POST", "/reset", json={"session_id": "new"}).json() == {"session_id": "new", "epoch": 1}


def test_reset_by_header_alone(desk):
    """The header is enough, without a body."""
    reply = desk.ask("POST", "/reset", headers={"X-Session-Id": "arm"})

    assert (reply.status_code, reply.json()) == (200, {"session_id": "arm", "epoch": 0})


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({}, (400, "missing-field")),
        ({"json": {}}, (400, "missing-field")),
        ({"json": {"session_id": None}}, (400, "missing-field")),
        ({"json": {"session_id": 5}}, (400, "bad-field")),
        ({"json": {"session_id": " "}}, (422, "session-id-invalid")),
        ({"json": {"session_id": "a"}, "headers": {"X-Session-Id": "b"}}, (400, "session-conflict")),
        ({"json": ["arm"]}, (400, "bad-json")),
        ({"content": b"arm"}, (400, "bad-json")),
        ({"content": b"{}", "headers": {"Content-Type": "text/plain"}}, (400, "bad-codec")),
        ({"content": b" " * (MAX_BODY_BYTES + 1)}, (413, "body-too-large")),
    ],
)
def test_what_reset_refuses(desk, request_, expected):
    """A reset without a session, with two, or with a body that is none: a problem, and no episode ends."""
    reply = desk.ask("POST", "/reset", **request_)

    assert (reply.status_code, reply.json()["code"]) == expected
    assert desk.policy.episodes.places == {}


def test_reset_waits_for_the_policy(desk):
    """While the daemon drains there is no next episode."""
    desk.lifecycle.drain()
    reply = desk.ask("POST", "/reset", json={"session_id": "arm"})

    assert (reply.status_code, reply.json()["code"]) == (503, "draining")


def test_what_the_policy_refuses_is_answered(desk):
    """A policy that cannot reset says why, as a problem."""

    def refuse(_):
        raise NotReady("draining", "It stops.", retry_after_s=1.0)

    desk.policy.reset = refuse

    assert desk.ask("POST", "/reset", json={"session_id": "arm"}).json()["code"] == "draining"
