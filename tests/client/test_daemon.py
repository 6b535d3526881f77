"""The streams, the player and openpi's shape against a real daemon's web floor."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import threading

import httpx
import numpy as np
import pytest

from stillframe.sessions.settings import SessionSettings
from stillframe.web.app import WebSettings
from stillframe.web.middleware.auth import Authenticator, Token
from stillframe_client import (
    AsyncPolicyStream,
    ChunkPlayer,
    Conflict,
    PolicyClient,
    PolicyStream,
    Superseded,
    TimedOut,
    Unauthorized,
    Unprocessable,
    WebsocketClientPolicy,
)

TIMEOUT_S = 20.0


def test_an_episode(daemon, picture):
    """Frames and resets count as the daemon counts them, and the report says what was reused."""
    with PolicyStream(daemon.url, timeout_s=TIMEOUT_S) as stream:
        first = stream.reset()
        replies = [stream.act_with_report(picture, "reach", t_obs_ns=n) for n in range(2)]
        second = stream.reset()
        replies.append(stream.act_with_report(picture, "reach", encoding="png", unnorm_key="bridge_orig"))

    assert (first, second) == (0, 1)
    assert [(reply.session.epoch, reply.session.seq) for reply in replies] == [(0, 0), (0, 1), (1, 0)]
    assert [reply.cache.reason for reply in replies] == ["first-frame", None, "reset"]
    assert [reply.t_obs_ns for reply in replies] == [0, 1, None]
    assert replies[0].timing_ms["total"] > 0
    assert {session.id for session in daemon.policy.sessions} == {stream.session_id}


def test_the_same_action_on_every_wire(daemon, picture):
    """A frame's answer over HTTP and over a stream differ by float32's rounding, whatever the encoding."""
    with (
        PolicyClient(daemon.url, timeout_s=TIMEOUT_S) as client,
        PolicyStream(daemon.url, timeout_s=TIMEOUT_S) as stream,
    ):
        expected = client.act(picture, "reach")
        got = [stream.act(picture, "reach"), stream.act({"front": picture}, "reach", encoding="png")]

    assert all(np.array_equal(action, expected.astype(np.float32)) for action in got)


def test_the_session_ends_with_the_stream(daemon, picture):
    """What nobody will come back for is not kept."""
    with PolicyStream(daemon.url, timeout_s=TIMEOUT_S) as stream:
        stream.act(picture, "reach")
        assert stream.info().cameras == ("front",)
        assert len(httpx.get(f"{daemon.url}/v1/sessions", trust_env=False).json()["sessions"]) == 1

    assert httpx.get(f"{daemon.url}/v1/sessions", trust_env=False).json() == {"sessions": []}


def test_a_bad_frame(daemon, picture):
    """A refusal is typed, and the next frame is served on the same connection."""
    with PolicyStream(daemon.url, timeout_s=TIMEOUT_S) as stream:
        with pytest.raises(Unprocessable, match="fornt") as caught:
            stream.act({"fornt": picture}, "reach")
        assert caught.value.code == "unknown-camera"
        assert stream.act(picture, "reach").shape == (7,)


def test_a_cut_between_frames(daemon, picture):
    """The session goes on where it was: its next frame reuses."""
    with PolicyStream(daemon.url, timeout_s=TIMEOUT_S) as stream:
        stream.act(picture, "reach")
        daemon.cut()
        reply = stream.act_with_report(picture, "reach")

    assert (reply.session.seq, reply.cache.frame) == (1, "delta")


def test_a_cut_under_a_frame(daemon, picture):
    """The frame's answer comes over the next connection; the policy has seen the frame once."""
    with PolicyStream(daemon.url, timeout_s=TIMEOUT_S) as stream:
        stream.act(picture, "reach")
        daemon.policy.go_on.clear()
        threading.Thread(target=lambda: (daemon.until_asked(2), daemon.cut(), daemon.policy.go_on.set())).start()
        reply = stream.act_with_report(picture, "reach")

    assert reply.session.seq == 1
    assert len(daemon.policy.sessions) == 2


