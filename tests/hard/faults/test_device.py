"""A device that fails, runs out of memory, answers nonsense or stands still: what each of two robots is told of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import httpx
import numpy as np
import pytest

from stillframe_client import DeadlineExceeded, NotReady, Overloaded, PolicyClient, PolicyStream, ServerFault

WAIT_S = 60.0
SECRETS = ("secret", "/etc/", "0x", "Traceback", "RuntimeError", "MemoryError")


@pytest.fixture(scope="module")
def daemon(new_daemon: Callable[..., Any]) -> Any:
    """One daemon for all: each fault is over with its test."""
    return new_daemon(watchdog_s=2)


@pytest.fixture(scope="module")
def crowded(new_daemon: Callable[..., Any]) -> Any:
    """One that lets four frames wait, and is patient with its device."""
    return new_daemon(queue_frames=4, sessions={"lease_s": 0})


@pytest.fixture(params=[PolicyClient, PolicyStream])
def robots(daemon: Any, goldens: Mapping[str, Any], request: Any) -> Iterator[dict[str, Callable[[], Any]]]:
    """Two robots that look at scenes of their own, over each wire."""
    with (
        request.param(daemon.url, timeout_s=WAIT_S) as left,
        request.param(daemon.url, timeout_s=WAIT_S) as right,
    ):
        clients = {"left": (left, goldens["f0"]), "right": (right, goldens["f1"])}
        yield {
            name: partial(client.act_with_report, golden.picture, golden.instruction)
            for name, (client, golden) in clients.items()
        }


def alike(action: Any, golden: Any) -> bool:
    """Whether they are equal to the bit, as far as the stream's float32 goes."""
    return np.array_equal(np.asarray(action, np.float32), np.asarray(golden, np.float32))


def kinds(replies: list[Any]) -> list[Any]:
    """What each frame was, and why."""
    return [(reply.cache.frame, reply.cache.reason) for reply in replies]


@pytest.mark.parametrize(
    ("order", "error", "code"),
    [
        ("fail", ServerFault, "internal"),
        ("oom", Overloaded, "out-of-memory"),
        ("nan", ServerFault, "non-finite-action"),
    ],
)
def test_one_frame_fails_and_no_other(
    daemon: Any, robots: Any, goldens: Mapping[str, Any], order: str, error: type[Exception], code: str
) -> None:
    """The frame gets a problem that says nothing of the cause; the other robot's and the next one get their actions."""
    replies = [robots[name]() for name in ("left", "right", "left")]
    daemon.order(order)
    with pytest.raises(error) as caught:
        robots["left"]()
    after = [robots[name]() for name in ("right", "left", "left")]
    problem = caught.value.problem

    assert problem.code == code
    assert not any(secret in problem.detail for secret in SECRETS)
    assert kinds(replies) == [("keyframe", "first-frame"), ("keyframe", "first-frame"), ("delta", None)]
    assert kinds(after)[0] == kinds(after)[2] == ("delta", None)
    assert kinds(after)[1] == ("keyframe", "integrity")
    assert all(alike(replies[at].action, goldens["f0"].action) for at in (0, 2))
    assert alike(after[0].action, goldens["f1"].action)
    assert all(alike(reply.action, goldens["f0"].action) for reply in after[1:])
    assert daemon.ready() == 200


