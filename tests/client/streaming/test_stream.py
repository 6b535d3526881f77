"""PolicyStream over real WebSockets, against a daemon that does what a script says."""

from __future__ import annotations

import base64
import hashlib
import io
import shutil
import socket
import ssl
import subprocess
import sys
import threading

import numpy as np
import PIL.Image
import pytest
from websockets.datastructures import Headers
from websockets.http11 import Response

from stillframe_client import (
    BadReply,
    Conflict,
    DeadlineExceeded,
    Forbidden,
    PolicyClient,
    PolicyError,
    PolicyStream,
    Refused,
    ServerFault,
    SessionGone,
    StaleAnswer,
    TimedOut,
    TooLarge,
    TooMany,
    Unauthorized,
    Unreachable,
)
from stillframe_client.arguments import stream_url
from stillframe_client.wire import FATAL, GOING, LATER, POLICY, RESTART, TOO_BIG, pack

TOKEN = "t0ken"  # noqa: S105 -- for scripts


def answers(n, **greeting):
    """A script: greet, answer n frames, and the close."""

    def script(peer):
        peer.greet(**greeting)
        for _ in range(n):
            peer.act(peer.hear("frame"))
        peer.farewell()

    return script


def refusing(status, body=b"", **headers):
    """An answer to an upgrade that is none."""
    return Response(status, "No", Headers({"Content-Length": str(len(body)), **headers}), body)


def test_an_episode(scripted, picture):
    """Each frame is answered with its own action, in float64; what goes out is what was asked, and nothing else."""
    daemon = scripted(answers(3))
    with PolicyStream(daemon.url, timeout_s=20, reuse="exact", token=TOKEN) as stream:
        got = [stream.act(picture, "reach").tolist() for _ in range(2)]
        reply = stream.act_with_report(
            picture, "reach", unnorm_key="jaco", max_age_ms=15_000, reuse="off", t_obs_ns=7, encoding="raw"
        )

    total = float(picture.sum(dtype=int))
    assert got == [[total, 0.0], [total, 1.0]]
    assert reply.actions.tolist() == [[total, 2.0], [-total, 2.0]]
    assert (reply.t_obs_ns, reply.session.seq, reply.session.id) == (7, 2, stream.session_id)
    assert [sorted(frame) for frame in daemon.frames[1:]] == [
        ["epoch", "image", "instruction", "seq", "session_id", "type"],
        ["epoch", "image", "instruction", "max_age_ms", "reuse", "seq", "session_id", "t_obs_ns", "type", "unnorm_key"],
    ]
    assert daemon.heard[0]["reuse"] == "exact"
    assert daemon.upgrades[0].headers["Authorization"] == f"Bearer {TOKEN}"
    assert daemon.upgrades[0].path == "/v1/stream"
    assert "Sec-WebSocket-Extensions" not in daemon.upgrades[0].headers


@pytest.mark.parametrize("encoding", ["png", "jpeg"])
def test_pictures_as_files(scripted, picture, encoding):
    """PNG and JPEG travel as their bytes, under their cameras' names."""

    def script(peer):
        peer.greet()
        frame = peer.hear("frame")
        peer.act({**frame, "image": 0}, value=1.0)
        peer.farewell()

    daemon = scripted(script)
    with PolicyStream(daemon.url, timeout_s=20, encoding=encoding) as stream:
        stream.act({"front": picture, "wrist": picture[::-1]}, "reach")

    images = daemon.frames[0]["images"]
    assert list(images) == ["front", "wrist"]
    pixels = np.asarray(PIL.Image.open(io.BytesIO(images["wrist"])))
    assert np.abs(pixels.astype(int) - picture[::-1]).max() <= (0 if encoding == "png" else 3)


def test_episodes(scripted, picture):
    """The first reset ends nothing; the second begins epoch 1, whose frames count from 0."""

    def script(peer):
        peer.greet()
        peer.act(peer.hear("frame"))
        reset = peer.hear("reset")
        peer.say("reset", session_id=reset["session_id"], epoch=reset["epoch"])
        peer.act(peer.hear("frame"))
        peer.farewell()

    daemon = scripted(script)
    with PolicyStream(daemon.url, timeout_s=20) as stream:
        epochs = [stream.reset()]
        stream.act(picture, "reach")
        epochs.append(stream.reset())
        stream.act(picture, "reach")

    assert epochs == [0, 1]
    assert [(frame["epoch"], frame["seq"]) for frame in daemon.frames] == [(0, 0), (1, 0)]


