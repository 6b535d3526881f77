from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import replace
from hashlib import sha256

import numpy as np
import pytest

from stillframe.domain import REUSE_MODES, HistoryInfo, HistoryReport
from stillframe.errors import RequestError
from stillframe.sessions.pending import FramePosition
from stillframe.sessions.settings import SessionSettings
from stillframe.web.app import WebSettings
from stillframe.web.http.session_fields import RequestAddress, SessionFields, read_session_fields
from stillframe.web.middleware.auth import Authenticator, Token
from stillframe.web.middleware.listeners import Listener
from stillframe.web.middleware.rate_limit import RateLimiter
from stillframe.web.routes.sessions import MAX_BODY_BYTES
from stillframe_client.wire import MAX_SESSION_ID, is_session_id, pack, unpack

CACHE = ["mode", "frame", "reason", "reuse_ratio", "reused_tokens", "total_tokens", "kv_bytes", "age_max", "bit_equal"]
ARM = {"session_id": "arm"}


@pytest.fixture
def still(encoded):
    """A frame in the readable dialect, without a session."""
    return {"image": encoded("PNG"), "instruction": "go"}


def header_of(reply, name):
    """A reply's header that holds JSON."""
    return json.loads(reply.headers[name])


def refusal(fields, headers=()):
    with pytest.raises(RequestError) as caught:
        read_session_fields(fields, RequestAddress(ids=tuple(headers)))
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

    assert [(ref.id, ref.epoch, ref.seq, ref.mode) for ref in desk.policy.sessions] == [
        ("arm 1", 0, seq, None) for seq in range(3)
    ]


def test_a_session_inside_the_double_encoding(desk, still):
    """A double-encoded frame has its session where its other fields are."""
    reply = desk.act({"encoded": json.dumps({**still, "session_id": "arm"})})

    assert json.loads(reply.json())["session"] == {"id": "arm", "epoch": 0, "seq": 0}


@pytest.mark.parametrize("mode", REUSE_MODES)
def test_a_frame_chooses_its_mode(desk, still, mode):
    """Every mode there is reaches the policy, and comes back in the reply."""
    reply = desk.act({**still, "session_id": "arm", "reuse": mode})

    assert [(ref.id, ref.mode) for ref in desk.policy.sessions] == [("arm", mode)]
    assert reply.json()["cache"]["mode"] == mode


def test_a_readable_reply_says_what_was_reused(desk, still):
    """A first frame is a keyframe with its reason; the next is a delta with its figures; the headers say the same."""
    first, second = (desk.act({**still, "session_id": "arm"}) for _ in range(2))

    assert list(first.json()["cache"]) == CACHE
    assert (first.json()["cache"]["frame"], first.json()["cache"]["reason"]) == ("keyframe", "first-frame")
    assert list(second.json()["cache"].values()) == ["adaptive", "delta", None, 0.5, 10, 20, 1000, 1, True]
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


@pytest.mark.parametrize(
    ("path", "fields", "headers"),
    [
        ("/v1/act", {}, [("X-Session-Id", "a"), ("X-Session-Id", "b")]),
        ("/v1/act", {"session_id": "a"}, [("X-Session-Id", "b")]),
        ("/v1/sessions/a/act", {"session_id": "b"}, []),
        ("/v1/sessions/a/act", {}, [("X-Session-Id", "b")]),
        ("/v1/sessions/a/act", {"session_id": "a"}, [("X-Session-Id", "a"), ("X-Session-Id", "b")]),
    ],
)
def test_every_way_to_name_a_session_has_to_agree(desk, still, path, fields, headers):
    """Path, field and each of the headers: no frame is taken for one of two robots."""
    reply = desk.ask("POST", path, json={**still, **fields}, headers=headers)

    assert (reply.status_code, reply.json()["code"]) == (400, "session-conflict")
    assert desk.policy.seen == []


def test_a_conflict_over_the_wire(desk, still):
    """The frame is refused before the policy hears of it."""
    reply = desk.act({**still, "session_id": "left"}, **{"X-Session-Id": "right"})

    assert (reply.status_code, reply.json()["code"]) == (400, "session-conflict")
    assert desk.policy.sessions == []


