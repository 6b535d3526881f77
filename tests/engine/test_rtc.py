"""Chunks that go on with the last one, on the engine: the micro CogACT, pi0 with the state added, and pi0.5."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from stillframe.domain import Image, Observation, RtcRequest, SessionRef, Step
from stillframe.engine.core import EngineCore
from stillframe.engine.requests import FrameRequest
from stillframe.engine.settings import DEFAULT_DECODING, DecodingSettings
from stillframe.engine.step import step
from stillframe.models.base import PolicyModel
from stillframe.models.pi0.model import Pi0
from stillframe.models.registry import load_policy
from stillframe.reuse.settings import ReuseSettings
from stillframe.testing import ManualClock

GOLDENS = Path(__file__).parents[1] / "goldens"
WORDS = "put the spoon on the towel"
ASKED = RtcRequest(delay_steps=2, executed_steps=3)


@pytest.fixture(scope="module", params=["cogact", "pi0", "pi05"])
def model(request: pytest.FixtureRequest, cogact_folder: Path) -> PolicyModel:
    """One of each process; pi0 adds the state to its first numbers."""
    folder = cogact_folder if request.param == "cogact" else GOLDENS / "pi0" / f"{request.param}-micro"
    keys = {"pi0": {"extra_delta_transform": True}}.get(request.param)
    return load_policy(folder, dtype=torch.float32, device=torch.device("cpu"), config=keys)


@pytest.fixture(scope="module")
def pictures() -> list[Image]:
    """Two scenes."""
    with np.load(GOLDENS / "pi0" / "pi0-micro.npz") as record:
        return [record["f0/base_0_rgb"], record["f1/base_0_rgb"]]


Answer = Callable[..., list[Step]]


class Bench:
    """An engine core, and frames of its robots."""

    def __init__(self, model: PolicyModel, pictures: list[Image], decoding: DecodingSettings = DEFAULT_DECODING):
        self.core = EngineCore.of(
            model, ReuseSettings(slot_text_tokens=80), ManualClock(0.0), decoding=decoding, default_sessions=3
        )
        self.core.cache._actions.refusal = lambda *_: None  # type: ignore[method-assign] # random weights go anywhere
        self.model, self.pictures = model, pictures

    def frame(self, robot: str, seq: int, rtc: RtcRequest | None = None, *, epoch: int = 0) -> FrameRequest:
        """Of a robot, whose state moves from frame to frame."""
        info = self.model.info
        images = dict.fromkeys(info.cameras, self.pictures[seq % 2])
        state = None if info.state is None else np.full(len(info.state.names), 0.1 + 0.05 * seq)
        seen = Observation(images, WORDS, next(iter(info.norm_stats)), state=state)
        return FrameRequest(seen, SessionRef(robot, epoch, seq, rtc=rtc))

    def answers(self, *frames: FrameRequest) -> list[Step]:
        """Computed side by side."""
        done = step(self.core, frames)
        assert all(isinstance(one, Step) for one in done), done
        return [one for one in done if isinstance(one, Step)]

    def drawn(self, robot: str, seq: int) -> np.ndarray:
        """[horizon, numbers]: the chunk that was kept of a frame."""
        session = self.core.cache.sessions.known(robot)
        assert session is not None
        return session.chunks._by_seq[seq].actions


@pytest.mark.few(2)
@pytest.mark.parametrize("jacobian", ["network", "identity"])
def test_held_steps_are_nearer_to_the_last_chunks(model: PolicyModel, pictures: list[Image], jacobian: str) -> None:
    """In the units that the robot gets, state added: those that are frozen, out of a chunk that would be another."""
    bench = Bench(model, pictures, DecodingSettings(rtc_jacobian=jacobian))  # type: ignore[arg-type]
    first, _ = bench.answers(bench.frame("held", 0), bench.frame("free", 0))
    (held,) = bench.answers(bench.frame("held", 1, ASKED))
    (free,) = bench.answers(bench.frame("held", 1))

    old = first.chunk.actions[ASKED.executed_steps :][: ASKED.delay_steps]
    off = [np.abs(one.chunk.actions[: ASKED.delay_steps] - old).mean() for one in (held, free)]
    assert off[0] < 0.8 * off[1]
    assert held.report.rtc is not None
    assert (held.report.rtc.frozen, held.report.rtc.chunk_seq, free.report.rtc) == (2, 0, None)


@pytest.mark.few(2)
def test_where_nothing_is_held_the_answer_is_the_plain_one(model: PolicyModel, pictures: list[Image]) -> None:
    """To the bit: nothing asked, nothing kept, or a chunk that is played out."""
    bench = Bench(model, pictures)
    for seq, asked in ((0, ASKED), (1, RtcRequest(0, 3, horizon=0)), (2, RtcRequest(1, 10**6))):
        (told,) = bench.answers(bench.frame("a", seq, asked))
        (plain,) = bench.answers(replace(bench.frame("a", seq)))
        assert np.array_equal(told.chunk.actions, plain.chunk.actions)
        assert told.report.rtc is not None
        assert told.report.rtc.why in {"no-chunk", "nothing-asked", "played-out"}


@pytest.mark.few(1)
def test_robots_side_by_side_get_what_each_gets_alone(model: PolicyModel, pictures: list[Image]) -> None:
    """One that holds its chunk beside one that does not; within rounding."""
    alone, beside = Bench(model, pictures), Bench(model, pictures)
    for bench in (alone, beside):
        bench.answers(bench.frame("a", 0), bench.frame("b", 0))
    apart = [alone.answers(alone.frame(robot, 1, asked))[0] for robot, asked in (("a", ASKED), ("b", None))]
    together = beside.answers(beside.frame("a", 1, ASKED), beside.frame("b", 1))

    for one, other in zip(apart, together, strict=True):
        np.testing.assert_allclose(one.chunk.actions, other.chunk.actions, rtol=0, atol=2e-4)


def test_a_reset_forgets_the_chunk(model: PolicyModel, pictures: list[Image]) -> None:
    """The next episode begins elsewhere; so does a session that was ended and opened anew."""
    bench = Bench(model, pictures)
    bench.answers(bench.frame("a", 0))
    (begun,) = bench.answers(bench.frame("a", 0, ASKED, epoch=1))
    bench.core.cache.end("a")
    (opened,) = bench.answers(bench.frame("a", 1, ASKED, epoch=1))

    assert [one.report.rtc.why if one.report.rtc else None for one in (begun, opened)] == ["no-chunk"] * 2


def test_a_chunk_to_which_the_state_is_added_is_held_where_it_was(pictures: list[Image]) -> None:
    """What is held are the robot's own numbers: the state that moved since is taken off the network's."""
    model = load_policy(
        GOLDENS / "pi0" / "pi0-micro",
        dtype=torch.float32,
        device=torch.device("cpu"),
        config={"extra_delta_transform": True},
    )
    assert isinstance(model, Pi0)
    bench = Bench(model, pictures)
    (first,) = bench.answers(bench.frame("a", 0))
    request = bench.frame("a", 1, ASKED)
    prepared = model.prepare(request.observation)
    session = bench.core.cache.sessions.known("a")
    assert session is not None
    held, _ = session.chunks.hold(ASKED, prepared.unnorm_key, bench.core.scheduler._guidance)

    class Frame:
        """As much of a Prefilled as is read."""

    one = Frame()
    one.held, one.prepared = held, prepared  # type: ignore[attr-defined]
    due = model._due(one)  # type: ignore[arg-type]
    np.testing.assert_allclose(model.scaled(prepared, due).chunk.actions, first.chunk.actions, rtol=0, atol=1e-5)
    assert np.abs(due - bench.drawn("a", 0))[:, :3].max() > 1e-3
