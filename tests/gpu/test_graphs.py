"""Passes that a GPU records and replays: held to the eager ones, to the memory that was planned, and to taking no more.

Knows no web server. tests/models/graphs and tests/engine/test_cuda_graphs.py hold the rest to it without a GPU.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from stillframe.domain import EAGER_REASONS, Observation, PassCounts, SessionRef, Step
from stillframe.engine.audit import run_audit
from stillframe.engine.core import EngineCore
from stillframe.engine.cuda_graphs import CaptureConfig, capture_graphs_on_cuda
from stillframe.engine.engine import Engine
from stillframe.engine.refresh import refresh_idle_session
from stillframe.engine.requests import FrameRequest
from stillframe.engine.settings import GraphSettings
from stillframe.engine.step import step
from stillframe.models.base import PolicyModel
from stillframe.models.graphs.capture import CudaGraphCapture
from stillframe.models.graphs.gpu_budget import graph_bytes
from stillframe.models.graphs.graph_runner import CudaGraphRunner
from stillframe.models.graphs.shapes import capture_shapes
from stillframe.models.graphs.vision_graphs import GraphedVision, HasVisionEncoder
from stillframe.models.llama.decoder import Decoder, DecoderConfig
from stillframe.models.llama.runner import DecoderRunner
from stillframe.models.llama.sequence import SequenceSlice
from stillframe.models.registry import load_policy
from stillframe.models.side_by_side import HasTowers, side_by_side
from stillframe.reuse.kv import KVPool, KVShape
from stillframe.reuse.settings import AdaptiveSettings, ReuseSettings

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")]

CUDA = torch.device("cuda")
LOG = logging.getLogger("test")
SETTINGS = ReuseSettings(mode="adaptive", adaptive=AdaptiveSettings(distance=0.3, task_top_k=9, keyframe_every=4))
RECORDING = CaptureConfig(GraphSettings(batches=[1, 2, 4]), most=4, text_tokens=SETTINGS.slot_text_tokens)
ROBOTS = "abcd"


@pytest.fixture(autouse=True)
def exact_products(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without TF32, which convolutions use unless told."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture
def model(golden_folder: Path) -> PolicyModel:
    """The micro OpenVLA on the GPU."""
    return load_policy(golden_folder, dtype=torch.float32, device=CUDA)


@pytest.fixture
def frames() -> Iterator[list[FrameRequest]]:
    """Batches of robots' frames, of one to four robots, seen through noise and sometimes moved."""
    return batches()


def batches() -> Iterator[list[FrameRequest]]:
    """The same ones every time."""
    random = np.random.default_rng(5)
    now = random.integers(0, 256, (224, 224, 3), dtype=np.uint8)
    for seq in range(1000):
        if seq % 3 == 2:
            now = np.roll(now, 14, axis=seq % 2)
        here = ROBOTS[: 1 + seq % len(ROBOTS)]
        shown = Observation({"front": now}, "reach the cube")
        yield [FrameRequest(shown, SessionRef(robot, seq=seq)) for robot in here]


def answered(core: EngineCore, frames: Iterator[list[FrameRequest]], number: int) -> list[list[int]]:
    """The tokens of so many batches' frames."""
    answers = [answer for _ in range(number) for answer in step(core, next(frames))]
    assert all(isinstance(answer, Step) for answer in answers)
    return [answer.chunk.tokens.tolist() for answer in answers if isinstance(answer, Step)]


def replaying(core: EngineCore, text_tokens: int = SETTINGS.slot_text_tokens) -> PassCounts:
    """Capture."""
    config = replace(RECORDING, text_tokens=text_tokens)
    core.runner = capture_graphs_on_cuda(core.model, core.cache.slots.pool, config, LOG)
    assert core.runner.counts is not None
    return core.runner.counts


def test_robots_act_as_without_graphs(model: PolicyModel) -> None:
    """Keyframes and deltas of several robots: every token, and the whole pool up to rounding; nothing is eager."""
    eager, replayed = (EngineCore.of(model, SETTINGS, lambda: 0.0) for _ in range(2))
    expected = answered(eager, batches(), 12)
    counts = replaying(replayed)

    assert answered(replayed, batches(), 12) == expected
    held = [core.cache.slots.pool.storage[..., :-1, :] for core in (eager, replayed)]
    torch.testing.assert_close(*held, rtol=0, atol=1e-3)
    assert counts.replays >= 24
    assert counts.eager == dict.fromkeys(EAGER_REASONS, 0)


