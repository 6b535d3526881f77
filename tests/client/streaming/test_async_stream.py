"""AsyncPolicyStream: frames under way side by side, the newest answer first."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from stillframe_client import (
    AsyncPolicyStream,
    Overloaded,
    PolicyError,
    PolicyStream,
    Superseded,
    TimedOut,
    Unreachable,
)


def place(frame):
    return {"id": frame["session_id"], "epoch": frame["epoch"], "seq": frame["seq"]}


def realtime(peer):
    """Answer the first frame, give the second one's place to the third."""
    peer.greet()
    first, second, third = (peer.hear("frame") for _ in range(3))
    peer.say("superseded", session=place(second), by=third["seq"])
    peer.act(first)
    peer.act(third)
    peer.farewell()


def in_step(n):
    """Answer n frames, each as it comes."""

    def script(peer):
        peer.greet()
        for _ in range(n):
            peer.act(peer.hear("frame"))
        peer.farewell()

    return script


def test_lockstep(scripted, picture):
    """The calls are PolicyStream's, with await."""

    def script(peer):
        peer.greet()
        for _ in range(2):
            peer.act(peer.hear("frame"))
        peer.say("reset", session_id=peer.hear("reset")["session_id"], epoch=1)
        peer.farewell()

    daemon = scripted(script)

    async def robot():
        async with AsyncPolicyStream(daemon.url, timeout_s=20) as stream:
            await stream.wait_ready(20)
            actions = [await stream.act(picture, "reach") for _ in range(2)]
            return await stream.reset(), (await stream.info()).name, [action[1] for action in actions]

    assert asyncio.run(robot()) == (1, "sums", [0.0, 1.0])


def test_the_newest_frame_wins(scripted, picture):
    """In realtime each frame is answered, the overtaken one by Superseded; the newest answer is the last frame's."""
    daemon = scripted(realtime)

    async def robot():
        async with AsyncPolicyStream(daemon.url, service="realtime", timeout_s=20) as stream:
            tasks = [stream.send(picture, "reach") for _ in range(3)]
            await asyncio.wait(tasks)
            newest = await stream.newest()
            return [task.exception() for task in tasks], newest.session.seq

    errors, seq = asyncio.run(robot())
    assert [type(error) for error in errors] == [type(None), Superseded, type(None)]
    assert seq == 2
    assert daemon.heard[0]["service"] == "realtime"


def test_answers_one_after_the_other(scripted, picture):
    """Iteration gives each answer that is newer than the last, until the stream is closed."""
    daemon = scripted(in_step(3))

    async def robot():
        seen = []
        async with AsyncPolicyStream(daemon.url, timeout_s=20) as stream:
            stream.send(picture, "reach", t_obs_ns=0)
            async for reply in stream:
                seen.append((reply.session.seq, reply.t_obs_ns))
                if len(seen) == 3:
                    break
                stream.send(picture, "reach", t_obs_ns=len(seen))
        return seen, [reply async for reply in stream]

    assert asyncio.run(robot()) == ([(0, 0), (1, 1), (2, 2)], [])


def test_close_ends_the_iteration(scripted):
    """Whoever waits for an answer when the stream is closed waits no longer."""
    daemon = scripted(in_step(0))

    async def robot():
        stream = AsyncPolicyStream(daemon.url, timeout_s=20)
        await stream.wait_ready(20)
        asyncio.get_running_loop().call_later(0.05, lambda: asyncio.ensure_future(stream.close()))
        return [reply async for reply in stream]

    assert asyncio.run(robot()) == []


def test_a_failure_is_news_too(scripted, picture):
    """What went wrong with the newest frame is raised where its answer is awaited."""

    def script(peer):
        peer.greet()
        peer.refuse("overloaded", 503, peer.hear("frame"))
        peer.farewell()

    daemon = scripted(script)

    async def robot():
        async with AsyncPolicyStream(daemon.url, timeout_s=20) as stream:
            stream.send(picture, "reach")
            with pytest.raises(Overloaded):
                await stream.newest()

    asyncio.run(robot())


