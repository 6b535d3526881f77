from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch

from stillframe.domain import PRUNING_MODES, REUSE_MODES, KeyframeReason, Observation, SessionRef
from stillframe.engine.core import EngineCore
from stillframe.engine.kv_slots import DEFAULT_SESSIONS, kv_shape
from stillframe.engine.requests import FrameRequest
from stillframe.errors import ConfigError
from stillframe.reuse.kv import MIB
from stillframe.reuse.settings import ReuseSettings

Make = Callable[..., Any]
REUSING = [mode for mode in REUSE_MODES if mode not in ("off", *PRUNING_MODES)]
ROWS = 21  # of a toy's prompt: BOS, 16 patches, 4 words


def slots(bench: Any, count: int) -> float:
    """A budget of exactly so many slots, in MiB."""
    return float(count * bench.core.cache.slots.spare.nbytes / MIB)


def places(bench: Any) -> set[int]:
    """Where the last frame's and the spare storage lie."""
    return {kv.keys(0, 1).data_ptr() for kv in (bench.kv, bench.core.cache.slots.spare)}


def reasons(bench: Any) -> list[KeyframeReason | None]:
    """Of all frames so far."""
    return [step.report.cache.keyframe_reason for step in bench.steps]


def test_failed_first_frames_keep_no_slot(robots: Make, picture: Make) -> None:
    """However often a robot's first pass fails, there is room for the next robot."""
    bench = robots(kv_budget_mib=slots(robots(), 3))
    before = bench.core.cache.usage
    for number in range(5):
        bench.model.broken = RuntimeError("no memory")
        with pytest.raises(RuntimeError, match="no memory"):
            bench.see(picture(0), f"broken-{number}")

    assert bench.core.cache.usage == before
    assert [bench.see(picture(0), robot).report.cache.frame for robot in "xyxy"] == ["keyframe"] * 2 + ["delta"] * 2


def test_a_batch_gives_back_what_it_took_however_it_ends(robots: Make, picture: Make) -> None:
    """Slots that were acquired, and the sessions' protection from eviction."""
    bench = robots(kv_budget_mib=slots(robots(), 2))
    bench.see(picture(0), "a")
    cache, before = bench.core.cache, bench.core.cache.usage
    requests = [FrameRequest(Observation({"front": picture(1)}, "reach"), SessionRef(robot, seq=1)) for robot in "ab"]

    def fail() -> None:
        with cache.batch(requests) as sessions:
            assert [session.ref.id for session in sessions] == ["a", "b"]
            assert cache.slots.acquire() is None
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        fail()

    assert cache.usage == before
    with cache.batch(requests[1:]):
        assert cache.slots.acquire() is not None
    assert cache.usage.in_use_bytes == 0


@pytest.mark.few(2)
@pytest.mark.parametrize("mode", REUSE_MODES)
def test_a_forgotten_session_leaves_nothing(robots: Make, picture: Make, mode: str) -> None:
    """In every mode: no storage, no pause, no name. Under the same id comes a stranger; others go on."""
    bench = robots(mode)
    for robot in "aabb":
        bench.see(picture(0), robot)
    bench.core.cache.end("a")
    bench.core.cache.end("nobody")
    reuses = mode in REUSING
    slots = int(reuses)

    assert (len(bench.core.cache.sessions), bench.core.cache.usage.sessions) == (1, slots)
    assert bench.core.cache.usage.in_use_bytes == slots * bench.core.cache.slots.spare.nbytes
    assert bench.core.cache.sessions.pending() in (None, bench.session("b"))
    assert bench.see(picture(0), "b").report.cache.frame == ("delta" if reuses else "keyframe")
    reason = KeyframeReason.OFF if mode == "off" else KeyframeReason.PRUNED
    assert bench.see(picture(0), "a").report.cache.keyframe_reason is (KeyframeReason.FIRST_FRAME if reuses else reason)


@pytest.mark.parametrize("opening", [KeyframeReason.FIRST_FRAME, KeyframeReason.EVICTED])
def test_a_session_that_begins_anew_takes_over_no_storage(robots: Make, picture: Make, opening: Any) -> None:
    """Another serial: what the earlier session of that id held is free before the frame takes its own."""
    bench = robots(kv_budget_mib=slots(robots(), 3))
    for robot in "aab":
        bench.see(picture(0), robot)
    bench.again("a", opening)
    bench.see(picture(0), "a")
    cache = bench.steps[-1].report.cache

    assert (cache.keyframe_reason, cache.epoch, cache.seq) == (opening, 0, 0)
    assert bench.core.cache.usage.sessions == 2
    assert bench.see(picture(0), "b").report.cache.frame == "delta"


@pytest.mark.parametrize(("mode", "told"), [("adaptive", 3), ("off", 0)])
def test_usage_tells_how_many_sessions_find_room(robots: Make, mode: str, told: int) -> None:
    """The spare slot is nobody's; in mode off none is needed."""
    bench = robots(mode, kv_budget_mib=slots(robots(), 4) + 0.001)

    assert bench.core.cache.usage.slots == told


