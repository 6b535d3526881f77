from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fault_kit.matrix import settings
from fault_kit.virtual import LATENCY_S, FaultyPolicy, World, opened

from stillframe_client import errors
from stillframe_client.chunks import MAY_PASS
from stillframe_client.errors import PolicyError, Problem, Refused
from stillframe_client.jaco2.bridge.ends import Outcome
from stillframe_client.jaco2.bridge.episode import STREAMER_SILENT_S
from stillframe_client.jaco2.bridge.frame_log import FRAMES, FrameLog
from stillframe_client.jaco2.core.watchdog import State
from stillframe_client.jaco2.settings import BridgeSettings

PICTURE_S = 1 / 30


def played(
    virtual: asyncio.Runner,
    folder: Path,
    made: BridgeSettings,
    policy: FaultyPolicy,
    seconds: float,
    change: Callable[[World], None] = lambda world: None,  # noqa: ARG005
) -> tuple[World, Outcome]:
    """Play, make a change after a second, and end it after so many more, if it has not ended by itself."""

    async def play() -> tuple[World, Outcome]:
        async with opened(made, folder, policy) as world:
            assert world.playing is not None
            change(world)
            await asyncio.wait([world.playing], timeout=seconds)
            world.over = "enough"
            return world, await world.playing

    return virtual.run(play())


def lines(folder: Path) -> list[dict[str, Any]]:
    """What the frame log holds."""
    return [json.loads(line) for line in (folder / FRAMES).read_text().splitlines()]


def made_of(kind: type[PolicyError]) -> PolicyError:
    """An error of this kind."""
    return kind(Problem(503, "so", "So it is.")) if issubclass(kind, Refused) else kind("So it is.")


def steps(world: World) -> list[float]:
    """When each step reached the streamer."""
    return [each.now_s for each in world.ticks if each.step]


def test_lockstep_looks_again_when_the_arm_has_moved(virtual: asyncio.Runner, tmp_path: Path) -> None:
    """A frame is asked about only after the action before it was played, and shows what came of it."""
    policy = FaultyPolicy()
    world, outcome = played(virtual, tmp_path, settings("lockstep"), policy, 2.0)

    moved_s = steps(world)
    for asked_s, step_s, next_s in zip(policy.asked_s, moved_s, policy.asked_s[1:], strict=False):
        assert asked_s + LATENCY_S <= step_s
        assert next_s >= step_s + 0.1 - 0.01
    observed = [line["observed"] for line in lines(tmp_path) if "actions" in line]
    assert all(seen_s >= step_s + 0.1 - 0.011 for step_s, seen_s in zip(moved_s, observed[1:], strict=False))
    assert outcome.reason == "enough"
    assert not outcome.fault
    assert outcome.answers == len(observed)


@pytest.mark.parametrize(("execute", "of_each"), [(0, 4), (1, 1), (8, 8)])
def test_lockstep_plays_part_of_a_chunk(execute: int, of_each: int, virtual: asyncio.Runner, tmp_path: Path) -> None:
    """Half of it by default, or as many as are set, each for a step's time."""
    policy = FaultyPolicy(horizon=8)
    world, _ = played(virtual, tmp_path, settings("lockstep", execute=execute), policy, 3.0)

    moved_s = steps(world)
    for first, asked_s in enumerate(policy.asked_s[1:-1], 1):
        assert sum(step_s < asked_s for step_s in moved_s) == of_each * first


def test_realtime_moves_at_the_datas_rate(virtual: asyncio.Runner, tmp_path: Path) -> None:
    """A step each 0.1 s, whatever the answers' delay."""
    world, _ = played(virtual, tmp_path, settings("realtime"), FaultyPolicy(delay_s=0.25), 3.0)

    gaps_s = np.diff(steps(world))
    assert len(gaps_s) > 30
    assert gaps_s.min() >= 0.05 - 1e-6
    assert abs(gaps_s.mean() - 0.1) < 0.005


def test_realtime_asks_for_the_next_chunk_once(virtual: asyncio.Runner, tmp_path: Path) -> None:
    """One frame is under way at a time, and the next is asked for when half of the chunk is played."""
    policy = FaultyPolicy(horizon=10)
    played(virtual, tmp_path, settings("realtime"), policy, 4.0)

    gaps_s = np.diff(policy.asked_s[1:])
    assert gaps_s.min() > 0.35
    assert gaps_s.max() < 0.65


def test_an_answer_to_an_old_frame_is_not_played(virtual: asyncio.Runner, tmp_path: Path) -> None:
    """In realtime an answer that is older than policy.answer_age_s is logged, moves nothing, and the arm holds."""
    world, _ = played(
        virtual,
        tmp_path,
        settings("realtime"),
        FaultyPolicy(),
        3.0,
        lambda world: setattr(world.policy, "delay_s", 0.6),
    )

    late = [line for line in lines(tmp_path) if line.get("ms", 0.0) > 500.0]
    assert late
    assert not any(line["played"] for line in late)
    assert any("an answer came 0.6" in line.get("detail", "") for line in lines(tmp_path))
    assert world.ticks[-60].tick.state is State.HOLD


@pytest.mark.few(2)
@pytest.mark.parametrize("delay_s", [0.05, 0.15, 0.25, 0.35, 0.44])
def test_answers_that_come_late_build_nothing_up(delay_s: float, virtual: asyncio.Runner, tmp_path: Path) -> None:
    """The same small action each time moves the tool one way, no faster than asked, whatever the delay."""
    world, outcome = played(virtual, tmp_path, settings("realtime"), FaultyPolicy(delay_s=delay_s), 4.0)

    assert outcome.reason == "enough"
    sent = [each.tick.asked.linear[0] for each in world.ticks if each.tick.state is State.RUNNING]
    assert min(sent) > -0.02
    assert max(sent) < 0.04 + 1.5 * 0.03 + 1e-9  # the action's speed, and the pull towards where the tool should be