@pytest.mark.parametrize(
    "good",
    [
        "a",
        "a/b",
        "/",
        "/robot1/arm",
        "../arm",
        "...",
        ".a",
        "a.b",
        "a\\b",
        "a%2Fb",
        "!",
        "arm 1",
        "{\"a\": '\\'}",
        "x" * MAX_SESSION_ID,
        "~",
    ],
)
def test_what_may_name_a_session(good):
    """Printable ASCII, a space inside included, up to the limit."""
    assert is_session_id(good)
    assert read_session_fields({"session_id": good}, RequestAddress(ids=(good,))) == SessionFields(
        good, None, FramePosition()
    )


@pytest.mark.parametrize(
    "bad",
    [".", "..", "", " ", "a ", " a", "a\n", "a\tb", "\x7f", "é", "\ud800", "٣", "x" * 129],
)
def test_what_may_not(bad):
    """Anything else is refused with the rule, in the field as in the header."""
    for fields, headers, pointer in [({"session_id": bad}, [], "/session_id"), ({}, [bad], None)]:
        error = refusal(fields, headers)
        assert (error.status, error.code, error.pointer) == (422, "session-id-invalid", pointer)
        assert "1 to 128 printable ASCII characters, with no space at either end, not '.' or '..'" in error.detail


def test_an_empty_header_names_nobody(desk, frame):
    """A header that is there but empty is a client's mistake, not a stateless frame."""
    reply = desk.act(frame, **{"X-Session-Id": ""})

    assert (reply.status_code, reply.json()["code"]) == (422, "session-id-invalid")


def test_an_unknown_mode_gets_the_list():
    """All modes are named, and the nearest one."""
    error = refusal({"session_id": "arm", "reuse": "adaptiv"})

    assert (error.status, error.code) == (422, "unknown-reuse-mode")
    assert "choose one of off, exact, adaptive, paper, static-only, fastv, sparsevlm, tome." in error.detail
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
    """A reset of two sessions, or with a body that is none: a problem, and no episode ends."""
    reply = desk.ask("POST", "/reset", **request_)

    assert (reply.status_code, reply.json()["code"]) == expected
    assert desk.ask("GET", "/v1/sessions").json() == {"sessions": []}


@pytest.mark.parametrize("request_", [{}, {"json": {}}, {"json": {"session_id": None}}])
def test_reset_of_nobody(desk, request_):
    """A client that knows no sessions may reset as often as it likes: its frames leave nothing that could end."""
    reply = desk.ask("POST", "/reset", **request_)

    assert (reply.status_code, reply.json()) == (200, {"session_id": None, "epoch": None})


def test_reset_waits_for_the_policy(desk):
    """While the daemon drains there is no next episode."""
    desk.lifecycle.drain()
    reply = desk.ask("POST", "/reset", json={"session_id": "arm"})

    assert (reply.status_code, reply.json()["code"]) == (503, "draining")


def open_one(desk, **fields):
    """A session that was opened on purpose: what its client is told."""
    return desk.ask("POST", "/v1/sessions", json=fields).json()


def act_in(desk, session_id, still, **fields):
    return desk.ask("POST", f"/v1/sessions/{session_id}/act", json={**still, **fields})


def test_a_session_is_opened_shown_and_closed(desk, still):
    """201 with Location and a secret; its card says how it stands; after the end it is gone, not unknown."""
    reply = desk.ask("POST", "/v1/sessions")
    session_id = reply.json()["session_id"]
    act_in(desk, session_id, still)
    card = desk.ask("GET", f"/v1/sessions/{session_id}").json()
    listed = desk.ask("GET", "/v1/sessions").json()["sessions"]
    closed = desk.ask("DELETE", f"/v1/sessions/{session_id}")
    after = act_in(desk, session_id, still)

    assert (reply.status_code, reply.headers["location"]) == (201, f"/v1/sessions/{session_id}")
    assert reply.json()["secret"]
    assert (card["state"], card["seq"], card["warm"]) == ("idle", 0, True)
    assert [part["id"] for part in listed] == [session_id]
    assert "secret" not in card
    assert (closed.status_code, closed.content) == (204, b"")
    assert (after.status_code, after.json()["code"]) == (410, "session-closed")
    assert desk.policy.forgotten == [session_id]


