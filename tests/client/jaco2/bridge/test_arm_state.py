from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fault_kit import virtual as kit
from fault_kit.matrix import settings

from stillframe_client.jaco2.bridge.arm_state import HOME, UNITS, NoState, StateReader, resting_state
from stillframe_client.jaco2.bridge.frame_log import FRAMES
from stillframe_client.jaco2.core.watchdog import State
from stillframe_client.jaco2.link import Status
from stillframe_client.replies import ActionReply, StateSpec

SPEC = StateSpec(tuple(UNITS), tuple(UNITS.values()))
YAW_DEG = -90.0


def status(pose: tuple[float, ...] = (0.1, 0.2, 0.3, 1.0, 0.0, 0.0, 0.0), closure: float = 0.25) -> Status:
    """What the streamer says of an arm there."""
    return Status(1, 0.0, State.RUNNING, True, 0.0, pose, 0.0, closure, (0.0,) * 6, "")  # noqa: FBT003


@pytest.mark.usefixtures("needs_gl")
def test_it_is_the_simulated_arms_own_state() -> None:
    """Seven numbers within 1e-6, in poses all over the table, read through the arm's base frame as a real arm's is."""
    from stillframe_client.jaco2.world.body import BASE_YAW_DEG, MujocoBody
    from stillframe_client.sim import JacoEnv
    from stillframe_client.sim.proprioception import STATE_NAMES, STATE_UNITS, proprioception

    env = JacoEnv("reach", cameras=())
    world, rng = env.world, np.random.default_rng(4)
    body, reader, seen = MujocoBody(world), StateReader(StateSpec(STATE_NAMES, STATE_UNITS), BASE_YAW_DEG), []
    for _ in range(12):
        world.arm.place(world.arm.angles + rng.normal(scale=0.3, size=6), float(rng.uniform(0.0, 1.3)))
        pose = body.pose()
        told = status((*pose.position_m.tolist(), *pose.orientation.tolist()), body.closure())
        seen.append(proprioception(world.arm))
        assert reader.read(told) == pytest.approx(seen[-1].tolist(), abs=1e-6)
    w, *axis = world.arm.home.quat
    env.close()

    assert dict(zip(STATE_NAMES, STATE_UNITS, strict=True)) == UNITS
    assert pytest.approx([*axis, w], abs=1e-12) == HOME
    assert np.ptp(seen, axis=0).min() > 0.1  # each number moved


def test_numbers_come_in_the_policys_order() -> None:
    """Some of them, as they are named; a policy that reads none gets none."""
    some = StateSpec(("opening", "tool_y"), ("1", None))

    assert StateReader(some, 0.0).read(status()) == pytest.approx([0.75, 0.2])
    assert StateReader(some, YAW_DEG).read(status()) == pytest.approx([0.75, 0.1])
    assert StateReader(None, 0.0).read(None) is None
    assert resting_state(some) == [1.0, 0.0]
    assert resting_state(None) is None


@pytest.mark.parametrize(
    ("told", "said"),
    [
        (None, "has not said yet where the arm is"),
        (status(closure=math.nan), "reads opening, and the arm has not reported it"),
        (status(pose=(math.nan,) * 7), "reads tool_x, tool_y, tool_z, tool_rx, tool_ry, tool_rz, and the arm"),
    ],
    ids=["nothing", "hand", "pose"],
)
def test_what_is_not_reported_is_not_made_up(told: Status | None, said: str) -> None:
    """It is named; a number that is not read may be missing."""
    with pytest.raises(NoState, match=said):
        StateReader(SPEC, 0.0).read(told)
    if told is not None and math.isnan(told.closure):
        assert StateReader(StateSpec(("tool_z",), ("m",)), 0.0).read(told) == [pytest.approx(0.3)]


@dataclass
class Remembering(kit.FaultyPolicy):
    """Keeps what was sent beside the pictures."""

    states: list[Any] = field(default_factory=list)

    async def act_with_report(self, image: Any, instruction: str, **options: Any) -> ActionReply:
        """Answer, after a while."""
        self.states.append(options.get("state"))
        return await super().act_with_report(image, instruction, **options)


@pytest.mark.parametrize("mode", ["lockstep", "realtime"])
def test_frames_carry_the_state_or_are_not_sent(
    mode: str, virtual: asyncio.Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The arm's, as it moves, and the log has each; while the hand is not reported none goes out, and it says why."""
    card: Callable[..., Any] = kit.card
    monkeypatch.setattr(kit, "card", lambda horizon: replace(card(horizon), state=SPEC))
    policy = Remembering()

    async def play() -> int:
        async with kit.opened(settings(mode), tmp_path, policy) as world:
            await asyncio.sleep(1.0)
            report = world.streamer.arm.state
            world.streamer.arm.state = lambda: replace(report(), closure=None)  # type: ignore[method-assign]
            await asyncio.sleep(0.3)
            sent = len(policy.states)
            await asyncio.sleep(0.5)
            world.over = "enough"
            assert world.playing is not None
            await world.playing
            return sent

    sent = virtual.run(play())
    lines = [json.loads(line) for line in (tmp_path / FRAMES).read_text().splitlines()]
    states = np.array(policy.states, float)

    assert sent == len(policy.states) > 5
    assert states.shape == (sent, 7)
    assert np.ptp(states[:, 0]) > 0.005  # the action moves the tool along x
    assert [line["state"] for line in lines if "state" in line] == policy.states
    assert any("reads opening" in line.get("detail", "") for line in lines)
