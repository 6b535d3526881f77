from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from fault_kit.in_ticks import happened
from fault_kit.matrix import BY_NAME, HOLD, LEFT, MATRIX, MODES, STOP, settings
from fault_kit.virtual import FaultyPolicy, opened, virtual_s
from fault_kit.virtual_faults import ELSEWHERE, MAKE

from stillframe_client.jaco2.ceilings import TICK_S
from stillframe_client.jaco2.core.controller import ZEROS_S
from stillframe_client.jaco2.core.watchdog import State

OPERATORS = (
    "SIGINT",
    "SIGTERM",
    "SIGHUP",
    "SIGQUIT",
    "any key",
    "terminal closed",
)  # a stop that is asked for is no fault of the run
NAMES = [fault.name for fault in MATRIX if fault.name in MAKE]


def those(follows: str) -> list[object]:
    """The faults that this follows, in each mode: every day the one in one mode, the next in the other."""
    return [
        pytest.param(name, mode, marks=() if number % len(MODES) == turn else pytest.mark.slow)
        for number, name in enumerate(NAMES)
        if BY_NAME[name].follows == follows
        for turn, mode in enumerate(MODES)
    ]


def test_every_fault_is_made_here_or_says_why_not() -> None:
    """No row of the matrix is left out, and nothing is made that is no row."""
    assert {fault.name for fault in MATRIX} == {*MAKE, *ELSEWHERE}


@pytest.mark.parametrize(("name", "mode"), those(HOLD))
def test_what_passes_is_waited_for(name: str, mode: str, virtual: asyncio.Runner, tmp_path: Path) -> None:
    """Rest is commanded within the bound, again each tick while the fault lasts; then the arm moves again by itself."""
    came = virtual.run(happened(name, mode, tmp_path))

    assert came.rest <= BY_NAME[name].rest_ticks[mode]
    assert came.states[:3] == [State.RUNNING, State.HOLD, State.RUNNING]
    held = came.while_it_lasts[came.rest :]
    assert len(held) > 50
    assert all(each.tick.command is not None and each.at_rest and not each.tick.calls for each in held)
    assert came.outcome is not None
    assert came.outcome.reason == "enough"


@pytest.mark.parametrize(("name", "mode"), those(STOP))
def test_what_does_not_pass_stops_the_arm(name: str, mode: str, virtual: asyncio.Runner, tmp_path: Path) -> None:
    """Rest is commanded within the bound and for 0.3 s, then the arm is stopped, and nothing is sent any more."""
    came = virtual.run(happened(name, mode, tmp_path))

    fault = BY_NAME[name]
    assert fault.stop_ticks is not None
    assert came.stop is not None
    assert came.rest <= fault.rest_ticks[mode]
    assert came.stop <= fault.stop_ticks[mode]
    stopped = next(index for index, each in enumerate(came.ticks) if each.tick.calls)
    last = [each for each in came.ticks[:stopped] if each.now_s > came.ticks[stopped].now_s - ZEROS_S - TICK_S / 2]
    assert len(last) == round(ZEROS_S / TICK_S)
    assert all(each.tick.command is not None and each.at_rest for each in last)
    assert all(each.tick.command is None and not each.tick.calls for each in came.ticks[stopped + 1 :])
    assert came.states[-1] in (State.FAULT, State.DISARMED)
    assert came.outcome is None or came.outcome.fault == (name not in OPERATORS)


@pytest.mark.parametrize(("name", "mode"), those(LEFT))
def test_an_arm_that_is_told_nothing_rests(name: str, mode: str, virtual: asyncio.Runner, tmp_path: Path) -> None:
    """The tool is at rest as soon as the arm's queue is empty, and the bridge ends with a fault."""
    came = virtual.run(happened(name, mode, tmp_path))

    assert came.tool_rest <= BY_NAME[name].rest_ticks[mode]
    assert came.outcome is not None
    assert came.outcome.fault


@pytest.mark.few(2)
@pytest.mark.parametrize("speed", [0.1, 0.25, 0.5])
@pytest.mark.parametrize("mode", MODES)
def test_a_blocked_arm_is_noticed_at_a_low_speed(
    mode: str, speed: float, virtual: asyncio.Runner, tmp_path: Path
) -> None:
    """The first run is a slow one: also then an arm that does not move though it is told to is soon a fault."""
    made = settings(mode)
    made = replace(made, limits=replace(made.limits, speed=speed))

    async def block() -> float:
        async with opened(made, tmp_path, FaultyPolicy(action=(0.01, 0, 0, 0, 0, 0, 1.0))) as world:
            assert world.playing is not None
            began_s, world.streamer.arm.blocked = virtual_s(), True
            assert "blocked" in (await world.playing).reason
            return virtual_s() - began_s

    assert virtual.run(block()) <= BY_NAME["arm blocked"].rest_ticks[mode] * TICK_S
