"""Every program in examples/ runs, as it stands, against a daemon that serves the goldens' checkpoint."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
WAIT_S = 240
ACTION = re.compile(r"\[(\s*-?\d+\.?\d*(e-?\d+)?){7}\s*\]")
CONFIG = """
checkpoint: {checkpoint}
dtype: float32
device: cpu
threads: 1
"""


def run(*words: object, **environment: str) -> str:
    """What the program prints, which has to end well."""
    done = subprocess.run(
        [str(word) for word in words],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        env=os.environ
        | {"PYTEST_ADDOPTS": "", "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        | environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(("program", "actions"), [("act_over_http.py", 3), ("stream.py", 1), ("chunks.py", 5)])
def test_it_prints_actions(program: str, actions: int, golden_url: str) -> None:
    """Asked at the address that it was given, every action is seven numbers."""
    assert len(ACTION.findall(run(sys.executable, EXAMPLES / program, golden_url))) >= actions


def test_a_program_of_openpis_goes_on(golden_url: str) -> None:
    """With its import changed it gets chunks of its shape."""
    address = urlsplit(golden_url)
    said = run(sys.executable, EXAMPLES / "from_openpi.py", address.hostname, address.port)

    assert said.count("(1, 7)") == 3


def test_a_loop_of_openpis_goes_on(golden_url: str) -> None:
    """With its import changed it plays what it is advised to play of each chunk."""
    address = urlsplit(golden_url)

    assert (
        len(ACTION.findall(run(sys.executable, EXAMPLES / "from_openpi_chunks.py", address.hostname, address.port)))
        == 6
    )


@pytest.mark.process
def test_a_robots_tests_pass() -> None:
    """Without a checkpoint, by `stillframe.testing`."""
    said = run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", EXAMPLES / "test_your_robot.py")

    assert "2 passed" in said


@pytest.mark.slow
@pytest.mark.process
def test_a_recording_is_calibrated(golden_folder: Path, new_port: Callable[[], int], tmp_path: Path) -> None:
    """Two short episodes are recorded, and a configuration comes out that a daemon takes."""
    from stillframe.daemon.config import load_config

    config = tmp_path / "micro.yaml"
    config.write_text(CONFIG.format(checkpoint=golden_folder))
    script = EXAMPLES / "record_and_calibrate.sh"
    said = run("sh", script, config, tmp_path / "work", PORT=str(new_port()), DRIFT_BUDGET="2")

    assert "Calibrated over" in said
    assert load_config(tmp_path / "work" / "calibrated.yaml", {}).reuse.mode == "adaptive"


def test_every_example_is_run() -> None:
    """A program that is added is run here, and stands in the list."""
    programs = {file.name for file in EXAMPLES.iterdir() if file.suffix in {".py", ".sh"}}
    listed = {*re.findall(r"\]\((\w+\.\w+)\)", (EXAMPLES / "README.md").read_text(encoding="utf-8"))}
    here = Path(__file__).read_text(encoding="utf-8")

    assert programs == listed
    assert all(f'"{program}"' in here for program in programs)
