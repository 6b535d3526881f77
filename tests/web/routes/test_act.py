from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from concurrent.futures import Future

import httpx
import numpy as np
import pytest
import uvicorn

from stillframe.errors import NotReady, Overloaded
from stillframe.web.http.limits import Limits
from stillframe.web.routes.act import unless_disconnected
from stillframe.web.service import frame_parser
from stillframe.web.service.inference import await_step


async def until(condition):
    """Wait, within reason, for something that another thread does."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.002)


def test_the_event_loop_stays_free(desk, frame):
    """While the policy computes, the daemon answers others."""
    desk.policy.go_on.clear()

    async def both():
        async with desk.client() as client:
            waiting = asyncio.create_task(client.post("/act", json=frame))
            await until(desk.policy.started.is_set)
            alive = await client.get("/livez")
            answered_first = not waiting.done()
            desk.policy.go_on.set()
            return alive, answered_first, await waiting

    alive, answered_first, acted = asyncio.run(both())

    assert (alive.status_code, acted.status_code) == (200, 200)
    assert answered_first


def test_the_event_loop_does_not_decode(desk, frame, monkeypatch):
    """Parsing and decoding happen on other threads than the event loop's."""
    threads = []
    read = frame_parser.read_picture

    def spy(*args):
        threads.append(threading.current_thread().name)
        return read(*args)

    monkeypatch.setattr(frame_parser, "read_picture", spy)

    assert desk.act(frame).status_code == 200
    assert [name.startswith("unpack") for name in threads] == [True]


def test_a_sessions_age_counts_from_the_arrival_too(desk, frame):
    """What its policy is told is what is left, in a session as without one."""
    desk.act({**frame, "session_id": "arm", "max_age_ms": 5000})

    assert 0 < desk.policy.ages_ms[0] < 5000


def test_a_repeat_is_no_step(desk, frame):
    """It is answered and timed, but what its first one took and reused is not counted again."""
    for _ in range(3):
        desk.act({**frame, "session_id": "arm", "seq": 1})

    assert desk.sample("stillframe_frames_total", outcome="answered") == 3
    assert desk.sample("stillframe_stage_duration_seconds_count", stage="unpack") == 3
    assert desk.sample("stillframe_passes_per_action_count") == 1
    assert desk.sample("stillframe_stage_duration_seconds_count", stage="prefill") == 1


class Asker:
    """A request whose client goes when it is told to."""

    def __init__(self):
        self.gone = asyncio.Event()

    async def receive(self):
        """The next thing that happens."""
        await self.gone.wait()
        return {"type": "http.disconnect"}


@pytest.mark.parametrize("how", ["answered", "failed", "gone", "given up"])
def test_waiting_for_an_answer_leaves_nothing_behind(how):
    """However it ends, neither the answer nor the look-out for the client goes on."""
    cancelled = []

    async def answer():
        try:
            if how == "failed":
                raise ValueError("no")
            if how != "answered":
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(how)
            raise
        return "an action"

    async def ask():
        asker = Asker()
        waiting = asyncio.create_task(unless_disconnected(asker, answer()))
        for _ in range(3):
            await asyncio.sleep(0)
        if how == "gone":
            asker.gone.set()
        if how == "given up":
            waiting.cancel()
        async with asyncio.timeout(60):
            (ended,) = await asyncio.gather(waiting, return_exceptions=True)
        for _ in range(3):
            await asyncio.sleep(0)
        return ended, asyncio.all_tasks() - {asyncio.current_task()}

    ended, left = asyncio.run(ask())

    assert left == set()
    assert cancelled == ([how] if how in ("gone", "given up") else [])
    expected = {"answered": "an action", "failed": ValueError, "gone": None, "given up": asyncio.CancelledError}[how]
    assert ended == expected if how in ("answered", "gone") else isinstance(ended, expected)


def test_an_action_that_does_not_come(new_desk, frame):
    """The daemon stops waiting at the frame's age limit plus its own patience, and the gauge returns to 0."""
    desk = new_desk(Limits(answer_timeout_s=0.05))
    desk.policy.go_on.clear()
    reply = desk.act({**frame, "max_age_ms": 500})
    waiting = desk.sample("stillframe_queue_depth")
    desk.policy.close()

    assert (reply.status_code, reply.json()["code"]) == (504, "deadline-exceeded")
    assert waiting == 1
    assert desk.sample("stillframe_queue_depth") == 0
    assert desk.sample("stillframe_frames_total", outcome="expired") == 1


def test_age_counts_from_the_arrival(desk, frame):
    """The policy is told what is left of the frame's time, not what it had."""
    desk.act({**frame, "max_age_ms": 5000})

    assert 0 < desk.policy.ages_ms[0] < 5000


def test_a_frame_that_arrives_too_old(new_desk, frame):
    """A frame whose time went by while it was read never reaches the policy."""
    desk = new_desk()
    body = json.dumps({**frame, "max_age_ms": 5}).encode()

    async def slowly():
        yield body[:-1]
        await asyncio.sleep(0.02)
        yield body[-1:]

    reply = desk.ask("POST", "/act", content=slowly())

    assert (reply.status_code, reply.json()["code"]) == (504, "deadline-exceeded")
    assert desk.policy.seen == []


