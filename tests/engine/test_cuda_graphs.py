"""Frames walked through the house while passes are replayed. No GPU: what would be recorded is computed again."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from stillframe.domain import Observation, SessionRef, Step
from stillframe.engine import cuda_graphs
from stillframe.engine.audit import run_audit
from stillframe.engine.core import EngineCore
from stillframe.engine.cuda_graphs import (
    CaptureConfig,
    capture_graphs,
    capture_graphs_on_cuda,
    check_gpu_memory,
    needs_of,
)
from stillframe.engine.kv_slots import SlotAllocator
from stillframe.engine.requests import FrameRequest
from stillframe.engine.session_cache import SessionCache
from stillframe.engine.settings import GraphSettings
from stillframe.engine.step import step
from stillframe.models.base import PolicyModel
from stillframe.models.runner import ModelRunner
from stillframe.reuse.settings import AdaptiveSettings, ReuseSettings

Make = Callable[..., Any]
RECORDING = CaptureConfig(GraphSettings(batches=[1, 2, 4], rows=[12, 20]), most=4, text_tokens=8)


def again(compute: Callable[[], None]) -> Callable[[], None]:
    """Stands for a GPU's recorder."""
    compute()
    return compute


def settled(cache: SessionCache) -> torch.Tensor:
    """What all slots hold."""
    return cache.slots.pool.storage[..., :-1, :]


@pytest.mark.few(3)
@pytest.mark.parametrize("cameras", [("front",), ("front", "wrist")], ids=len)
@pytest.mark.parametrize("mode", ["off", "exact", "adaptive", "static-only", "paper"])
def test_robots_act_as_without(robots: Make, picture: Make, changed: Make, mode: str, cameras: tuple[str, ...]) -> None:
    """Keyframes, deltas, pauses, several robots: token for token, plan for plan, pass for pass, all that is kept."""
    eager, replayed = (robots(mode, cameras=cameras, task_top_k=4) for _ in range(2))
    replayed.core.runner = capture_graphs(replayed.model, replayed.core.cache.slots.pool, RECORDING, again)
    counts, now = replayed.core.runner.counts, picture(0)
    for number, robot in enumerate("aababcabaacb"):
        now = changed(now, number) if number % 3 == 2 else now
        for bench in (eager, replayed):
            bench.see(dict.fromkeys(cameras, now), robot)
            if number % 4 == 3:
                bench.refresh()

    for one, other in zip(eager.steps, replayed.steps, strict=True):
        assert one.chunk.tokens.tolist() == other.chunk.tokens.tolist()
        assert (one.report.passes, one.report.cache) == (other.report.passes, other.report.cache)
    torch.testing.assert_close(settled(eager.core.cache), settled(replayed.core.cache), rtol=0, atol=1e-4)
    assert counts.replays >= 12
    assert sum(counts.eager[reason] for reason in ("storage", "tap", "rows")) == 0
    assert (counts.eager["layers"] > 0) == (mode == "paper")


def test_a_pause_computes_eagerly_and_an_audit_replays(robots: Make, picture: Make, changed: Make) -> None:
    """What was captured could not give way between two blocks; an audit gives way to no frame."""
    bench = robots(keyframe_every=20)
    bench.core.runner = capture_graphs(bench.model, bench.core.cache.slots.pool, RECORDING, again)
    counts = bench.core.runner.counts
    for number in range(2):
        bench.see(changed(picture(0), number))
    before = counts.replays
    assert bench.refresh().drift is not None
    refreshed = counts.replays
    while bench.core.cache.audit is None:
        bench.core.scheduler.audits.earn(100.0)
        bench.see(picture(0))
    before_audit = counts.replays
    run_audit(bench.core, bench.core.cache.take_audit())

    assert refreshed == before
    assert counts.replays > before_audit
    assert not any(counts.eager.values())


