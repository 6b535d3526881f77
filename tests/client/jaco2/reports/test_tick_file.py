from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillframe_client.jaco2.cli import main
from stillframe_client.jaco2.config import as_document, load
from stillframe_client.jaco2.core.messages import Order
from stillframe_client.jaco2.domain import Step
from stillframe_client.jaco2.reports.tick_file import LogError, read_log

HEADER = json.dumps({"version": 1, "settings": as_document(load(None)), "arm": {}, "dry": False})
TICK = json.dumps({"t": 1.0, "late_ms": 0.1, "state": "DISARMED", "asked": [0] * 6})
PLACES = st.integers(0, len(HEADER) + len(TICK))


def written(folder: Path, text: str) -> Path:
    """A log with this text."""
    file = folder / "ticks.jsonl"
    file.write_text(text, encoding="utf-8")
    return file


def test_a_log_reads_back_what_a_tick_went_by(new_log: Callable[..., Path]) -> None:
    """Orders, steps to the last digit, heartbeats, new reports, commands, calls and reasons."""
    log = read_log(new_log())

    assert (len(log.ticks), log.is_cut, log.dry, log.arm["kind"]) == (660, False, False, "sim")
    assert log.ticks[5].inbox.messages == (Order("arm"),)
    step = log.ticks[10].inbox.messages[0]
    assert isinstance(step, Step)
    assert step.seq == 10
    assert step.delta[0] == 0.004 * np.cos(10 / 60)
    assert log.ticks[5].calls == ("start",)
    assert [line.report.seq for line in log.ticks if line.report is not None] == list(range(1, 68))
    assert log.ticks[4].sent is None
    assert len(log.ticks[5].sent or ()) == 7
    assert not log.ticks[330].inbox.heartbeat
    assert log.ticks[-1].reasons == ("stopped by the operator",)


@pytest.mark.parametrize("command", ["replay", "report"])
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty: the streamer wrote no line"),
        ('{"version": 1', "is empty"),
        (HEADER + "\n", "holds no tick: the streamer ended before its first"),
        (f"{TICK}\n", "is no tick log: its first line names no version"),
        ("[]\n", "is no tick log"),
        (HEADER.replace('n": 1', 'n": 2') + f"\n{TICK}\n", "a log of version 2; this program reads version 1"),
        (HEADER.replace('"speed": 0.25', '"speed": 9') + f"\n{TICK}\n", "speed is 9.0; expected 0.05 to 1"),
        (f"{HEADER}\n{TICK[:20]}\n{TICK}\n", "line 2 of"),
        (f"{HEADER}\n{TICK}\n[1]\n", "line 3 of"),
        (f"{HEADER}\n{TICK.replace('DISARMED', 'FLYING')}\n", "its state is 'FLYING'"),
        (f"{HEADER}\n{TICK.replace('[0, 0, ', '[')}\n", "it holds 4 numbers where 6 are expected"),
        ("\udcff", "is empty"),
    ],
    ids=["empty", "cut header", "header only", "no header", "list", "version", "settings", "damaged", "no tick",
         "state", "numbers", "bytes"],
)  # fmt: skip
def test_what_is_no_log_is_refused(
    command: str, text: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status 1, and the text names the file, the line and what is wrong with it; nothing is written."""
    (tmp_path / "ticks.jsonl").write_bytes(text.encode("utf-8", "surrogateescape"))

    assert main([command, str(tmp_path)]) == 1
    said = capsys.readouterr()
    assert says in said.err
    assert "ticks.jsonl" in said.err
    assert [file.name for file in tmp_path.iterdir()] == ["ticks.jsonl"]


@pytest.mark.parametrize("command", ["replay", "report"])
def test_a_log_that_is_not_there_is_refused(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither the path, nor a tick log in the folder."""
    assert main([command, str(tmp_path / "other")]) == 1
    assert "does not exist; expected a run's folder or its ticks.jsonl" in capsys.readouterr().err
    assert main([command, str(tmp_path)]) == 1
    assert "holds no ticks.jsonl; expected the folder of one run" in capsys.readouterr().err


def test_a_log_that_was_cut_off_is_read_up_to_there(
    new_log: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """As a killed streamer leaves it: the whole lines count, and both commands say that the last is not."""
    file = new_log(ticks=100) / "ticks.jsonl"
    file.write_bytes(file.read_bytes()[:-30])

    log = read_log(file)
    assert (len(log.ticks), log.is_cut) == (99, True)
    assert main(["replay", str(file)]) == 0
    assert "99 ticks decided again: all came to the same; the log's last line is cut short" in capsys.readouterr().out


@given(PLACES, st.binary(max_size=3))
def test_damage_anywhere_is_a_clear_refusal_or_a_log(
    tmp_path_factory: pytest.TempPathFactory, place: int, put: bytes
) -> None:
    """Cut at any byte, with any bytes put there: a log, or LogError; nothing else is raised."""
    text = f"{HEADER}\n{TICK}\n".encode()
    file = tmp_path_factory.mktemp("log") / "ticks.jsonl"
    for damaged in (text[:place] + put, text[:place] + put + text[place + 1 :]):
        file.write_bytes(damaged)
        with contextlib.suppress(LogError):
            assert read_log(file).ticks