@torch.inference_mode()
def test_towers_side_by_side_are_what_they_are_in_turn(model: PolicyModel) -> None:
    """On a stream of their own, launched and captured: every picture's rows up to rounding, over and over."""
    assert isinstance(model, HasTowers)
    assert isinstance(model, HasVisionEncoder)
    draw = torch.Generator(CUDA).manual_seed(4)
    pictures = [torch.randn(2, *model.image_shape, generator=draw, device=CUDA) for _ in range(8)]
    expected = [model.encode_images(own) for own in pictures]
    model.run_towers(side_by_side(CUDA))
    encode, counts = model.encode_images, PassCounts()
    captured = GraphedVision(encode, model.image_shape, [2], CudaGraphCapture(CUDA), counts, pictures[0])
    for how in (encode, captured):
        torch.testing.assert_close([how(own) for own in pictures * 3], expected * 3, rtol=0, atol=1e-4)

    assert counts.replays == 24


def test_chunks_are_what_they_are_without_graphs(oft_folder: Path) -> None:
    """Bidirectional passes over two pictures and a state: every chunk up to rounding, plan for plan; none is eager."""
    model = load_policy(oft_folder, dtype=torch.float32, device=CUDA)
    eager, replayed = (EngineCore.of(model, SETTINGS, lambda: 0.0) for _ in range(2))
    counts, random = replaying(replayed), np.random.default_rng(6)
    now = random.integers(0, 256, (224, 224, 3), dtype=np.uint8)
    for seq in range(8):
        now = np.roll(now, 14, axis=0) if seq % 3 == 2 else now
        shown = Observation({"image": now, "wrist": now[::-1]}, "reach the cube", state=random.uniform(-1, 1, 8))
        frames = [FrameRequest(shown, SessionRef(robot, seq=seq)) for robot in ROBOTS[: 1 + seq % 4]]
        for expected, own in zip(step(eager, frames), step(replayed, frames), strict=True):
            assert isinstance(expected, Step)
            assert isinstance(own, Step)
            np.testing.assert_allclose(own.chunk.actions, expected.chunk.actions, rtol=0, atol=1e-3)
            assert own.report.cache == expected.report.cache

    assert counts.replays >= 16
    assert counts.eager == dict.fromkeys(EAGER_REASONS, 0)


@pytest.mark.parametrize("family", ["pi0", "pi05"])
def test_drawn_chunks_are_what_they_are_without_graphs(family: str) -> None:
    """One to four robots' prefixes, and all ten steps of the expert over them: every chunk up to rounding."""
    folder = Path(__file__).parents[1] / "goldens" / "pi0" / f"{family}-micro"
    model = load_policy(folder, dtype=torch.float32, device=CUDA, config={"discrete_state_input": family == "pi05"})
    knobs = replace(SETTINGS, slot_text_tokens=80)
    eager, replayed = (EngineCore.of(model, knobs, lambda: 0.0) for _ in range(2))
    for core in (eager, replayed):
        core.cache._actions.refusal = lambda *_: None  # type: ignore[method-assign] # random weights go anywhere
    counts, random = replaying(replayed, knobs.slot_text_tokens), np.random.default_rng(6)
    now = random.integers(0, 256, (224, 224, 3), dtype=np.uint8)
    for seq in range(8):
        now = np.roll(now, 14, axis=0) if seq % 3 == 2 else now
        images = dict.fromkeys(model.info.cameras, now)
        frames = [
            FrameRequest(Observation(images, words, state=random.uniform(-1, 1, 8)), SessionRef(robot, seq=seq))
            for robot, words in zip(
                ROBOTS[: 1 + seq % 4], ("reach", "reach the cube", "put it down", "lift"), strict=False
            )
        ]
        for expected, own in zip(step(eager, frames), step(replayed, frames), strict=True):
            assert isinstance(expected, Step)
            assert isinstance(own, Step)
            np.testing.assert_allclose(own.chunk.actions, expected.chunk.actions, rtol=0, atol=1e-3)

    assert counts.replays >= 16
    assert counts.eager == dict.fromkeys(EAGER_REASONS, 0)


def test_the_steady_state_takes_no_memory(model: PolicyModel, frames: Iterator[list[FrameRequest]]) -> None:
    """Twenty batches: as much is allocated afterwards as before, and the device was asked for nothing more."""
    core = EngineCore.of(model, SETTINGS, lambda: 0.0)
    replaying(core)
    answered(core, frames, 12)
    before = taken()
    answered(core, frames, 20)

    assert taken() == before


def taken() -> dict[str, int]:
    """What torch has taken of the device, and how often it had to try."""
    torch.cuda.synchronize()
    names = ("reserved_bytes.all.current", "num_alloc_retries", "num_device_alloc", "num_ooms")
    stats = torch.cuda.memory_stats()
    return {"allocated": torch.cuda.memory_allocated(), **{name: stats.get(name, 0) for name in names}}


