from __future__ import annotations

import json
import signal
import statistics
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

pytestmark = pytest.mark.process

WAIT_S = 30.0
FORWARD = [0.008, 0.0, 0.0, 0.0, 0.0, 0.1]  # of a tenth of a second
STOPPED = ["stop", "clear_trajectories"]
MD5 = "import kinova_msgs.msg as m; print(*[getattr(m, name)._md5sum for name in sorted(m.TEXTS)])"


def running(ros: Any, eventually: Callable[..., Any]) -> tuple[Any, Any]:
    """Driver and streamer, armed and moving."""
    driver, streamer = ros.driver(), ros.streamer()
    streamer.arm()
    streamer.move(FORWARD, gripper=0.0)
    eventually(lambda: driver.seen("position")[-1]["position"][0] > 0.02, streamer.process)
    return driver, streamer


def ended(streamer: Any) -> tuple[int, str]:
    """The exit status of a streamer that ends by itself, and what it wrote."""
    _, said = streamer.process.communicate(timeout=WAIT_S)
    return streamer.process.returncode, said.decode()


def commands(driver: Any) -> list[list[float]]:
    """All that arrived: linear [3], angular [3], closure in per cent."""
    return [line["command"] for line in driver.seen("command")]


def sent(streamer: Any) -> list[dict[str, Any]]:
    """The streamer's own record of its commands."""
    return [line for line in map(json.loads, streamer.log.read_text().splitlines()) if "sent" in line]


def spans_s(lines: list[dict[str, Any]]) -> list[float]:
    """How long each hundred commands in a row took."""
    return [late["t"] - early["t"] for early, late in zip(lines, lines[100:], strict=False)]


def is_zero(command: list[float]) -> bool:
    """Whether the tool rests; the hand may not."""
    return not any(command[:6])


def test_messages_are_those_of_the_driver(ros: Any) -> None:
    """ROS connects no two nodes whose messages' md5 differ: those are kinova_msgs'."""
    process = ros.run("-c", MD5, stdout=subprocess.PIPE)
    said, _ = process.communicate(timeout=WAIT_S)
    _, velocity, with_fingers = said.decode().split()

    assert velocity == "37cb696ff239fbcc6aa4a04f7318d9da"
    assert with_fingers == "2788ab35d01df923e0e72d7c730c2511"


def test_a_bridge_that_ends_leaves_the_arm_at_rest(ros: Any, eventually: Callable[..., Any]) -> None:
    """A hundred commands a second move tool and hand; when the bridge hangs up zeros follow, then the stop."""
    driver, streamer = running(ros, eventually)
    eventually(lambda: len(commands(driver)) > 400, streamer.process)
    streamer.close()
    status, said = ended(streamer)
    seen, last = driver.seen("command"), driver.seen("service")[-2:]
    zeros = next(number for number, command in enumerate(reversed(commands(driver))) if not is_zero(command))
    begun = next(number for number, line in enumerate(seen) if not line["stopped"])

    assert (status, said) == (0, "")
    assert 0.9 < statistics.median(spans_s(seen)) < 1.3
    assert min(spans_s(sent(streamer))) > 0.9  # never a burst that makes up for a delay
    assert zeros >= 25
    assert driver.services() == ["start", *STOPPED]
    assert last[0]["t"] > seen[-1]["t"]
    assert not any(line["stopped"] for line in seen[begun:])
    assert driver.seen("longest_queue")[-1]["longest_queue"] < 20
    assert driver.seen("closure")[-1]["closure"] > 0.5


def test_a_signal_stops_the_arm(ros: Any, eventually: Callable[..., Any]) -> None:
    """ROS does not take the streamer's signals: SIGTERM brings the tool to rest and calls the stop."""
    driver, streamer = running(ros, eventually)
    streamer.process.send_signal(signal.SIGTERM)
    status, said = ended(streamer)
    ticks = [json.loads(line) for line in streamer.log.read_text().splitlines()]

    assert (status, said) == (0, "")
    assert all(map(is_zero, commands(driver)[-25:]))
    assert driver.services()[-2:] == STOPPED
    assert any("SIGTERM" in note for tick in ticks for note in tick.get("notes", ()))


def test_a_streamer_that_is_killed_leaves_an_empty_queue(ros: Any, eventually: Callable[..., Any]) -> None:
    """The arm's own dead man: without commands it rests, as no backlog was built."""
    driver, streamer = running(ros, eventually)
    streamer.process.kill()
    streamer.process.wait(WAIT_S)
    reports = len(driver.seen("position"))
    eventually(lambda: len(driver.seen("position")) > reports + 8)
    positions = [line["position"] for line in driver.seen("position")[reports + 3 :]]

    assert positions == [positions[0]] * len(positions)


