"""A world as a process: reached as an arm, as a camera and for episodes, in real time."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from stillframe_client.jaco2.arms import make_arm
from stillframe_client.jaco2.arms.base import ArmError
from stillframe_client.jaco2.cameras.base import CameraError
from stillframe_client.jaco2.cameras.mujoco import WorldCamera
from stillframe_client.jaco2.domain import Twist
from stillframe_client.jaco2.world import wire
from stillframe_client.jaco2.world.client import WorldClient
from stillframe_client.jaco2.world.launch import world
from stillframe_client.sim import JacoEnv

pytestmark = pytest.mark.process
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def path() -> Iterator[str]:
    """A world's socket, for all tests here."""
    with world(["--seed", "5"]) as at:
        yield at


@pytest.fixture
def asking(path: str) -> Iterator[WorldClient]:
    """A connection for questions."""
    client = WorldClient(path)
    yield client
    client.close()


@pytest.fixture
def arm(path: str, settings: Any) -> Iterator[Any]:
    """The arm of that world, connected."""
    made = make_arm(replace(settings, arm=replace(settings.arm, socket=path)))
    made.connect(PATIENCE_S)
    yield made
    made.close()


def stream(arm: Any, twist: Twist, seconds: float) -> None:
    """Send the twist at 100 Hz."""
    until_s = time.monotonic() + seconds
    while time.monotonic() < until_s:
        arm.send(twist)
        time.sleep(0.01)


def settled(arm: Any) -> Any:
    """A report from a while after now."""
    time.sleep(0.5)
    return arm.state()


def test_the_arm_moves_as_it_is_told(arm: Any, asking: WorldClient, twist: Callable[..., Twist]) -> None:
    """A stream of commands moves the tool in the base frame; the reports' numbers grow."""
    asking.reset(0)
    arm.start()
    before = settled(arm)
    stream(arm, twist((0, -0.05, 0)), 1.0)
    after = settled(arm)

    assert after.seq > before.seq
    assert after.pose.position_m[1] < before.pose.position_m[1] - 0.02
    assert len(after.joints_rad) == 6


def test_a_stopped_arm_does_not_move(arm: Any, asking: WorldClient, twist: Callable[..., Twist]) -> None:
    """After stop the commands are taken and nothing moves."""
    asking.reset(0)
    arm.start()
    arm.stop()
    before = settled(arm)
    stream(arm, twist((0, -0.1, 0)), 0.5)

    assert np.linalg.norm(settled(arm).pose.position_m - before.pose.position_m) < 2e-3


def test_the_arm_goes_home_and_waits_for_it(arm: Any, asking: WorldClient, twist: Callable[..., Twist]) -> None:
    """home() returns once the arm rests where it began."""
    asking.reset(0)
    arm.start()
    home = settled(arm).pose.position_m
    stream(arm, twist((0.1, -0.1, 0)), 1.0)

    arm.home(PATIENCE_S)

    assert np.linalg.norm(arm.state().pose.position_m - home) < 0.01


def test_a_camera_shows_the_scene(path: str, asking: WorldClient, settings: Any, needs_gl: None) -> None:  # noqa: ARG001
    """The picture after a reset is the environment's own, but for what settles in a moment."""
    asking.reset(77)
    camera = WorldCamera(settings.cameras["front"], path)
    camera.open()
    for _ in range(4):  # those under way are older than the reset
        picture = camera.read()
    camera.close()
    env = JacoEnv("pick", cameras=("front",))
    expected = env.reset(seed=77)[0]["images"]["front"]
    env.close()

    assert picture.shape == (224, 224, 3)
    assert np.abs(picture.astype(int) - expected).mean() < 1.0


def test_an_unknown_camera_is_refused(path: str, settings: Any) -> None:
    """The world hangs up, and the text names the cameras that there are."""
    camera = WorldCamera(replace(settings.cameras["front"], source="back"), path)
    camera.open()

    with pytest.raises(CameraError, match="front and wrist"):
        camera.read()
    camera.close()


def test_a_picture_that_is_not_square_is_refused(path: str, settings: Any) -> None:
    """Width and height have to be equal, before anything is asked of the world."""
    camera = WorldCamera(replace(settings.cameras["front"], width=640, height=480), path)

    with pytest.raises(CameraError, match="square"):
        camera.open()


def test_questions_that_are_none_get_an_answer(path: str) -> None:
    """An unknown question, a seed that is no number and bytes that are no message are refused in words; it goes on."""
    with wire.dial(path, wire.Hello(wire.EPISODES), PATIENCE_S) as end:
        for packet in (wire.pack_message({"ask": "lunch"}), wire.pack_message({"ask": "reset", "seed": "x"}), b"\xc1"):
            end.send(packet)
            assert "error" in wire.read_message(end.recv(wire.LONGEST))
        end.send(wire.pack_message({"ask": "verdict"}))
        assert "success" in wire.read_message(end.recv(wire.LONGEST))


def test_garbage_is_hung_up_on(path: str, asking: WorldClient) -> None:
    """What greets with garbage, or commands it, loses its connection; the world goes on."""
    with wire.dial(path, wire.Hello(wire.ARM), PATIENCE_S) as end:
        end.settimeout(PATIENCE_S)
        end.send(b"garbage")
        while end.recv(wire.LONGEST):
            pass

    assert asking.verdict()["seed"] >= 0


def test_the_world_keeps_real_time(asking: WorldClient) -> None:
    """A hundred beats a second, whatever their lateness, which is reported."""
    asking.report()
    time.sleep(1.0)
    late = asking.report()["late_ms"]

    assert 50 <= late["beats"] <= 110
    assert 0 <= late["p50"] <= late["p99"] <= late["max"]


def test_an_arm_whose_world_has_died_says_so(settings: Any, twist: Callable[..., Twist]) -> None:
    """Commands to a world that was killed raise ArmError; stop does not."""
    with world() as at, WorldEnds(at) as end_it:
        made = make_arm(replace(settings, arm=replace(settings.arm, socket=at)))
        made.connect(PATIENCE_S)
        end_it()
        with pytest.raises(ArmError, match="gone"):
            stream(made, twist(), PATIENCE_S)
        made.stop()
        made.close()


class WorldEnds:
    """Finds the process behind a socket and kills it."""

    def __init__(self, path: str):
        self._path = path

    def __enter__(self) -> Callable[[], None]:
        """What kills it."""
        return lambda: os.kill(self._pid(), signal.SIGKILL)

    def __exit__(self, *_: object) -> None:
        """Nothing is held."""

    def _pid(self) -> int:
        import socket
        import struct

        with wire.dial(self._path, wire.Hello(wire.EPISODES), PATIENCE_S) as end:
            credentials = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return int(struct.unpack("3i", credentials)[0])


def test_an_arm_without_a_world_says_how_to_start_one(settings: Any) -> None:
    """An empty arm.socket is no path."""
    with pytest.raises(ArmError, match=r"arm\.socket is empty"):
        make_arm(settings).connect(0.1)
