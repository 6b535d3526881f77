from __future__ import annotations

import json

import httpx
import pytest

from stillframe_client import (
    BadReply,
    CacheReport,
    HistoryReport,
    PolicyClient,
    SessionPlace,
    Unprocessable,
    Unreachable,
)
from stillframe_client.replies import read_action, read_epoch
from stillframe_client.wire import CACHE_HEADER, HISTORY_HEADER, PLACE_HEADER

ASKED = httpx.Request("POST", "http://robot.test/act")
CACHE = {
    "mode": "adaptive",
    "frame": "delta",
    "reason": None,
    "reuse_ratio": 0.5,
    "reused_tokens": 10,
    "total_tokens": 20,
    "kv_bytes": 1000,
    "age_max": 1,
}
PLACE = {"id": "arm", "epoch": 0, "seq": 1}
HISTORY = {"enabled": True, "held": 6, "kept": 41, "dropped": 35, "kv_bytes": 4096, "warning": "untrained"}


def answer(document=None, headers=None):
    """A daemon's answer to a frame."""
    return httpx.Response(200, json={"actions": [[0.0]], **(document or {})}, headers=headers, request=ASKED)


def test_a_client_is_a_session(daemon, picture):
    """Without being asked to, each client opens a session of its own and keeps it."""
    with PolicyClient(daemon.url) as left, PolicyClient(daemon.url) as right:
        for client in (left, left, right):
            client.act(picture, "reach")

        named = [session.id for session in daemon.policy.sessions]
        assert named == [left.session_id, left.session_id, right.session_id]
        assert left.session_id != right.session_id
        assert len(left.session_id) == 32


def test_a_session_can_be_named(daemon, picture):
    """A robot that comes back under its name finds its session."""
    with PolicyClient(daemon.url, session="arm 1") as client:
        assert client.session_id == "arm 1"
        client.act(picture, "reach")

    assert daemon.policy.sessions[0].id == "arm 1"


def test_a_stateless_client(daemon, picture):
    """Nothing names a session; a reset has nothing to do and asks nobody."""
    with PolicyClient(daemon.url, stateless=True) as client:
        reply = client.act_with_report(picture, "reach")

        assert client.session_id is None
        assert client.reset() is None
    assert daemon.policy.sessions == [None]
    assert (reply.session, reply.cache.reason) == (None, "stateless")
    assert httpx.get(f"{daemon.url}/v1/sessions", trust_env=False).json() == {"sessions": []}


@pytest.mark.parametrize("session", ["", " arm", "arm\n", "é", "x" * 129, 7])
def test_what_may_not_name_a_session(session):
    """It is refused before anything is sent, with the rule."""
    with pytest.raises(ValueError, match="expected 1 to 128 printable ASCII characters"):
        PolicyClient("http://127.0.0.1:8000", session=session)


@pytest.mark.parametrize("session", ["x", "x" * 128, "arm 1: left, ~!"])
def test_what_may_name_a_session(session):
    """The shortest and the longest name, spaces within it."""
    assert PolicyClient("http://127.0.0.1:8000", session=session).session_id == session


def test_named_and_stateless_is_a_contradiction():
    """One of the two has to go."""
    with pytest.raises(ValueError, match="stateless"):
        PolicyClient("http://127.0.0.1:8000", session="arm", stateless=True)


@pytest.mark.parametrize("encoding", ["raw", "png", "jpeg"])
def test_the_report_says_what_was_reused(daemon, picture, encoding):
    """In every encoding: raw pictures, whose reply is a bare array, as well."""
    with PolicyClient(daemon.url, session="arm") as client:
        first, second = (client.act_with_report(picture, "reach", encoding=encoding) for _ in range(2))

    assert first.cache == CacheReport("adaptive", "keyframe", "first-frame", 0.0, 0, 20, 1000, 0, bit_equal=True)
    assert second.cache == CacheReport(**CACHE, bit_equal=True)
    assert [first.session, second.session] == [SessionPlace("arm", 0, 0), SessionPlace("arm", 0, 1)]
    assert first.history == HistoryReport(enabled=False, why="history.enabled is false")


