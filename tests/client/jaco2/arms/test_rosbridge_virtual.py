from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from stillframe_client.jaco2 import rotations
from stillframe_client.jaco2.arms.base import ArmError
from stillframe_client.jaco2.arms.kinematic import DOWN, START_M
from stillframe_client.jaco2.arms.rosbridge import RosbridgeArm
from stillframe_client.jaco2.domain import Twist
from stillframe_client.jaco2.rosbridge.calls import Reply
from stillframe_client.jaco2.rosbridge.dial import RosbridgeError
from stillframe_client.jaco2.settings import ArmSettings


def twist(x: float = 0.0, y: float = 0.0, z: float = 0.0, *, turn: Any = (0, 0, 0), closure: float = 0.0) -> Twist:
    """A command."""
    return Twist(np.array([x, y, z]), np.array(turn, dtype=float), closure)


class Loopback:
    """A connection without a socket to a node on a virtual clock: what is published is there at once."""

    url, errors, why_closed, is_open = "ws://virtual", (), "", True

    def __init__(self, node: Any):
        self.node = node
        self.advertised: dict[str, str] = {}
        self._takers: dict[str, Callable[[dict[str, Any]], None]] = {}

    def advertise(self, topic: str, kind: str) -> None:
        """Note the type."""
        self.advertised[topic] = kind

    def subscribe(self, topic: str, kind: str, take: Callable[[dict[str, Any]], None]) -> None:
        """Note who takes it."""
        assert self.node.published[topic] == kind
        self._takers[topic] = take

    def on_open(self, opened: Callable[[], None]) -> None:
        """It is open."""
        opened()

    def open(self, timeout_s: float) -> None:
        """Let the time pass."""
        self.advance(timeout_s)

    def publish(self, topic: str, message: dict[str, Any]) -> bool:
        """It is there at once."""
        assert self.node.subscribed[topic] == self.advertised[topic]
        self.node.receive(topic, message)
        return True

    def call(self, service: str, arguments: Any, done: Callable[[Reply], None], kind: Any = None) -> None:  # noqa: ARG002
        """The answer is there at once."""
        values, _ = self.node.call(service)
        done(Reply("", values) if isinstance(values, dict) else Reply(values))

    def call_and_wait(self, *_: Any) -> Any:
        """None of these services is here."""
        raise RosbridgeError("there is no rosapi")

    def discard(self, topic: str) -> None:
        """Take back what the node has not taken."""
        self.node._queue.pop(topic, None)

    def close(self) -> None:
        """Nothing is held."""

    def advance(self, seconds: float) -> None:
        """Let time pass, 10 ms at a time."""
        ends_s = self.node.now_s + seconds
        while self.node.now_s < ends_s - 1e-9:
            for topic, message in self.node.advance(self.node.now_s + 0.01):
                self._takers[topic](message)


@pytest.fixture
def virtual(driver_node: Callable[..., Any]) -> Callable[..., tuple[RosbridgeArm, Loopback]]:
    """An arm that is connected to a node on a virtual clock."""

    def make(*, ros: int = 1, under_travel: float = 0.0, **arm: Any) -> tuple[RosbridgeArm, Loopback]:
        link = Loopback(driver_node(0.0, ros=ros, under_travel=under_travel))
        made = RosbridgeArm(ArmSettings(kind="rosbridge", ros=ros, **arm), link, lambda: link.node.now_s)
        made.connect(1.0)
        return made, link

    return make


def play(arm: RosbridgeArm, link: Loopback, commands: list[tuple[Twist, int]]) -> None:
    """Send each command for so many ticks."""
    for command, ticks in commands:
        for _ in range(ticks):
            arm.send(command)
            link.advance(0.01)


@pytest.mark.parametrize("ros", [1, 2])
@pytest.mark.parametrize("command", ["with_fingers", "arm_only"])
def test_twists_move_the_arm_where_they_say(virtual: Callable[..., Any], ros: int, command: str) -> None:
    """Translation in the base frame and rotation in the tool's own, whatever came before: the final pose is exact."""
    arm, link = virtual(ros=ros, command=command)
    play(
        arm,
        link,
        [
            (twist(0.1), 50),  # 5 cm along x
            (twist(turn=(0.0, 0.0, 0.5)), 100),  # half a radian about the tool's z, which points down
            (twist(y=-0.05, turn=(0.5, 0.0, 0.0)), 100),  # along the base's y, about the tool's new x
            (twist(z=0.02), 50),
        ],
    )
    link.advance(0.2)

    pose = arm.state().pose
    assert pose.position_m == pytest.approx(np.add(START_M, (0.05, -0.05, 0.01)), abs=1e-6)
    turned = rotations.multiply(
        rotations.from_vector(np.array([0, 0, 0.5])), rotations.from_vector(np.array([0.5, 0, 0]))
    )
    off = rotations.turn_between(rotations.multiply(np.array(DOWN), turned), pose.orientation)
    assert np.linalg.norm(off) < 1e-6


