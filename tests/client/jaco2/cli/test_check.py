from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stillframe.domain import Step
from stillframe.testing import EchoPolicy, policy_info, running
from stillframe_client.jaco2.cli import main

STATS = {"q01": [-0.005] * 6 + [0.0], "q99": [0.005] * 6 + [1.0], "mask": [True] * 6 + [False]}
INFO = policy_info(norm_stats={"robot": STATS})
STILL = np.array([[0.001, 0.0, 0.0, 0.0, 0.0, 0.01, 1.0]])  # an action of this arm's size


NO_FILE = "/nowhere/token"


class SlowPolicy(EchoPolicy):
    """Takes longer than a control step."""

    def step(self, *frame: Any) -> Step:
        """Answer after a while."""
        time.sleep(0.12)
        return super().step(*frame)


@pytest.fixture(scope="module")
def daemon() -> Iterator[str]:
    """A daemon whose policy fits: one camera `front`, seven numbers."""
    with running(EchoPolicy(info=INFO, actions=STILL)) as url:
        yield url


@pytest.fixture
def checked(
    settings_file: Callable[..., Path], daemon: str, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Run `check` for a moment; status and table."""

    def check(url: str = daemon, *, seconds: str = "0.35", **overrides: Any) -> tuple[int, str]:
        file = settings_file(policy__url=url, cameras__front__fps=50, **overrides)
        status = main(["check", "--config", str(file), "--seconds", seconds, "--calls", "5"])
        return status, capsys.readouterr().out

    return check


def test_all_that_fits_is_ok(
    checked: Callable[..., tuple[int, str]], fake_camera: Callable[..., Any], tmp_path: Path
) -> None:
    """Simulated arm, camera and daemon: every line is ok, status 0, the first frame lies there, all is let go of."""
    camera = fake_camera()

    status, table = checked()

    assert status == 0, table
    assert "0 wrong, 0 warnings" in table
    for part in ("versions", "speed", "arm", "front", "daemon", "contract", "latency", "action"):
        assert f"ok       {part}" in table
    assert "10.0 reports a second" in table
    assert "224 x 224 as sent" in table
    assert "(p99), 5 frames" in table
    with Image.open(tmp_path / "runs" / "check" / "front.png") as saved:
        assert saved.size == (224, 224)
    assert camera.is_closed


def test_what_is_not_there_is_wrong(
    checked: Callable[..., tuple[int, str]],
    fake_camera: Callable[..., Any],
    fake_arm: Callable[..., Any],
    new_port: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No arm, no camera, no daemon: a line each, in one run, and status 1."""
    monkeypatch.setattr("stillframe_client.jaco2.cli.check_daemon.READY_S", 0.5)
    fake_camera("no device 0: expected a camera there")
    arm = fake_arm(gone=True)

    status, table = checked(f"http://127.0.0.1:{new_port()}")

    assert status == 1
    assert "wrong    arm        sim: no arm answers" in table
    assert "wrong    front      no device 0" in table
    assert "wrong    daemon     " in table
    assert "3 wrong, 0 warnings" in table
    assert set(arm.calls) == {"connect"}


@pytest.mark.parametrize(
    ("arm", "level", "says"),
    [
        ({"period_s": 0.3, "place": (0, -0.4, 0.3)}, "warning", "near watch.pose_hold_s, 500 ms"),
        ({"period_s": 0.8}, "wrong", "it would hold at watch.pose_hold_s, 500 ms"),
        ({"drift_m_s": 0.05}, "wrong", "while it was told nothing: does another program drive it?"),
        ({"place": (0, -0.4, 0.01)}, "warning", "below limits.floor_m 0.03: from there it only moves back in"),
        ({"place": (0.6, -0.4, 0.3)}, "warning", "outside the box from"),
        ({"place": (0, 2.0, 0.3)}, "wrong", "from its base; it reaches 1"),
        ({"place": (float("nan"), 0, 0)}, "wrong", "a pose that is not finite"),
        ({}, "warning", "no hand is moved"),
    ],
    ids=["slow", "too slow", "moving", "low", "outside", "beyond reach", "nan", "no hand"],
)
def test_what_an_arm_reports_is_looked_at(
    arm: dict[str, Any],
    level: str,
    says: str,
    checked: Callable[..., tuple[int, str]],
    fake_arm: Callable[..., Any],
    fake_camera: Callable[..., Any],
) -> None:
    """Rate, age, rest and place; and nothing but its state is asked of it."""
    fake_camera()
    asked = fake_arm(**arm)

    status, table = checked(seconds="0.7" if says.startswith("it would hold") else "0.35")

    (line,) = (line for line in table.splitlines() if says in line)
    assert line.startswith(level)
    assert status == (1 if level == "wrong" else 0)
    assert set(asked.calls) == {"connect", "close"}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"cameras": ("front", "wrist")}, "looks through front, wrist"),
        ({"action_names": ("dx", "dy", "dz", "a", "b", "c", "gripper")}, "expected dx, dy, dz, droll"),
        ({"gripper": "1 = closed, 0 = open"}, "expected 0 = close, 1 = open"),
    ],
    ids=["cameras", "action", "gripper"],
)
def test_a_policy_that_does_not_fit_is_wrong(
    changes: dict[str, Any], says: str, checked: Callable[..., tuple[int, str]], fake_camera: Callable[..., Any]
) -> None:
    """What the contract says is shown, and no frame is sent."""
    fake_camera()
    policy = EchoPolicy(info=replace(INFO, **changes), actions=STILL)
    with running(policy) as url:
        status, table = checked(url)

    assert status == 1
    assert any(says in line and line.startswith("wrong    contract") for line in table.splitlines())
    assert policy.seen == []


