from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stillframe_client.jaco2.cli import main
from stillframe_client.jaco2.cli.parser import COMMANDS, parse_arguments
from stillframe_client.jaco2.settings import BridgeSettings


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[BridgeSettings, dict[str, Any]]]:
    """What the bridge was asked to run; it runs nothing."""
    asked: list[tuple[BridgeSettings, dict[str, Any]]] = []

    def run(settings: BridgeSettings, **how: Any) -> int:
        asked.append((settings, how))
        return 0

    monkeypatch.setattr("stillframe_client.jaco2.bridge.run.run", run)
    return asked


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--speed", "1.5"], "speed is 1.5; expected 0.05 to 1"),
        (["--set", "limits.linear_m_s=0.3"], "linear_m_s is 0.3; expected 0.01 to 0.2"),
        (["--set", "limits.linear=0.1"], "limits.linear is not known"),
        (["--set", "limits.speed=fast"], "limits.speed is 'fast'; expected a number"),
        (["--set", "limits.low_m=[0,0,null]"], "expected a list of numbers"),
        (["--arm", "ur5"], "kind is 'ur5'; expected one of sim, mujoco, rosbridge, rospy, kinova_sdk"),
        (["--config", "/nowhere/jaco2.toml"], "/nowhere/jaco2.toml cannot be read"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
@pytest.mark.parametrize("command", ["dry-run", "run", "check", "home", "frame-check"])
def test_settings_that_cannot_be_used_are_refused(
    command: str, arguments: list[str], says: str, runs: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is opened: status 1, and the text names the setting."""
    assert main([command, *arguments]) == 1
    assert says in capsys.readouterr().err
    assert runs == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["fly"], "invalid choice: 'fly'"),
        (["run", "--speed", "fast"], "invalid float value"),
        (["run", "--set", "speed"], "expected something like limits.floor_m=0.05"),
        (["run", "--seconds", "0"], "between 0.1 and 86400 seconds"),
        (["check", "--calls", "none"], "between 1 and 9999"),
        (["frame-check", "--shift", "1"], "between 0.005 and 0.05 m"),
        (["frame-check", "--turn", "nan"], "between 0.05 and 0.4 rad"),
        (["replay"], "required: LOG"),
        (["--fast"], "unrecognized arguments: --fast"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_command_line_that_cannot_be_read_is_refused(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 1, which a run's fault (2) is not."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)

    assert ended.value.code == 1
    assert says in capsys.readouterr().err


def test_without_a_command_it_is_a_dry_run(runs: list[tuple[BridgeSettings, dict[str, Any]]]) -> None:
    """Nothing is sent to the arm unless `run` says so; options are the same."""
    assert main([]) == 0
    assert main(["--instruction", "wave", "--arm", "rosbridge"]) == 0
    assert main(["dry-run", "--seconds", "3"]) == 0
    assert [how for _, how in runs] == [{"dry": True, "seconds": None}] * 2 + [{"dry": True, "seconds": 3.0}]
    assert (runs[1][0].policy.instruction, runs[1][0].arm.kind) == ("wave", "rosbridge")


def test_run_moves_only_an_arm_that_is_named(
    runs: list[tuple[BridgeSettings, dict[str, Any]]],
    settings_file: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The arm of a file is not enough: it is said again at each run."""
    file = settings_file(arm__kind="rosbridge", policy__instruction="wave")

    assert main(["run", "--config", str(file)]) == 1
    assert "name it, as in --arm rosbridge" in capsys.readouterr().err
    assert runs == []
    assert main(["run", "--config", str(file), "--arm", "rosbridge", "--speed", "0.5", "--seconds", "9"]) == 0
    assert runs[0][1] == {"dry": False, "seconds": 9.0}
    assert runs[0][0].limits.speed == 0.5


def test_the_last_word_is_the_options() -> None:
    """An option of its own wins over --set, and the last --set over those before; what is no JSON is text."""
    options = parse_arguments(
        ["--set", "limits.speed=0.3", "--speed", "0.4", "--set", "arm.name=left", "--set", "arm.name=right"]
    )

    assert options.given == {"limits.speed": 0.4, "arm.name": "right"}


def test_an_interrupt_ends_a_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C in a command that does not listen for it: one line and status 130."""

    def interrupted(*_: Any, **__: Any) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("stillframe_client.jaco2.bridge.run.run", interrupted)

    assert main([]) == 130
    assert capsys.readouterr().err == "stillframe-jaco2: interrupted\n"


def test_help_and_settings_need_little() -> None:
    """--help imports no numpy; --print-config no HTTP client, picture, camera or chart; help names every command."""
    script = (
        "import sys\n"
        "from stillframe_client.jaco2.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert 'numpy' not in sys.modules\n"
        "main(['--print-config'])\n"
        "heavy = {'httpx', 'PIL', 'cv2', 'matplotlib', 'websockets', 'asyncio'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert all(f"    {command}" in done.stdout for command in COMMANDS)