def test_what_is_served(scripted):
    """The daemon's hello says what the client programs against."""
    daemon = scripted(answers(0))
    with PolicyStream(daemon.url, timeout_s=20) as stream:
        info = stream.info()

    assert (info.name, info.cameras, info.chunk_horizon) == ("sums", ("front", "wrist"), 2)


def test_two_threads_at_once(scripted, picture):
    """Calls may overlap; each gets its own answer."""

    def script(peer):
        peer.greet()
        for frame in [peer.hear("frame"), peer.hear("frame")][::-1]:
            peer.act(frame)
        peer.farewell()

    daemon = scripted(script)
    got = {}
    with PolicyStream(daemon.url, timeout_s=20) as stream:
        pictures = {value: np.full_like(picture, value) for value in (1, 2)}
        threads = [
            threading.Thread(target=lambda value=value: got.update({value: stream.act(pictures[value], "reach")[0]}))
            for value in pictures
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)

    assert got == {1: float(picture.size), 2: 2.0 * picture.size}


# Lost connections.


@pytest.mark.parametrize("end", ["cut", "half-closed", 1000, GOING, RESTART, LATER])
def test_a_connection_that_ends_under_a_frame(scripted, picture, end):
    """The session is resumed with its secret, and the frame sent again byte for byte; its caller notices nothing."""
    raw = []

    def first(peer):
        peer.greet()
        peer.act(peer.hear("frame"))
        peer.hear("frame")
        raw.append(peer.raw)
        if isinstance(end, int):
            peer.connection.close(end)
        else:
            peer.vanish(socket.SHUT_RDWR if end == "cut" else socket.SHUT_WR)

    def second(peer):
        asked = peer.greet(resumed=True)
        assert asked["secret"]
        frame = peer.hear("frame")
        raw.append(peer.raw)
        peer.act(frame, replayed=True)
        peer.farewell()

    daemon = scripted(first, second)
    with PolicyStream(daemon.url, timeout_s=20) as stream:
        stream.act(picture, "reach")
        reply = stream.act_with_report(picture, "reach")

    assert reply.replayed
    assert raw[0] == raw[1]
    assert [frame["seq"] for frame in daemon.frames] == [0, 1, 1]


def test_a_connection_that_ends_between_frames(scripted, picture):
    """The next frame goes out on a new connection."""

    def first(peer):
        peer.greet()
        peer.act(peer.hear("frame"))
        peer.vanish()

    daemon = scripted(first, answers(1, resumed=True))
    with PolicyStream(daemon.url, timeout_s=20) as stream:
        seqs = [stream.act(picture, "reach")[1] for _ in range(2)]

    assert seqs == [0, 1]


def test_a_daemon_that_was_restarted(scripted, picture):
    """It knows the session no more: the frame begins a new one, at its epoch 0, seq 0."""

    def first(peer):
        peer.greet(epoch=3)
        peer.act(peer.hear("frame"))
        peer.hear("frame")
        peer.vanish()

    daemon = scripted(first, answers(1, resumed=False))
    with PolicyStream(daemon.url, timeout_s=20) as stream:
        for _ in range(2):
            reply = stream.act_with_report(picture, "reach")

    assert (reply.session.epoch, reply.session.seq) == (0, 0)
    assert [(frame["epoch"], frame["seq"]) for frame in daemon.frames] == [(3, 0), (3, 1), (0, 0)]