@pytest.mark.few(4)
@pytest.mark.parametrize("mode", ["lockstep", "realtime"])
@pytest.mark.parametrize("kind", MAY_PASS, ids=lambda kind: kind.__name__)
def test_what_may_pass_is_asked_again(
    kind: type[PolicyError], mode: str, virtual: asyncio.Runner, tmp_path: Path
) -> None:
    """After a second of such answers the arm moves on; the cause is logged once in a row."""

    def pass_by(world: World) -> None:
        world.policy.error = lambda: made_of(kind)
        asyncio.get_running_loop().call_later(1.0, setattr, world.policy, "error", None)

    world, outcome = played(virtual, tmp_path, settings(mode), FaultyPolicy(), 3.0, pass_by)

    assert outcome.reason == "enough"
    assert max(steps(world)) > world.ticks[-1].now_s - 0.5
    noted = [line["detail"] for line in lines(tmp_path) if line.get("event") == "no answer"]
    assert len(noted) == (0 if kind is errors.Superseded and mode == "realtime" else 1)


@pytest.mark.parametrize("mode", ["lockstep", "realtime"])
@pytest.mark.parametrize(
    "kind", [errors.BadReply, errors.ServerFault, errors.Unauthorized, errors.Unprocessable, errors.SessionGone]
)
def test_what_does_not_pass_ends_the_episode(
    kind: type[PolicyError], mode: str, virtual: asyncio.Runner, tmp_path: Path
) -> None:
    """At once, as a fault, with what the daemon said."""
    change: Callable[[World], None] = lambda world: setattr(world.policy, "error", lambda: made_of(kind))  # noqa: E731
    _, outcome = played(virtual, tmp_path, settings(mode), FaultyPolicy(), 3.0, change)

    assert outcome.fault
    assert outcome.reason.startswith("the policy failed: ")
    assert outcome.seconds < 2.0


@pytest.mark.parametrize("mode", ["lockstep", "realtime"])
def test_without_answers_it_pauses_and_gives_up(mode: str, virtual: asyncio.Runner, tmp_path: Path) -> None:
    """After policy.answer_s that is logged, after policy.give_up_s the episode ends with a fault and the cause."""
    made = settings(mode, answer_s=0.5, give_up_s=2.0)
    change: Callable[[World], None] = lambda world: setattr(world.policy, "delay_s", 60.0)  # noqa: E731
    _, outcome = played(virtual, tmp_path, made, FaultyPolicy(timeout_s=0.5), 5.0, change)

    events = [line["event"] for line in lines(tmp_path) if "event" in line]
    assert events.count("paused") == 1
    assert outcome.fault
    assert outcome.reason == "no answer for 2 s: No answer within 0.5 s."
    assert 2.9 < outcome.seconds < 3.3


def test_a_long_chunk_is_no_waiting(virtual: asyncio.Runner, tmp_path: Path) -> None:
    """While actions are played nothing is given up, however long ago the answer came."""
    made = settings("lockstep", give_up_s=1.0, answer_s=0.5, execute=60)
    _, outcome = played(virtual, tmp_path, made, FaultyPolicy(horizon=60), 5.0)

    assert outcome.reason == "enough"
    assert outcome.answers == 1


def test_chunks_that_come_too_late_are_said(virtual: asyncio.Runner, tmp_path: Path) -> None:
    """Where all of a chunk's actions went by on the way, nothing moves, the log says so, and it is given up."""
    change: Callable[[World], None] = lambda world: setattr(world.policy, "delay_s", 0.3)  # noqa: E731
    made = settings("realtime", give_up_s=2.0)
    _, outcome = played(virtual, tmp_path, made, FaultyPolicy(horizon=2), 6.0, change)

    assert outcome.reason == "no answer for 2 s: the answers come after the time of all their actions"


def test_a_streamer_that_says_nothing_ends_the_episode(virtual: asyncio.Runner, tmp_path: Path) -> None:
    """After a second: what it does is not known."""
    change: Callable[[World], None] = lambda world: setattr(world.streamer, "stopped", True)  # noqa: E731
    _, outcome = played(virtual, tmp_path, settings("realtime"), FaultyPolicy(), 6.0, change)

    assert outcome.fault
    assert "the streamer has said nothing for 1 s" in outcome.reason
    assert outcome.seconds < 1.2 + STREAMER_SILENT_S


def test_a_full_disk_ends_the_episode(virtual: asyncio.Runner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that cannot be written is a fault that is named."""

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    def fill(_: World) -> None:
        monkeypatch.setattr(FrameLog, "answered", full)

    _, outcome = played(virtual, tmp_path, settings("lockstep"), FaultyPolicy(), 3.0, fill)

    assert outcome.fault
    assert outcome.reason == "the run's log cannot be written: [Errno 28] No space left on device"


def test_the_frame_log_has_answers_and_when_they_came(virtual: asyncio.Runner, tmp_path: Path) -> None:
    """Each answer's frame, actions and time on the way."""
    played(virtual, tmp_path, settings("realtime"), FaultyPolicy(), 1.0)

    answers = [line for line in lines(tmp_path) if "actions" in line]
    assert len(answers) > 15
    for line in answers:
        assert np.shape(line["actions"]) == (1, 7)
        assert LATENCY_S - 1e-3 <= line["ms"] / 1e3 <= LATENCY_S + PICTURE_S + 0.02