@pytest.mark.parametrize("name", ["a/b", "/", "//", "/robot1/arm", "../arm", "a/act", "a/reset", "a%2Fb/c", "a/ b;c"])
def test_a_session_with_a_slash_is_where_its_location_says(desk, still, name):
    """To show, to act in, to reset and to close; the other one, whose id only looks alike, is not it."""
    opened = desk.ask("POST", "/v1/sessions", json={"session_id": name})
    location = opened.headers["location"]
    shown, acted = desk.ask("GET", location), desk.ask("POST", f"{location}/act", json=still)
    reset = desk.ask("POST", f"{location.replace('%2F', '%2f')}/reset")
    other = desk.ask("GET", location.replace("%2F", "%252F"))
    closed, after = desk.ask("DELETE", location), desk.ask("GET", location)

    assert (shown.status_code, shown.json()["id"]) == (200, name)
    assert acted.json()["session"] == {"id": name, "epoch": 0, "seq": 0}
    assert reset.json() == {"session_id": name, "epoch": 1}
    assert (other.status_code, closed.status_code, after.status_code) == (404, 204, 410)
    assert after.json()["instance"] == location.replace(";", "%3B")


def test_a_slash_in_a_path_divides_it(desk):
    """Only where it is written as one; what stands for it while it is held back is no part of an id."""
    desk.ask("POST", "/v1/sessions", json={"session_id": "a/b"})

    assert desk.ask("GET", "/v1/sessions/a/b").json()["code"] == "not-found"
    assert desk.ask("GET", "/v1/sessions/a%EF%BF%BFb").status_code == 404
    assert desk.ask("GET", "/v1/sessions/a%EF%BF%BFb%2Fc").status_code == 404


def test_a_session_is_opened_as_it_is_asked_for(desk, still):
    """Id, service and mode are the client's; with its secret it goes on, which is no creation."""
    said = {"session_id": "arm 1/2", "service": "realtime", "reuse": "exact"}
    first = desk.ask("POST", "/v1/sessions", json=said)
    again = desk.ask("POST", "/v1/sessions", json={**said, "secret": first.json()["secret"]})
    desk.act({**still, "session_id": "arm 1/2"})
    (card,) = desk.ask("GET", "/v1/sessions").json()["sessions"]

    assert [reply.status_code for reply in (first, again)] == [201, 200]
    assert [reply.json()["resumed"] for reply in (first, again)] == [False, True]
    assert first.headers["location"] == "/v1/sessions/arm%201%2F2"
    assert (card["service"], card["mode"], desk.policy.sessions[0].mode) == ("realtime", "exact", "exact")


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"session_id": "arm"}, (409, "session-exists")),
        ({"session_id": "arm", "secret": "wrong"}, (409, "session-exists")),
        ({"session_id": "arm", "secret": 7}, (400, "bad-field")),
        ({"session_id": "arm", "secret": ["a"]}, (400, "bad-field")),
        ({"service": "fast"}, (422, "unknown-service")),
        ({"reuse": "most"}, (422, "unknown-reuse-mode")),
        ({"more": "x" * MAX_BODY_BYTES}, (413, "body-too-large")),
    ],
    ids=lambda part: str(part)[:40],
)
def test_what_an_opening_refuses(desk, said, expected):
    """A taken id without its secret, words that mean nothing, a body that would keep the event loop busy."""
    open_one(desk, session_id="arm")
    reply = desk.ask("POST", "/v1/sessions", json=said)

    assert (reply.status_code, reply.json()["code"]) == expected
    assert len(desk.ask("GET", "/v1/sessions").json()["sessions"]) == 1


def test_no_session_is_opened_while_there_is_no_policy(desk):
    """Neither opened nor reset; those that are there may be shown and closed."""
    open_one(desk, session_id="arm")
    desk.policy.ready = False
    asked = [("POST", "/v1/sessions"), ("POST", "/v1/sessions/arm/reset"), ("POST", "/v1/reset")]
    asked += [("GET", "/v1/sessions/arm"), ("DELETE", "/v1/sessions/arm")]

    assert [desk.ask(method, path).status_code for method, path in asked] == [503, 503, 503, 200, 204]


def test_a_named_reset_may_name_its_epoch(desk):
    """A repeat changes nothing, on each of the routes; a step too far is refused."""
    open_one(desk, session_id="arm")
    for path in ("/reset", "/v1/reset", "/v1/sessions/arm/reset"):
        epochs = [desk.ask("POST", path, json={"session_id": "arm", "epoch": 1}).json()["epoch"] for _ in range(2)]
        far = desk.ask("POST", path, json={"session_id": "arm", "epoch": 3})

        assert epochs == [1, 1]
        assert (far.status_code, far.json()["code"]) == (409, "stale-epoch")


