from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from stillframe_client.jaco2.bridge.ends import Outcome
from stillframe_client.jaco2.bridge.first_run import FIRST_SPEED, SUMMARY, speed_fault, write_summary
from stillframe_client.jaco2.settings import BridgeSettings

Chosen = Callable[..., BridgeSettings]
WELL = Outcome("30 s are over", fault=False, answers=200, seconds=30.0)


@pytest.fixture
def real(chosen: Chosen, tmp_path: Path) -> BridgeSettings:
    """A real arm at full speed."""
    return chosen(arm={"kind": "rosbridge"}, limits={"speed": 1.0}, record={"folder": str(tmp_path)})


def ran(settings: BridgeSettings, outcome: Outcome, *, dry: bool = False, name: str = "1") -> None:
    """Leave the record of a run."""
    folder = Path(settings.record.folder) / name
    folder.mkdir()
    write_summary(folder, settings, outcome, dry=dry)


def test_the_first_run_is_at_a_quarter(real: BridgeSettings) -> None:
    """More is refused, with what to do; a quarter is not, and a simulated arm has no first run."""
    assert "--speed 0.25" in speed_fault(real)
    assert speed_fault(replace(real, limits=replace(real.limits, speed=FIRST_SPEED))) == ""
    assert speed_fault(replace(real, arm=replace(real.arm, kind="sim"))) == ""


def test_a_run_that_ended_well_allows_more(real: BridgeSettings) -> None:
    """The record of one is enough."""
    ran(real, WELL)

    assert speed_fault(real) == ""


@pytest.mark.parametrize(
    ("outcome", "dry", "arm"),
    [
        (replace(WELL, fault=True), False, {}),
        (replace(WELL, answers=0), False, {}),
        (WELL, True, {}),
        (WELL, False, {"kind": "sim"}),
        (WELL, False, {"name": "j2n7s300"}),
    ],
    ids=["fault", "no-answer", "dry", "simulated", "another-arm"],
)
def test_other_runs_allow_nothing(outcome: Outcome, dry: bool, arm: dict[str, str], real: BridgeSettings) -> None:  # noqa: FBT001
    """A fault, a run without an answer, a dry one, a simulated one and another arm's are no proof."""
    ran(replace(real, arm=replace(real.arm, **arm)), outcome, dry=dry)

    assert speed_fault(real) != ""


@pytest.mark.parametrize("text", ["", "{", "[]", "7", "\x00", json.dumps({"arm": "j2n6s300"})])
def test_a_record_that_is_none_is_passed_over(text: str, real: BridgeSettings) -> None:
    """Broken files neither help nor hurt."""
    (Path(real.record.folder) / "0").mkdir()
    (Path(real.record.folder) / "0" / SUMMARY).write_text(text)

    assert speed_fault(real) != ""
    ran(real, WELL)
    assert speed_fault(real) == ""
