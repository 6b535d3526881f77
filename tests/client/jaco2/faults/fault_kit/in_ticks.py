"""Counts, in the virtual world, the ticks from a fault to rest and to the arm's stop. Knows no bound."""

from __future__ import annotations

import asyncio
import contextlib
import math
from dataclasses import dataclass, field
from pathlib import Path

from fault_kit.matrix import BACK_TICKS, BY_NAME, HOLD, LEFT, settings
from fault_kit.virtual import FaultyPolicy, Ticked, World, opened, virtual_s
from fault_kit.virtual_faults import MAKE, mend

from stillframe_client.jaco2.bridge.ends import Outcome
from stillframe_client.jaco2.ceilings import TICK_S
from stillframe_client.jaco2.core.controller import Call
from stillframe_client.jaco2.core.watchdog import State

PASSES_S = {"lockstep": 3.0, "realtime": 1.2}  # how long a fault lasts that passes
AWAY_S = 0.5  # how long a streamer is stopped that comes back
AFTER_S = 0.8  # what is looked at after all has ended


@dataclass
class InTicks:
    """What came of one fault."""

    ticks: list[Ticked] = field(repr=False)  # since the fault; thousands, and asyncio writes out its results
    began_s: float
    mended_s: float | None  # when it passed
    outcome: Outcome | None  # None: the bridge itself was the fault
    moved_s: float  # when the tool moved last
    states: list[State]  # since the fault, each change

    def _number(self, time_s: float) -> int:
        return math.ceil((time_s - self.began_s) / TICK_S - 1e-6)

    @property
    def while_it_lasts(self) -> list[Ticked]:
        """The ticks until it was mended."""
        return [each for each in self.ticks if self.mended_s is None or each.now_s <= self.mended_s]

    @property
    def rest(self) -> int:
        """Ticks until the arm was told to rest and nothing else any more."""
        moving = [each for each in self.while_it_lasts if not each.at_rest]
        return self._number(moving[-1].now_s) + 1 if moving else 0

    @property
    def tool_rest(self) -> int:
        """Ticks until the tool itself was at rest."""
        return max(self._number(self.moved_s), 0)

    @property
    def stop(self) -> int | None:
        """Ticks until the arm was stopped; None: it was not."""
        stops = [each for each in self.ticks if Call.STOP in each.tick.calls]
        return self._number(stops[0].now_s) if stops else None


async def happened(name: str, mode: str, folder: Path) -> InTicks:
    """Let the arm move, make the fault, look at what follows."""
    chosen = settings(mode)
    async with opened(chosen, folder, FaultyPolicy(timeout_s=chosen.policy.answer_s)) as world:
        return await _followed(name, mode, world)


async def _followed(name: str, mode: str, world: World) -> InTicks:
    fault = BY_NAME[name]
    began_s, first, mended_s = virtual_s(), len(world.ticks), None
    MAKE[name](world)
    watching = asyncio.ensure_future(_moved(world))
    if fault.follows == HOLD or name.endswith("and back"):
        await asyncio.sleep(PASSES_S[mode] if fault.follows == HOLD else AWAY_S)
        mended_s = virtual_s()
        mend(world)
    if fault.follows == HOLD:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(world.until(lambda: world.state is State.RUNNING), BACK_TICKS * TICK_S)
        await asyncio.sleep(AFTER_S)
        world.over = "enough"
    outcome = await _outcome(world, bridge_lives=not name.startswith("bridge"))
    await asyncio.sleep(AFTER_S)
    watching.cancel()
    world.streamer.link.close()
    ticks = world.ticks[first:]
    states = [each.tick.state for each in ticks]
    changes = [state for before, state in zip([None, *states], states, strict=False) if state is not before]
    mended_s = mended_s if fault.follows in (HOLD, LEFT) else None
    return InTicks(ticks, began_s, mended_s, outcome, world.moved_s, changes)  # type: ignore[attr-defined]


async def _outcome(world: World, *, bridge_lives: bool) -> Outcome | None:
    assert world.playing is not None
    if bridge_lives:
        return await world.playing
    await asyncio.sleep(AFTER_S)
    world.playing.cancel()
    await asyncio.wait([world.playing])
    return None


async def _moved(world: World) -> None:
    """Note when the tool moved last."""
    arm, before = world.streamer.arm, None
    world.moved_s = 0.0  # type: ignore[attr-defined]
    while True:
        arm.driver.advance(virtual_s())
        position = arm.driver.body.pose().position_m
        if before is not None and (position != before).any():
            world.moved_s = virtual_s()  # type: ignore[attr-defined]
        before = position
        await asyncio.sleep(TICK_S)