def test_cuts_without_end(daemon, picture):
    """However often the line breaks, each call returns its own action."""
    stop = threading.Event()

    def sabotage():
        pause_s, begun = 0.02, 0
        while not stop.wait(pause_s):  # the longer, the less of a connection a loaded machine makes between two cuts
            pause_s, begun = 0.02 if daemon.policy.begun > begun else 2 * pause_s, daemon.policy.begun
            daemon.cut()

    saboteur = threading.Thread(target=sabotage)
    with PolicyStream(daemon.url, timeout_s=TIMEOUT_S) as stream:
        saboteur.start()
        try:
            seqs = [stream.act_with_report(picture, "reach").session.seq for _ in range(40)]
        finally:
            stop.set()
            saboteur.join(TIMEOUT_S)

    assert seqs == list(range(40))
    assert len({(session.epoch, session.seq) for session in daemon.policy.sessions}) == 40


def test_a_daemon_that_is_restarted(new_daemon, picture):
    """The call spans the restart; the new daemon begins a new session."""
    first = new_daemon()
    with PolicyStream(first.url, timeout_s=TIMEOUT_S) as stream:
        for _ in range(2):
            stream.act(picture, "reach")
        first.stop()
        threading.Timer(0.3, lambda: new_daemon(port=first.port)).start()
        reply = stream.act_with_report(picture, "reach")

    assert (reply.session.seq, reply.cache.reason) == (0, "first-frame")


def test_a_daemon_that_drains(daemon, picture):
    """A frame that was admitted is answered while the daemon says goodbye."""
    with PolicyStream(daemon.url, timeout_s=TIMEOUT_S) as stream:
        stream.act(picture, "reach")
        daemon.policy.go_on.clear()
        threading.Thread(
            target=lambda: (daemon.until_asked(2), daemon.lifecycle.drain(), daemon.policy.go_on.set())
        ).start()
        assert stream.act_with_report(picture, "reach").session.seq == 1


def test_no_room_for_two(new_daemon, picture):
    """A session that had to make room begins anew with its next frame, which is computed whole."""
    daemon = new_daemon(WebSettings(sessions=SessionSettings(most=1, lease_s=0.0)))
    with PolicyStream(daemon.url, timeout_s=TIMEOUT_S) as left, PolicyStream(daemon.url, timeout_s=TIMEOUT_S) as right:
        for _ in range(2):
            left.reset()
            left.act(picture, "reach")
        right.act(picture, "reach")
        reply = left.act_with_report(picture, "reach")

    assert (reply.cache.frame, reply.cache.reason, reply.session.seq) == ("keyframe", "evicted", 0)


def test_two_robots_of_one_name(daemon, picture):
    """The second waits for the name to be free, in vain; the first goes on."""
    with PolicyStream(daemon.url, session="arm", timeout_s=TIMEOUT_S) as first:
        first.act(picture, "reach")
        second = PolicyStream(daemon.url, session="arm", timeout_s=2.0)
        with second, pytest.raises(TimedOut, match="session-exists"):
            second.act(picture, "reach")
        assert first.act_with_report(picture, "reach").session.seq == 1


def test_a_robot_that_was_killed_starts_again(new_daemon, picture):
    """Its name is free again once the daemon has given up on the connection that was lost."""
    daemon = new_daemon(WebSettings(sessions=SessionSettings(resume_s=0.3)))
    killed = PolicyStream(daemon.url, session="arm", timeout_s=TIMEOUT_S)
    killed.act(picture, "reach")
    daemon.cut()
    with PolicyStream(daemon.url, session="arm", timeout_s=TIMEOUT_S) as stream:
        assert stream.act_with_report(picture, "reach").session.seq == 0
    killed.close()


def test_a_session_that_is_taken_over(daemon, picture):
    """Whoever has the secret has the session; the connection before is told, and keeps out of it."""
    with PolicyStream(daemon.url, session="arm", timeout_s=TIMEOUT_S) as first:
        first.act(picture, "reach")
        with PolicyStream(daemon.url, session="arm", timeout_s=TIMEOUT_S) as second:
            second._stream._protocol._session._secret = first._stream._protocol._session._secret
            second.wait_ready(TIMEOUT_S)
            for _ in range(2):
                with pytest.raises(Conflict, match="session-in-use"):
                    first.act(picture, "reach")


def test_a_token(new_daemon, picture):
    """Without the token the upgrade is refused, with the daemon's words; with it, served."""
    callers = Authenticator([Token("arm", hashlib.sha256(b"t0ken").hexdigest(), frozenset({"act"}))])
    daemon = new_daemon(WebSettings(authenticator=callers))
    with PolicyStream(daemon.url, timeout_s=TIMEOUT_S) as stream, pytest.raises(Unauthorized):
        stream.act(picture, "reach")
    with PolicyStream(daemon.url, timeout_s=TIMEOUT_S, token="t0ken") as stream:  # noqa: S106 -- of this daemon
        assert stream.act(picture, "reach").shape == (7,)
    with PolicyClient(daemon.url, token="t0ken") as client:  # noqa: S106 -- of this daemon
        assert client.act(picture, "reach").shape == (7,)