def test_a_late_action_is_marked(desk, frame):
    """An answer after the frame's age limit is given, and says that it is late."""
    step = desk.policy.step

    def dawdle(observation, session):
        time.sleep(desk.policy.ages_ms[0] / 1000 + 0.02)
        return step(observation, session)

    desk.policy.step = dawdle
    reply = desk.act({**frame, "max_age_ms": 600})

    assert reply.status_code == 200
    assert reply.headers["server-timing"].endswith(", late")
    assert desk.sample("stillframe_frames_total", outcome="late") == 1


def test_server_timing_lists_the_walk(desk, frame):
    """The header names the stages in their order, ends with the total, and is not late."""
    parts = desk.act(frame).headers["server-timing"].split(", ")

    assert [part.split(";")[0] for part in parts] == ["receive", "unpack", "queue", "prefill", "total"]
    assert "queue;dur=0.5" in parts


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_a_poisoned_action(desk, frame, poison):
    """NaN or infinity is our failure, never an action."""
    desk.policy.actions = np.array([[0, 0, 0, 0, 0, 0, poison]])
    reply = desk.act(frame)

    assert (reply.status_code, reply.json()["code"]) == (500, "non-finite-action")


def test_a_full_queue(desk, frame):
    """What `submit` itself refuses is answered, and nothing is left counted as waiting."""
    desk.policy.submit = lambda *_, **__: (_ for _ in ()).throw(Overloaded("overloaded", "Full.", retry_after_s=1))
    reply = desk.act(frame)

    assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
    assert desk.sample("stillframe_queue_depth") == 0


def test_a_dropped_frame_is_told_that_the_daemon_stops():
    """A policy that cancels a waiting frame leaves no request without an answer."""
    dropped: Future = Future()
    dropped.cancel()

    with pytest.raises(NotReady) as caught:
        asyncio.run(await_step(dropped, 1.0))
    assert caught.value.code == "draining"


def test_a_cancelled_request_stays_cancelled():
    """When the server gives up on a request, that is not taken for a drain; others may still wait for the frame."""
    waiting: Future = Future()

    async def give_up():
        task = asyncio.create_task(await_step(waiting, 20.0))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(give_up())
    assert not waiting.cancelled()


def test_frames_are_refused_while_there_is_no_policy(desk, frame):
    """Before the policy is there, warming, and draining: 503 with Retry-After, and the body is not read."""
    desk.policy.ready = False
    warming = desk.act(frame)
    desk.lifecycle.drain()
    draining = desk.act(frame)

    assert (warming.status_code, warming.json()["code"]) == (503, "not-ready")
    assert (draining.status_code, draining.json()["code"]) == (503, "draining")
    assert draining.headers["retry-after"] == "10"
    assert desk.policy.seen == []


def test_bodies_do_not_pile_up(new_desk, frame):
    """A body that finds no room beside those that arrive is refused at its first bytes; the others are served."""
    body = json.dumps(frame).encode()
    desk = new_desk(Limits(max_intake_bytes=4 * len(body) // 3 + 10))
    read = []

    async def crowd():
        arriving, go_on = asyncio.Event(), asyncio.Event()

        async def first():
            yield body[:-1]
            arriving.set()
            await go_on.wait()
            yield body[-1:]

        async def second():
            for start in range(0, len(body), 100):
                read.append(start)
                yield body[start : start + 100]

        async with desk.client() as client:
            waiting = asyncio.create_task(client.post("/act", content=first()))
            await arriving.wait()
            refused = await client.post("/act", content=second())
            go_on.set()
            return refused, await waiting

    refused, served = asyncio.run(crowd())

    assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
    assert read[-1] <= 100
    assert served.status_code == 200


@pytest.fixture
def listening(desk):
    """The desk's app behind a real socket: (host, port)."""
    server = uvicorn.Server(uvicorn.Config(desk.app, port=0, log_config=None, timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run)
    thread.start()
    asyncio.run(until(lambda: server.started))
    yield server.servers[0].sockets[0].getsockname()
    desk.policy.go_on.set()
    server.should_exit = True
    thread.join(60)


def test_a_client_that_leaves_is_not_waited_for(desk, frame, listening, caplog):
    """Its frame is withdrawn from the queue, never computed, and counted as abandoned; the others are answered."""
    desk.policy.go_on.clear()
    url = "http://{}:{}/act".format(*listening)
    body = json.dumps(frame).encode()
    lines = ["POST /act HTTP/1.1", "Host: localhost", "Content-Type: application/json", f"Content-Length: {len(body)}"]
    head = "\r\n".join([*lines, "", ""])

    async def leave():
        async with httpx.AsyncClient(timeout=20, trust_env=False) as client:
            staying = asyncio.create_task(client.post(url, json=frame))
            await until(desk.policy.started.is_set)
            with socket.create_connection(listening) as leaving:
                leaving.sendall(head.encode() + body)
                await until(lambda: len(desk.policy.ages_ms) == 2)
            await until(lambda: desk.sample("stillframe_frames_total", outcome="abandoned") == 1)
            desk.policy.go_on.set()
            return await staying

    reply = asyncio.run(leave())
    desk.policy.close()

    assert reply.status_code == 200
    assert len(desk.policy.seen) == 1
    assert desk.sample("stillframe_queue_depth") == 0
    assert desk.sample("stillframe_frames_total", outcome="answered") == 1
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
