from __future__ import annotations

import subprocess
import sys
import threading

import numpy as np
import pytest

from stillframe.domain import KeyframeReason, Observation, SessionRef
from stillframe.errors import Overloaded
from stillframe.testing import EchoPolicy, ManualClock, policy_info, running
from stillframe_client import NotReady, PolicyClient, PolicyStream
from stillframe_client import Overloaded as Refused

PICTURE = np.arange(8 * 10 * 3, dtype=np.uint8).reshape(8, 10, 3)
ECHO = [8.0, 10.0, 0.0, 1.0, 2.0, 2.0, 1.0]


@pytest.mark.parametrize("client", [PolicyClient, PolicyStream])
def test_a_robots_program_is_answered_with_what_it_sent(client: type[PolicyClient | PolicyStream]) -> None:
    """Over HTTP and over a WebSocket: the daemon's own routes and sessions, round a policy that echoes."""
    policy = EchoPolicy()
    with running(policy) as url, client(url, timeout_s=20.0) as robot:
        robot.reset()
        replies = [robot.act_with_report(PICTURE, "go") for _ in range(2)]

    assert [reply.action.tolist() for reply in replies] == [ECHO, ECHO]
    assert [reply.cache.reuse_ratio for reply in replies if reply.cache] == [0.0, 0.5]
    assert [ref.seq for ref in policy.sessions if ref] == [0, 1]
    assert np.array_equal(policy.seen[0].images["front"], PICTURE)


def test_what_is_served_is_as_it_is_said() -> None:
    """/v1/models has the contract that `policy_info` was given; the rest of it stays."""
    with running(EchoPolicy(policy_info(name="mine", cameras=("wrist",)))) as url, PolicyClient(url) as robot:
        info = robot.info()

    assert (info.name, info.cameras, info.chunk_horizon) == ("mine", ("wrist",), 1)


def test_two_daemons_run_beside_each_other() -> None:
    """Each listens on a free port of its own, whatever else the machine serves."""
    with running(EchoPolicy()) as one, running(EchoPolicy()) as other:
        assert one != other


def test_a_refusal_is_a_problem() -> None:
    """An error of the policy reaches the robot as the daemon would tell it."""
    policy = EchoPolicy(error=Overloaded("overloaded", "Too many frames wait."))
    with running(policy) as url, PolicyClient(url, timeout_s=20.0) as robot, pytest.raises(Refused):
        robot.act(PICTURE, "go")


def test_a_policy_that_is_not_ready_is_loading() -> None:
    """`ready=False` is a daemon that still loads."""
    with running(EchoPolicy(ready=False)) as url, PolicyClient(url, timeout_s=20.0) as robot, pytest.raises(NotReady):
        robot.act(PICTURE, "go")


def test_frames_wait_while_they_may_not_go_on() -> None:
    """With `go_on` clear a frame is begun and not answered, until it is set."""
    policy = EchoPolicy(actions=np.ones((2, 7)))
    policy.go_on.clear()
    answer = policy.submit(Observation({"front": PICTURE}, "go"), 100.0)
    assert policy.started.wait(20.0)
    assert not answer.done()
    policy.go_on.set()

    assert answer.result(60.0).chunk.actions.tolist() == np.ones((2, 7)).tolist()
    assert policy.ages_ms == [100.0]
    policy.close()


def test_sessions_take_slots_until_they_are_forgotten() -> None:
    """`usage` counts sessions; an episode after the first begins with a keyframe that says reset."""
    policy = EchoPolicy()
    for number in range(2):
        policy.submit(Observation({"front": PICTURE}, "go"), 100.0, SessionRef(f"arm-{number}", epoch=1)).result(60.0)
    held = policy.usage.sessions
    policy.forget("arm-0")

    assert (held, policy.usage.sessions) == (2, 1)
    assert (
        policy.step(Observation({"front": PICTURE}, "go"), SessionRef("arm-1", epoch=1)).report.cache.keyframe_reason
        is KeyframeReason.RESET
    )
    policy.close()


def test_nothing_is_left_running() -> None:
    """After the block neither server nor policy has a thread."""
    before = {*threading.enumerate()}
    with running(EchoPolicy()) as url, PolicyClient(url) as robot:
        robot.act(PICTURE, "go")

    assert {*threading.enumerate()} <= before


def test_a_clock_goes_when_it_is_told_to() -> None:
    """It stands at what it was set to, and advances by what is said."""
    clock = ManualClock(5.0)

    assert (clock(), clock.advance(0.5), clock()) == (5.0, 5.5, 5.5)


@pytest.mark.process
def test_it_needs_no_torch() -> None:
    """A robot's tests need no gigabytes."""
    script = "import sys; sys.modules['torch'] = None; import stillframe.testing"

    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