def test_doubt_costs_a_keyframe(robots: Make, picture: Make) -> None:
    """Of that session, whoever was here before under its id; one that has a reason already keeps it."""
    bench = robots()
    for robot in "aab":
        bench.see(picture(0), robot)
    bench.core.cache.invalidate(SessionRef("nobody"))
    bench.core.cache.invalidate(SessionRef("b", serial=7))
    bench.core.cache.invalidate(SessionRef("a"))
    assert [bench.see(picture(0), robot).report.cache.keyframe_reason for robot in "aab"] == [
        KeyframeReason.INTEGRITY,
        None,
        None,
    ]
    bench.core.cache.drop_kv(bench.session("a"), KeyframeReason.EVICTED)
    bench.core.cache.invalidate(SessionRef("a"))

    assert bench.session("a").pending is None
    assert bench.see(picture(0), "a").report.cache.keyframe_reason is KeyframeReason.EVICTED


def test_the_longest_idle_is_evicted(robots: Make, picture: Make) -> None:
    """Room for two robots: a third takes the place of who was here longest ago, not of who came first."""
    bench = robots(kv_budget_mib=slots(robots(), 3))
    for robot in "abac":
        bench.see(picture(0), robot)
    for robot in "aca":
        bench.see(picture(0), robot)
    bench.see(picture(0), "b")

    first, evicted = KeyframeReason.FIRST_FRAME, KeyframeReason.EVICTED
    assert reasons(bench) == [first, first, None, first, None, None, None, evicted]


def test_an_eviction_costs_one_keyframe_and_is_reported_to_its_victim(robots: Make, picture: Make) -> None:
    """And its epoch and count of frames go on."""
    bench = robots(kv_budget_mib=slots(robots(), 2))
    for robot in "aabaa":
        bench.see(picture(0), robot)
    cache = bench.steps[3].report.cache

    assert reasons(bench)[3:] == [KeyframeReason.EVICTED, None]
    assert (cache.epoch, cache.seq) == (0, 2)


@pytest.mark.parametrize(
    "mode", [pytest.param(mode, marks=() if mode in ("off", "adaptive") else pytest.mark.slow) for mode in REUSE_MODES]
)
def test_usage_stays_within_the_budget(robots: Make, picture: Make, changed: Make, mode: str) -> None:
    """Whatever robots do, with pauses and without: bytes in use are slots that sessions hold; one is spare."""
    bench = robots(mode, kv_budget_mib=slots(robots(), 4) + 0.001)
    slot = bench.core.cache.slots.spare.nbytes
    for number, robot in enumerate("abcabcdeaabbdecab"):
        step = bench.see(changed(picture(0), number % 16), robot, mode="off" if number % 7 == 6 else None)
        if number % 3 == 0:
            bench.refresh()
        usage = bench.core.cache.usage
        assert usage.in_use_bytes == usage.sessions * slot
        assert usage.in_use_bytes <= usage.budget_bytes == 3 * slot
        assert step.report.cache.kv_bytes in (0, slot)


@pytest.mark.parametrize(
    "mode", [pytest.param(mode, marks=() if mode == "adaptive" else pytest.mark.slow) for mode in REUSING]
)
def test_the_steady_state_takes_no_storage(robots: Make, picture: Make, changed: Make, mode: str) -> None:
    """Keyframes, delta frames, frames of no session and pauses use the same two slots over and over."""
    bench = robots(mode, keyframe_every=4)
    bench.see(picture(0))
    held = places(bench)
    assert len(held) == 2

    for number in range(12):
        bench.see(changed(picture(0), number))
        assert places(bench) == held
        bench.tokens(picture(number))
        bench.refresh()
        assert {bench.core.cache.slots.spare.keys(0, 1).data_ptr()} < held
        if number == 8:
            bench.reset("a")


@pytest.mark.parametrize("refresh", [True, False])
def test_a_frame_of_no_session_leaves_sessions_alone(robots: Make, picture: Make, *, refresh: bool) -> None:
    """Their keys and values are the same to the bit before and after it."""
    bench = robots()
    bench.see(picture(0))
    if refresh:
        bench.refresh()
    bench.see(picture(0))
    kv = bench.kv
    before = bench.held(kv, ROWS)
    bench.see(picture(3), None)

    assert torch.equal(bench.held(kv, ROWS), before)
    assert bench.kv is not kv


def test_bytes_are_those_of_the_checkpoint(toy: Make) -> None:
    """Keys and values of every layer and kv head, for the fixed rows and the longest text."""
    shape = kv_shape(toy(("front", "wrist")), 9)

    assert shape.capacity == 1 + 2 * 16 + 7 + 9
    assert shape.nbytes == 2 * 4 * 2 * 8 * shape.capacity * 4