def test_a_frame_chooses_its_mode(daemon, picture):
    """`reuse` is for this frame; without it the daemon decides."""
    with PolicyClient(daemon.url) as client:
        client.act(picture, "reach", reuse="exact")
        client.act(picture, "reach")

    assert [session.mode for session in daemon.policy.sessions] == ["exact", None]


def test_a_client_chooses_for_all_its_frames(daemon, picture):
    """What it was made with holds for every frame that says nothing else."""
    with PolicyClient(daemon.url, reuse="exact") as client:
        client.act(picture, "reach")
        client.act(picture, "reach", reuse="off")
        client.act(picture, "reach")

    assert [session.mode for session in daemon.policy.sessions] == ["exact", "off", "exact"]


def test_a_mode_that_is_none(daemon, picture):
    """The daemon's list of modes arrives."""
    with PolicyClient(daemon.url) as client, pytest.raises(Unprocessable, match="off, exact, adaptive") as caught:
        client.act(picture, "reach", reuse="fast")

    assert caught.value.code == "unknown-reuse-mode"


def test_reset_counts_episodes(daemon, picture):
    """Each reset begins the next epoch of this client's session, and of no other's."""
    with PolicyClient(daemon.url, session="left") as left, PolicyClient(daemon.url, session="right") as right:
        assert [left.reset(), left.reset(), right.reset()] == [0, 1, 0]
        assert left.act_with_report(picture, "reach").session.epoch == 1


def test_reset_fails_as_everything_else():
    """Where nobody listens, it says so."""
    with PolicyClient("http://127.0.0.1:1", timeout_s=1) as client, pytest.raises(Unreachable):
        client.reset()


@pytest.mark.parametrize("status", [404, 405])
def test_a_daemon_that_knows_no_sessions(picture, status):
    """It finds the frame as it always was, and its answer and its having no /reset are taken as they are."""
    seen = []

    def old(request):
        seen.append(request)
        if request.url.path != "/act":
            return httpx.Response(status, json={"detail": "Not Found"})
        return httpx.Response(200, json={"actions": [[0.0] * 7]})

    with PolicyClient("http://robot.test", transport=httpx.MockTransport(old)) as client:
        epoch = client.reset()
        reply = client.act_with_report(picture, "reach")

    assert epoch is None
    assert (reply.cache, reply.session, reply.history) == (None, None, None)
    assert list(json.loads(seen[1].content)) == ["image", "instruction"]
    assert seen[1].headers["x-session-id"] == client.session_id


class Farewells:
    """A daemon that answers frames, says of which session they were if it is asked to, and may not hear goodbyes."""

    def __init__(self, *, place=PLACE, deaf=False):
        self.place, self.deaf = place, deaf
        self.goodbyes = []

    def __call__(self, request):
        """Answer one request."""
        if request.method != "DELETE":
            whose = {"id": request.headers.get("x-session-id")}
            return answer({"session": {**self.place, **whose}} if self.place else {})
        self.goodbyes.append((request.url.path, request.extensions["timeout"]))
        if self.deaf:
            raise httpx.ReadTimeout("oops")
        return httpx.Response(204)

    def client(self, **options):
        """A client of it."""
        return PolicyClient("http://robot.test", transport=httpx.MockTransport(self), **options)


@pytest.mark.parametrize(("timeout_s", "farewell_s"), [(30.0, 1.0), (0.25, 0.25)])
@pytest.mark.parametrize("deaf", [False, True])
def test_close_ends_a_session_of_its_own(picture, timeout_s, farewell_s, deaf):
    """Once, within a second however long a frame may take, and without a word where that fails."""
    daemon = Farewells(deaf=deaf)
    client = daemon.client(timeout_s=timeout_s)
    client.act(picture, "reach")
    client.close()
    client.close()

    assert [path for path, _ in daemon.goodbyes] == [f"/v1/sessions/{client.session_id}"]
    assert set(daemon.goodbyes[0][1].values()) == {farewell_s}
    assert client._http.is_closed


