from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from stillframe.domain import Image, Observation, SessionRef, Step
from stillframe.engine.core import EngineCore
from stillframe.engine.drafts import DraftProposer
from stillframe.engine.history import LONGEST_S, FinishedFrame, HistoryManager
from stillframe.engine.requests import FrameRequest
from stillframe.engine.settings import DecodingSettings
from stillframe.engine.step import step
from stillframe.errors import CheckpointError, ConfigError
from stillframe.history.checkpoint import HistoryConfig, HistoryWeights
from stillframe.history.scorers import Summaries, Utilities
from stillframe.history.settings import HistorySettings

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


@pytest.mark.parametrize("gate", ["gate", "linear", "novelty", "attention", "recency", "sampling"])
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
    both = made.core.cache.usage
    made.core.cache.end("a")
    one = made.core.cache.usage
    made.reset("b")
    made.see(picture(1), "b")

    assert (both.history_chunks, both.history_bytes) == (3, reports[1].nbytes + reports[2].nbytes)
    assert (one.history_chunks, one.history_bytes) == (1, reports[2].nbytes)
    assert made.core.cache.usage.history_chunks == 1
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
        FrameRequest(
            Observation({"front": picture(50 + at)}, "reach the red cube"),
            together.places.get(robot, SessionRef(robot)),
        )
        for at, robot in enumerate("abc")
    ]
    answers = step(together.core, asked)
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
        report = reusing.refresh()
        assert report is None or report.drift == 0

    assert answers == tokens(plain, seen)
    assert max(one.report.cache.reused_tokens for one in reusing.steps) > 0


