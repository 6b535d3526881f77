from __future__ import annotations

import asyncio

import numpy as np
import pytest
from websockets.datastructures import Headers
from websockets.http11 import Response

from stillframe_client import PolicyError, PolicyStream, TimedOut

PICTURE = np.ones((2, 2, 3), np.uint8)


def one_frame(peer):
    """Greet, answer a frame, and the close."""
    peer.greet()
    peer.act(peer.hear("frame"))
    peer.farewell()


def test_close_leaves_nothing_behind(scripted):
    """The session is ended, and the thread with its loop."""
    daemon = scripted(one_frame)
    stream = PolicyStream(daemon.url, timeout_s=20)
    stream.act(PICTURE, "reach")
    thread, loop = stream._thread, stream._loop
    stream.close()

    assert daemon.heard[-1]["type"] == "close"
    assert not thread.is_alive()
    assert loop.is_closed()


@pytest.mark.parametrize("used", [False, True])
def test_what_was_closed_stays_closed(scripted, used):
    """Nothing is begun again, and to close once more does nothing."""
    stream = PolicyStream(scripted(one_frame).url, timeout_s=20)
    if used:
        stream.act(PICTURE, "reach")
    for _ in range(2):
        stream.close()

    thread = stream._thread
    for call in (lambda: stream.act(PICTURE, "reach"), stream.reset, stream.info, lambda: stream.wait_ready(1.0)):
        with pytest.raises(PolicyError, match="closed"):
            call()
    assert (thread is not None) is used
    assert stream._thread is thread


def test_wait_ready_has_its_own_time(scripted, monkeypatch):
    """Longer than a frame may take: the daemon is loading still when it is first asked, and then."""
    monkeypatch.setattr("stillframe_client.streaming.blocking.GRACE_S", 0.0)
    loading = [Response(503, "No", Headers({"Content-Length": "0"})) for _ in range(3)]
    daemon = scripted(lambda peer: (peer.greet(), peer.until_gone()), refusals=loading)
    with PolicyStream(daemon.url, timeout_s=0.05) as stream:
        stream.wait_ready(20)

    assert len(daemon.upgrades) == 4


def test_a_call_that_is_interrupted_is_given_up(scripted, monkeypatch):
    """Where the caller is gone, for whatever reason, its frame is not asked for any more."""
    monkeypatch.setattr("stillframe_client.streaming.blocking.GRACE_S", -19.9)  # the caller waits a tenth of a second
    monkeypatch.setattr("stillframe_client.streaming.stream.LONGEST_GOODBYE_S", 0.01)  # nothing is answered
    daemon = scripted(lambda peer: (peer.greet(), peer.until_gone()))
    with PolicyStream(daemon.url, timeout_s=20) as stream:
        with pytest.raises(TimedOut, match="had no time"):
            stream.act(PICTURE, "reach")
        for _ in range(20):
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0), stream._loop).result(60)
        assert not stream._stream._protocol.has_waiters
        monkeypatch.setattr("stillframe_client.streaming.blocking.GRACE_S", 1.0)


def test_a_frames_own_options(scripted):
    """What is said of a frame arrives with it."""
    daemon = scripted(one_frame)
    with PolicyStream(daemon.url, timeout_s=20) as stream:
        stream.act(PICTURE, "reach", unnorm_key="jaco", max_age_ms=15_000, encoding="raw", reuse="off")

    (frame,) = daemon.frames
    assert (frame["unnorm_key"], frame["max_age_ms"], frame["reuse"]) == ("jaco", 15_000, "off")