def test_who_may_not_act_has_no_sessions(new_desk, still):
    """A token without the scope act: no frame, nothing opened, shown, reset or closed."""
    token = Token("eye", sha256(b"eye").hexdigest(), frozenset())
    desk = new_desk(settings=WebSettings(authenticator=Authenticator([token])))
    head = {"headers": {"Authorization": "Bearer eye"}}
    asked = [("POST", path) for path in ("/act", "/v1/sessions", "/v1/reset", "/v1/sessions/arm/reset")]
    asked += [("DELETE", "/v1/sessions/arm"), ("GET", "/v1/sessions/arm"), ("GET", "/v1/sessions")]
    codes = [desk.ask(method, path, json={**still, **ARM}, **head).status_code for method, path in asked]

    assert codes == [403] * 7
    assert desk.policy.seen == []


def test_a_typo_is_told_from_a_loss(desk, still):
    """An id of our form that nobody was given is unknown; one that a client chose opens a session."""
    unknown = act_in(desk, "s-" + "0" * 32, still)
    chosen = act_in(desk, "arm-1", still)

    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown-session")
    assert chosen.json()["session"] == {"id": "arm-1", "epoch": 0, "seq": 0}
    assert desk.ask("GET", "/v1/sessions/arm-2").status_code == 404


def test_no_room_is_said_when_a_session_is_opened(new_desk, still):
    """Full of sessions in use: 503 with Retry-After at the open, and those that are open go on."""
    desk = new_desk(settings=WebSettings(sessions=SessionSettings(most=1)))
    act_in(desk, "arm-1", still)
    refused = desk.ask("POST", "/v1/sessions")

    assert (refused.status_code, refused.json()["code"]) == (503, "too-many-sessions")
    assert int(refused.headers["retry-after"]) >= 1
    assert act_in(desk, "arm-1", still).status_code == 200


def test_the_longest_idle_makes_room(new_desk, still):
    """Beyond its lease; who comes back under its own name is told by the reason of its keyframe."""
    desk = new_desk(settings=WebSettings(sessions=SessionSettings(most=1, lease_s=0)))
    act_in(desk, "arm-1", still)
    act_in(desk, "arm-2", still)
    back = act_in(desk, "arm-1", still).json()

    assert back["cache"]["reason"] == "evicted"
    assert desk.policy.forgotten == ["arm-1", "arm-2"]


def test_a_repeated_frame_is_answered_again(desk, still):
    """The same seq and the same bytes: the stored answer, computed once; other bytes or a lower seq are refused."""
    first, again = (act_in(desk, "arm", still, seq=3) for _ in range(2))
    other = act_in(desk, "arm", still, seq=3, max_age_ms=900)
    lower = act_in(desk, "arm", still, seq=2)

    assert "replayed" not in first.json()
    assert again.json()["replayed"] is True
    assert again.headers["x-stillframe-replayed"] == "true"
    assert again.json()["actions"] == first.json()["actions"]
    assert len(desk.policy.seen) == 1
    assert (other.status_code, other.json()["code"]) == (409, "seq-conflict")
    assert (lower.status_code, lower.json()["code"]) == (409, "stale-seq")


def test_counts_and_keys_at_their_bounds(desk, still):
    """The highest count and the longest key are taken; one beyond, true, and a key of nothing are not."""
    keys = {"": 400, "k": 200, "k" * 128: 200, "k" * 129: 400}
    by_key = [
        desk.ask("POST", "/v1/sessions/arm/act", json=still, headers={"Idempotency-Key": key}).status_code
        for key in keys
    ]

    assert by_key == list(keys.values())
    assert act_in(desk, "arm", still, seq=True).json()["code"] == "bad-field"
    assert act_in(desk, "arm", still, epoch=False).json()["code"] == "bad-field"
    assert act_in(desk, "arm", still, seq=2**64 - 1).status_code == 200


def test_an_idempotency_key_stands_for_a_seq(desk, still):
    """Equal keys and bytes: one computation."""
    ask = {"json": still, "headers": {"Idempotency-Key": "k1"}}
    replies = [desk.ask("POST", "/v1/sessions/arm/act", **ask).json() for _ in range(2)]

    assert [reply.get("replayed", False) for reply in replies] == [False, True]
    assert len(desk.policy.seen) == 1