@pytest.mark.parametrize("mode", ["off", "adaptive"])
def test_a_batch_acts_as_without(robots: Make, picture: Make, mode: str) -> None:
    """Four robots side by side, twice; no frame finds itself in memory beside the pool."""
    answers = []
    for replays in (False, True):
        bench = robots(mode)
        if replays:
            bench.core.runner = capture_graphs(bench.model, bench.core.cache.slots.pool, RECORDING, again)
        counts = bench.core.runner.counts
        for seq in range(2):
            batch = [
                FrameRequest(Observation({"front": picture(robot)}, "reach"), SessionRef(str(robot), seq=seq))
                for robot in range(4)
            ]
            answers.append(step(bench.core, batch))
        assert (counts is not None) == replays
        assert counts is None or (counts.replays > 0 and sum(counts.eager.values()) == 0)

    for one, other in zip([*answers[0], *answers[1]], [*answers[2], *answers[3]], strict=True):
        assert isinstance(one, Step)
        assert isinstance(other, Step)
        assert one.chunk.tokens.tolist() == other.chunk.tokens.tolist()


def test_a_checkpoint_acts_as_without(golden_model: PolicyModel) -> None:
    """Towers and decoder of a real checkpoint: the same tokens for every frame, nothing of it eager."""
    pictures = np.random.default_rng(0).integers(0, 256, (3, 224, 224, 3), dtype=np.uint8)
    settings = ReuseSettings(mode="adaptive", kv_budget_mib=8, adaptive=AdaptiveSettings(distance=0.3, task_top_k=9))
    tokens = []
    for replays in (False, True):
        core = EngineCore.of(golden_model, settings, lambda: 0.0)
        if replays:
            recording = CaptureConfig(GraphSettings(batches=[1, 2]), most=2, text_tokens=settings.slot_text_tokens)
            core.runner = capture_graphs(golden_model, core.cache.slots.pool, recording, again)
        for seq, seen in enumerate([*pictures, pictures[0]]):
            shown = Observation({"front": seen}, "put it")
            batch = [FrameRequest(shown, SessionRef(robot, seq=seq)) for robot in "ab"]
            answers = step(core, batch)
            tokens.append([answer.chunk.tokens.tolist() for answer in answers if isinstance(answer, Step)])
    counts = core.runner.counts

    assert tokens[:4] == tokens[4:]
    assert counts.replays >= 8  # a look and a prefill at each of four steps
    assert sum(counts.eager.values()) == 0


def test_frames_of_no_session_lie_in_the_pool_while_nobody_keeps_anything(robots: Make) -> None:
    """The spare slot, then free ones, and all are free again; a session that keeps one is not crowded out."""
    storage: SlotAllocator = robots("adaptive").core.cache.slots
    loose = [storage.scratch(20) for _ in range(storage.slots + 2)]
    inside = [storage.pool.slot_of(kv) is not None for kv in loose]
    storage.release_uncommitted()
    empty = storage.in_use_bytes
    kept = storage.acquire()
    assert kept is not None
    storage.commit(kept)
    beside = [storage.pool.slot_of(storage.scratch(20)) is not None for _ in range(3)]

    assert inside == [True] * (storage.slots + 1) + [False]
    assert len({id(kv) for kv in loose}) == len(loose)
    assert empty == 0
    assert beside == [True, False, False]


def test_a_cpu_replays_nothing(robots: Make) -> None:
    """Nothing is worked out, nothing recorded, nothing counted."""
    bench = robots("adaptive")
    log = logging.getLogger("test")
    check_gpu_memory(bench.model, bench.settings, RECORDING, log)

    runner = capture_graphs_on_cuda(bench.model, bench.core.cache.slots.pool, RECORDING, log)
    assert (runner.decoder.graphs, runner.encode_images, runner.counts) == (None, None, None)