def test_actions_of_another_robot_are_wrong(
    checked: Callable[..., tuple[int, str]], fake_camera: Callable[..., Any]
) -> None:
    """An action of half a metre: the streamer would refuse it, so does check."""
    fake_camera()
    with running(EchoPolicy(info=INFO, actions=np.array([[0.5, 0, 0, 0, 0, 0, 1.0]]))) as url:
        status, table = checked(url)

    assert status == 1
    assert "wrong    action     the action moves 0.500 m" in table


def test_a_slow_daemon_is_told(checked: Callable[..., tuple[int, str]], fake_camera: Callable[..., Any]) -> None:
    """Slower than the data's rate: a warning; slower than an answer may be: wrong."""
    fake_camera()
    with running(SlowPolicy(info=INFO, actions=STILL)) as url:
        slow = checked(url)
        too_slow = checked(url, policy__answer_s=0.05)

    assert slow[0] == 0
    assert "slower than policy.hz 10" in slow[1]
    assert too_slow[0] == 1
    assert "most would come too late, policy.answer_s is 50 ms" in too_slow[1]


def test_of_chunks_an_answer_may_take_longer(
    checked: Callable[..., tuple[int, str]], fake_camera: Callable[..., Any]
) -> None:
    """As long as what is played of each, or is left to play when the next is asked for."""
    fake_camera()
    policy = SlowPolicy(info=replace(INFO, chunk_horizon=8), actions=np.tile(STILL, (8, 1)))
    with running(policy) as url:
        half, single = checked(url), checked(url, policy__execute=1)
        last = checked(url, policy__mode="realtime", policy__execute=8)

    assert any(line.startswith("ok       latency") for line in half[1].splitlines())
    assert "slower than policy.hz 10, so" in single[1]
    assert "slower than policy.hz 10, so" in last[1]


def test_every_action_of_a_chunk_is_looked_at(
    checked: Callable[..., tuple[int, str]], fake_camera: Callable[..., Any]
) -> None:
    """One that the streamer would refuse is not hidden behind the first."""
    fake_camera()
    actions = np.tile(STILL, (8, 1))
    actions[5, 0] = 0.5
    with running(EchoPolicy(info=replace(INFO, chunk_horizon=8), actions=actions)) as url:
        status, table = checked(url)

    assert status == 1
    assert "wrong    action     the action moves 0.500 m" in table


def test_a_token_that_is_not_there_is_wrong(
    checked: Callable[..., tuple[int, str]], fake_camera: Callable[..., Any]
) -> None:
    """The file is named."""
    fake_camera()

    status, table = checked(policy__token=NO_FILE)

    assert status == 1
    assert "wrong    daemon     policy.token is '/nowhere/token'" in table


def test_what_a_run_would_refuse_is_wrong_here(
    checked: Callable[..., tuple[int, str]], fake_arm: Callable[..., Any], fake_camera: Callable[..., Any]
) -> None:
    """A real arm's first run at full speed, and actions that would last longer than a step may."""
    fake_camera()
    fake_arm()

    early = checked(arm__kind="rosbridge", limits__speed=1.0)
    long = checked(policy__hz=1.0, limits__speed=0.25)

    assert early[0] == long[0] == 1
    assert "wrong    speed      limits.speed is 1" in early[1]
    assert "wrong    speed      an action would last 4.00 s" in long[1]