@pytest.mark.parametrize("path", ["/act", "/v1/act"])
def test_a_key_without_a_session_is_refused(desk, still, path):
    """It would tell nothing apart, and the frame be computed each time it came."""
    replies = [desk.ask("POST", path, json=still, headers={"Idempotency-Key": "k1"}) for _ in range(2)]

    assert [(reply.status_code, reply.json()["code"]) for reply in replies] == [(422, "seq-without-session")] * 2
    assert "Idempotency-Key" in replies[0].json()["detail"]
    assert desk.policy.seen == []


def test_two_keys_are_none(desk, still):
    """Neither is chosen; the same twice is one."""
    both = [("Idempotency-Key", "k1"), ("Idempotency-Key", "k2")]
    refused = desk.ask("POST", "/v1/sessions/arm/act", json=still, headers=both)
    taken = desk.ask("POST", "/v1/sessions/arm/act", json=still, headers=both[:1] * 2)

    assert (refused.status_code, refused.json()["code"]) == (400, "bad-field")
    assert taken.status_code == 200


def test_after_the_last_number_there_is_only_a_reset(desk, still):
    """A seq of 64 bits has an end: what is said of the next frame is true, counted or not."""
    assert act_in(desk, "arm", still, seq=2**64 - 1).status_code == 200
    counted, lower = act_in(desk, "arm", still), act_in(desk, "arm", still, seq=7)
    desk.ask("POST", "/v1/sessions/arm/reset")

    for refused in (counted, lower):
        assert (refused.status_code, refused.json()["code"]) == (409, "stale-seq")
        assert "goes up to 18446744073709551615" in refused.json()["detail"]
        assert "reset the session" in refused.json()["detail"]
        assert "higher seq" not in refused.json()["detail"]
    assert act_in(desk, "arm", still).json()["session"] == {"id": "arm", "epoch": 1, "seq": 0}


def test_frames_of_an_old_episode_are_refused(desk, still):
    """After a reset the old epoch's frames are told which one it is now; a repeated reset to an epoch does no harm."""
    act_in(desk, "arm", still, epoch=0)
    resets = [desk.ask("POST", "/v1/sessions/arm/reset", json={"epoch": 1}).json()["epoch"] for _ in range(2)]
    stale = act_in(desk, "arm", still, epoch=0)

    assert resets == [1, 1]
    assert (stale.status_code, stale.json()["code"]) == (409, "stale-epoch")
    assert act_in(desk, "arm", still, epoch=1).json()["session"] == {"id": "arm", "epoch": 1, "seq": 0}


def test_a_session_goes_on_with_its_words(desk, still):
    """An instruction once said holds until another is; without one ever said a frame is refused."""
    silent = {"image": still["image"]}
    first = act_in(desk, "arm", silent)
    act_in(desk, "arm", still)
    second = act_in(desk, "arm", silent)

    assert (first.status_code, first.json()["code"]) == (400, "missing-field")
    assert second.status_code == 200
    assert [observation.instruction for observation in desk.policy.seen] == ["go", "go"]


def test_a_port_may_have_a_session_of_its_own(new_desk, still):
    """Frames and resets that name none are its; those that name one are of that."""
    desk, port = new_desk(settings=WebSettings(listeners={9000: Listener(session="arm")})), "http://localhost:9000"
    places = [desk.ask("POST", f"{port}{path}", json=still).json()["session"] for path in ("/act", "/v1/act")]
    named = desk.ask("POST", f"{port}/act", json={**still, "session_id": "other"}).json()["session"]
    resets = [desk.ask("POST", f"{port}/reset", json=said).json() for said in ({}, {"session_id": "other"})]

    assert places == [{"id": "arm", "epoch": 0, "seq": seq} for seq in (0, 1)]
    assert named == {"id": "other", "epoch": 0, "seq": 0}
    assert resets == [{"session_id": "arm", "epoch": 1}, {"session_id": "other", "epoch": 1}]


