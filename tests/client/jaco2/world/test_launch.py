"""A world that is started for a command, where the settings ask for one."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from stillframe_client.jaco2.settings import BridgeSettings
from stillframe_client.jaco2.world import launch
from stillframe_client.jaco2.world.wire import WorldError


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Worlds that were started, in place of real ones."""
    made: list[str] = []

    @contextlib.contextmanager
    def world() -> Iterator[str]:
        made.append("/run/world.sock")
        yield made[-1]

    monkeypatch.setattr(launch, "world", world)
    return made


def test_settings_that_name_a_simulated_arm_get_a_world(started: list[str], settings: Any) -> None:
    """Without a socket one is started, and arm and cameras find it by arm.socket."""
    with launch.world_for(settings) as there:
        assert there.arm.socket == started[0]
        assert there.cameras == settings.cameras


def test_a_world_that_runs_already_is_used(started: list[str], settings: Any) -> None:
    """A socket in the settings is left as it is."""
    given = replace(settings, arm=replace(settings.arm, socket="/run/other.sock"))

    with launch.world_for(given) as there:
        assert there is given
    assert started == []


def test_other_arms_get_none(started: list[str]) -> None:
    """A real arm with a real camera starts nothing."""
    with launch.world_for(BridgeSettings()) as there:
        assert there == BridgeSettings()
    assert started == []


@pytest.mark.process
def test_a_world_that_does_not_start_says_so(capfd: pytest.CaptureFixture[str]) -> None:
    """Its own message is on stderr, and the error names its status."""
    with pytest.raises(WorldError, match="ended with status 2"), launch.world(["--task", "dance"]):
        pass
    assert "reach, pick, push" in capfd.readouterr().err


@pytest.mark.process
def test_a_world_ends_with_the_process_that_started_it() -> None:
    """A bridge that is killed leaves none behind."""
    script = (
        "import os, signal\n"
        "from stillframe_client.jaco2.world.launch import world\n"
        "with world() as path:\n"
        "    print(path, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)

    assert done.stdout.strip().endswith("world.sock")  # communicate() returns once the world has closed its end too