def test_an_arm_that_under_travels_says_so(virtual: Callable[..., Any]) -> None:
    """The report is where the tool is, not where it was sent."""
    arm, link = virtual(under_travel=0.2)
    play(arm, link, [(twist(0.1), 100)])
    link.advance(0.2)
    assert arm.state().pose.position_m[0] == pytest.approx(0.08, abs=1e-6)


def test_the_hand_closes_in_per_cent(virtual: Callable[..., Any]) -> None:
    """Closure 0.5 is 50 per cent for the driver's finger loop, which ends within its dead band; its report is read."""
    arm, link = virtual()
    play(arm, link, [(twist(closure=0.5), 400)])
    link.advance(0.2)

    assert link.node.commands[-1][1][6] == pytest.approx(50.0)
    assert arm.state().closure == pytest.approx(0.5, abs=0.01)


def test_without_fingers_the_hand_stays(virtual: Callable[..., Any]) -> None:
    """PoseVelocity moves the arm alone."""
    arm, link = virtual(command="arm_only")
    play(arm, link, [(twist(0.05, closure=1.0), 100)])
    link.advance(0.2)

    assert arm.state().closure == 0.0
    assert arm.state().pose.position_m[0] == pytest.approx(0.05, abs=1e-6)


def test_each_pose_is_a_report_timed_by_arrival(virtual: Callable[..., Any]) -> None:
    """`seq` grows by one with each tool pose, ten a second; `time_s` is this machine's clock; joints come along."""
    arm, link = virtual()
    first = arm.state()
    link.advance(1.0)
    last = arm.state()

    assert 9 <= last.seq - first.seq <= 11
    assert 0 <= link.node.now_s - last.time_s <= 0.11
    assert last.joints_rad == pytest.approx([0.1 * n for n in range(6)])


def test_in_a_singularity_the_report_stands_still(virtual: Callable[..., Any]) -> None:
    """The driver takes commands, says nothing and does not move: reports go on, so that the streamer can see it."""
    arm, link = virtual()
    link.node.body.singular = True
    before = arm.state()
    play(arm, link, [(twist(0.1), 100)])
    after = arm.state()

    assert after.seq > before.seq
    assert after.pose.position_m.tolist() == before.pose.position_m.tolist()


def test_after_a_stop_nothing_is_sent_until_a_start(virtual: Callable[..., Any]) -> None:
    """in/stop and in/clear_trajectories are called, commands are dropped here already; in/start lets them in again."""
    arm, link = virtual()
    arm.stop()
    play(arm, link, [(twist(0.1), 20)])
    assert [name for _, name in link.node.calls] == ["in/stop", "in/clear_trajectories"]
    assert link.node.commands == []

    arm.start()
    play(arm, link, [(twist(0.1), 20)])
    assert link.node.model.counts.commands == 20
    assert link.node.model.counts.refused == 0


def test_a_stop_erases_what_the_driver_has(virtual: Callable[..., Any]) -> None:
    """A backlog in the driver's queue is not played after in/stop."""
    arm, link = virtual()
    for _ in range(300):  # faster than the arm plays, each taken
        arm.send(twist(0.1))
        link.node.advance(link.node.now_s + 0.001)
    at = link.node.body.pose().position_m[0]
    arm.stop()
    link.advance(1.0)
    assert link.node.body.pose().position_m[0] == pytest.approx(at, abs=1e-9)


def test_a_stop_that_fails_is_asked_for_again(virtual: Callable[..., Any]) -> None:
    """Until the driver confirms it, in/stop is called twice a second; meanwhile no start is sent."""
    arm, link = virtual()
    link.node.failing.add("in/stop")
    arm.stop()
    for _ in range(200):
        link.advance(0.01)
        arm.state()
    assert 4 <= [name for _, name in link.node.calls].count("in/stop") <= 6

    arm.start()
    with pytest.raises(ArmError, match=r"in/stop is not confirmed yet"):
        arm.send(twist())
    link.node.failing.clear()
    link.advance(0.6)
    arm.state()
    arm.start()
    arm.send(twist())
    assert [name for _, name in link.node.calls].count("in/start") == 1


def test_a_start_that_fails_is_said_by_the_next_command(virtual: Callable[..., Any]) -> None:
    """Commands that the driver would ignore are not sent: ArmError says why."""
    arm, link = virtual()
    link.node.failing.add("in/start")
    arm.start()
    with pytest.raises(ArmError, match=r"/j2n6s300_driver/in/start failed: the driver could not do it"):
        arm.send(twist())