def test_guesses_change_nothing(robots: Make, picture: Pictures) -> None:
    """With and without drafts the same tokens: every pass looks at the same older frames."""
    seen = [picture(seed) for seed in (1, 2, 2, 3, 3, 3)]
    answers = [
        tokens(robots("off", history=settings(), decoding=DecodingSettings(mode)), seen) for mode in ("strict", "off")
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
        HistoryManager(made.model, weights, settings(), made.clock)  # type: ignore[arg-type]  # a stand-in


@pytest.mark.parametrize("size", ["layers", "kv_heads", "head_dim"])
def test_each_size_of_the_decoder_has_to_be_the_memorys(robots: Make, size: str) -> None:
    """The model's own are taken; one that differs is enough to be refused."""
    made, config = robots("off"), HistoryConfig(4, 2, 8, 16, slots=2, taps=(1, 3), extras=8, hidden=8)
    HistoryManager(made.model, HistoryWeights(config), settings(), made.clock)
    other = replace(config, **{size: getattr(config, size) * 2})

    with pytest.raises(CheckpointError, match="another decoder's sizes"):
        HistoryManager(made.model, HistoryWeights(other), settings(), made.clock)


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


@dataclass
class Clerk:
    """A scorer that notes what it is told, and says what it was told to say."""

    worth: float = 1.0  # of a chunk that is new
    revise: float = 1.0  # times what held ones are worth
    extras: list[list[float]] = field(default_factory=list)  # of each frame: its action, and the time since the last
    states: list[list[float]] = field(default_factory=list)  # that it was given, one for each place of a chunk
    masses: list[list[float]] = field(default_factory=list)
    needs_attention: bool = True

    def begin(self) -> Tensor:
        """No chunk yet."""
        return torch.zeros(1)

    def score(self, summaries: Summaries, states: Sequence[Tensor]) -> tuple[Utilities, list[Tensor]]:
        """A state counts, in steps of its own."""
        self.extras += summaries.extras.tolist()
        self.states.append([float(state) for state in states])
        return np.full(len(states), self.worth), [state + len(self.states) for state in states]

    def updated(self, utilities: Utilities, masses: Utilities) -> Utilities:
        """As it was told."""
        assert utilities.shape == masses.shape
        self.masses.append(masses.tolist())
        return utilities * self.revise


def clerked(robots: Make, clerk: Clerk, mode: str = "off", **rules: Any) -> Any:
    """Robots whose older frames are scored so, in chunks of two slots."""
    made = robots(mode)
    weights = HistoryWeights(HistoryConfig(4, 2, 8, 16, slots=2, taps=(1, 3), extras=8, hidden=8))
    knobs = HistorySettings(enabled=True, **{"gate": "attention", "window_frames": 1, "budget_mib": 1, **rules})
    recalling = HistoryManager(made.model, weights.eval().requires_grad_(requires_grad=False), knobs, made.clock, clerk)
    made.core = EngineCore.of(made.model, made.settings, made.clock, history=recalling)
    made.__post_init__()
    return made, recalling


def test_a_scorer_sees_the_action_and_the_time_since_the_last_frame(robots: Make, picture: Pictures) -> None:
    """Of its own session and episode: 0 where there was none, and no more than the longest."""
    clerk = Clerk()
    made, _ = clerked(robots, clerk)
    for robot, pause_s in (("a", 0.0), ("a", 2.9), ("b", 1.9), ("a", LONGEST_S - 2.2), ("a", 3 * LONGEST_S), ("a", 0)):
        made.clock.now_s += pause_s
        made.see(picture(1), robot)
    made.reset("a")
    made.see(picture(1))

    assert [seen[-1] for seen in clerk.extras] == pytest.approx([0, 3, 0, LONGEST_S - 0.1, LONGEST_S, 0.1, 0])
    for seen, answer in zip(clerk.extras, made.steps, strict=True):
        assert seen[:-1] == pytest.approx(answer.chunk.actions[0].tolist())


def test_each_chunk_of_a_frame_has_a_state_of_its_own(robots: Make, picture: Pictures) -> None:
    """That which the same place of the frame before left, of the same session."""
    clerk = Clerk()
    made, _ = clerked(robots, clerk, chunk_tokens=4)
    for robot in "aba":
        made.see(picture(1), robot)

    assert clerk.states == [[0.0]] * 8 + [[1.0], [2.0], [3.0], [4.0]]


def left(made: Any, past: Any) -> FinishedFrame:
    """The last frame once more, of another session."""
    frame = made.frame
    return FinishedFrame(past, frame.prepared.layout, frame.kv, frame.decoded)


@pytest.mark.parametrize("turned", [False, True])
def test_sampled_frames_do_not_depend_on_their_place_in_a_batch(
    robots: Make, picture: Pictures, *, turned: bool
) -> None:
    """In any order, and also where others are at another frame: the first, the last, and one between."""
    made, recalling = clerked(robots, Clerk(), gate="sampling", budget_mib=3 * CHUNK_MIB)
    made.see(picture(1), None)
    pasts = [recalling.begin() for _ in range(3)]
    for frame in range(7):
        batch = [left(made, past) for past in pasts[: 3 if frame < 5 else 2]]
        recalling.update(batch[::-1] if turned and frame % 2 else batch)

    assert [sorted(past.history.held_frames.tolist()) for past in pasts] == [[1, 5, 7], [1, 5, 7], [1, 3, 5]]


def test_a_chunk_is_worth_what_the_row_that_says_the_action_saw_in_it(robots: Make, picture: Pictures) -> None:
    """That is the prompt's last, which six guesses follow; of any layer and head the most, over a chunk's slots."""
    clerk = Clerk()
    made, recalling = clerked(robots, clerk)
    made.see(picture(1), None)
    past = recalling.begin()
    for _ in range(2):
        recalling.update([left(made, past)])
    shallow, deep = torch.full((2, 2, 9, 4), 0.9).unbind(0)  # [heads, rows, slots]
    shallow[:, -7] = torch.tensor([[0.1, 0.2, 0.3, 0.0], [0.0, 0.0, 0.0, 0.1]])
    deep[:, -7] = torch.tensor([[0.0, 0.1, 0.0, 0.2], [0.4, 0.0, 0.1, 0.0]])
    past.attention = {1: shallow, 3: deep}
    recalling.update([left(made, past)])

    assert clerk.masses == [pytest.approx([0.4 + 0.2, 0.3 + 0.2])]
    assert past.history.held == 3


def test_guesses_have_no_say_in_what_a_chunk_is_worth(robots: Make, picture: Pictures) -> None:
    """Whatever is guessed to follow, the row before it looks where it looks."""
    noted = []
    for forgetful in (False, True):
        clerk = Clerk()
        made, _ = clerked(robots, clerk)
        for seed in (1, 2, 3):
            made.see(picture(seed))
            if forgetful:
                made.session("a").drafts = DraftProposer()
        noted.append([mass for masses in clerk.masses for mass in masses])

    assert len(noted[0]) == 1 + 2
    assert noted[0] == pytest.approx(noted[1], abs=1e-4)


@pytest.mark.parametrize("kept", [True, False])
def test_where_an_older_frame_looked_says_nothing(robots: Make, picture: Pictures, *, kept: bool) -> None:
    """A frame's looks are its own, also where nothing was kept for it to look at."""
    clerk = Clerk()
    made, recalling = clerked(robots, clerk)
    made.see(picture(1), None)
    past, layout = recalling.begin(), made.frame.prepared.layout
    if kept:
        recalling.update([left(made, past)])
    past.attention = {1: torch.ones(2, 9, 2)}

    assert (recalling.lend(past, layout) is not None) is kept
    recalling.update([left(made, past)])
    assert clerk.masses == []


def test_who_does_not_watch_is_not_told(robots: Make, picture: Pictures) -> None:
    """And what was looked at is not kept for it."""
    clerk = Clerk(needs_attention=False)
    made, _ = clerked(robots, clerk)
    for seed in (1, 2, 3):
        made.see(picture(seed))

    assert clerk.masses == []
    assert made.session("a").history.attention == {}


def test_held_chunks_are_worth_what_is_said_anew(robots: Make, picture: Pictures) -> None:
    """Before the newest is weighed against them: of three that are worth nothing any more none stays but the window."""
    clerk = Clerk(revise=0.0)
    made, _ = clerked(robots, clerk, threshold=0.5)
    helds = [made.see(picture(seed)).report.history.held for seed in (1, 2, 3, 4)]

    assert helds == [1, 1, 1, 1]


@pytest.mark.parametrize("horizon", [0, 2, 8])
def test_policies_that_say_several_actions_at_once_are_refused(robots: Make, horizon: int) -> None:
    """They have no row that says the first token of one action."""
    made = robots("off")
    made.model.info = replace(made.model.info, chunk_horizon=horizon)

    with pytest.raises(ConfigError, match=f"answers with {horizon} actions at once"):
        HistoryManager(made.model, HistoryWeights(HistoryConfig(4, 2, 8, 16, 2, (1, 3), 8, 8)), settings(), made.clock)


@pytest.mark.parametrize(
    ("rules", "stay"),
    [
        ({"threshold": 0.0, "decay": 1.0}, [1, 4]),  # the best, and the window
        ({"threshold": 0.0, "decay": 0.5}, [3, 4]),  # what was worth most is long ago
        ({"threshold": 0.99, "decay": 1.0}, [4]),
        ({"threshold": 1.0, "decay": 1.0, "window_frames": 2}, [3, 4]),
    ],
)
def test_what_stays_is_as_the_knobs_say(robots: Make, picture: Pictures, rules: Any, stay: list[int]) -> None:
    """Of four chunks, of which the first is worth most, the two for which there is room."""
    clerk = Clerk(worth=0.95)
    made, _ = clerked(robots, clerk, budget_mib=2 * CHUNK_MIB, **rules)
    for seed in (1, 2, 3, 4):
        made.see(picture(seed))
        clerk.worth = 0.6

    assert sorted(made.session("a").history.history.held_frames) == stay