def test_a_session_that_was_evicted(scripted, picture):
    """The frame goes out again in a new session, and its answer says that it was a keyframe, and why."""
    cache = {"mode": "exact", "frame": "keyframe", "reason": "evicted", "reuse_ratio": 0.0}
    cache.update(reused_tokens=0, total_tokens=20, kv_bytes=5, age_max=0)

    def first(peer):
        peer.greet()
        peer.refuse("session-evicted", 410, peer.hear("frame"))
        peer.until_gone()

    def second(peer):
        assert "secret" not in peer.greet()
        peer.act(peer.hear("frame"), cache=cache, history={"enabled": False, "why": "so"})
        peer.farewell()

    daemon = scripted(first, second)
    with PolicyStream(daemon.url, timeout_s=20) as stream:
        reply = stream.act_with_report(picture, "reach")

    assert (reply.cache.frame, reply.cache.reason) == ("keyframe", "evicted")
    assert (reply.history.enabled, reply.history.why) == (False, "so")


def test_a_session_that_is_evicted_again_and_again(scripted, picture):
    """A daemon with no room for the session is told of, not fed."""

    def script(peer):
        peer.greet()
        peer.refuse("session-evicted", 410, peer.hear("frame"))
        peer.until_gone()

    daemon = scripted(script, script)
    with PolicyStream(daemon.url, timeout_s=20) as stream, pytest.raises(SessionGone):
        stream.act(picture, "reach")

    assert len(daemon.frames) == 2


def test_goaway(scripted, picture):
    """A daemon that stops answers what is under way; then the client leaves, and meets the next one."""

    def first(peer):
        peer.greet()
        frame = peer.hear("frame")
        peer.say("goaway", finish_within_s=5)
        peer.act(frame)
        peer.until_gone()

    daemon = scripted(first, answers(1))
    with PolicyStream(daemon.url, timeout_s=20) as stream:
        for _ in range(2):
            stream.act(picture, "reach")

    assert len(daemon.upgrades) == 2


def test_a_daemon_that_drains(scripted, picture):
    """A frame that it takes no more goes to the one after it."""

    def first(peer):
        peer.greet()
        peer.refuse("draining", 503, peer.hear("frame"))
        peer.until_gone()

    daemon = scripted(first, answers(1))
    with PolicyStream(daemon.url, timeout_s=20) as stream:
        stream.act(picture, "reach")

    assert len(daemon.frames) == 2


@pytest.mark.parametrize(
    ("code", "kind"), [(POLICY, Forbidden), (TOO_BIG, TooLarge), (FATAL, ServerFault)], ids=["1008", "1009", "1011"]
)
def test_an_end_that_another_try_would_not_mend(scripted, picture, code, kind):
    """The caller is told; the frame is not sent again, the next one is."""

    def first(peer):
        peer.greet()
        peer.hear("frame")
        peer.connection.close(code, "so it is")

    daemon = scripted(first, answers(1, resumed=True))
    with PolicyStream(daemon.url, timeout_s=20) as stream:
        with pytest.raises(kind, match="so it is"):
            stream.act(picture, "reach")
        assert stream.act(picture, "reach")[1] == 1


def test_an_answer_too_large_to_be_one(scripted, picture):
    """A message of many megabytes is not read, and not asked for again."""

    def first(peer):
        peer.greet()
        peer.hear("frame")
        peer.say("applause", volume=bytes(5 * 2**20))
        peer.until_gone()

    daemon = scripted(first)
    with PolicyStream(daemon.url, timeout_s=20) as stream, pytest.raises(BadReply, match="bytes"):
        stream.act(picture, "reach")


def test_an_old_picture_is_not_sent_again(scripted, picture):
    """A frame past its max_age_ms when the connection is back is told of, not computed as if it were new."""

    def first(peer):
        peer.greet()
        peer.hear("frame")
        peer.vanish()

    def second(peer):
        slow.wait(20)
        peer.greet(resumed=True)
        peer.until_gone()

    slow = threading.Event()
    daemon = scripted(first, second)
    threading.Timer(0.3, slow.set).start()
    with PolicyStream(daemon.url, timeout_s=20) as stream, pytest.raises(DeadlineExceeded, match="200 ms"):
        stream.act(picture, "reach", max_age_ms=200)

    assert len(daemon.frames) == 1


# Whose session it is.