@torch.inference_mode()
def test_a_replay_allocates_nothing_but_its_results(model: PolicyModel) -> None:
    """Of hundreds of tensors that an eager pass makes, what is left is the few that come out."""
    core = EngineCore.of(model, SETTINGS, lambda: 0.0)
    kv = core.cache.slots.spare
    sequence = SequenceSlice(torch.randn(60, model.decoder.config.hidden_size, device=CUDA), 0, kv, read=7)

    def allocations(runner: DecoderRunner) -> int:
        before = torch.cuda.memory_stats()["allocation.all.allocated"]
        runner.forward([sequence])
        return int(torch.cuda.memory_stats()["allocation.all.allocated"] - before)

    eager = allocations(DecoderRunner(model.decoder))
    replaying(core)

    assert allocations(core.runner.decoder) < 8 < eager


def test_what_was_not_captured_is_counted(model: PolicyModel, frames: Iterator[list[FrameRequest]]) -> None:
    """A schedule that drops rows layer by layer: eager, and the answers are the same."""
    knobs = AdaptiveSettings(distance=0.3, task_top_k=9, schedule=[0.5, 1.0])
    settings = ReuseSettings(mode="adaptive", adaptive=knobs)
    eager, replayed = (EngineCore.of(model, settings, lambda: 0.0) for _ in range(2))
    expected = answered(eager, batches(), 6)
    counts = replaying(replayed)

    assert answered(replayed, frames, 6) == expected
    assert counts.eager["layers"] > 0
    assert counts.replays > 0


def test_an_audit_is_replayed_and_measures_what_an_eager_one_does(model: PolicyModel) -> None:
    """The delta beside a keyframe, over the slot that its session had before."""
    measured = []
    for replays in (False, True):
        core = EngineCore.of(model, SETTINGS, lambda: 0.0)
        counts, frames, drifts = replaying(core) if replays else PassCounts(), batches(), []
        for _ in range(40):
            core.scheduler.audits.earn(100.0)
            step(core, next(frames))
            before, audit = counts.replays, core.cache.take_audit()
            if audit is not None:
                drifts.append(run_audit(core, audit).drift)
                assert (counts.replays > before) is replays
        measured.append(drifts)

    assert len(measured[0]) > 1
    np.testing.assert_allclose(measured[1], measured[0], rtol=0, atol=1e-3)


def test_a_refresh_asks_while_the_gpu_has_nothing_to_do(
    model: PolicyModel, frames: Iterator[list[FrameRequest]]
) -> None:
    """Before every block, of a pass that is not replayed: so a frame that comes in waits for one block at most."""
    core = EngineCore.of(model, SETTINGS, lambda: 0.0)
    counts = replaying(core)
    for _ in range(2):
        step(core, next(frames))
    before, session, idle = counts.replays, core.cache.next_refresh, []
    assert session is not None

    def wanted() -> bool:
        idle.append(torch.cuda.current_stream().query())
        return len(idle) == 5

    gave_way, through = refresh_idle_session(core, session, wanted), refresh_idle_session(core, session, lambda: False)

    assert gave_way is not None
    assert gave_way.drift is None
    assert idle == [True] * 5
    assert through is not None
    assert through.drift is not None
    assert counts.replays == before


def test_an_engine_captures_before_its_first_frame(model: PolicyModel) -> None:
    """By the time that it is warm, passes are replayed, and the blank frames were."""
    engine = Engine(
        model, reuse=SETTINGS, queue_frames=8, clock=iter(range(10**6)).__next__, log=LOG, on_refresh=lambda _: None,
        graphs=GraphSettings(batches=[1], rows=[64]),
    )  # fmt: skip
    try:
        engine.warm_up()
        counts = engine.pass_counts
    finally:
        engine.close()

    assert counts is not None
    assert counts.replays > 0
    assert counts.eager == dict.fromkeys(EAGER_REASONS, 0)


def test_memory_is_as_planned() -> None:
    """Weights, pool and graphs of a decoder of half a billion parameters: within a tenth of what torch then holds."""
    sizes = DecoderConfig(1000, 2048, 5504, 10, 16, 16)
    before = torch.cuda.memory_reserved()
    decoder = Decoder(sizes).to(CUDA, torch.bfloat16).eval().requires_grad_(requires_grad=False)
    shape = KVShape(10, 16, 128, 328, torch.bfloat16, CUDA)
    pool = KVPool(shape, 9 * shape.nbytes)
    shapes = capture_shapes(328, 7, [1, 2, 4, 8], [64, 192], most=8)
    weights = sum(weight.nbytes for weight in decoder.parameters())
    planned = weights + pool.storage.nbytes + graph_bytes(sizes, shapes, capacity=328, hook_rows=70, item=2)
    graphs = CudaGraphRunner(decoder, pool, shapes, CudaGraphCapture(CUDA), hook_rows=70, counts=PassCounts())
    torch.cuda.synchronize()
    held = torch.cuda.memory_reserved() - before

    assert graphs.nbytes < planned
    assert planned == pytest.approx(held, rel=0.1)