def test_what_is_asked_for_is_what_is_taken(robots: Make) -> None:
    """Slots as the pool makes them, and graphs for as many batch sizes as can come; none where they are off."""
    bench = robots("adaptive")
    pool = bench.core.cache.slots.pool
    needs = needs_of(bench.model, bench.settings, RECORDING, weights=5)
    off = needs_of(bench.model, bench.settings, CaptureConfig(GraphSettings(enabled=False), 4, 8), weights=5)

    assert (needs.weights, needs.slots, needs.pool) == (5, len(pool.storage), pool.storage.nbytes)
    assert [*needs.graphs] == [1, 2, 4]
    assert off.graphs == {}
    assert off.largest == 0


def test_pools_of_one_model_have_passes_of_their_own(robots: Make, picture: Make) -> None:
    """Each replays over its own slots, in turn; a runner without graphs beside them runs the model eagerly."""
    one, other = (robots("adaptive") for _ in range(2))
    other.model = one.model
    for bench in (one, other):
        bench.core.runner = capture_graphs(one.model, bench.core.cache.slots.pool, RECORDING, again)
    alone = robots("adaptive")
    alone.model = one.model
    alone.core.runner = ModelRunner.eager(one.model)
    for number in range(4):
        for bench in (alone, one, other):
            bench.see(picture(number))

    for bench in (one, other):
        assert [step.chunk.tokens.tolist() for step in bench.steps] == [
            step.chunk.tokens.tolist() for step in alone.steps
        ]
        assert bench.core.runner.counts.replays >= 4
        assert sum(bench.core.runner.counts.eager.values()) == 0


def test_each_batch_asks_for_its_own_passes(robots: Make) -> None:
    """Fewer frames side by side take less, and as much as where no more are wanted; a slot holds a scratch position."""
    bench = robots("adaptive")
    needs = {
        most: needs_of(bench.model, bench.settings, CaptureConfig(RECORDING.graphs, most, 8), weights=5)
        for most in (1, 2, 4)
    }
    asked = needs[4].graphs

    assert asked[1] < asked[2] < asked[4]
    assert [needs[most].graphs[most] for most in (1, 2, 4)] == [*asked.values()]
    assert needs[4].slot == bench.core.cache.slots.pool.storage[0].nbytes


def test_recording_leaves_the_model_as_it_was(golden_model: PolicyModel) -> None:
    """What replays is handed on: nothing of it is set on the model, its decoder or its network."""
    parts = (golden_model, golden_model.decoder, golden_model.network)
    before = [dict(vars(part)) for part in parts]
    pool = EngineCore.of(golden_model, ReuseSettings(kv_budget_mib=8), lambda: 0.0).cache.slots.pool
    runner = capture_graphs(golden_model, pool, CaptureConfig(GraphSettings(batches=[1]), most=1, text_tokens=8), again)

    assert runner.decoder.graphs is not None
    assert runner.encode_images is not None
    assert [dict(vars(part)) for part in parts] == before


def test_without_a_budget_as_many_slots_are_asked_for_as_are_taken(toy: Make) -> None:
    """Those of the sessions for which there is room by default, and the spare one."""
    model, settings = toy(), ReuseSettings(slot_text_tokens=8)
    pool = EngineCore.of(model, settings, lambda: 0.0).cache.slots.pool

    assert needs_of(model, settings, RECORDING, weights=5).slots == len(pool.storage)


@pytest.mark.parametrize(
    ("cameras", "numbers"), [(("front",), [1, 2, 4]), (("front", "wrist"), [2, 4, 8])], ids=["one", "two"]
)
def test_towers_are_recorded_for_all_pictures_of_a_batch(
    toy: Make, monkeypatch: pytest.MonkeyPatch, cameras: tuple[str, ...], numbers: list[int]
) -> None:
    """One of each camera and frame, in every size of batch that can come."""
    model, seen = toy(cameras), []
    model.encode_images, model.image_shape = object(), (3, 16, 16)
    monkeypatch.setattr(cuda_graphs, "GraphedVision", lambda encode, _, sizes, *__: seen.append(sizes) or encode)
    pool = EngineCore.of(model, ReuseSettings(slot_text_tokens=8), lambda: 0.0).cache.slots.pool
    capture_graphs(model, pool, RECORDING, again)

    assert seen == [numbers]