def test_a_repeat_changes_no_words(desk, still):
    """A session goes on with the instruction of its newest frame, though an older one comes again."""
    act_in(desk, "arm", still, seq=0)
    act_in(desk, "arm", {**still, "instruction": "stop"}, seq=1)
    again = act_in(desk, "arm", still, seq=0)
    act_in(desk, "arm", {"image": still["image"]}, seq=2)

    assert again.json()["replayed"] is True
    assert [observation.instruction for observation in desk.policy.seen] == ["go", "stop", "stop"]


def test_a_seq_needs_a_session(desk, still):
    """Counts of nobody's frames mean a mistake."""
    assert desk.act({**still, "seq": 1}).json()["code"] == "seq-without-session"
    assert desk.act({**still, "epoch": 1}).json()["code"] == "seq-without-session"
    assert desk.act({**still, "session_id": "arm", "seq": -1}).json()["code"] == "bad-field"
    assert desk.act({**still, "session_id": "arm", "seq": 2**64}).json()["code"] == "bad-field"


def test_msgpack_is_answered_in_msgpack(desk, picture):
    """Raw pixels in binary: float32 actions in an array, the same numbers as in JSON; problems stay JSON problems."""
    fields = {"images": {"front": picture}, "instruction": "go"}
    headers = {"Content-Type": "application/msgpack"}
    reply = desk.ask("POST", "/v1/act", content=pack(fields), headers=headers)
    bad = desk.ask("POST", "/v1/act", content=pack(fields)[:-1], headers=headers)

    assert reply.headers["content-type"] == "application/msgpack"
    assert np.array_equal(unpack(reply.content)["actions"], [[12, 16, 0, 1, 2, 2, 1]])
    assert (bad.status_code, bad.json()["code"]) == (400, "bad-codec")


def test_a_form_is_a_frame_too(desk, encoded):
    """Pictures as files by their cameras, everything else in the part 'json'."""
    png = base64.b64decode(encoded("PNG"))
    for name in ("image", "front"):
        files = {name: ("p.png", png, "image/png"), "json": (None, '{"instruction": "go"}', "application/json")}
        reply = desk.ask("POST", "/v1/act", files=files)

        assert reply.json()["actions"] == [[12.0, 16.0, 0.0, 1.0, 2.0, 2.0, 1.0]]


def test_a_client_that_asks_too_often(new_desk, still):
    """429 with the time to wait; another client is served."""
    desk = new_desk(settings=WebSettings(frame_limiter=RateLimiter(0.5, burst_s=2.0)))
    replies = [act_in(desk, "arm", still) for _ in range(2)]
    other = act_in(desk, "other", still)

    assert [reply.status_code for reply in (*replies, other)] == [200, 429, 200]
    assert replies[1].json()["code"] == "rate-limited"
    assert int(replies[1].headers["retry-after"]) >= 1


def test_the_status_of_the_daemon(desk, still):
    """Its state, its sessions, its memory, in one answer."""
    act_in(desk, "arm", still)
    status = desk.ask("GET", "/v1/status").json()

    assert status["state"] == "ready"
    assert status["sessions"]["idle"] == 1
    assert (status["sessions_limit"], status["kv_in_use_bytes"], status["history_bytes"]) == (64, 1000, 0)


def test_older_frames_are_told_of(new_desk, frame, still):
    """A session's readable and bare answers say what is kept, a frame of none why nothing; the status counts bytes."""
    on = replace(new_desk().policy.info, history=HistoryInfo(enabled=True, warning="nobody trained it"))
    desk = new_desk(info=on, history=HistoryReport(held=6, slots=12, kept=41, dropped=35, nbytes=4096))
    readable, bare, nobodys = (desk.act(asked) for asked in ({**still, **ARM}, {**frame, **ARM}, still))
    said = {"enabled": True, "held": 6, "kept": 41, "dropped": 35, "kv_bytes": 4096, "warning": "nobody trained it"}

    assert readable.json()["history"] == header_of(bare, "x-stillframe-history") == said
    assert list(bare.json()) == ["__numpy__", "dtype", "shape"]
    assert nobodys.json()["history"] == {
        "enabled": False,
        "why": "older frames are a session's, and this one named none",
        "warning": "nobody trained it",
    }
    assert desk.ask("GET", "/v1/status").json()["history_bytes"] == 4096