def test_a_device_that_stands_still_is_noticed(
    daemon: Any, goldens: Mapping[str, Any], threads: ThreadPoolExecutor, waiting: Callable[..., None]
) -> None:
    """/readyz says stuck and frames are refused; once the device goes on, the frame is answered and all is well."""
    golden = goldens["f0"]
    with PolicyClient(daemon.url, timeout_s=WAIT_S) as client, PolicyClient(daemon.url, timeout_s=WAIT_S) as other:
        client.act(golden.picture, golden.instruction)
        with daemon.held():
            first = threads.submit(client.act, golden.picture, golden.instruction, max_age_ms=60_000)
            waiting(lambda: daemon.ready() == 503, "stuck")
            state = daemon.get("/readyz").json()
            alive = daemon.get("/livez").status_code
            with pytest.raises(NotReady) as refused:
                other.act(golden.picture, golden.instruction)
            undecided = first.done()
        action = first.result(WAIT_S)
        waiting(lambda: daemon.ready() == 200, "ready again")
        again = other.act(golden.picture, golden.instruction)

    assert (state["state"], state["code"], alive) == ("stuck", "stuck", 200)
    assert refused.value.problem.code == "stuck"
    assert not undecided
    assert alike(action, golden.action)
    assert alike(again, golden.action)
    assert daemon.get("/metrics").text.count("stillframe_watchdog") > 0


@pytest.mark.parametrize("wire", [PolicyClient, PolicyStream])
def test_a_frame_that_waited_too_long_is_not_computed(
    crowded: Any, goldens: Mapping[str, Any], threads: ThreadPoolExecutor, wire: Any,
    waiting: Callable[..., None],
) -> None:  # fmt: skip
    """Behind a device ten times too slow frames expire: 504, none is delivered late, and the next is answered."""
    daemon, golden = crowded, goldens["f0"]
    robots = [wire(daemon.url, timeout_s=WAIT_S) for _ in range(5)]
    for robot in robots:
        robot.act(golden.picture, golden.instruction)
    with daemon.held():
        first = threads.submit(robots[0].act_with_report, golden.picture, golden.instruction, max_age_ms=60_000)
        daemon.holds()
        stale = [
            threads.submit(robot.act_with_report, golden.picture, golden.instruction, max_age_ms=300)
            for robot in robots[1:]
        ]
        waiting(lambda: daemon.gauge("queue_depth") == len(robots), "all frames in line")
        expires_s = time.monotonic() + 0.3
        waiting(lambda: time.monotonic() > expires_s, "their time")
    told = [frame.exception(WAIT_S) for frame in stale]
    after = [robot.act_with_report(golden.picture, golden.instruction) for robot in robots]
    for robot in robots:
        robot.close()

    assert [type(error) for error in told] == [DeadlineExceeded] * 4
    assert not first.result(WAIT_S).late
    assert all(alike(reply.action, golden.action) for reply in after)
    assert not any(reply.late for reply in after)


def test_who_leaves_frees_his_place(
    crowded: Any,
    goldens: Mapping[str, Any],
    threads: ThreadPoolExecutor,
    waiting: Callable[..., None],
) -> None:
    """Robots that go while their frames wait leave the line, over each wire, while the device is at another's frame."""
    daemon, golden = crowded, goldens["f0"]
    frame = (golden.picture, golden.instruction)
    leaving = [kind(daemon.url, timeout_s=1) for kind in (PolicyClient, PolicyStream) for _ in range(2)]
    with PolicyClient(daemon.url, timeout_s=WAIT_S) as patient, PolicyClient(daemon.url, timeout_s=WAIT_S) as late:
        with daemon.held():
            first = threads.submit(patient.act, *frame, max_age_ms=60_000)
            daemon.holds()
            gone = [threads.submit(robot.act, *frame, max_age_ms=60_000) for robot in leaving]
            waiting(lambda: daemon.gauge("queue_depth") == 5, "all in line")
            with pytest.raises(Overloaded) as full:
                late.act(*frame)
            told = [frame.exception(WAIT_S) for frame in gone]
            for robot in leaving:
                robot.close()
            waiting(lambda: daemon.gauge("queue_depth") == 1, "the line empty")
            body = {"image": "", "instruction": "go"}
            understood = httpx.post(f"{daemon.url}/v1/act", json=body, timeout=WAIT_S).json()["code"]
        action = first.result(WAIT_S)

    assert full.value.problem.code == "overloaded"
    assert all(error is not None for error in told)
    assert understood == "image-invalid"
    assert alike(action, golden.action)
