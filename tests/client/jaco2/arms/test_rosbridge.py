from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from stillframe_client.jaco2.arms import make_arm
from stillframe_client.jaco2.arms.base import ArmError
from stillframe_client.jaco2.arms.kinematic import START_M
from stillframe_client.jaco2.arms.rosbridge import LEAVING_S, RosbridgeArm
from stillframe_client.jaco2.domain import Twist
from stillframe_client.jaco2.rosbridge.connection import Connection
from stillframe_client.jaco2.settings import ArmSettings, BridgeSettings
from stillframe_client.jaco2.streamer.pacing import Beat, MonotonicClock

SOON_S = 60.0  # a loaded machine's


def twist(x: float = 0.0, y: float = 0.0, z: float = 0.0, *, turn: Any = (0, 0, 0), closure: float = 0.0) -> Twist:
    """A command."""
    return Twist(np.array([x, y, z]), np.array(turn, dtype=float), closure)


def until(holds: Callable[[], Any], within_s: float = 60.0) -> float:
    """Wait until it holds; return how long that took."""
    begin_s = time.monotonic()
    while not holds():
        assert time.monotonic() - begin_s < within_s, "it did not come to hold"
        time.sleep(0.005)
    return time.monotonic() - begin_s


def connected(link: Connection, **arm: Any) -> RosbridgeArm:
    """An arm over this connection, connected."""
    made = RosbridgeArm(ArmSettings(kind="rosbridge", url=link.url, **arm), link)
    made.connect(SOON_S)
    return made


@pytest.fixture
def link(fake_driver: Any) -> Connection:
    """What the arm is reached by."""
    return Connection(fake_driver.url)


@pytest.fixture
def arm(link: Connection) -> Iterator[RosbridgeArm]:
    """An arm that is connected to `fake_driver`."""
    made = connected(link)
    yield made
    made.close()


def test_a_command_that_is_not_finite_is_not_sent(fake_driver: Any, arm: RosbridgeArm) -> None:
    """NaN never leaves: ArmError, and the driver saw nothing."""
    with pytest.raises(ArmError, match=r"not finite"):
        arm.send(twist(float("nan")))
    assert fake_driver.do(lambda: list(fake_driver.node.commands)) == []


@pytest.mark.parametrize("ros", [1, 2])
@pytest.mark.parametrize("prefix", ["", "/left"])
@pytest.mark.parametrize("command", ["with_fingers", "arm_only"])
def test_names_and_types_fit_the_server(
    new_fake_driver: Callable[..., Any], ros: int, prefix: str, command: str
) -> None:
    """In both ROS, under a prefix, with both messages: commands arrive, reports come, services answer, no complaint."""
    fake = new_fake_driver(name=f"{prefix}/j2n6s300_driver", ros=ros)
    link = Connection(fake.url)
    arm = connected(link, ros=ros, prefix=prefix, command=command)
    arm.start()
    arm.send(twist(0.02))
    fake.until(lambda: fake.node.commands)
    arm.stop()
    fake.until(lambda: len(fake.node.calls) == 3)
    arm.close()

    assert {name for _, name in fake.node.calls} == {"in/start", "in/stop", "in/clear_trajectories"}
    assert link.errors == ()
    assert link.counts.garbage == 0
    assert arm.state().joints_rad is not None


def test_what_was_reached_is_told(fake_driver: Any) -> None:
    """`connect` names the arm, the address, the topic with its type, and who listens to it."""
    made = make_arm(BridgeSettings(arm=ArmSettings(kind="rosbridge", url=fake_driver.url)))
    info = made.connect(SOON_S)
    made.close()

    assert (info.kind, info.name, info.has_hand) == ("rosbridge", "j2n6s300", True)
    assert info.details["url"] == fake_driver.url
    assert "cartesian_velocity_with_fingers (kinova_msgs/PoseVelocityWithFingers)" in info.details["commands"]
    assert info.details["subscribers"] == "/j2n6s300_driver"


