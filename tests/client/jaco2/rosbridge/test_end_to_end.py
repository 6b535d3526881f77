from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stillframe_client.jaco2 import link
from stillframe_client.jaco2.config import as_document
from stillframe_client.jaco2.core.watchdog import State
from stillframe_client.jaco2.settings import ArmSettings, BridgeSettings, LimitSettings

pytestmark = pytest.mark.process

WAIT_S = 60.0  # for what has to happen; no test waits this long unless it fails
STOP_TICKS = 150  # from the end of the bridge to the call of stop: ramp and 0.3 s of zeros, twice as many as they take
BOX = LimitSettings(speed=1.0, linear_m_s=0.1, low_m=(-0.5, -0.7, 0.03), high_m=(0.5, -0.15, 0.6))


class Streamer:
    """A streamer process over rosbridge, and the bridge's end of its link."""

    def __init__(self, fake: Any, folder: Path, **arm: Any):
        self.fake = fake
        settings = BridgeSettings(arm=ArmSettings(kind="rosbridge", url=fake.url, **arm), limits=BOX)
        (folder / "settings.json").write_text(json.dumps(as_document(settings)))
        ours, theirs = link.pair()
        self.log = folder / "ticks.jsonl"
        files = [str(folder / "settings.json"), str(self.log)]
        command = [sys.executable, "-m", "stillframe_client.jaco2.streamer", str(theirs.fileno()), *files]
        self.process = subprocess.Popen(
            command, pass_fds=[theirs.fileno()], stderr=subprocess.PIPE, text=True, env=dict(os.environ)
        )
        theirs.close()
        self.end = link.BridgeEnd(ours)
        self.newest: link.Status | None = None

    def until(self, holds: Callable[[link.Status], Any], within_s: float = 60.0) -> None:
        """Stay alive until a status holds."""
        ends_s = time.monotonic() + within_s
        while self.newest is None or not holds(self.newest):
            assert time.monotonic() < ends_s, f"not within {within_s} s: {self.newest}"
            assert self.process.poll() is None, self.process.communicate()[1]
            self.beat()

    def beat(self) -> None:
        """One heartbeat, and the newest status."""
        self.end.heartbeat()
        self.newest = self.end.newest() or self.newest
        time.sleep(0.01)

    def arm(self) -> None:
        """Arm it."""
        self.until(lambda status: status.pose_age_s < 0.5)
        self.end.order("arm")
        self.until(lambda status: status.state is State.READY)

    def drive(self, delta: list[float], steps: int, gripper: float = 1.0) -> None:
        """Steps of a tenth of a second each."""
        for _ in range(steps):
            self.end.step(delta, gripper, 0.1, time.monotonic() + 0.5)
            for _ in range(10):
                self.beat()

    def ended_well(self, since_s: float) -> bool:
        """By its own log, once it has ended: zeros for 0.3 s, then stop, within STOP_TICKS ticks from that time on."""
        _, *ticks = map(json.loads, self.log.read_text().splitlines())
        moving = [tick["t"] for tick in ticks if any(tick.get("sent", ())[:6])]
        zeros = [tick["t"] for tick in ticks if "sent" in tick and tick["t"] > moving[-1]]
        after = [tick for tick in ticks if tick["t"] >= since_s]
        stops = [number for number, tick in enumerate(after) if "stop" in tick.get("calls", ())]
        return after[stops[0]]["t"] - zeros[0] >= 0.3 - 1e-9 and stops[0] < STOP_TICKS

    def finish(self) -> None:
        """End what is left of it."""
        self.end.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


@pytest.fixture
def new_streamer(tmp_path: Path) -> Iterator[Callable[..., Streamer]]:
    """Start streamers; each is gone with the test."""
    made: list[Streamer] = []

    def make(fake: Any, **arm: Any) -> Streamer:
        made.append(Streamer(fake, tmp_path, **arm))
        return made[-1]

    yield make
    for streamer in made:
        streamer.finish()


def stopped(fake: Any) -> bool:
    """Whether the driver was told to stop."""
    return "in/stop" in [name for _, name in fake.node.calls]


def at_rest_before_stop(fake: Any) -> None:
    """The last command that the driver saw is zeros; then came in/stop, and no command after it."""
    commands, calls = fake.do(lambda: (list(fake.node.commands), list(fake.node.calls)))
    stop_s = next(at_s for at_s, name in calls if name == "in/stop")
    velocities = np.array([values[:6] for at_s, values in commands if at_s <= stop_s])
    moving = np.abs(velocities).max(axis=1) > 1e-6

    assert moving.any()
    assert not moving[-1]
    assert [at_s for at_s, _ in commands if at_s > stop_s + 0.1] == []
    assert fake.do(lambda: fake.node.model.stopped)