def test_a_session_that_was_taken_over(scripted, picture):
    """Who resumes a session with its secret has it; the one it was taken from says so, and does not fight for it."""

    def script(peer):
        peer.greet()
        peer.act(peer.hear("frame"))
        frame = peer.hear("frame")
        peer.say(
            "problem",
            problem={"code": "session-in-use", "status": 409, "detail": "x"},
            session={"id": frame["session_id"]},
        )
        peer.until_gone()

    daemon = scripted(script)
    with PolicyStream(daemon.url, timeout_s=20) as stream:
        stream.act(picture, "reach")
        for _ in range(2):
            with pytest.raises(Conflict) as caught:
                stream.act(picture, "reach")

            assert caught.value.code == "session-in-use"

    assert len(daemon.upgrades) == 1


def test_a_robot_that_starts_again(scripted, picture):
    """Its name's last connection may not have been let go of: it waits for that, within timeout_s."""

    def taken(peer):
        peer.hello()
        peer.hear("open")
        peer.refuse("session-exists", 409)
        peer.until_gone()

    daemon = scripted(taken, taken, answers(1))
    with PolicyStream(daemon.url, session="arm-1", timeout_s=20) as stream:
        assert stream.act(picture, "reach")[1] == 0

    assert [message["session_id"] for message in daemon.heard if message["type"] == "open"] == ["arm-1"] * 3


def test_a_name_that_stays_taken(scripted, picture):
    """In the end the caller learns why."""

    def taken(peer):
        peer.hello()
        peer.hear("open")
        peer.refuse("session-exists", 409)
        peer.until_gone()

    daemon = scripted(*[taken] * 20)
    with (
        PolicyStream(daemon.url, session="arm-1", timeout_s=2.0) as stream,
        pytest.raises(TimedOut, match="session-exists"),
    ):
        stream.act(picture, "reach")


def test_close_ends_the_session(scripted, picture):
    """The daemon need not keep what nobody will come back for; afterwards the stream says that it is closed."""
    daemon = scripted(answers(1))
    stream = PolicyStream(daemon.url, timeout_s=20)
    stream.act(picture, "reach")
    stream.close()
    stream.close()

    assert daemon.heard[-1]["type"] == "close"
    with pytest.raises(PolicyError, match="closed"):
        stream.act(picture, "reach")


# Answers that are none.


@pytest.mark.parametrize(
    "about", [{"seq": 5}, {"epoch": 1}, {"id": "somebody-else"}, {"seq": None}], ids=["seq", "epoch", "session", "none"]
)
def test_an_answer_to_another_frame(scripted, picture, about):
    """It is never returned as an action; the next frame gets its own, on a connection of its own."""

    def first(peer):
        peer.greet()
        frame = peer.hear("frame")
        place = {"id": frame["session_id"], "epoch": 0, "seq": 0, **about}
        peer.act(frame, session=place)
        peer.until_gone()

    daemon = scripted(first, answers(1, resumed=True))
    with PolicyStream(daemon.url, timeout_s=20) as stream:
        with pytest.raises(StaleAnswer):
            stream.act(picture, "reach")
        assert stream.act(picture, "reach")[1] == 1


def test_a_late_answer_is_not_the_next_frames(scripted, picture):
    """A frame that timed out is answered after all: the next call returns its own action."""
    given_up = threading.Event()

    def script(peer):
        peer.greet()
        late = peer.hear("frame")
        given_up.wait(20)
        frame = peer.hear("frame")
        peer.act(late, value=-1.0)
        peer.act(frame, value=1.0)
        peer.farewell()

    daemon = scripted(script)
    with PolicyStream(daemon.url, timeout_s=0.8) as stream:
        stream.wait_ready(20)
        with pytest.raises(TimedOut, match="slower policy"):
            stream.act(picture, "reach")
        given_up.set()
        assert stream.act(picture, "reach").tolist() == [1.0, 1.0]

    assert len(daemon.upgrades) == 1


def test_a_frame_that_was_given_up_is_not_sent_again(scripted, picture):
    """After a lost connection only what somebody waits for goes out."""
    given_up = threading.Event()

    def first(peer):
        peer.greet()
        peer.hear("frame")
        given_up.wait(20)
        peer.vanish()

    daemon = scripted(first, answers(1, resumed=True))
    with PolicyStream(daemon.url, timeout_s=1.5) as stream:
        stream.wait_ready(20)
        with pytest.raises(TimedOut):
            stream.act(picture, "reach")
        given_up.set()
        stream.wait_ready(20)
        assert stream.act(picture, "reach")[1] == 1

    assert [frame["seq"] for frame in daemon.frames] == [0, 1]