def test_without_a_budget_there_is_room_for_a_few(toy: Make) -> None:
    """Sixteen sessions; the spare slot is nobody's and does not count."""
    cache = EngineCore.of(toy(), ReuseSettings(), itertools.count().__next__).cache

    assert cache.usage.budget_bytes == DEFAULT_SESSIONS * cache.slots.spare.nbytes
    assert (cache.usage.in_use_bytes, cache.usage.sessions) == (0, 0)


def test_a_budget_without_room_for_a_session_is_refused(robots: Make, toy: Make) -> None:
    """It takes two slots; the error names the key, what it says and what it would have to say."""
    settings = ReuseSettings(kv_budget_mib=slots(robots(), 2) * 0.99, slot_text_tokens=8)

    with pytest.raises(ConfigError, match=r"reuse\.kv_budget_mib is 0\.03\d*; .* at least 0\.0 MiB: a slot"):
        EngineCore.of(toy(), settings, itertools.count().__next__)


def test_longer_texts_take_larger_slots(robots: Make, picture: Make) -> None:
    """slot_text_tokens: the same budget holds fewer sessions, and longer instructions are kept."""
    short, long = robots(slot_text_tokens=2), robots(slot_text_tokens=40)

    assert long.core.cache.slots.spare.nbytes > short.core.cache.slots.spare.nbytes
    assert short.see(picture(0)).report.cache.keyframe_reason is KeyframeReason.TOO_LONG
    assert long.see(picture(0)).report.cache.keyframe_reason is KeyframeReason.FIRST_FRAME


def test_a_wrong_layer_is_refused_at_the_start(robots: Make) -> None:
    """Not when the first frame comes."""
    with pytest.raises(ConfigError, match="layers 0 to 3"):
        robots("off", relevance_layers=[4])


@pytest.mark.parametrize("mode", ["adaptive", "paper"])
@pytest.mark.parametrize("refresh", [True, False])
def test_relevance_comes_from_the_last_dense_pass(
    robots: Make, picture: Make, changed: Make, mode: str, *, refresh: bool
) -> None:
    """Adaptive: of the keyframe, or of the slack's pass; as published: of the last pass, dense or not."""
    bench = robots(mode, task_top_k=3, paper_task_top_k=3, paper_k=None)
    bench.see(picture(0))
    if refresh:
        bench.refresh()
    bench.see(changed(picture(0), 4, 9, 14))
    if refresh:
        bench.refresh()
    bench.see(changed(picture(0), 4, 9, 14))
    relevant = set(bench.plan.relevant.nonzero()[:, 0].tolist())
    source = changed(picture(0), 4, 9, 14) if refresh or mode == "paper" else picture(0)
    other = robots(mode, task_top_k=3, paper_task_top_k=3, paper_k=None)
    other.see(source)
    other.see(source)
    dense = set(other.plan.relevant.nonzero()[:, 0].tolist())

    assert len(relevant) == 3
    if mode == "adaptive":
        assert relevant == dense


@pytest.mark.parametrize(
    ("mode", "knobs", "listens"),
    [
        ("adaptive", {"task_top_k": 3}, [True, False]),
        ("adaptive", {"task_top_k": 0}, [False, False]),
        ("paper", {"paper_task_top_k": 3, "paper_k": None}, [True, True]),
        ("paper", {"paper_task_top_k": 0, "paper_k": 1.0}, [True, True]),
        ("paper", {"paper_task_top_k": 0, "paper_k": None}, [False, False]),
        ("static-only", {"paper_task_top_k": 3}, [False, False]),
        ("exact", {"task_top_k": 3}, [False, False]),
        ("off", {"task_top_k": 3}, [False, False]),
    ],
)
def test_only_passes_that_a_plan_asks_about_are_listened_to(
    robots: Make, picture: Make, mode: str, knobs: dict[str, Any], listens: list[bool]
) -> None:
    """Dense ones, in published modes every one; where no plan asks what matters, none."""
    bench = robots(mode, **knobs)
    heard = []
    for _ in listens:
        bench.see(picture(0))
        heard.append(bench.frame.probe is not None)

    assert heard == listens


@pytest.mark.parametrize(("k", "layers"), [(1.0, 4), (None, 1)])
def test_entropies_are_those_of_all_layers_where_a_schedule_asks(
    robots: Make, picture: Make, k: float | None, layers: int
) -> None:
    """What matters is said by the chosen layer alone all the same; without a schedule no other is listened to."""
    bench = robots("paper", paper_task_top_k=3, paper_relevance_layers=[3], paper_k=k)
    alone = robots("paper", paper_task_top_k=3, paper_relevance_layers=[3], paper_k=None)
    for each in (bench, alone):
        each.see(picture(0))
        each.refresh()
    heard, chosen = (each.session("a").reuse.task_relevance.relevance for each in (bench, alone))

    assert len(heard.entropies) == layers
    torch.testing.assert_close(heard.scores, chosen.scores, rtol=0, atol=1e-4)
