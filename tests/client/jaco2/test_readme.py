from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest

import stillframe_client.jaco2
from stillframe_client.jaco2.cli.parser import COMMANDS, parse_arguments
from stillframe_client.jaco2.config import load

sys.path.insert(0, str(Path(__file__).parent / "faults"))  # for fault_kit

from fault_kit import tables
from fault_kit.matrix import MATRIX

ROOT = Path(__file__).resolve().parents[3]
README = Path(stillframe_client.jaco2.__file__).with_name("README.md")


@pytest.fixture
def text() -> str:
    """The README."""
    return README.read_text(encoding="utf-8")


def rows(table: str) -> list[list[str]]:
    """A table's cells, without its head."""
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_states_are_the_watchdogs(text: str) -> None:
    """The table in code is the one that is read."""
    assert tables.block("states", text) == tables.states()


def test_the_limits_are_the_settings(text: str) -> None:
    """Defaults, ranges and ceilings are those of the code."""
    assert tables.block("limits", text) == tables.limits()


def test_every_fault_has_its_row(text: str) -> None:
    """In order, with what follows and the bounds that the tests hold; none more."""
    shown = [[row[0], row[1].partition(":")[0], row[2], row[4]] for row in rows(tables.block("faults", text))]

    assert shown == tables.bounds()


def test_every_fault_was_measured(text: str) -> None:
    """What is counted and measured is there for each, but for what has no rest to measure."""
    missing = [row[0] for row in rows(tables.block("faults", text)) if row[6] == tables.NONE]

    assert missing == [fault.name for fault in MATRIX if fault.follows == "nothing"]


def test_what_was_measured_is_within_the_bounds(text: str) -> None:
    """Ticks that were counted are no more than the bound."""
    for row in rows(tables.block("faults", text)):
        for bound, counted in ((row[2], row[3]), (row[4], row[5])):
            if tables.NONE in (bound, counted):
                continue
            most = [int(part) for part in bound.split(" / ")]
            found = [int(part) for part in counted.split(" / ")]
            assert all(number <= most[min(index, len(most) - 1)] for index, number in enumerate(found)), row


def test_it_says_what_was_not_done(text: str) -> None:
    """That it has not run on hardware, and that the power switch is not replaced, stand before everything else."""
    first = text.split("## ")[0]

    assert "**It has not run on hardware.**" in first
    assert "**No software replaces the power switch.**" in first


def test_its_commands_parse(text: str) -> None:
    """Every command line of a block, and every command has its row."""
    lines = [line for block in re.findall(r"```(?:sh|text)\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    ours = [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("stillframe-jaco2")]

    assert len(ours) >= 5
    for words in ours:
        options = parse_arguments(words)
        if options.config is not None:
            load(ROOT / options.config, options.given)
    table = {row[0].strip("`").split()[0] for row in rows(text.split("## Quick start")[1].split("`--print-config`")[0])}
    assert table == COMMANDS.keys()


def test_the_folders_that_it_names_are_there(text: str) -> None:
    """Rooms, configurations and the program that measures."""
    for room in re.findall(r"^\| `(\w+)/`", text, re.MULTILINE):
        assert (README.parent / room).is_dir()
    for path in re.findall(r"(?:configs|tests)/[\w/.-]+\w", text):
        assert (ROOT / path).exists(), path
