from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stillframe_client.jaco2.cli import main
from stillframe_client.jaco2.core.messages import ORDERS, Inbox, Order
from stillframe_client.jaco2.domain import Step
from stillframe_client.jaco2.reports.replay import first_difference
from stillframe_client.jaco2.reports.tick_file import read_log


def edit(log: Path, number: int, change: Callable[[dict[str, Any]], None]) -> None:
    """Change one line of a log, from 1."""
    file = log / "ticks.jsonl"
    lines = file.read_text().splitlines()
    line = json.loads(lines[number - 1])
    change(line)
    lines[number - 1] = json.dumps(line)
    file.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("dry", [False, True], ids=["real", "dry"])
def test_a_log_is_decided_the_same(dry: bool, new_log: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:  # noqa: FBT001
    """State, command and calls of every tick come out as they were, whether commands were sent or not."""
    assert main(["replay", str(new_log(dry=dry))]) == 0
    assert capsys.readouterr().out == "660 ticks decided again: all came to the same\n"


@pytest.mark.parametrize(
    ("number", "change", "says"),
    [
        (102, lambda line: line["sent"].__setitem__(0, line["sent"][0] + 1e-6), "line 102, 1.00 s after the start: ["),
        (
            7,
            lambda line: line.update(calls=[]),
            "line 7, 0.05 s after the start: the arm is told to start; the log says",
        ),
        (200, lambda line: line.update(state="HOLD"), "the state is RUNNING; the log says HOLD"),
        (200, lambda line: line.pop("sent"), "is sent; the log says nothing"),
        (3, lambda line: line.update(sent=[0] * 7), "nothing is sent; the log says [0, 0, 0, 0, 0, 0, 0]"),
        (102, lambda line: line["in"][0][2].__setitem__(0, -0.01), "line 10"),
    ],
    ids=["command", "call", "state", "none", "something", "input"],
)
def test_the_first_difference_is_named(
    number: int,
    change: Callable[[dict[str, Any]], None],
    says: str,
    new_log: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A log that does not come from its own inputs: status 1, the line, the time, and both sides."""
    log = new_log(ticks=260)
    edit(log, number, change)

    assert main(["replay", str(log)]) == 1
    assert says in capsys.readouterr().out


def table(printed: str) -> dict[str, list[str]]:
    """The rows of a comparison: name -> then, now."""
    rows = [line.rsplit(maxsplit=2) for line in printed.splitlines() if len(line.rsplit(maxsplit=2)) == 3]
    return {name: [then, now] for name, then, now in rows}


def test_other_settings_say_what_would_have_been_others(
    new_log: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With --config: counts of limited ticks, speeds, holds and faults of both, and the first tick that differs."""
    (tmp_path / "other.yaml").write_text(
        "limits: {speed: 1.0}\nwatch: {heartbeat_hold_s: 0.5, heartbeat_fault_s: 1.0}\n"
    )

    status = main(["replay", str(new_log(ticks=600)), "--config", str(tmp_path / "other.yaml")])

    printed = capsys.readouterr().out
    rows = table(printed)
    assert status == 0
    assert rows["ticks HOLD"] == ["25", "24"]
    assert int(rows["limited by speed"][0]) > 400
    assert rows["limited by speed"][1] == "0"
    assert rows["on hold: the bridge is silent"] == ["25", "0"]
    assert rows["fastest, m/s"][0] == "0.0250"
    assert 0.04 < float(rows["fastest, m/s"][1]) <= 0.1
    assert "of 600 ticks would have been others" in printed
    assert "the first, 0.1" in printed


def test_a_single_setting_is_that_of_the_log_but_for_it(
    new_log: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """With options and no file the rest stays as it was in the run, not as it is by default."""
    log = new_log(ticks=300, limits__linear_m_s=0.05, limits__high_m=[0.5, -0.15, 0.31])

    assert main(["replay", str(log), "--set", "limits.high_m=[0.5, -0.15, 0.31]"]) == 0
    assert "\n0 of 300 ticks would have been others" in capsys.readouterr().out
    assert main(["replay", str(log), "--set", "limits.linear_m_s=9"]) == 1
    assert "linear_m_s is 9.0; expected 0.01 to 0.2" in capsys.readouterr().err


def test_faults_that_would_have_come_are_told(new_log: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    """A tighter limit on steps: the run would have ended with its first step."""
    log = new_log(ticks=300)

    assert main(["replay", str(log), "--set", "limits.step_m=0.005", "--set", "limits.step_rad=0.02"]) == 0
    assert "fault now" not in capsys.readouterr().out
    edit(log, 102, lambda line: line["in"][0][2].__setitem__(0, 0.02))
    assert main(["replay", str(log), "--set", "limits.step_m=0.01"]) == 0
    printed = capsys.readouterr().out
    assert "fault now: the action moves 0.020 m, more than step_m 0.01" in printed
    assert table(printed)["faults"] == ["0", "1"]


odd = st.sampled_from([float("nan"), float("inf"), -1e9]) | st.floats(-0.05, 0.05)
steps = st.builds(
    lambda delta, gripper, lasts_s, ahead_s: (np.array(delta), gripper, lasts_s, ahead_s),
    st.lists(odd, min_size=6, max_size=6) | st.lists(st.floats(-0.01, 0.01), min_size=6, max_size=6),
    st.floats(-0.1, 1.1),
    st.floats(0.01, 0.3),
    st.floats(-0.1, 3),
)
ticks = st.tuples(
    st.lists(steps | st.sampled_from(ORDERS), max_size=2), st.booleans(), st.sampled_from(["", "", "", "odd bytes"])
)


@given(said=st.lists(ticks, max_size=15), dry=st.booleans())
def test_any_run_is_decided_the_same(
    said: list[Any],
    dry: bool,  # noqa: FBT001
    write_log: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Armed, and then whatever a bridge may send, odd numbers and garbage too: its log replays without a difference."""

    def inboxes(tick: int, now_s: float) -> Inbox:
        if tick == 1:
            return Inbox((Order("arm"),), heartbeat=True)
        if tick % 3 or tick // 3 >= len(said):
            return Inbox(heartbeat=True)
        messages, heartbeat, garbage = said[tick // 3]
        sent = [
            Order(each) if isinstance(each, str) else Step(tick, each[0], *each[1:3], now_s + each[3])
            for each in messages
        ]
        return Inbox(tuple(sent), heartbeat=heartbeat, garbage=garbage)

    log = read_log(write_log(tmp_path_factory.mktemp("run"), 60, inboxes, dry=dry))

    assert first_difference(log) == ""