@pytest.mark.parametrize(
    "garbage",
    [
        "Traceback (most recent call last):",
        b"\xc1 no msgpack",
        b"",
        pack([1, 2, 3]),
        pack({"type": "action", "actions": np.zeros((1, 2), np.float32)}),
        pack({"type": "problem"}),
    ],
    ids=["text", "bytes", "nothing", "list", "no frame", "no problem"],
)
def test_garbage(scripted, picture, garbage):
    """What no daemon says ends the call and the connection; the next call has a new one."""

    def first(peer):
        peer.greet()
        peer.hear("frame")
        peer.connection.send(garbage)
        peer.until_gone()

    daemon = scripted(first, answers(1, resumed=True))
    with PolicyStream(daemon.url, timeout_s=20) as stream:
        with pytest.raises((BadReply, StaleAnswer)):
            stream.act(picture, "reach")
        stream.act(picture, "reach")


@pytest.mark.parametrize("actions", [np.array([[np.nan, 0]], np.float32), np.array([[0, np.inf]], np.float32), "up"])
def test_what_is_no_action(scripted, picture, actions):
    """NaN, infinity or words never reach the arm."""

    def script(peer):
        peer.greet()
        peer.act(peer.hear("frame"), actions=actions)
        peer.until_gone()

    daemon = scripted(script)
    with PolicyStream(daemon.url, timeout_s=20) as stream, pytest.raises(BadReply):
        stream.act(picture, "reach")


def test_another_server(scripted, picture):
    """A server of openpi's speaks first too, and says something else: the caller is told to look at the address."""
    daemon = scripted(lambda peer: (peer.connection.send(pack({"reset_pose": [0.0]})), peer.until_gone()))
    with PolicyStream(daemon.url, timeout_s=20) as stream, pytest.raises(BadReply, match="address"):
        stream.act(picture, "reach")


# Waiting.


def test_a_daemon_that_never_answers(scripted, picture):
    """The call ends in TimedOut, not in a hang."""

    def script(peer):
        peer.greet()
        peer.hear("frame")
        peer.until_gone()

    daemon = scripted(script)
    with PolicyStream(daemon.url, timeout_s=0.3) as stream:
        stream.wait_ready(20)
        with pytest.raises(TimedOut, match=r"0\.3 s"):
            stream.act(picture, "reach")


def test_a_connection_that_died_without_a_word(scripted, picture, monkeypatch):
    """Nothing comes, a ping neither: within the same call, another connection brings the answer."""
    monkeypatch.setattr("stillframe_client.streaming.connector.MIN_QUIET_S", 0.1)
    monkeypatch.setattr("stillframe_client.streaming.connector.QUIET_SHARE", 100)

    def first(peer):
        peer.greet()
        peer.hear("frame")
        deaf.wait(20)  # reads nothing more, answers nothing: as after a cable was pulled

    deaf = threading.Event()
    daemon = scripted(first, answers(1, resumed=True))
    with PolicyStream(daemon.url, timeout_s=20) as stream:
        assert stream.act(picture, "reach")[1] == 0
    deaf.set()

    assert [frame["seq"] for frame in daemon.frames] == [0, 0]


def test_a_policy_that_takes_its_time(scripted, picture, monkeypatch):
    """A daemon that answers pings is alive, however long it computes: the connection is kept."""
    monkeypatch.setattr("stillframe_client.streaming.connector.MIN_QUIET_S", 0.1)
    monkeypatch.setattr("stillframe_client.streaming.connector.QUIET_SHARE", 100)

    def script(peer):
        peer.greet()
        frame = peer.hear("frame")
        for _ in range(5):
            peer.pong()
        peer.act(frame)
        peer.farewell()

    daemon = scripted(script)
    with PolicyStream(daemon.url, timeout_s=20) as stream:
        stream.act(picture, "reach")

    assert len(daemon.upgrades) == 1


