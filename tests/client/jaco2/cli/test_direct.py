from __future__ import annotations

import io
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from stillframe_client.jaco2.arms.base import ArmError
from stillframe_client.jaco2.cli import main


def test_home_asks_first(
    fake_arm: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It says that the fingers open, and without a yes the arm is not even reached."""
    arm = fake_arm()
    monkeypatch.setattr("sys.stdin", io.StringIO("no\n"))

    assert main(["home"]) == 1
    said = capsys.readouterr()
    assert "FINGERS OPEN" in said.out
    assert "nothing has moved" in said.err
    assert arm.calls == []


@pytest.mark.parametrize(("arguments", "typed"), [([], "yes\n"), (["--yes"], "")], ids=["asked", "told before"])
def test_home_moves_home(
    arguments: list[str], typed: str, fake_arm: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told so by a yes or by the option: reached, moved, let go of."""
    arm = fake_arm()
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))

    assert main(["home", *arguments]) == 0
    assert arm.calls == ["connect", "home", "close"]


def test_home_of_an_arm_that_is_not_there(fake_arm: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    """The arm's own words, and status 1."""
    arm = fake_arm(gone=True)

    assert main(["home", "--yes"]) == 1
    assert "no arm answers" in capsys.readouterr().err
    assert arm.calls == ["connect", "close"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda number: number.name)
def test_a_signal_on_the_way_home_stops_the_arm(
    number: signal.Signals, fake_arm: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program ends with 130, and does not leave the arm on its way; what signals did before, they do again."""
    arm, before = fake_arm(), signal.getsignal(number)
    monkeypatch.setattr(arm, "home", lambda _: os.kill(os.getpid(), number) or time.sleep(10))

    assert main(["home", "--yes"]) == 130
    assert arm.calls == ["connect", "stop", "close"]
    assert signal.getsignal(number) is before


def test_a_home_that_fails_stops_the_arm(
    fake_arm: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may still move: the driver is told to stop."""

    def home(timeout_s: float) -> None:
        raise ArmError(f"not home within {timeout_s:g} s")

    arm = fake_arm()
    monkeypatch.setattr(arm, "home", home)

    assert main(["home", "--yes"]) == 1
    assert arm.calls == ["connect", "stop", "close"]
    assert "not home within 60 s" in capsys.readouterr().err


def test_stop_asks_nothing(fake_arm: Callable[..., Any], capsys: pytest.CaptureFixture[str]) -> None:
    """It stops at once, and says that it is no replacement for the switch."""
    arm = fake_arm()

    assert main(["stop"]) == 0
    assert arm.calls == ["connect", "stop", "close"]
    assert "switch off its power" in capsys.readouterr().out


def test_stop_is_tried_though_the_arm_was_not_reached(
    fake_arm: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """It may be back in a moment; that it was not reached is said in capitals, with status 1."""
    arm = fake_arm(gone=True)

    assert main(["stop"]) == 1
    assert arm.calls == ["connect", "stop", "close"]
    assert "was NOT reached: no arm answers" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["stop"], ["home", "--yes"]], ids=lambda value: value[0])
def test_an_arm_that_needs_what_is_not_installed(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the back end says it lacks is passed on."""

    def lacking(_: Any) -> None:
        raise ArmError("rospy is not installed: source ROS first")

    monkeypatch.setattr("stillframe_client.jaco2.cli.direct.make_arm", lacking)

    assert main(arguments) == 1
    assert "source ROS first" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["stop"], ["home", "--yes"]], ids=lambda value: value[0])
def test_the_simulated_arm_does_both(arguments: list[str]) -> None:
    """The real back end of the kind sim."""
    assert main(arguments) == 0