@pytest.mark.parametrize(("ros", "command"), [(1, "with_fingers"), (2, "arm_only")])
def test_it_drives_and_stops_where_the_bridge_ends(
    new_fake_driver: Callable[..., Any], new_streamer: Callable[..., Streamer], ros: int, command: str
) -> None:
    """Steps move the driver's arm; when the bridge closes its end, zeros follow, and in/stop within STOP_TICKS."""
    fake = new_fake_driver(ros=ros, under_travel=0.15)
    streamer = new_streamer(fake, ros=ros, command=command)
    streamer.arm()
    streamer.drive([0.005, 0.0, 0.0, 0.0, 0.0, 0.02], steps=10)
    since_s = time.monotonic()
    streamer.end.close()
    fake.until(lambda: stopped(fake))

    assert streamer.process.wait(WAIT_S) == 0
    assert streamer.ended_well(since_s)
    at_rest_before_stop(fake)
    moved_m = fake.node.body.pose().position_m - np.array([0.0, -0.4, 0.3])
    assert moved_m[0] > 0.03
    assert np.abs(moved_m[1:]).max() < 0.005
    arrivals_s = np.array(fake.node.arrivals_s)
    assert (len(arrivals_s) - 1) / (arrivals_s[-1] - arrivals_s[0]) <= 101.0
    names = [name for _, name in fake.node.calls]
    assert names[0] == "in/start"
    assert {*names[1:]} == {"in/stop", "in/clear_trajectories"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_the_driver(
    fake_driver: Any, new_streamer: Callable[..., Streamer], number: signal.Signals
) -> None:
    """The streamer's own signals do the same, within the same bound, while the bridge is still there."""
    streamer = new_streamer(fake_driver)
    streamer.arm()
    streamer.drive([0.005, 0.0, 0.0, 0.0, 0.0, 0.0], steps=3)
    since_s = time.monotonic()
    streamer.process.send_signal(number)
    fake_driver.until(lambda: stopped(fake_driver))

    assert streamer.process.wait(WAIT_S) == 0
    assert streamer.ended_well(since_s)
    at_rest_before_stop(fake_driver)


def test_a_server_that_goes_away_is_a_fault_and_stopped_when_back(
    fake_driver: Any, new_streamer: Callable[..., Streamer]
) -> None:
    """No server: FAULT; the arm's queue runs empty by itself, and once the server is back in/stop is called."""
    streamer = new_streamer(fake_driver)
    streamer.arm()
    streamer.drive([0.005, 0.0, 0.0, 0.0, 0.0, 0.0], steps=3)
    fake_driver.down()
    streamer.until(lambda status: status.state is State.FAULT)
    assert streamer.newest is not None
    assert "rosbridge" in streamer.newest.reason
    position_m = fake_driver.do(lambda: fake_driver.node.body.pose().position_m)
    time.sleep(0.5)
    assert fake_driver.do(lambda: fake_driver.node.body.pose().position_m) == pytest.approx(position_m, abs=0.02)
    seen = len(fake_driver.node.commands)
    fake_driver.up()
    ends_s = time.monotonic() + WAIT_S
    while not fake_driver.do(lambda: stopped(fake_driver)):
        assert time.monotonic() < ends_s
        streamer.beat()
    velocities = fake_driver.do(lambda: [values[:6] for _, values in fake_driver.node.commands[seen:]])
    assert np.abs(velocities).max(initial=0.0) < 1e-6


def test_a_driver_that_restarts_is_a_hold(fake_driver: Any, new_streamer: Callable[..., Streamer]) -> None:
    """Topics that are gone for a second make the pose stale: HOLD, zeros, and nothing moves meanwhile."""
    streamer = new_streamer(fake_driver)
    streamer.arm()
    streamer.drive([0.005, 0.0, 0.0, 0.0, 0.0, 0.0], steps=3)
    fake_driver.do(fake_driver.node.restart)
    ends_s = time.monotonic() + WAIT_S
    while streamer.newest is None or streamer.newest.state is not State.HOLD:
        assert time.monotonic() < ends_s
        streamer.drive([0.005, 0.0, 0.0, 0.0, 0.0, 0.0], steps=1)
    assert "the arm's pose is old" in streamer.newest.reason


IMPATIENT = """
import sys
from pathlib import Path
from stillframe_client.jaco2.streamer import process
process.CONNECT_S = 0.5
sys.exit(process.main(int(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), dry=False))
"""


def test_no_server_no_streamer(new_port: Callable[[], int], tmp_path: Path) -> None:
    """Where nothing answers the process ends by itself with status 3 and says what to look at."""
    settings = BridgeSettings(arm=ArmSettings(kind="rosbridge", url=f"ws://127.0.0.1:{new_port()}"))
    (tmp_path / "settings.json").write_text(json.dumps(as_document(settings)))
    ours, theirs = link.pair()
    with ours, theirs:
        files = [str(tmp_path / "settings.json"), str(tmp_path / "ticks.jsonl")]
        done = subprocess.run(
            [sys.executable, "-c", IMPATIENT, str(theirs.fileno()), *files],
            pass_fds=[theirs.fileno()],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 3
    assert "is rosbridge_server running" in done.stderr
