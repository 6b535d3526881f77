from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from stillframe_client.jaco2 import rotations
from stillframe_client.jaco2.arms import make_arm
from stillframe_client.jaco2.arms.base import ArmInfo
from stillframe_client.jaco2.arms.base_frame import BaseFrameTurns
from stillframe_client.jaco2.config import load
from stillframe_client.jaco2.domain import ArmState, ToolPose, Twist

numbers = st.floats(-1, 1)


class BaseFrameArm:
    """An arm that turns in the base frame."""

    def __init__(self, orientation: np.ndarray | None):
        self.orientation = orientation
        self.calls: list[str] = []
        self.sent: list[Twist] = []

    def connect(self, timeout_s: float) -> ArmInfo:  # noqa: ARG002 -- the protocol's
        """Answer, or not."""
        return ArmInfo("fake", "fake", has_hand=True, reports_hz=10.0, details={"address": "here"})

    def state(self) -> ArmState | None:
        """The newest report."""
        return None if self.orientation is None else ArmState(0, 0.0, ToolPose(np.zeros(3), self.orientation))

    def send(self, twist: Twist) -> None:
        """Turn."""
        self.sent.append(twist)
        if self.orientation is not None:
            turned = rotations.from_vector(0.1 * twist.angular_rad_s)
            self.orientation = rotations.multiply(turned, self.orientation)

    def start(self) -> None:
        """Note it."""
        self.calls.append("start")

    def stop(self) -> None:
        """Note it."""
        self.calls.append("stop")

    def home(self, timeout_s: float) -> None:
        """Note it."""
        self.calls.append(f"home {timeout_s}")

    def close(self) -> None:
        """Note it."""
        self.calls.append("close")


@given(numbers, numbers, numbers, numbers, numbers, numbers)
def test_a_turn_in_the_tools_frame_is_one(x: float, y: float, z: float, a: float, b: float, c: float) -> None:
    """However the hand is held, it turns about its own axes; the shift and the hand are passed on as they are."""
    start, turn = rotations.from_vector(np.array([x, y, z])), np.array([a, b, c])
    inner = BaseFrameArm(start)
    twist = Twist(np.array([0.1, 0.2, 0.3]), turn, 0.5)

    BaseFrameTurns(inner).send(twist)

    assert inner.orientation is not None
    done = rotations.to_vector(rotations.multiply(rotations.inverse(start), inner.orientation))
    assert np.allclose(done, 0.1 * turn, atol=1e-9)
    assert inner.sent[0].linear_m_s is twist.linear_m_s
    assert inner.sent[0].closure == 0.5


def test_without_a_report_nothing_turns() -> None:
    """Which way it would turn is not known."""
    inner = BaseFrameArm(None)

    BaseFrameTurns(inner).send(Twist(np.ones(3), np.ones(3), 0.0))

    assert not inner.sent[0].angular_rad_s.any()


def test_all_else_is_the_arms() -> None:
    """Start, stop, home and close are passed on; `check` shows that rotations are turned."""
    inner = BaseFrameArm(None)
    arm = BaseFrameTurns(inner)

    info = arm.connect(1.0)
    arm.start()
    arm.stop()
    arm.home(3.0)
    arm.close()

    assert inner.calls == ["start", "stop", "home 3.0", "close"]
    assert info.details == {"address": "here", "rotations": "taken in the base frame"}


def test_only_the_setting_wraps_an_arm() -> None:
    """As it is set: tool is the arm itself, base is wrapped."""
    assert type(make_arm(load(None))).__name__ == "SimArm"
    assert isinstance(make_arm(load(None, {"arm.angular_frame": "base"})), BaseFrameTurns)