@pytest.mark.parametrize(
    ("options", "place", "frames"),
    [
        ({"session": "arm"}, PLACE, 1),
        ({"stateless": True}, None, 1),
        ({}, None, 1),
        ({}, PLACE, 0),
    ],
    ids=["named", "stateless", "a daemon without sessions", "no frame"],
)
def test_close_ends_nothing_else(picture, options, place, frames):
    """A named session is for its robot to come back to; what the daemon never told us of is not there to end."""
    daemon = Farewells(place=place)
    with daemon.client(**options) as client:
        for _ in range(frames):
            client.act(picture, "reach")

    assert daemon.goodbyes == []
    assert client._http.is_closed


@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize("document", [[], {}, {"epoch": "1"}, {"epoch": True}])
def test_what_is_no_answer_to_a_reset(status, document):
    """Anything but an epoch, from a daemon that does serve /reset, is not guessed at."""
    with pytest.raises(BadReply):
        read_epoch(httpx.Response(status, json=document, request=ASKED))


def test_members_come_before_headers():
    """A readable answer is read as it stands; the headers speak where it does not."""
    parts = {CACHE_HEADER: CACHE, PLACE_HEADER: PLACE, HISTORY_HEADER: HISTORY}
    headers = {name: json.dumps(said) for name, said in parts.items()}
    members = {"cache": {**CACHE, "age_max": 5}, "session": {**PLACE, "seq": 9}, "history": {**HISTORY, "held": 7}}
    from_headers, from_members = read_action(answer(headers=headers)), read_action(answer(members, headers))

    assert (from_headers.cache.age_max, from_headers.session.seq, from_headers.history.held) == (1, 1, 6)
    assert (from_members.cache.age_max, from_members.session.seq, from_members.history.held) == (5, 9, 7)


@pytest.mark.parametrize(("said", "relaxed"), [({}, False), ({"relaxed": True}, True), ({"relaxed": 1}, False)])
def test_a_guess_that_was_near_enough(said, relaxed):
    """Only what says that it is relaxed is."""
    assert read_action(answer({"cache": {**CACHE, **said}})).cache.relaxed is relaxed


@pytest.mark.parametrize(
    ("said", "equal"),
    [({}, None), ({"bit_equal": True}, True), ({"bit_equal": False}, False), ({"bit_equal": 1}, None)],
)
def test_an_answer_that_is_equal_to_the_bit(said, equal):
    """As the daemon says it, be that nothing."""
    assert read_action(answer({"cache": {**CACHE, **said}})).cache.bit_equal is equal


def test_a_report_of_next_year():
    """Members that we do not know yet do no harm."""
    parts = {"cache": CACHE, "session": PLACE, "history": HISTORY}
    reply = read_action(answer({name: {**said, "mood": "calm"} for name, said in parts.items()}))

    assert reply.cache == CacheReport(**CACHE)
    assert reply.history == HistoryReport(**HISTORY)
    assert reply.session == SessionPlace(**PLACE)


@pytest.mark.parametrize(
    "said",
    [
        "",
        "{",
        "[]",
        "3",
        "null",
        "{}",
        '"delta"',
        "[" * 9000,
        json.dumps({**CACHE, "age_max": None}),
        json.dumps({**CACHE, "kv_bytes": "many"}),
        json.dumps({**CACHE, "kv_bytes": 1e999}),
        json.dumps({**HISTORY, "held": None}),
        json.dumps({**HISTORY, "kept": 1e999}),
    ],
)
def test_a_report_that_cannot_be_read_costs_no_action(said):
    """The robot gets its action; what was reused is then unknown."""
    reply = read_action(answer(headers={CACHE_HEADER: said, PLACE_HEADER: said, HISTORY_HEADER: said}))

    assert reply.action.tolist() == [0.0]
    assert (reply.cache, reply.session, reply.history) == (None, None, None)
