from __future__ import annotations

import math
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from stillframe_client.jaco2.arms import make_arm
from stillframe_client.jaco2.arms.base import ArmError
from stillframe_client.jaco2.arms.rospy import orders
from stillframe_client.jaco2.arms.rospy.arm import RospyArm
from stillframe_client.jaco2.arms.rospy.orders import START_TRIES, Orders
from stillframe_client.jaco2.domain import Twist
from stillframe_client.jaco2.settings import ArmSettings, BridgeSettings

TWIST = Twist(np.array([0.01, -0.02, 0.03]), np.array([0.1, -0.2, 0.3]), 0.5)
SOON_S = 60.0
NAMES = ("PoseVelocity", "PoseVelocityWithFingers", "FingerPosition", "PoseStamped")


class FakeRos:
    """As much of ROS as the arm touches. What it really does is tests/client/jaco2/ros1's."""

    def __init__(self) -> None:
        self.nodes: list[dict[str, Any]] = []
        self.published: list[tuple[float, ...]] = []
        self.publishers: list[tuple[str, Any, dict[str, Any]]] = []
        self.heard: dict[str, Callable[[Any], None]] = {}
        self.called: list[str] = []
        self.connections = 1
        self.down = False
        self.refuses: set[str] = set()  # services
        self.home_takes = threading.Event()
        self.home_takes.set()

    def rospy(self) -> ModuleType:
        """The module."""
        ros, module = self, ModuleType("rospy")

        def subscribe(topic: str, kind: Any, heard: Callable[[Any], None], **options: Any) -> None:
            assert options == {"queue_size": 1, "tcp_nodelay": True}
            ros.heard[topic] = heard
            if kind.__name__ == "PoseStamped":
                heard(pose_message())

        def service(name: str, kind: Any) -> Callable[[], None]:
            assert kind.__name__.lower() == name.rpartition("/")[2].replace("_", "")

            def call() -> None:
                ros.called.append(name)
                if name.endswith("home_arm"):
                    ros.home_takes.wait(SOON_S)
                if name.rpartition("/")[2] in ros.refuses:
                    raise RuntimeError("service unavailable")

            return call

        module.__dict__.update(
            Publisher=publisher(self),
            Subscriber=subscribe,
            ServiceProxy=service,
            init_node=lambda name, **options: ros.nodes.append({"name": name, **options}),
            is_shutdown=lambda: ros.down,
            signal_shutdown=lambda _: setattr(ros, "down", True),
        )
        return module


def publisher(ros: FakeRos) -> type:
    """Its class."""

    class Publisher:
        def __init__(self, topic: str, kind: Any, **options: Any):
            ros.publishers.append((topic, kind, options))

        def publish(self, *numbers: float) -> None:
            if ros.down:
                raise RuntimeError("publish() to a closed topic")
            ros.published.append(numbers)

        def get_num_connections(self) -> int:
            return ros.connections

    return Publisher


def pose_message(x: float = 0.1) -> SimpleNamespace:
    """As out/tool_pose brings it."""
    return SimpleNamespace(
        pose=SimpleNamespace(
            position=SimpleNamespace(x=x, y=-0.4, z=0.3), orientation=SimpleNamespace(x=1.0, y=0.0, z=0.0, w=0.0)
        )
    )


@pytest.fixture
def ros(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeRos]:
    """Installed, with a master that answers."""
    fake = FakeRos()
    kinds = {name: type(name, (), {"_type": f"kinova_msgs/{name}", "_md5sum": "00"}) for name in NAMES}
    services = {name: type(name, (), {}) for name in ("Start", "Stop", "ClearTrajectories", "HomeArm")}
    modules = {"geometry_msgs.msg": kinds, "kinova_msgs.msg": kinds, "kinova_msgs.srv": services}
    for name in ("geometry_msgs", "kinova_msgs"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    for name, content in modules.items():
        module = ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, "rospy", fake.rospy())
    with socket.create_server(("127.0.0.1", 0)) as master:
        monkeypatch.setenv("ROS_MASTER_URI", f"http://127.0.0.1:{master.getsockname()[1]}")
        yield fake


@pytest.fixture
def connected(ros: FakeRos) -> Iterator[RospyArm]:
    """The arm of the default settings."""
    made = new_arm()
    made.connect(SOON_S)
    yield made
    ros.home_takes.set()
    made.close()