def test_the_newest_frame_wins(daemon, picture):
    """In realtime the running frame is answered and the last one; those between are superseded."""

    async def robot():
        async with AsyncPolicyStream(daemon.url, service="realtime", timeout_s=TIMEOUT_S) as stream:
            await stream.wait_ready(TIMEOUT_S)
            daemon.policy.go_on.clear()
            tasks = [stream.send(picture, "reach")]
            await asyncio.to_thread(daemon.until_asked, 1)
            tasks += [stream.send(picture, "reach") for _ in range(4)]
            await asyncio.wait(tasks[1:4], timeout=TIMEOUT_S)
            daemon.policy.go_on.set()
            await asyncio.wait(tasks, timeout=TIMEOUT_S)
            return [task.exception() for task in tasks], (await stream.newest()).session.seq

    errors, newest = asyncio.run(robot())
    assert [type(error) for error in errors] == [type(None), *[Superseded] * 3, type(None)]
    assert newest == 4


@pytest.mark.parametrize("encoding", ["raw", "png"])
@pytest.mark.parametrize("kind", [PolicyClient, PolicyStream])
def test_a_whole_chunk_on_every_wire(daemon, picture, kind, encoding):
    """Every action, however the picture travels, and the control step that the first is for."""
    with kind(daemon.url, timeout_s=TIMEOUT_S, encoding=encoding) as policy:
        replies = [policy.act_with_report(picture, "reach") for _ in range(2)]
        execute = policy.info().execute

    assert [reply.actions.shape for reply in replies] == [(2, 7)] * 2
    assert [reply.first_step for reply in replies] == [0, 1]
    assert execute == 1


def test_a_player_on_a_stream(daemon, picture):
    """Chunks of a stream are played one action a step."""
    with PolicyStream(daemon.url, timeout_s=TIMEOUT_S) as stream:
        stream.act(picture, "reach")
        with ChunkPlayer(lambda: stream.act_with_report(picture, "reach"), hz=2.0, max_age_s=TIMEOUT_S) as player:
            played = list(itertools.islice(player, 3))

    assert {action.shape for action in played} == {(7,)}


def test_a_program_of_openpis(daemon, picture):
    """The same chunk as over the native wire, under openpi's keys; reset reaches the daemon."""
    policy = WebsocketClientPolicy(host=daemon.url.replace("http", "ws"), timeout_s=TIMEOUT_S)
    obs = {"observation/image": picture, "observation/state": np.zeros(8), "prompt": "reach"}
    chunk = policy.infer(obs)["actions"]
    policy.reset()
    policy.infer(obs)
    policy.close()

    assert (chunk.shape, chunk.dtype) == ((2, 7), np.float32)
    assert [(session.epoch, session.seq) for session in daemon.policy.sessions] == [(0, 0), (1, 0)]


def test_a_client_takes_its_session_along(daemon, picture):
    """One that it made up is closed with it; one that was named is left for whoever goes on with it."""
    with PolicyClient(daemon.url, timeout_s=TIMEOUT_S) as own, PolicyClient(daemon.url, session="arm") as named:
        own.act(picture, "reach")
        named.act(picture, "reach")
    left = httpx.get(f"{daemon.url}/v1/sessions", timeout=TIMEOUT_S).json()["sessions"]

    assert [session["id"] for session in left] == ["arm"]


def test_the_address_that_a_daemon_listens_on(daemon, picture):
    """0.0.0.0 is what many a program is started with: to connect, it is this machine."""
    url = daemon.url.replace("127.0.0.1", "0.0.0.0")  # noqa: S104 -- where to connect
    with PolicyClient(url, timeout_s=TIMEOUT_S) as client, PolicyStream(url, timeout_s=TIMEOUT_S) as stream:
        assert client.act(picture, "reach").shape == stream.act(picture, "reach").shape == (7,)
    policy = WebsocketClientPolicy("0.0.0.0", daemon.port, timeout_s=TIMEOUT_S)  # noqa: S104 -- where to connect
    assert policy.infer({"image": picture, "prompt": "reach"})["actions"].shape == (2, 7)
    policy.close()