def test_a_driver_that_dies_is_a_fault_and_is_stopped_when_it_is_back(ros: Any, eventually: Callable[..., Any]) -> None:
    """The streamer sees it with its next commands; the stop that is owed reaches the driver that comes after."""
    driver, streamer = running(ros, eventually)
    driver.process.kill()
    driver.process.wait(WAIT_S)
    status = eventually(lambda: streamer.status.state.value == "FAULT" and streamer.status, streamer.process)
    before = driver.services()
    driver.restart()
    eventually(lambda: driver.services()[len(before) :][:2] == STOPPED, streamer.process)
    streamer.close()

    assert ended(streamer) == (0, "")
    assert "arm" in status.reason or "driver" in status.reason
    assert "start" not in driver.services()[len(before) :]


def test_a_driver_that_freezes_is_a_fault(ros: Any, eventually: Callable[..., Any]) -> None:
    """Its pose grows old: the tool is told to rest. A driver that goes on plays nothing of before, and is stopped."""
    driver, streamer = running(ros, eventually)
    driver.process.send_signal(signal.SIGSTOP)
    lines = len(driver.seen("command"))
    eventually(lambda: streamer.status.state.value == "FAULT", streamer.process)
    driver.process.send_signal(signal.SIGCONT)
    eventually(lambda: driver.services()[-2:] == STOPPED, streamer.process)
    streamer.close()

    assert ended(streamer) == (0, "")
    assert len(commands(driver)) > lines + 25
    assert all(map(is_zero, commands(driver)[lines + 2 :]))  # but for what it had read when it froze


def test_a_master_that_dies_stops_no_commands_but_the_stop(ros: Any, eventually: Callable[..., Any]) -> None:
    """Nodes talk to each other without it, so the tool comes to rest; services are looked up, so the stop is told."""
    driver, streamer = running(ros, eventually)
    ros.master.kill()
    ros.master.wait(WAIT_S)
    streamer.close()
    status, said = ended(streamer)

    assert status == 0
    assert all(map(is_zero, commands(driver)[-25:]))
    assert "was not stopped: in/stop failed" in said
    assert driver.services() == ["start"]


def test_a_dry_run_sends_nothing(ros: Any, eventually: Callable[..., Any]) -> None:
    """No command and no service, whatever the bridge asks; the arm's pose is read all the same."""
    driver, streamer = ros.driver(), ros.streamer("dry")
    streamer.arm()
    streamer.move(FORWARD)
    eventually(lambda: streamer.status.sent[0] > 0, streamer.process)
    pose = streamer.status.pose
    streamer.close()

    assert ended(streamer) == (0, "")
    assert pose[:3] == pytest.approx([0.0, -0.4, 0.3])
    assert (commands(driver), driver.services()) == ([], [])


def test_without_a_driver_it_does_not_begin(ros: Any, tmp_path: Any) -> None:
    """The exit status and the text say so; the master is there."""
    streamer = ros.streamer(arm={"name": "j2n7s300"})
    status, said = ended(streamer)

    assert status == 3
    assert "/j2n7s300_driver/out/tool_pose is silent" in said
    assert not (tmp_path / "driver.jsonl").exists()


def test_without_a_master_it_does_not_begin(ros: Any, new_port: Callable[[], int]) -> None:
    """It says which master it asked, and does not wait for one."""
    ros.environment["ROS_MASTER_URI"] = f"http://127.0.0.1:{new_port()}"
    streamer = ros.streamer()
    status, said = ended(streamer)

    assert status == 3
    assert f"no ROS master at {ros.environment['ROS_MASTER_URI']}" in said


def test_home_is_the_drivers(ros: Any) -> None:
    """Called from a process of its own, as the command line does."""
    driver = ros.driver()
    script = (
        "from stillframe_client.jaco2.arms import make_arm\n"
        "from stillframe_client.jaco2.config import parse\n"
        "arm = make_arm(parse({'arm': {'kind': 'rospy', 'command': 'arm_only'}}, 'test'))\n"
        "print(arm.connect(20.0).details['type'])\n"
        "arm.home(20.0)\n"
        "arm.close()\n"
    )
    process = ros.run("-c", script, stdout=subprocess.PIPE)
    said, _ = process.communicate(timeout=WAIT_S)

    assert (process.returncode, said.decode().strip()) == (0, "kinova_msgs/PoseVelocity")
    assert driver.services() == ["home_arm"]
