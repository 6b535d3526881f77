"""The systemd unit, read by systemd itself, which need not run: `systemd-analyze` of Debian's package."""

from __future__ import annotations

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "docker" / "stillframe.service"
PROGRAM = "/opt/stillframe/bin/stillframe"
MOST_EXPOSED = 20  # tenths: systemd's own scale, on which a unit that hardens nothing has 96


def service() -> configparser.SectionProxy:
    """The unit's section Service; of a key that stands twice the last."""
    read = configparser.ConfigParser(interpolation=None, strict=False)
    read.optionxform = str  # type: ignore[assignment,method-assign] # keys keep their case
    read.read_string(UNIT.read_text())
    return read["Service"]


@pytest.fixture
def analyze(tmp_path: Path) -> tuple[list[str], Path]:
    """Systemd-analyze's command, and the unit with a program that is on this machine in place of ours."""
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("no systemd-analyze on this machine: it is of Debian's package systemd")
    stand_in = tmp_path / "stillframe"
    stand_in.write_text("#!/bin/sh\n")
    stand_in.chmod(0o755)
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace(PROGRAM, str(stand_in)))
    return [program, "--no-pager"], unit


def test_systemd_takes_the_unit(analyze: tuple[list[str], Path]) -> None:
    """Not a word about it: systemd knows every section, key and value. Of a key that it does not, it speaks."""
    program, unit = analyze
    done = subprocess.run([*program, "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False)
    unit.write_text(unit.read_text().replace("ProtectHome=yes", "ProtectHouse=yes"))
    odd = subprocess.run([*program, "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False)

    assert [line for line in done.stderr.splitlines() if unit.name in line] == []
    assert "ProtectHouse" in odd.stderr


def test_the_unit_is_hardened(analyze: tuple[list[str], Path]) -> None:
    """Systemd's review gives little exposure; without DynamicUser and the rest it would not pass."""
    program, unit = analyze
    review = [*program, "security", "--offline=true", f"--threshold={MOST_EXPOSED}", str(unit)]
    done = subprocess.run(review, capture_output=True, text=True, check=False)
    bare = [line for line in unit.read_text().splitlines() if not line.startswith(("Protect", "Private", "Restrict"))]
    unit.write_text("\n".join(bare))
    undone = subprocess.run(review, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout
    assert undone.returncode != 0


def test_the_unit_stops_the_daemon_as_it_wants_to_be() -> None:
    """SIGTERM, and longer than frames in flight get; a failure is a reason to start again, a stop is none."""
    drain_s = yaml.safe_load((ROOT / "configs" / "jaco-tiny.yaml").read_text())["drain_s"]

    assert service()["KillSignal"] == "SIGTERM"
    assert int(service()["TimeoutStopSec"]) > drain_s + 5
    assert service()["Restart"] == "on-failure"


def test_the_unit_serves_a_configuration_of_its_own() -> None:
    """The command is ours, and its configuration lies where the unit has its folder."""
    program, verb, config = service()["ExecStart"].split()

    assert (program, verb) == (PROGRAM, "serve")
    assert Path(config).parent == Path("/etc") / service()["ConfigurationDirectory"]
