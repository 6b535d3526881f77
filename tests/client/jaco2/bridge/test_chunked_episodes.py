"""Episodes with a policy that answers chunks: what the daemon is told, and what reaches the arm."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fault_kit.matrix import settings
from fault_kit.virtual import STEP_M, FaultyPolicy, opened

from stillframe_client.chunk_plan import BLENDS
from stillframe_client.jaco2.settings import BridgeSettings
from stillframe_client.replies import ActionReply


@dataclass
class Listening(FaultyPolicy):
    """Keeps the slack that each frame says."""

    slacks_ms: list[float | None] = field(default_factory=list)

    async def act_with_report(self, image: Any, instruction: str, **options: Any) -> ActionReply:
        """Answer as ever."""
        self.slacks_ms.append(options.get("slack_ms"))
        return await super().act_with_report(image, instruction, **options)


def played(
    virtual: asyncio.Runner, folder: Path, made: BridgeSettings, policy: FaultyPolicy
) -> tuple[list[float], str]:
    """Three seconds of an episode: the times of the steps that reached the arm, and how it ended."""

    async def play() -> tuple[list[float], str]:
        async with opened(made, folder, policy) as world:
            assert world.playing is not None
            await asyncio.wait([world.playing], timeout=3.0)
            world.over = "enough"
            outcome = await world.playing
            return [tick.now_s for tick in world.ticks if tick.step], outcome.reason

    return virtual.run(play())


def test_a_frame_says_how_long_the_arm_can_go_on(virtual: asyncio.Runner, tmp_path: Path) -> None:
    """In realtime: nothing as it begins, then what is left of half of a chunk of ten."""
    policy = Listening(horizon=10)
    played(virtual, tmp_path, settings("realtime"), policy)

    assert policy.slacks_ms[0] == 0.0
    assert policy.slacks_ms[1:] == pytest.approx([500.0] * (len(policy.slacks_ms) - 1))
    assert len(policy.slacks_ms) > 3


def test_a_policy_of_single_actions_has_no_slack(virtual: asyncio.Runner, tmp_path: Path) -> None:
    """Nothing is said of it."""
    policy = Listening()
    played(virtual, tmp_path, settings("realtime"), policy)

    assert set(policy.slacks_ms) == {None}


@pytest.mark.parametrize("blend", BLENDS)
def test_chunks_keep_the_datas_rate(blend: str, virtual: asyncio.Runner, tmp_path: Path) -> None:
    """A step each 0.1 s across every seam, however late chunks come and whatever becomes of their overlaps."""
    policy = FaultyPolicy(horizon=8, delay_s=0.25, action=(STEP_M, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0))
    times, reason = played(virtual, tmp_path, settings("realtime", blend=blend), policy)
    gaps_s = [after - before for before, after in pairwise(times)]

    assert reason == "enough"
    assert len(gaps_s) > 20
    assert np.max(gaps_s) < 0.15
    assert np.mean(gaps_s) == pytest.approx(0.1, abs=0.005)
