from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from stillframe.domain import Image, Observation, SessionRef, Step
from stillframe.engine.keeper import Asked
from stillframe.engine.recalling import Recalling
from stillframe.engine.step import step
from stillframe.errors import CheckpointError, ConfigError
from stillframe.memory.settings import HistorySettings
from stillframe.reuse.settings import DecodingSettings

Make = Callable[..., Any]
Pictures = Callable[[int], Image]
CHUNK_MIB = 2 * 4 * 2 * 2 * 8 * 4 / 2**20  # keys and values, layers, heads, slots, head_dim, float32


def settings(gate: str = "gate", frames: float | None = 3, window: int = 1) -> HistorySettings:
    """Room for so many frames."""
    budget = None if frames is None else frames * CHUNK_MIB
    return HistorySettings(enabled=True, gate=gate, window_frames=window, budget_mib=budget)  # type: ignore[arg-type]  # one of them


def tokens(robots: Any, pictures: list[Image], robot: str = "a") -> list[list[int]]:
    """What a robot is answered to one picture after the other."""
    return [robots.see(picture, robot).chunk.tokens.tolist() for picture in pictures]


def test_answers_look_at_older_frames(robots: Make, picture: Pictures) -> None:
    """The first frame has none and is answered as without; the same picture after others is answered otherwise."""
    with_history, without = robots("off", history=settings()), robots("off")
    seen = [picture(seed) for seed in (1, 2, 3)]
    answers, plain = tokens(with_history, seen), tokens(without, seen)

    assert answers[0] == plain[0]
    assert answers != plain


@pytest.mark.parametrize("gate", ["gate", "linear", "novelty", "attention", "recency"])
def test_it_holds_no_more_than_it_may(robots: Make, picture: Pictures, gate: str) -> None:
    """Whoever scores; the report says what is held, what came and what was dropped."""
    made = robots("off", history=settings(gate))
    for seed in range(6):
        made.see(picture(seed))
    report = made.steps[-1].report.history

    assert report is not None
    assert (report.held, report.slots, report.dropped, report.came) == (3, 6, 3, 6)
    assert report.held - 1 <= report.kept <= 5
    assert report.nbytes == 3 * CHUNK_MIB * 2**20
    assert report.frame.dropped == 1
    assert [0 <= utility <= 1 for utility in report.frame.utilities] == [True]


def test_what_is_not_kept_at_all_is_said(robots: Make, picture: Pictures) -> None:
    """Without a window, a chunk that is worth too little goes at once: dropped, never kept."""
    made = robots("off", history=replace(settings("novelty", window=0), threshold=0.5))
    for _ in range(3):
        made.see(picture(1))
    report = made.steps[-1].report.history

    assert report is not None
    assert (report.held, report.kept, report.dropped) == (1, 1, 2)
    assert (report.frame.kept, report.frame.dropped) == (0, 1)


def test_histories_count_beside_the_pool(robots: Make, picture: Pictures) -> None:
    """Their bytes are those that the replies say, over all sessions; a session's are free when it is over."""
    made = robots("off", history=settings())
    reports = [made.see(picture(seed), robot).report.history for seed, robot in enumerate("aab")]
    both = made.keeper.usage
    made.keeper.forget("a")
    one = made.keeper.usage
    made.reset("b")
    made.see(picture(1), "b")

    assert (both.history_chunks, both.history_bytes) == (3, reports[1].nbytes + reports[2].nbytes)
    assert (one.history_chunks, one.history_bytes) == (1, reports[2].nbytes)
    assert made.keeper.usage.history_chunks == 1
    assert both.in_use_bytes == one.in_use_bytes == 0


def test_nobody_elses_past_is_seen(robots: Make, picture: Pictures) -> None:
    """Robots in turn are answered as each alone; a frame of no session sees none and leaves none."""
    together, alone = robots("off", history=settings()), robots("off", history=settings())
    pictures = {robot: [picture(10 * at + seed) for seed in range(5)] for at, robot in enumerate(("a", "b"))}
    answers: dict[str, list[list[int]]] = {"a": [], "b": []}
    for step_ in range(5):
        for robot, seen in pictures.items():
            answers[robot] += tokens(together, [seen[step_]], robot)
        together.see(picture(99), None)

    assert answers["a"] == tokens(alone, pictures["a"], "a")
    assert answers["b"] == tokens(alone, pictures["b"], "b")
    assert together.see(picture(99), None).report.history is None