def new_arm(**settings: Any) -> RospyArm:
    """Not connected."""
    made = make_arm(BridgeSettings(arm=ArmSettings(kind="rospy", **settings)))
    assert isinstance(made, RospyArm)
    return made


def wait_until(holds: Callable[[], object]) -> None:
    """Wait, for long but not forever."""
    until = time.monotonic() + SOON_S
    while not holds():
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.002)


def test_without_ros_it_says_what_to_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names what is missing and the way out."""
    monkeypatch.setitem(sys.modules, "rospy", None)

    with pytest.raises(ArmError, match=r"ROS 1 is not here: .*rospy.*setup.bash.*rosbridge"):
        new_arm().connect(SOON_S)


def test_without_a_master_it_does_not_wait(ros: FakeRos, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of ROS is begun."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # taken, and not listened on
        monkeypatch.setenv("ROS_MASTER_URI", f"http://127.0.0.1:{free.getsockname()[1]}")
        with pytest.raises(ArmError, match=r"no ROS master at http://127.0.0.1:.*roscore"):
            new_arm().connect(SOON_S)
    assert ros.nodes == []


def test_signals_stay_ours(ros: FakeRos, connected: RospyArm) -> None:
    """The streamer's handlers stop the arm: ROS installs none. Commands are neither queued nor gathered."""
    topic, kind, options = ros.publishers[0]

    assert [(node["disable_signals"], node["argv"]) for node in ros.nodes] == [(True, [])]
    assert (topic, kind.__name__) == (
        "/j2n6s300_driver/in/cartesian_velocity_with_fingers",
        "PoseVelocityWithFingers",
    )
    assert options == {"tcp_nodelay": True, "queue_size": 1}
    assert connected.state() is not None


@pytest.mark.parametrize(
    ("prefix", "command", "topic", "length"),
    [
        ("", "with_fingers", "/j2n7s300_driver/in/cartesian_velocity_with_fingers", 7),
        ("/left", "arm_only", "/left/j2n7s300_driver/in/cartesian_velocity", 6),
        ("left/", "arm_only", "/left/j2n7s300_driver/in/cartesian_velocity", 6),
    ],
    ids=["plain", "prefixed", "prefix-written-otherwise"],
)
def test_topics_follow_the_settings(ros: FakeRos, prefix: str, command: str, topic: str, length: int) -> None:
    """Name, prefix and message."""
    arm = new_arm(name="j2n7s300", prefix=prefix, command=command)
    info = arm.connect(SOON_S)
    arm.send(TWIST)
    arm.close()

    assert ros.publishers[0][0] == topic == info.details["commands"]
    assert info.has_hand == (command == "with_fingers")
    assert ros.published == [(0.01, -0.02, 0.03, 0.1, -0.2, 0.3, 50.0)[:length]]


def test_reports_are_numbered_and_stamped_here(ros: FakeRos, connected: RospyArm) -> None:
    """Each pose is a report; the closure is the last that was heard, as a share of the settings' turns."""
    first = connected.state()
    ros.heard["/j2n6s300_driver/out/finger_position"](SimpleNamespace(finger1=3400.0))
    ros.heard["/j2n6s300_driver/out/tool_pose"](pose_message(x=0.2))
    second = connected.state()

    assert first is not None
    assert second is not None
    assert (first.seq, first.closure, second.seq, second.closure) == (1, None, 2, 0.5)
    assert second.pose.position_m.tolist() == [0.2, -0.4, 0.3]
    assert second.pose.orientation.tolist() == [1.0, 0.0, 0.0, 0.0]
    assert second.time_s >= first.time_s


def test_fingers_that_are_not_finite_are_not_reported(ros: FakeRos, connected: RospyArm) -> None:
    """No number is made up."""
    ros.heard["/j2n6s300_driver/out/finger_position"](SimpleNamespace(finger1=math.nan))
    ros.heard["/j2n6s300_driver/out/tool_pose"](pose_message())
    state = connected.state()

    assert state is not None
    assert state.closure is None


def test_a_driver_that_does_not_listen_is_told(ros: FakeRos) -> None:
    """Topic, settings and message version are what to look at; ROS is left again."""
    ros.connections = 0

    with pytest.raises(ArmError, match=r"none listens to /j2n6s300_driver/in/.*arm\.name and arm\.prefix.*kinova_msgs"):
        new_arm().connect(0.05)
    assert ros.down