def test_each_caller_sees_its_own_sessions(new_desk, still):
    """Another's session does not exist for a token without admin; an admin sees and ends all."""
    names = {"ann": {"act"}, "bob": {"act"}, "eve": {"act", "admin"}}
    tokens = [Token(name, sha256(name.encode()).hexdigest(), frozenset(scopes)) for name, scopes in names.items()]
    desk = new_desk(settings=WebSettings(authenticator=Authenticator(tokens)))
    as_ = {name: {"headers": {"Authorization": f"Bearer {name}"}} for name in names}
    session_id = desk.ask("POST", "/v1/sessions", **as_["ann"]).json()["session_id"]
    path = f"/v1/sessions/{session_id}"

    assert desk.ask("GET", path).status_code == 401
    assert [desk.ask("GET", path, **as_[name]).status_code for name in names] == [200, 404, 200]
    assert desk.ask("POST", f"{path}/act", json=still, **as_["bob"]).status_code == 404
    listed = {name: desk.ask("GET", "/v1/sessions", **as_[name]).json()["sessions"] for name in names}
    assert {name: [card["id"] for card in cards] for name, cards in listed.items()} == {
        "ann": [session_id],
        "bob": [],
        "eve": [session_id],
    }
    assert [desk.ask("DELETE", path, **as_[name]).status_code for name in ("bob", "eve")] == [404, 204]


def test_an_admin_alone_sees_and_ends_and_moves_nothing(new_desk):
    """What the scope is for needs no other; opening, resetting and feeding a session have a robot moved."""
    names = {"ann": {"act"}, "eve": {"admin"}, "nil": set()}
    tokens = [Token(name, sha256(name.encode()).hexdigest(), frozenset(scopes)) for name, scopes in names.items()]
    desk = new_desk(settings=WebSettings(authenticator=Authenticator(tokens)))
    as_ = {name: {"headers": {"Authorization": f"Bearer {name}"}} for name in names}
    session_id = desk.ask("POST", "/v1/sessions", **as_["ann"]).json()["session_id"]
    path = f"/v1/sessions/{session_id}"

    listed = desk.ask("GET", "/v1/sessions", **as_["eve"]).json()["sessions"]
    assert [card["id"] for card in listed] == [session_id]
    assert desk.ask("GET", path, **as_["eve"]).json()["id"] == session_id
    refused = [("POST", "/v1/sessions"), ("POST", f"{path}/reset"), ("POST", f"{path}/act")]
    assert [desk.ask(*what, **as_["eve"]).status_code for what in refused] == [403] * 3
    nothing = [("GET", "/v1/sessions"), ("GET", path), ("DELETE", path)]
    assert [desk.ask(*what, **as_["nil"]).json()["code"] for what in nothing] == ["forbidden"] * 3
    assert desk.ask("DELETE", path, **as_["eve"]).status_code == 204
    assert desk.ask("GET", path, **as_["ann"]).status_code in (404, 410)


def test_an_admin_says_whose_session_is_meant(new_desk):
    """Two owners have one of the same id: without a word it is refused, with ?owner= that one is shown and closed."""
    tokens = [
        Token(name, sha256(name.encode()).hexdigest(), frozenset({scope}))
        for name, scope in (("ann", "act"), ("bob", "act"), ("chief", "admin"))
    ]
    desk = new_desk(settings=WebSettings(authenticator=Authenticator(tokens)))
    ann, bob, chief = ({"X-Api-Key": name} for name in ("ann", "bob", "chief"))
    for who in (ann, bob):
        assert desk.ask("POST", "/v1/sessions", json={"session_id": "arm"}, headers=who).status_code == 201
    owners = [card["owner"] for card in desk.ask("GET", "/v1/sessions", headers=chief).json()["sessions"]]
    unclear = desk.ask("GET", "/v1/sessions/arm", headers=chief)
    shown = desk.ask("GET", "/v1/sessions/arm?owner=bob", headers=chief)
    closed = desk.ask("DELETE", "/v1/sessions/arm?owner=bob", headers=chief)

    assert owners == ["ann", "bob"]
    assert (unclear.status_code, unclear.json()["code"]) == (409, "session-ambiguous")
    assert shown.json()["owner"] == "bob"
    assert closed.status_code == 204
    assert desk.policy.forgotten == ["bob/arm"]
    assert desk.ask("GET", "/v1/sessions/arm", headers=chief).json()["owner"] == "ann"
    assert desk.ask("GET", "/v1/sessions/arm?owner=bob", headers=ann).json()["owner"] == "ann"  # an admin's word only