def test_an_episode_begins_without_a_past(robots: Make, picture: Pictures) -> None:
    """After a reset, or as a session of the same id begins anew, answers are a first episode's."""
    made, fresh = robots("off", history=settings()), robots("off", history=settings())
    first, second = [picture(seed) for seed in (1, 2, 3)], [picture(seed) for seed in (4, 5, 6)]
    tokens(made, first)
    made.reset("a")
    again = tokens(made, second)
    made.again("a")

    assert again == tokens(fresh, second)
    assert tokens(made, first) == tokens(robots("off", history=settings()), first)


def test_side_by_side_each_looks_at_its_own(robots: Make, picture: Pictures) -> None:
    """Three robots' frames in one pass, with pasts of different lengths: each answer is as alone."""
    together, alone = robots("off", history=settings(frames=9)), robots("off", history=settings(frames=9))
    for robot, count in (("a", 1), ("b", 4), ("c", 0)):
        for seed in range(count):
            for one in (together, alone):
                one.see(picture(10 * count + seed), robot)
    asked = [
        Asked(
            Observation({"front": picture(50 + at)}, "reach the red cube"),
            together.places.get(robot, SessionRef(robot)),
        )
        for at, robot in enumerate("abc")
    ]
    answers = step(together.model, together.keeper, asked, together.clock)
    expected = [alone.see(picture(50 + at), robot) for at, robot in enumerate("abc")]

    for answer, one in zip(answers, expected, strict=True):
        assert isinstance(answer, Step)
        assert answer.chunk.tokens.tolist() == one.chunk.tokens.tolist()
        assert answer.report.history is not None
        assert one.report.history is not None
        assert replace(answer.report.history, frame=one.report.history.frame) == one.report.history  # at another time


@pytest.mark.parametrize("gate", ["gate", "attention"])
def test_it_works_beside_frame_reuse(robots: Make, picture: Pictures, gate: str) -> None:
    """Reused rows are the frame's, recalled ones the session's: exact reuse answers as none does, without drift."""
    reusing, plain = robots("exact", history=settings(gate)), robots("off", history=settings(gate))
    seen = [picture(1), picture(1), picture(2), picture(2), picture(2)]
    answers = []
    for image in seen:
        answers.append(reusing.see(image).chunk.tokens.tolist())
        report = reusing.rest()
        assert report is None or report.drift == 0

    assert answers == tokens(plain, seen)
    assert max(one.report.cache.reused_tokens for one in reusing.steps) > 0


def test_guesses_change_nothing(robots: Make, picture: Pictures) -> None:
    """With and without drafts the same tokens: every pass looks at the same older frames."""
    seen = [picture(seed) for seed in (1, 2, 2, 3, 3, 3)]
    answers = [
        tokens(robots("off", history=settings(), decoding=DecodingSettings(mode)), seen) for mode in ("exact", "off")
    ]

    assert answers[0] == answers[1]


def test_a_frame_that_fails_leaves_no_past(robots: Make, picture: Pictures) -> None:
    """What was not answered is not remembered."""
    made = robots("off", history=settings())
    made.see(picture(1))
    made.model.broken = RuntimeError("spoilt")
    with pytest.raises(RuntimeError, match="spoilt"):
        made.see(picture(2))
    report = made.see(picture(3)).report.history

    assert report is not None
    assert report.came == 2


def test_knobs_that_do_not_fit_are_refused(robots: Make) -> None:
    """Chunks that do not divide a frame; a budget that does not hold the window."""
    with pytest.raises(ConfigError, match=r"history.chunk_tokens is 5; expected a divisor of a frame's 16"):
        robots("off", history=HistorySettings(enabled=True, chunk_tokens=5))
    with pytest.raises(ConfigError, match="window_frames keeps"):
        robots("off", history=settings(frames=2, window=3))


def test_another_decoders_memory_is_refused(robots: Make) -> None:
    """Before a frame is computed."""
    made = robots("off")
    config = type("Config", (), {"layers": 9, "kv_heads": 2, "head_dim": 8})
    weights = type("Other", (), {"config": config})

    with pytest.raises(CheckpointError, match="another decoder's sizes"):
        Recalling(made.model, weights, settings(), made.clock)  # type: ignore[arg-type]  # a stand-in


def test_several_chunks_a_frame(robots: Make, picture: Pictures) -> None:
    """Chunks of four tokens: four a frame, each scored by itself, within the same budget."""
    made = robots(
        "off", history=HistorySettings(enabled=True, chunk_tokens=4, window_frames=1, budget_mib=6 * CHUNK_MIB)
    )
    for seed in range(4):
        made.see(picture(seed))
    report = made.steps[-1].report.history

    assert report is not None
    assert (report.came, report.held) == (16, 6)
    assert np.isfinite(made.steps[-1].chunk.actions).all()