def test_a_driver_that_goes_is_an_error(ros: FakeRos, connected: RospyArm) -> None:
    """With the next command."""
    ros.connections = 0

    with pytest.raises(ArmError, match="no longer listens"):
        connected.send(TWIST)


def test_a_closed_topic_is_an_arm_error(ros: FakeRos, connected: RospyArm) -> None:
    """The loop knows no error of ROS."""
    ros.down = True

    with pytest.raises(ArmError, match="not published: publish"):
        connected.send(TWIST)


def test_a_process_connects_once(ros: FakeRos, connected: RospyArm) -> None:
    """ROS allows no second node; the error says so."""
    connected.close()

    with pytest.raises(ArmError, match="connected to ROS before"):
        new_arm().connect(SOON_S)
    assert len(ros.nodes) == 1


def test_start_and_stop_are_services(ros: FakeRos, connected: RospyArm) -> None:
    """A stop also clears what was queued."""
    connected.start()
    wait_until(lambda: ros.called == ["/j2n6s300_driver/in/start"])
    connected.stop()
    wait_until(lambda: len(ros.called) == 3)

    assert ros.called[1:] == ["/j2n6s300_driver/in/stop", "/j2n6s300_driver/in/clear_trajectories"]


def test_a_start_that_fails_is_told_with_a_command(ros: FakeRos, connected: RospyArm) -> None:
    """After some tries; the next start begins anew."""
    ros.refuses = {"start"}
    connected.start()
    wait_until(lambda: len(ros.called) == START_TRIES)
    wait_until(lambda: connected._orders.error)  # type: ignore[union-attr]
    with pytest.raises(ArmError, match="in/start failed: service unavailable"):
        connected.send(TWIST)
    ros.refuses = set()
    connected.start()
    connected.send(TWIST)
    wait_until(lambda: len(ros.called) > START_TRIES)


def test_a_stop_that_was_not_delivered_is_told(
    ros: FakeRos, connected: RospyArm, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The operator reads so, and why; one that was is not mentioned."""
    monkeypatch.setattr(orders, "CLOSING_S", 0.1)
    ros.refuses = {"stop"}
    connected.stop()
    wait_until(lambda: ros.called)
    connected.close()

    assert "was not stopped: in/stop failed: service unavailable" in capsys.readouterr().err


def test_a_stop_goes_past_a_home_that_lasts(ros: FakeRos, connected: RospyArm) -> None:
    """Home waits on a thread of its own, and gives up in time."""
    ros.home_takes.clear()
    with pytest.raises(ArmError, match=r"home_arm failed within 0\.1 s: it did not answer"):
        connected.home(0.1)
    connected.stop()
    wait_until(lambda: "/j2n6s300_driver/in/stop" in ros.called)

    assert not ros.home_takes.is_set()


def test_home_says_why_it_failed(ros: FakeRos, connected: RospyArm) -> None:
    """And nothing where it did not."""
    connected.home(SOON_S)
    ros.refuses = {"home_arm"}

    with pytest.raises(ArmError, match=r"home_arm failed.*service unavailable"):
        connected.home(SOON_S)


def test_a_call_before_connecting_is_refused() -> None:
    """Only stop and close, which never raise, are let pass."""
    arm = new_arm()
    arm.stop()
    arm.close()

    assert arm.state() is None
    for call in (arm.start, lambda: arm.send(TWIST), lambda: arm.home(1.0)):
        with pytest.raises(ArmError, match="connect first"):
            call()


def test_a_stop_is_tried_until_it_works() -> None:
    """Both services, whatever the first gave; a closing thread still delivers it."""
    called: list[str] = []

    def call(name: str) -> None:
        called.append(name)
        if called.count("stop") < 4:
            raise RuntimeError("gone")

    thread = Orders(call)
    thread.give("stop")
    wait_until(lambda: called.count("stop") == 2)
    thread.close()

    assert called == ["stop", "clear_trajectories"] * 4


def test_a_newer_order_replaces_one_that_does_not_work() -> None:
    """A start that is tried again and again does not outlive the stop that follows it."""
    called: list[str] = []

    def call(name: str) -> None:
        called.append(name)
        if name == "start":
            raise RuntimeError("gone")

    thread = Orders(call)
    thread.give("start")
    wait_until(lambda: called)
    thread.give("stop")
    wait_until(lambda: "clear_trajectories" in called)
    time.sleep(0.5)  # two more tries, were it still there
    thread.close()

    assert called[-2:] == ["stop", "clear_trajectories"]
    assert thread.error == ""