def test_a_peer_that_does_not_read():
    """A call whose frame cannot even be sent ends on time too, and so does close."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=go_deaf, args=(server,), daemon=True).start()
        with PolicyStream(f"ws://127.0.0.1:{server.getsockname()[1]}", session="arm", timeout_s=1) as stream:
            stream.wait_ready(20)
            with pytest.raises(TimedOut):
                stream.act(np.zeros((3000, 3000, 3), np.uint8), "reach")


def go_deaf(server):
    """Open a session, by hand, and then read nothing more."""
    peer, _ = server.accept()
    request = peer.recv(65536)
    key = next(line.split(b": ")[1] for line in request.split(b"\r\n") if line.startswith(b"Sec-WebSocket-Key"))
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())  # noqa: S324 -- RFC 6455
    peer.sendall(b"HTTP/1.1 101 On\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + accept)
    peer.sendall(b"\r\n\r\n")
    hello = pack({"type": "hello", "protocol": 1, "state": "ready", "model": None})
    session = pack({"type": "session", "session_id": "arm", "secret": "x", "epoch": 0, "resumed": False})
    for message in (hello, session):
        peer.sendall(bytes([0x82, len(message)]) + message)
        if message is hello:
            peer.recv(65536)  # its open
    server.accept()  # the client comes again, in vain


def test_a_daemon_that_says_nothing(scripted, picture):
    """An open connection without a hello is told as that."""
    daemon = scripted(lambda peer: peer.until_gone())
    with PolicyStream(daemon.url, timeout_s=2.0) as stream, pytest.raises(TimedOut, match="not said hello"):
        stream.act(picture, "reach")


def test_a_daemon_that_loads_for_too_long(scripted, picture):
    """The daemon's last word is in the error."""

    def script(peer):
        peer.say("status", state="loading")
        peer.until_gone()

    daemon = scripted(script)
    with PolicyStream(daemon.url, timeout_s=2.0) as stream, pytest.raises(TimedOut, match="loading"):
        stream.act(picture, "reach")


def test_a_daemon_that_loads(scripted, picture):
    """The frame waits for it, within timeout_s."""

    def script(peer):
        for state in ("loading", "warming"):
            peer.say("status", state=state)
        answers(1)(peer)

    daemon = scripted(script)
    with PolicyStream(daemon.url, timeout_s=20) as stream:
        stream.act(picture, "reach")

    assert len(daemon.upgrades) == 1


def test_wait_ready(scripted, picture):
    """Every way of not being ready is waited for: refused upgrades, a hello while it warms up."""

    def warming(peer):
        peer.hello("warming", model=None)
        peer.say("status", state="ready")
        peer.until_gone()

    daemon = scripted(warming, answers(1), refusals=[refusing(503), refusing(503)])
    with PolicyStream(daemon.url, timeout_s=20) as stream:
        stream.wait_ready(20)
        stream.act(picture, "reach")

    assert len(daemon.upgrades) == 4


def test_wait_ready_where_nobody_listens():
    """A daemon that has not opened its port yet counts as not ready; a frame is told at once that nobody is there."""
    with PolicyStream("ws://127.0.0.1:1", timeout_s=20) as stream:
        with pytest.raises(TimedOut, match="Nothing answers"):
            stream.wait_ready(0.2)
        with pytest.raises(Unreachable, match="stillframe serve"):
            stream.act(np.zeros((8, 8, 3), np.uint8), "reach")


# Upgrades that are refused.


@pytest.mark.parametrize(
    ("status", "kind"), [(401, Unauthorized), (403, Forbidden), (404, BadReply), (429, TooMany), (500, BadReply)]
)
def test_a_refused_upgrade(scripted, picture, status, kind):
    """Each is raised as what it is, at once."""
    daemon = scripted(refusals=[refusing(status)])
    with PolicyStream(daemon.url, timeout_s=20) as stream, pytest.raises(kind):
        stream.act(picture, "reach")


