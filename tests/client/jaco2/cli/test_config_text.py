from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillframe_client.jaco2.cli import main
from stillframe_client.jaco2.cli.config_text import as_toml
from stillframe_client.jaco2.config import as_document, load, parse
from stillframe_client.jaco2.settings import SECTIONS, BridgeSettings, CameraSettings
from stillframe_client.jaco2.settings_fields import unit_of

EXAMPLE = Path(__file__).parents[4] / "configs" / "jaco2.toml"


@given(data=st.data())
def test_what_is_printed_reads_back_the_same(
    data: st.DataObject,
    any_settings: st.SearchStrategy[BridgeSettings],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Any settings, with any text and any camera's name in them, come back from the TOML that is printed of them."""
    settings = data.draw(any_settings)
    file = tmp_path_factory.mktemp("toml") / "settings.toml"
    file.write_text(as_toml(settings), encoding="utf-8")

    assert load(file) == settings


@pytest.mark.parametrize("text", ["\x7f", "\x00\x1f", '"\\\n', "\u2028 \U0001f9be", "'''"], ids=ascii)
def test_odd_text_reads_back_the_same(text: str, tmp_path: Path) -> None:
    """Characters that TOML has no place for, in a value and in a camera's name."""
    settings = parse({"policy": {"instruction": text}, "cameras": {text: {}}}, "the test")
    file = tmp_path / "settings.toml"
    file.write_text(as_toml(settings), encoding="utf-8")

    assert load(file) == settings


def test_every_setting_is_explained() -> None:
    """Above each stands its description, with its range and its unit."""
    lines = as_toml(load(None)).splitlines()

    for kind in (*SECTIONS.values(), CameraSettings):
        for part in dataclasses.fields(kind):
            explained = [
                lines[at - 1]
                for at, line in enumerate(lines)
                if line.startswith((f"{part.name} =", f"# {part.name} ="))
            ]
            assert any(part.metadata["description"] in line and unit_of(part.name) in line for line in explained)
    at = lines.index("linear_m_s2 = 0.4")
    assert lines[at - 1] == "# acceleration [0.05 to 0.64 m/s2]"


def test_print_config_says_what_is_in_effect(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """File, options and defaults together; it may be asked of any command, and none is run."""
    file = tmp_path / "a.yaml"
    file.write_text("limits: {floor_m: 0.1}\n")

    status = main(["home", "--config", str(file), "--speed", "0.5", "--set", "arm.ros=2", "--print-config"])

    printed = capsys.readouterr().out
    again = tmp_path / "again.toml"
    again.write_text(printed)
    assert status == 0
    assert load(again) == load(file, {"limits.speed": 0.5, "arm.ros": 2})


def test_the_example_is_complete_and_true(capsys: pytest.CaptureFixture[str]) -> None:
    """configs/jaco2.toml is what --print-config prints of it; else write it anew by that."""
    assert main(["--config", str(EXAMPLE), "--print-config"]) == 0
    assert capsys.readouterr().out == EXAMPLE.read_text(encoding="utf-8")


def test_the_example_is_one_of_a_real_arm() -> None:
    """It names an arm that is no simulation, an instruction, and the speed of a first run."""
    example = load(EXAMPLE)

    assert (example.arm.kind, example.limits.speed) == ("rosbridge", 0.25)
    assert example.policy.instruction
    assert json.dumps(as_document(example))