def test_a_missing_subscriber_is_warned_of(fake_driver: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Poses may come while no node takes commands: the arm's details and the log say so."""
    fake_driver.node.listens = False
    with caplog.at_level(logging.WARNING):
        made = make_arm(BridgeSettings(arm=ArmSettings(kind="rosbridge", url=fake_driver.url)))
        info = made.connect(SOON_S)
        made.close()

    assert info.details["subscribers"].startswith("none: no node listens to /j2n6s300_driver/in/cartesian_velocity")
    assert "no node listens to" in caplog.text


def test_after_a_reconnect_a_missing_subscriber_is_warned_of(
    fake_driver: Any, arm: RosbridgeArm, caplog: pytest.LogCaptureFixture
) -> None:
    """The driver may be gone when the server is back."""
    assert arm.state() is not None
    with caplog.at_level(logging.WARNING):
        fake_driver.node.listens = False
        fake_driver.cut()
        until(lambda: "no node listens to" in caplog.text)


@pytest.mark.parametrize(
    ("arm", "says"),
    [
        ({"name": "j2s7s300"}, r"nothing came on /j2s7s300_driver/out/tool_pose within 1 s: does the driver run"),
        ({"prefix": "/right"}, r"nothing came on /right/j2n6s300_driver/out/tool_pose"),
        ({"ros": 2}, r"arm\.ros right\?; rosbridge said: .* is sensor_msgs/JointState, not sensor_msgs/msg/Joint"),
    ],
    ids=["name", "prefix", "ros"],
)
def test_a_driver_that_is_not_there_is_said(fake_driver: Any, arm: dict[str, Any], says: str) -> None:
    """Wrong names and types are refused at `connect`, in words."""
    made = make_arm(BridgeSettings(arm=ArmSettings(kind="rosbridge", url=fake_driver.url, **arm)))
    with pytest.raises(ArmError, match=says):
        made.connect(1.0)


def test_a_server_that_is_not_there_is_said(new_port: Callable[[], int]) -> None:
    """`connect` ends in time with what to look at; `make_arm` refuses what is no address."""
    made = make_arm(BridgeSettings(arm=ArmSettings(kind="rosbridge", url=f"ws://127.0.0.1:{new_port()}")))
    with pytest.raises(ArmError, match=r"is rosbridge_server running"):
        made.connect(0.5)
    with pytest.raises(ArmError, match=r"expected the address of rosbridge_server"):
        make_arm(BridgeSettings(arm=ArmSettings(kind="rosbridge", url="robot:9090")))


def test_commands_arrive_at_100_hz_at_most_and_not_in_bunches(fake_driver: Any, arm: RosbridgeArm) -> None:
    """Over two seconds: the mean rate is 100 Hz or less, few gaps are short, nothing was replaced in a queue of one."""
    beat = Beat(MonotonicClock())
    slowest_s = 0.0
    for _ in range(200):
        beat.wait()
        begin_s = time.perf_counter()
        arm.send(twist(0.01))
        slowest_s = max(slowest_s, time.perf_counter() - begin_s)
    fake_driver.until(lambda: fake_driver.node.arrivals_s)
    time.sleep(0.1)
    arrivals_s = np.array(fake_driver.do(lambda: list(fake_driver.node.arrivals_s)))
    gaps_s = np.diff(arrivals_s)

    assert len(arrivals_s) >= 150
    assert (len(arrivals_s) - 1) / (arrivals_s[-1] - arrivals_s[0]) <= 101.0
    assert (gaps_s < 0.005).mean() < 0.2
    assert slowest_s < 0.2
    assert fake_driver.do(lambda: fake_driver.node.model.counts.longest_queue) < 20


def test_while_disconnected_commands_are_refused(fake_driver: Any, arm: RosbridgeArm, link: Connection) -> None:
    """`send` raises with the reason; the last report keeps its time, so its age grows; back again, it sends."""
    fake_driver.down()
    until(lambda: not link.is_open)
    seen = arm.state()
    with pytest.raises(ArmError, match=r"rosbridge at ws://127\.0\.0\.1"):
        arm.send(twist(0.1))
    time.sleep(0.3)
    assert arm.state() is seen

    fake_driver.up()
    until(lambda: link.is_open)
    arm.send(twist(0.01))
    fake_driver.until(lambda: fake_driver.node.commands)
    until(lambda: arm.state().seq > seen.seq)


def test_a_stop_reaches_the_driver_after_a_reconnect(fake_driver: Any, arm: RosbridgeArm, link: Connection) -> None:
    """Asked for while the server is away, in/stop is called once it is back, before any command."""
    arm.start()
    arm.send(twist(0.05))
    fake_driver.until(lambda: fake_driver.node.commands)
    fake_driver.down()
    until(lambda: not link.is_open)
    arm.stop()
    fake_driver.up()
    fake_driver.until(lambda: "in/stop" in [name for _, name in fake_driver.node.calls], SOON_S)
    fake_driver.until(lambda: "in/clear_trajectories" in [name for _, name in fake_driver.node.calls])

    assert fake_driver.do(lambda: fake_driver.node.model.stopped)
    time.sleep(0.7)
    arm.state()
    assert [name for _, name in fake_driver.node.calls].count("in/stop") == 1


def test_a_stop_before_the_first_connect_is_delivered_by_it(fake_driver: Any, link: Connection) -> None:
    """A driver that reports nothing can still be stopped: `stop`, then `connect`, whatever becomes of that."""
    fake_driver.node.reports = False
    made = RosbridgeArm(ArmSettings(kind="rosbridge", url=link.url), link)
    made.stop()
    with pytest.raises(ArmError, match=r"nothing came on /j2n6s300_driver/out/tool_pose"):
        made.connect(0.5)
    assert fake_driver.do(lambda: fake_driver.node.model.stopped)


def test_a_start_does_not_outlive_its_connection(fake_driver: Any, arm: RosbridgeArm, link: Connection) -> None:
    """A start that could not be delivered is not delivered later: arming is asked for anew."""
    fake_driver.down()
    until(lambda: not link.is_open)
    arm.start()
    fake_driver.up()
    until(lambda: link.is_open)
    with pytest.raises(ArmError, match=r"in/start failed"):
        arm.send(twist())
    time.sleep(0.3)
    assert fake_driver.do(lambda: list(fake_driver.node.calls)) == []


def test_closing_waits_for_the_stop(fake_driver: Any, link: Connection) -> None:
    """A stop just before `close` is confirmed before it hangs up."""
    made = connected(link)
    made.stop()
    made.close()
    assert fake_driver.do(lambda: fake_driver.node.model.stopped)


def test_closing_does_not_wait_for_ever(fake_driver: Any, link: Connection, caplog: pytest.LogCaptureFixture) -> None:
    """Where the stop is never confirmed, `close` gives up after LEAVING_S and says so."""
    made = connected(link)
    fake_driver.is_deaf = True
    made.stop()
    begin_s = time.monotonic()
    made.close()
    assert time.monotonic() - begin_s < LEAVING_S + SOON_S
    assert "in/stop was not confirmed" in caplog.text


def test_a_driver_that_restarts_goes_stale_and_comes_back(fake_driver: Any, arm: RosbridgeArm) -> None:
    """While its topics are gone the report ages; then `seq` grows again, with nothing to be done here."""
    seen = arm.state().seq
    fake_driver.do(fake_driver.node.restart)
    begin_s, oldest_s = time.monotonic(), 0.0
    while fake_driver.do(lambda: fake_driver.node.is_down):
        oldest_s = max(oldest_s, time.monotonic() - arm.state().time_s)
        time.sleep(0.01)
        assert time.monotonic() - begin_s < SOON_S
    assert oldest_s > 0.8
    until(lambda: arm.state().seq > seen + 2)
    arm.send(twist(0.02))
    fake_driver.until(lambda: fake_driver.node.commands)


@pytest.mark.parametrize(
    ("topic", "body"),
    [
        ("out/tool_pose", {}),
        ("out/tool_pose", {"pose": {"position": {"x": 1}, "orientation": {}}}),
        ("out/finger_position", {"finger1": "open"}),
        ("out/joint_state", {"name": ["wheel"], "position": [0]}),
    ],
    ids=["empty", "half", "text", "others"],
)
def test_malformed_reports_change_nothing(
    fake_driver: Any, arm: RosbridgeArm, link: Connection, topic: str, body: dict[str, Any]
) -> None:
    """A message of another shape is counted as garbage; the reports go on as they were."""
    fake_driver.publish(f"/j2n6s300_driver/{topic}", body)
    until(lambda: link.counts.garbage == 1)
    seen = arm.state()
    until(lambda: arm.state().seq > seen.seq)

    assert arm.state().pose.position_m == pytest.approx(START_M)
    assert arm.state().closure == 0.0
    assert len(arm.state().joints_rad) == 6


def test_a_pose_that_is_not_finite_is_passed_on(fake_driver: Any, arm: RosbridgeArm) -> None:
    """Null in a pose is NaN in the report: the streamer's check makes a fault of it, instead of moving on."""
    body = {"position": {"x": None, "y": 0, "z": 0}, "orientation": {"x": 1, "y": 0, "z": 0, "w": 0}}
    fake_driver.do(fake_driver.node.restart)  # no other poses come in between
    fake_driver.publish("/j2n6s300_driver/out/tool_pose", {"pose": body})
    until(lambda: np.isnan(arm.state().pose.position_m[0]))


def test_home_is_waited_for(fake_driver: Any, arm: RosbridgeArm, link: Connection) -> None:
    """in/home_arm is called and its answer awaited; too slow, failing or gone: ArmError."""
    arm.home(SOON_S)
    assert [name for _, name in fake_driver.node.calls] == ["in/home_arm"]

    with pytest.raises(ArmError, match=r"in/home_arm: no answer within 0\.05 s"):
        arm.home(0.05)
    fake_driver.node.failing.add("in/home_arm")
    with pytest.raises(ArmError, match=r"the driver could not do it"):
        arm.home(SOON_S)
    fake_driver.down()
    until(lambda: not link.is_open)
    with pytest.raises(ArmError, match=r"rosbridge at"):
        arm.home(SOON_S)


def test_a_delayed_server_shows_in_the_driver_only(fake_driver: Any, arm: RosbridgeArm) -> None:
    """With 150 ms on the way commands still arrive one by one, later; sending takes no longer."""
    fake_driver.delay_s = 0.15
    for _ in range(20):
        begin_s = time.perf_counter()
        arm.send(twist(0.01))
        assert time.perf_counter() - begin_s < 0.2
        time.sleep(0.01)
    fake_driver.until(lambda: len(fake_driver.node.arrivals_s) >= 15)
