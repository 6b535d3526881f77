"""A daemon that is killed in a step and started again, and one that is told to stop under load."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest
from websockets.sync.client import connect

from stillframe_client import NotReady, PolicyClient, PolicyStream, Unreachable
from stillframe_client.wire import pack, unpack

WAIT_S = 60.0
EACH = 3  # robots on each wire
DRAIN_S = 30


class Openpi:
    """A client of openpi's wire."""

    def __init__(self, url: str, *, timeout_s: float):
        self._timeout_s = timeout_s
        self._ending = ExitStack()
        self._socket = self._ending.enter_context(connect(url.replace("http", "ws", 1), open_timeout=timeout_s))
        self._socket.recv(timeout_s)

    def act(self, picture: Any, instruction: str) -> Any:
        """The action, or the text of the error."""
        self._socket.send(pack({"observation/image": picture, "prompt": instruction, "max_age_ms": 60_000}))
        reply = self._socket.recv(self._timeout_s)
        return reply if isinstance(reply, str) else unpack(reply)["actions"][0]

    def __enter__(self) -> Openpi:
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.close()


def alike(action: Any, golden: Any) -> bool:
    """Whether they are equal to the bit, as far as the streams' float32 goes."""
    return np.array_equal(np.asarray(action, np.float32), np.asarray(golden, np.float32))


@pytest.mark.slow  # the daemon loads twice
def test_killed_in_a_step(
    new_daemon: Callable[..., Any], goldens: Mapping[str, Any], threads: ThreadPoolExecutor
) -> None:
    """HTTP clients are told at once; a stream waits for the daemon to come back. Both begin with a keyframe."""
    daemon, golden = new_daemon(), goldens["f0"]
    frame = (golden.picture, golden.instruction)
    with (
        PolicyClient(daemon.url, timeout_s=WAIT_S, session="arm") as posting,
        PolicyStream(daemon.url, timeout_s=2 * WAIT_S) as streaming,
    ):
        before = [client.act_with_report(*frame) for client in (posting, streaming) for _ in range(2)]
        with daemon.held():
            posted = threads.submit(posting.act_with_report, *frame)
            streamed = threads.submit(streaming.act_with_report, *frame, max_age_ms=60_000)
            daemon.holds()
            daemon.signal(signal.SIGKILL)
            told = posted.exception(WAIT_S)
            daemon.running.wait(WAIT_S)
            undecided = streamed.done()
        daemon.start()
        resumed = streamed.result(2 * WAIT_S)
        after = [posting.act_with_report(*frame), resumed, posting.act_with_report(*frame)]
        after.append(streaming.act_with_report(*frame))
    kinds = [[reply.cache.frame for reply in replies] for replies in (before, after)]

    assert isinstance(told, Unreachable)
    assert not undecided
    assert kinds == [["keyframe", "delta"] * 2, ["keyframe", "keyframe", "delta", "delta"]]
    assert all(alike(reply.action, golden.action) for reply in (*before, *after))
    assert [complaint for complaint in daemon.complaints() if complaint["level"] == "error"] == []
    daemon.stop()


def test_a_stop_under_load(
    new_daemon: Callable[..., Any],
    goldens: Mapping[str, Any],
    threads: ThreadPoolExecutor,
    waiting: Callable[..., None],
) -> None:
    """What was taken is answered on every wire, /readyz says draining meanwhile, new frames are refused, it exits 0."""
    daemon, golden = new_daemon(drain_s=DRAIN_S), goldens["f0"]
    frame = (golden.picture, golden.instruction)
    with ExitStack() as clients:
        robots: list[Any] = [
            clients.enter_context(kind(daemon.url, timeout_s=WAIT_S))
            for kind in (PolicyClient, PolicyStream, Openpi)
            for _ in range(EACH)
        ]
        firsts = [robot.act(*frame) for robot in robots]
        late = clients.enter_context(PolicyClient(daemon.url, timeout_s=WAIT_S))
        with daemon.held():
            asked = [threads.submit(robot.act, *frame) for robot in robots]
            waiting(lambda: daemon.gauge("queue_depth") == len(robots), "every frame taken")
            daemon.signal(signal.SIGTERM)
            waiting(lambda: daemon.ready() == 503, "draining")
            state = daemon.get("/readyz").json()["state"]
            with pytest.raises(NotReady) as refused:
                late.act(*frame)
        actions = [answer.result(WAIT_S) for answer in asked]
        status = daemon.running.wait(DRAIN_S)

    assert all(alike(action, golden.action) for action in (*firsts, *actions))
    assert (state, refused.value.problem.code) == ("draining", "draining")
    assert status == 0
    assert daemon.complaints() == []


@pytest.mark.slow
def test_a_stop_while_robots_go_on_asking(
    new_daemon: Callable[..., Any],
    goldens: Mapping[str, Any],
    threads: ThreadPoolExecutor,
    waiting: Callable[..., None],
) -> None:
    """Each robot gets right actions, one after the other, until it is told that the daemon drains or it is gone."""
    daemon, golden = new_daemon(drain_s=DRAIN_S), goldens["f0"]
    answered = [0] * EACH

    def ask(number: int) -> Exception:
        with PolicyClient(daemon.url, timeout_s=WAIT_S) as robot:
            while True:
                try:
                    action = robot.act(golden.picture, golden.instruction)
                except (NotReady, Unreachable) as error:
                    return error
                assert alike(action, golden.action)
                answered[number] += 1

    robots = [threads.submit(ask, number) for number in range(EACH)]
    waiting(lambda: min(answered) > 3, "a few answers each")
    daemon.signal(signal.SIGTERM)
    told = [robot.result(WAIT_S) for robot in robots]
    status = daemon.running.wait(DRAIN_S)

    assert all(error.problem.code == "draining" for error in told if isinstance(error, NotReady))
    assert status == 0
    assert daemon.complaints() == []


def test_an_engine_that_ends_ends_the_daemon(
    new_daemon: Callable[..., Any], goldens: Mapping[str, Any], threads: ThreadPoolExecutor
) -> None:
    """SystemExit in a frame would end a thread in silence: all that wait get a problem, and the status is not 0."""
    daemon, golden = new_daemon(), goldens["f0"]
    frame = (golden.picture, golden.instruction)
    clients = [PolicyClient(daemon.url, timeout_s=WAIT_S, session=f"arm-{number}") for number in range(3)]
    with daemon.held():
        answers = [threads.submit(client.act, *frame, max_age_ms=60_000) for client in clients]
        daemon.holds()
        daemon.order("exit")
    for answer in answers:
        with pytest.raises(NotReady) as caught:
            answer.result(WAIT_S)
        assert caught.value.problem.code in ("engine-ended", "draining")

    assert daemon.running.wait(WAIT_S) == 1
    log = (daemon.folder / "log").read_text()
    assert "the engine has ended: SystemExit" in log
    assert '"level": "critical"' in log
    for client in clients:
        client.close()