def test_an_older_frames_end_is_no_news(scripted, picture):
    """A frame that times out after a newer one was answered does not hide that answer."""

    def script(peer):
        peer.greet()
        peer.hear("frame")
        peer.act(peer.hear("frame"))
        peer.farewell()

    daemon = scripted(script)

    async def robot():
        async with AsyncPolicyStream(daemon.url, timeout_s=1.0) as stream:
            await stream.wait_ready(20)
            old, _ = stream.send(picture, "reach"), stream.send(picture, "reach")
            with pytest.raises(TimedOut):
                await old
            return (await stream.newest()).session.seq

    assert asyncio.run(robot()) == 1


def test_nothing_was_sent(scripted):
    """To wait for an answer to nothing ends on time."""
    daemon = scripted(in_step(0))

    async def robot():
        async with AsyncPolicyStream(daemon.url, timeout_s=0.1) as stream:
            with pytest.raises(TimedOut):
                await stream.newest()

    asyncio.run(robot())


def test_a_cancelled_frame(scripted, picture):
    """A frame whose caller went away is given up: its late answer is nobody's, and the next frame gets its own."""
    heard = asyncio.Event()

    def script(peer):
        peer.greet()
        first = peer.hear("frame")
        loop[0].call_soon_threadsafe(heard.set)
        second = peer.hear("frame")
        peer.act(first, value=-1.0)
        peer.act(second, value=1.0)
        peer.farewell()

    daemon = scripted(script)
    loop = []

    async def robot():
        loop.append(asyncio.get_running_loop())
        async with AsyncPolicyStream(daemon.url, timeout_s=20) as stream:
            task = stream.send(picture, "reach")
            await heard.wait()
            task.cancel()
            return (await stream.act(picture, "reach")).tolist()

    assert asyncio.run(robot()) == [1.0, 1.0]


def test_frames_of_an_ended_episode_are_not_sent_again(scripted, picture):
    """A frame left behind by a reset ends with its connection; it is not computed in the new episode."""

    def first(peer):
        peer.greet()
        peer.hear("frame")
        peer.say("reset", session_id=peer.hear("reset")["session_id"], epoch=1)
        peer.hear("frame")
        peer.vanish()

    def second(peer):
        peer.greet(epoch=1, resumed=True)
        peer.act(peer.hear("frame"))
        peer.farewell()

    daemon = scripted(first, second)

    async def robot():
        async with AsyncPolicyStream(daemon.url, timeout_s=20) as stream:
            old = stream.send(picture, "reach")
            await asyncio.sleep(0)
            await stream.reset()
            action = await stream.act(picture, "reach")
            with pytest.raises(Superseded):
                await old
            return action.tolist()

    assert asyncio.run(robot())[1] == 0.0
    assert [(frame["epoch"], frame["seq"]) for frame in daemon.frames] == [(0, 0), (1, 0), (1, 0)]


def test_everybody_is_told_when_nobody_is_there(picture):
    """All frames under way fail together where no daemon ever was."""

    async def robot():
        async with AsyncPolicyStream("ws://127.0.0.1:1", timeout_s=20) as stream:
            tasks = [stream.send(picture, "reach") for _ in range(3)]
            done, _ = await asyncio.wait(tasks)
            return [type(task.exception()) for task in done]

    assert asyncio.run(robot()) == [Unreachable] * 3


def test_closed_means_closed(scripted, picture):
    """What is under way when the stream is closed fails, and nothing is asked afterwards."""

    def script(peer):
        peer.greet()
        frame = peer.hear("frame")
        peer.hear("close")
        peer.say("closed", session_id=frame["session_id"])
        peer.until_gone()

    daemon = scripted(script)

    async def robot():
        stream = AsyncPolicyStream(daemon.url, timeout_s=20)
        task = stream.send(picture, "reach")
        while not daemon.frames:
            await asyncio.sleep(0.01)
        await stream.close()
        with pytest.raises(PolicyError, match="closed"):
            await task
        with pytest.raises(PolicyError, match="closed"):
            await stream.act(picture, "reach")

    asyncio.run(robot())


def test_a_stream_inside_a_running_loop(scripted, picture):
    """The blocking stream has a loop of its own, so a notebook's does it no harm."""
    daemon = scripted(in_step(1))

    async def notebook():
        with PolicyStream(daemon.url, timeout_s=20) as stream:
            return stream.act(picture, "reach")[0]

    assert asyncio.run(notebook()) == float(np.sum(picture, dtype=int))
