"""schemathesis holds /openapi.json against a running daemon: what it makes up from the one, the other has to answer."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

HERE = Path(__file__).parent
WAIT_S = 300
CONFIG = """
[checks.not_a_server_error]
# No room, not ready, too old: told as such, and described.
expected-statuses = ["2xx", "3xx", "4xx", 503, 504]

[checks.negative_data_rejection]
# A session that is gone or a frame that came too late is told so first.
expected-statuses = ["4xx", 503, 504]
"""
# What has the right shape may still be no picture, name two sessions, or one that is gone: no schema can say it.
LEFT_OUT = "positive_data_acceptance"


@pytest.fixture(scope="module")
def program(load: Callable[[str], ModuleType]) -> str:
    """The command of an environment that holds schemathesis."""
    return str(Path(load("e2e/clients/real.py").interpreter("schemathesis")).parent / "schemathesis")


@pytest.fixture(scope="module")
def daemon(
    load: Callable[[str], ModuleType], golden_folder: Path, tmp_path_factory: Any, new_port: Callable[[], int]
) -> Iterator[Any]:
    """A daemon whose sessions make room at once, so that most requests are about ones that are there."""
    folder = tmp_path_factory.mktemp("schema")
    reuse = {"mode": "exact", "slack": False}
    config = {"checkpoint": str(golden_folder), "device": "cpu", "dtype": "float32", "threads": 1, "reuse": reuse}
    config |= {"frames_per_s": None, "sessions": {"lease_s": 0}}
    started = load("hard/faults/conftest.py").Daemon(folder, config, new_port())
    started.start()
    yield started
    started.stop()


@pytest.mark.parametrize(
    ("seed", "examples", "phases"),
    [
        (1, 2, "examples,fuzzing"),
        *(pytest.param(seed, 8, "examples,coverage,fuzzing", marks=pytest.mark.slow) for seed in (1, 2, 3)),
    ],
)
def test_the_daemon_is_as_described(
    daemon: Any, program: str, tmp_path: Path, seed: int, examples: int, phases: str
) -> None:
    """Status, content type, headers and body of each answer are described; wrong bodies and methods are refused."""
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    command = [program, "--config-file", "schemathesis.toml", "run", daemon.url + "/openapi.json", "--checks", "all"]
    command += ["--exclude-checks", LEFT_OUT]
    command += ["--phases", phases, "--max-examples", str(examples), "--seed", str(seed)]
    command += ["--continue-on-failure", "--suppress-health-check", "all", "--warnings", "off", "--no-color"]
    environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    environment["SCHEMATHESIS_HOOKS"] = str(HERE / "hooks.py")
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=WAIT_S, cwd=tmp_path, env=environment, check=False
    )

    assert done.returncode == 0, done.stdout[-12_000:]
    assert "Tested: " in done.stdout
    assert daemon.ready() == 200
    assert daemon.complaints() == []
