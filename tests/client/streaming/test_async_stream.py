"""AsyncPolicyStream: frames under way side by side, the newest answer first."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from stillframe_client import (
    AsyncPolicyStream,
    BadReply,
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


# In time that costs nothing, with a daemon in memory.


@pytest.fixture
def new_stream(new_memory, monkeypatch):
    """Makes a daemon and a stream to it: `new_stream(*outcomes of the dials, **options of the stream)`."""

    def build(*outcomes, **options):
        daemon = new_memory(*outcomes)
        monkeypatch.setattr("stillframe_client.streaming.stream.dial", daemon.dial)
        return daemon, AsyncPolicyStream("ws://robot.test", **options)

    return build


def now_s():
    return asyncio.get_running_loop().time()


@pytest.mark.parametrize(("timeout_s", "farewell_s"), [(30.0, 1.0), (0.25, 0.25)])
def test_a_goodbye_that_is_not_heard(virtual, new_stream, picture, timeout_s, farewell_s):
    """The daemon's answer to a close is waited for a second, however long a frame may take, or less."""
    daemon, stream = new_stream(timeout_s=timeout_s)
    daemon.mute = {"close"}

    async def robot():
        await stream.act(picture, "reach")
        before_s = now_s()
        await stream.close()
        return now_s() - before_s

    assert virtual.run(robot()) == pytest.approx(farewell_s)
    assert daemon.lines[0].heard[-1][1]["type"] == "close"
    assert daemon.lines[0].closed


def test_a_goodbye_without_a_connection(virtual, new_stream):
    """Where no session is open, none is ended: to close takes no time, and no connection."""
    daemon, stream = new_stream()
    virtual.run(stream.close())
    virtual.run(stream.close())

    assert daemon.dials_s == []


def test_close_ends_every_wait(virtual, new_stream, picture):
    """A call that waits for a frame, or for the newest answer, is told at once that the stream is closed."""
    daemon, stream = new_stream(timeout_s=9.0)

    async def robot():
        stream.send(picture, "reach")
        await stream.newest()
        daemon.mute = {"frame"}
        waits = [asyncio.ensure_future(wait) for wait in (stream.act(picture, "reach"), stream.newest())]
        await asyncio.sleep(0.1)
        before_s = now_s()
        await stream.close()
        await asyncio.wait(waits, timeout=0.1)
        assert now_s() == before_s
        with pytest.raises(PolicyError, match="closed"):
            await stream.reset()
        return [str(wait.exception()) for wait in waits]

    assert virtual.run(robot()) == ["This stream is closed; make a new one."] * 2


def test_a_frame_that_was_overtaken_is_no_news(virtual, new_stream, picture):
    """`newest` goes on waiting for the answer to the frame that took its place."""
    daemon, stream = new_stream(service="realtime")

    def overtaken(line, frame):
        if frame["seq"] == 0:
            line.say({"type": "superseded", "session": place(frame), "by": 1})
        else:
            asyncio.get_running_loop().call_later(1.0, line.act, frame)

    daemon.answers["frame"] = overtaken

    async def robot():
        first = stream.send(picture, "reach")
        newest = asyncio.ensure_future(stream.newest())
        await asyncio.wait([first])
        stream.send(picture, "reach")
        return (await newest).session.seq, now_s(), type(first.exception())

    assert virtual.run(robot()) == (1, 1.0, Superseded)


def test_a_cancelled_frame_is_no_news(virtual, new_stream, picture):
    """`newest` goes on waiting where a frame is taken back."""
    daemon, stream = new_stream(timeout_s=9.0)
    daemon.mute = {"frame"}
    complaints = []

    async def robot():
        asyncio.get_running_loop().set_exception_handler(lambda _, said: complaints.append(said))
        taken_back = stream.send(picture, "reach")
        newest = asyncio.ensure_future(stream.newest())
        await asyncio.sleep(0.1)
        taken_back.cancel()
        daemon.mute.clear()
        await asyncio.sleep(0.1)
        assert not newest.done()
        stream.send(picture, "reach")
        return (await newest).session.seq

    assert virtual.run(robot()) == 1
    assert complaints == []


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1], [1, 2, 0]], ids=str)
def test_the_newest_answer_is_taken_once(virtual, new_stream, picture, order):
    """In whatever order answers come, only those to newer frames are news, each once; then it waits in vain."""
    daemon, stream = new_stream(timeout_s=9.0)
    daemon.answers["frame"] = lambda line, frame: asyncio.get_running_loop().call_later(
        1.0 + order.index(frame["seq"]), line.act, frame
    )

    async def robot():
        for _ in order:
            stream.send(picture, "reach")
        seen = [(await stream.newest()).session.seq for _ in newer]
        before_s = now_s()
        with pytest.raises(TimedOut, match=r"9\.0 s"):
            await stream.newest()
        assert now_s() - before_s == pytest.approx(9.0)
        return seen

    newer = [n for i, n in enumerate(order) if n == max(order[: i + 1])]
    assert virtual.run(robot()) == newer


def test_a_frames_own_options(virtual, new_stream, picture):
    """The stream's encoding holds unless a frame names another."""
    daemon, stream = new_stream(encoding="png")

    async def robot():
        for encoding in (None, "raw"):
            await stream.act_with_report(picture, "reach", encoding=encoding, t_obs_ns=0)

    virtual.run(robot())
    assert [type(frame["image"]) for frame in daemon.frames] == [bytes, np.ndarray]
    assert [frame["t_obs_ns"] for frame in daemon.frames] == [0, 0]


def test_a_daemon_that_does_not_say_what_it_serves(virtual, new_stream):
    """Its hello without a model is no answer to what is served."""
    _, stream = new_stream()
    with pytest.raises(BadReply, match="what it serves"):
        virtual.run(stream.info())


def test_wait_ready_has_its_own_time(virtual, new_stream, picture):
    """It waits for a daemon that is still to come, longer than a frame would; a frame does neither."""
    daemon, stream = new_stream(*[Unreachable("Nothing answers.")] * 8, timeout_s=1.0)
    virtual.run(stream.wait_ready(60.0))

    assert daemon.dials_s[-1] > 3.0
    assert virtual.run(stream.act(picture, "reach")).shape == (2,)
    _, stream = new_stream(Unreachable("Nothing answers."))
    with pytest.raises(Unreachable):
        virtual.run(stream.act(picture, "reach"))