def test_a_refused_upgrade_with_a_problem(scripted, picture):
    """The daemon's own words are kept."""
    body = b'{"code": "unauthorized", "status": 401, "detail": "No token.", "request_id": "r-7"}'
    daemon = scripted(refusals=[refusing(401, body)])
    with PolicyStream(daemon.url, timeout_s=20) as stream, pytest.raises(Refused) as caught:
        stream.act(picture, "reach")

    assert (caught.value.detail, caught.value.request_id) == ("No token.", "r-7")


def test_no_redirect_is_followed(scripted, picture):
    """The token and the pictures are for the address that was given."""
    elsewhere = scripted(answers(1))
    daemon = scripted(refusals=[refusing(302, Location=elsewhere.url.replace("http", "ws") + "/v1/stream")])
    with PolicyStream(daemon.url, timeout_s=20, token=TOKEN) as stream, pytest.raises(BadReply, match="302"):
        stream.act(picture, "reach")

    assert elsewhere.upgrades == []


def test_a_proxy_in_the_environment_is_not_used(scripted, picture, monkeypatch):
    """An arm is not moved through what the environment happens to name."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    daemon = scripted(answers(1))
    with PolicyStream(daemon.url, timeout_s=20) as stream:
        stream.act(picture, "reach")


# Arguments.


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://robots.example:8000", "ws://robots.example:8000/v1/stream"),
        ("https://robots.example/arm/", "wss://robots.example/arm/v1/stream"),
        ("ws://[::1]:8000", "ws://[::1]:8000/v1/stream"),
        ("wss://robots.example/v1/stream", "wss://robots.example/v1/stream"),
    ],
)
def test_addresses(url, expected):
    """Addresses of http and ws lead to the stream, a prefix is kept."""
    assert stream_url(url) == expected


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A key and a certificate of its own for 127.0.0.1."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl command to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    request = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(["openssl", *request.split(), *files], check=True, capture_output=True)
    return folder


def test_tls(scripted, picture, certificate):
    """Whoever is given the daemon's own certificate trusts it, nobody else does."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    daemon = scripted(answers(1), ssl=context, refusals=[None, refusing(200, b"{}")])
    url = daemon.url.replace("http", "https")
    with PolicyStream(url, timeout_s=20, ca_file=str(certificate / "cert.pem")) as stream:
        stream.act(picture, "reach")
    with PolicyStream(url, timeout_s=20) as stream, pytest.raises(Unreachable, match="certificate"):
        stream.act(picture, "reach")
    with (
        PolicyClient(url, ca_file=str(certificate / "cert.pem")) as client,
        pytest.raises(BadReply, match="/v1/models"),
    ):
        client.info()
    with PolicyClient(url) as client, pytest.raises(Unreachable):
        client.info()


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "127.0.0.1:8000"},
        {"url": "ftp://robot"},
        {"url": None},
        {"timeout_s": 0},
        {"timeout_s": None},
        {"timeout_s": float("inf")},
        {"service": "fast"},
        {"session": " arm"},
        {"encoding": "webp"},
        {"token": "two words"},
        {"token": ""},
        {"token": "line\nbreak"},
        {"ca_file": "/nowhere.pem"},
    ],
    ids=str,
)
def test_wrong_arguments(wrong):
    """What cannot be used is refused before anything is opened, and a token is not repeated."""
    with pytest.raises(ValueError, match="expected") as caught:
        PolicyStream(**{"url": "http://127.0.0.1:8000", **wrong})

    assert "two words" not in str(caught.value)


def test_what_is_no_picture():
    """It is refused before it is sent."""
    with PolicyStream("http://127.0.0.1:1") as stream, pytest.raises(ValueError, match="uint8"):
        stream.act(np.zeros((8, 8, 3)), "reach")


@pytest.mark.process
def test_a_stream_that_nobody_closed(scripted):
    """It does not keep its program from ending, nor does it complain."""
    daemon = scripted(answers(1))
    script = (
        "import sys, numpy as np\nfrom stillframe_client import PolicyStream\n"
        "stream = PolicyStream(sys.argv[1], timeout_s=20)\n"
        "print(stream.act(np.ones((2, 2, 3), np.uint8), 'reach').tolist())\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", "-c", script, daemon.url],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "[12.0, 0.0]\n", "")
