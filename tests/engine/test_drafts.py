from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import numpy as np
import pytest

from stillframe.domain import REUSE_MODES, ActionChunk, DraftMode, DraftReport, Observation, SessionRef
from stillframe.engine.beside import verified_draft
from stillframe.engine.drafts import MOST_ACTIONS, SCORE_DECAY, DraftFactory, DraftProposer
from stillframe.engine.requests import FrameRequest
from stillframe.engine.settings import DecodingSettings
from stillframe.engine.step import step
from stillframe.errors import ConfigError
from stillframe.models.base import Decoded
from stillframe.models.llama.draft import Draft

Make = Callable[..., Any]
NO_MOTION = np.full(7, 32)
NAMES = ("dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper")
OFF, STRICT = DecodingSettings("off"), DecodingSettings("strict")


def walk(bench: Any, picture: Make, changed: Make) -> list[Any]:
    """Two robots and stateless frames, things that stand and things that move, pauses, a reset."""
    now = picture(0)
    for number, robot in enumerate(["a", "a", "b", None, "a", "b", "a", "a", "b", "a", "a"]):
        now = changed(now, number, number + 3, seed=number) if number % 3 == 2 else now
        bench.see(now, robot)
        if number % 4 == 3:
            bench.refresh()
        if number == 8:
            bench.reset("a")
    return list(bench.steps)


@pytest.mark.parametrize(
    "mode", [pytest.param(mode, marks=() if mode in ("off", "adaptive") else pytest.mark.slow) for mode in REUSE_MODES]
)
def test_strict_drafts_change_no_action(robots: Make, picture: Make, changed: Make, mode: str) -> None:
    """Over keyframes, delta frames, pauses and sessions: the same tokens and plans without them, in more passes."""
    plain, drafted = (walk(robots(mode, decoding=each), picture, changed) for each in (OFF, STRICT))

    assert [step.chunk.tokens.tolist() for step in drafted] == [step.chunk.tokens.tolist() for step in plain]
    assert [step.report.cache for step in drafted] == [step.report.cache for step in plain]
    assert {step.report.passes for step in plain} == {7}
    assert sum(step.report.passes for step in drafted) < 6 * len(drafted)
    assert all(step.report.cache.bit_equal for step in drafted)


@pytest.mark.parametrize("mode", ["off", "exact"])
def test_an_answer_that_is_called_equal_to_the_bit_is(robots: Make, picture: Make, changed: Make, mode: str) -> None:
    """Exact drafts, a frame at a time: the tokens of decoding without any, wherever the report says so; some are."""
    plain, drafted = (walk(robots(mode, decoding=each), picture, changed) for each in (OFF, DecodingSettings()))
    equal = [step.report.cache.bit_equal for step in drafted]

    assert any(equal)
    for said, one, other in zip(equal, drafted, plain, strict=True):
        assert not said or one.chunk.tokens.tolist() == other.chunk.tokens.tolist()


@pytest.mark.parametrize(("decoding", "passes", "equal"), [(DecodingSettings(), 1, False), (STRICT, 2, True)])
def test_where_rounding_may_choose_exact_takes_one_pass_and_strict_two(
    robots: Make, picture: Make, decoding: DecodingSettings, passes: int, *, equal: bool
) -> None:
    """No lead is beyond rounding here: a right draft costs strict a pass more, and exact its word for the bits."""
    bench = robots("off", decoding=decoding)
    bench.model.decoder.max_head_norm = math.inf
    bench.see(picture(0))
    for _ in range(2):
        report = bench.see(picture(0)).report

    assert (report.passes, report.cache.bit_equal) == (passes, equal)


@pytest.mark.parametrize(("decoding", "passes"), [(DecodingSettings(), [27]), (STRICT, [27, 6]), (OFF, [27, 6])])
def test_a_pause_verifies_as_the_answer_was(
    robots: Make, picture: Make, decoding: DecodingSettings, passes: list[int]
) -> None:
    """To the bit where its tokens were, for what rounding chooses is no drift; exact takes the dense pass's word."""
    bench = robots(decoding=decoding)
    bench.see(picture(0))
    bench.see(picture(0))
    bench.model.decoder.max_head_norm = math.inf
    counted = bench.model.count_passes()

    assert bench.refresh().drift == 0
    assert counted == passes


def test_a_pauses_guess_is_the_answer_and_not_what_was_guessed() -> None:
    """Nor how far that might be off; where nothing was guessed nothing is."""
    tokens = np.array([3, 4])
    answer = Decoded(ActionChunk(np.zeros((1, 2)), "toy", tokens), np.zeros((1, 2)), 1)
    modes = {mode: verified_draft(Draft(tokens + 1, mode, tokens), answer) for mode in get_args(DraftMode)}

    assert {mode: draft.mode for mode, draft in modes.items()} == {
        "exact": "exact",
        "strict": "strict",
        "relaxed": "exact",
        "off": "strict",
    }
    assert all(draft.ids.tolist() == [3, 4] and draft.radius is None for draft in modes.values())
    assert verified_draft(Draft(tokens[:0], "off"), answer).ids.size == 0


@pytest.mark.parametrize("batch_invariant", [False, True])
def test_frames_side_by_side_are_equal_to_the_bit_where_the_decoder_is_batch_invariant(
    robots: Make, picture: Make, *, batch_invariant: bool
) -> None:
    """Without guesses, too: elsewhere a frame's numbers depend on those beside it."""
    bench = robots("off", decoding=OFF)
    bench.model.decoder.batch_invariant = batch_invariant
    requests = [FrameRequest(Observation({"front": picture(0)}, "reach"), SessionRef(robot)) for robot in "ab"]
    alone, *together = [*step(bench.core, requests[:1]), *step(bench.core, requests)]

    assert alone.report.cache.bit_equal
    assert [each.report.cache.bit_equal for each in together] == [batch_invariant] * 2


@pytest.mark.parametrize("mode", get_args(DraftMode))
def test_the_contract_says_how_drafts_are_verified(robots: Make, mode: DraftMode) -> None:
    """As configured, beside what the checkpoint itself says."""
    bench = robots(decoding=DecodingSettings(mode))

    assert bench.core.info(bench.model.info) == replace(bench.model.info, draft=mode)


def test_the_same_again_takes_one_pass(robots: Make, picture: Make) -> None:
    """A calm robot's last action is its next: the first frame is guessed to stand still, the second to go on."""
    bench = robots("off")
    first, second = bench.see(picture(0)).report, bench.see(picture(0)).report

    assert first.draft.way == "still"
    assert first.passes > 1
    assert (second.draft, second.passes) == (DraftReport("exact", "previous", 7), 1)


def test_a_session_guesses_from_its_own_actions(robots: Make, picture: Make) -> None:
    """Robots in turn cost what each costs alone, though they do other things."""
    together, alone = robots("off"), [robots("off"), robots("off")]
    for number in range(6):
        for robot, own in zip("ab", alone, strict=True):
            seen = picture(number // 3 if robot == "a" else 7)
            shared, single = together.see(seen, robot).report, own.see(seen, robot).report

            assert (shared.passes, shared.draft) == (single.passes, single.draft)


@pytest.mark.parametrize("end", ["reset", "again", "forget"])
def test_a_reset_clears_drafts(robots: Make, picture: Make, end: str) -> None:
    """The next episode begins elsewhere; so does a session of the same id."""
    bench = robots("off")
    bench.see(picture(0))
    bench.core.cache.end("a") if end == "forget" else getattr(bench, end)("a")

    assert bench.see(picture(0)).report.draft.way == "still"


def test_frames_of_no_session_have_no_past(robots: Make, picture: Make) -> None:
    """Each is guessed to stand still, and leaves nothing to guess from."""
    bench = robots("off")
    ways = [bench.see(picture(0), robot).report.draft.way for robot in (None, "a", None, "a")]

    assert ways == ["still", "still", "still", "previous"]


def test_a_frame_that_failed_leaves_no_draft(robots: Make, picture: Make) -> None:
    """Nothing was answered, so there is nothing to go on from."""
    bench = robots("off")
    bench.model.broken = RuntimeError("once")
    with pytest.raises(RuntimeError, match="once"):
        bench.see(picture(0))

    assert bench.see(picture(0)).report.draft.way == "still"


def test_rows_of_guesses_are_no_rows_of_the_prompt(robots: Make, picture: Make) -> None:
    """What is reported as reused and computed is the prompt's; a guess is never reused."""
    bench = robots(top_k=16)
    bench.see(picture(0))
    passes = bench.model.count_passes()
    report = bench.see(picture(0)).report

    assert (report.cache.total_tokens, report.cache.reused_tokens) == (21, 17)
    assert passes == [21 + 6]
    assert bench.model.passes == [21, 4]


def test_a_pause_guesses_what_was_answered(robots: Make, picture: Make) -> None:
    """Its dense pass costs one pass where the answer did not drift."""
    bench = robots()
    bench.see(picture(0))
    bench.see(picture(0))
    passes = bench.model.count_passes()

    assert bench.refresh().drift == 0
    assert passes == [21 + 6]


def test_relaxed_guesses_stand_and_are_told(robots: Make, picture: Make) -> None:
    """Every guess within reach is emitted, the gripper's never; the report says that it was relaxed."""
    bench = robots("off", decoding=DecodingSettings("relaxed", [63]))
    first = bench.see(picture(0))
    second = bench.see(picture(1))
    exact = robots("off").see(picture(1))

    assert first.chunk.tokens[:-1].tolist() == NO_MOTION[:-1].tolist()
    assert second.report.draft == DraftReport(
        "relaxed", "previous", 6 + (first.chunk.tokens == second.chunk.tokens)[-1]
    )
    assert (second.report.passes, second.report.cache.relaxed, exact.report.cache.relaxed) == (1, True, False)
    assert second.chunk.tokens[:-1].tolist() == first.chunk.tokens[:-1].tolist() != exact.chunk.tokens[:-1].tolist()


def test_a_pause_is_never_relaxed(robots: Make, picture: Make) -> None:
    """Drift is told from greedy tokens: what a radius let stand is part of it."""
    bench = robots(decoding=DecodingSettings("relaxed", [63]))
    bench.see(picture(0))
    bench.see(picture(0))

    assert bench.refresh().drift > 0


def test_the_grippers_radius_is_nothing() -> None:
    """One number is for all other dimensions; as many as there are go one by one, wherever the gripper is."""
    one, each = (
        DraftFactory(DecodingSettings("relaxed", [3]), NAMES, 64),
        DraftFactory(DecodingSettings("relaxed", [1, 2]), ("dx", "gripper", "dy"), 64),
    )

    assert one.draft(None, NO_MOTION).radius.tolist() == [3] * 6 + [0]
    assert each.draft(None, np.zeros(6, np.int64)).radius.tolist() == [1, 0, 2, 1, 0, 2]


def test_a_radius_that_does_not_fit_is_refused() -> None:
    """It says how many numbers there have to be, and what for."""
    with pytest.raises(
        ConfigError, match=r"decoding\.radius is \[1, 2\]; expected one number, or 6: dx, dy, .*, dyaw$"
    ):
        DraftFactory(DecodingSettings("relaxed", [1, 2]), NAMES, 64)


def acted(*actions: Any) -> DraftProposer:
    """A session that has done so much, one number an action."""
    drafts = DraftProposer()
    for action in actions:
        drafts.guess(NO_MOTION)
        drafts.observe(np.full(7, action))
    return drafts


@pytest.mark.parametrize(
    ("actions", "way", "guess"),
    [
        ([5], "previous", 5),  # all guess the same
        ([5, 5, 5, 5], "previous", 5),
        ([9, 4, 5, 6, 7], "steady", 8),
        ([*range(8)], "steady", 8),
        ([1, 9, 3, 20, 1, 9, 3, 20, 1, 9], "recalled", 3),
        ([1, 9, 3, 20, 1, 9, 3, 20, 1], "recalled", 9),
    ],
)
def test_the_way_that_does_best_is_taken(actions: list[int], way: str, guess: int) -> None:
    """What goes on changing is carried on, what comes back is recalled, and else it is the same again."""
    name, ids = acted(*actions).guess(NO_MOTION)

    assert (name, ids.tolist()) == (way, [guess] * 7)


@pytest.mark.parametrize(
    ("actions", "follows"),
    [
        ([1, 2, 1, 3, 1], 3),  # the last time it was 3
        ([1, 2, *range(20, 17 + MOST_ACTIONS), 1], 2),  # as many as are remembered, and both of these among them
        ([1, 2, *range(20, 18 + MOST_ACTIONS), 1], 1),  # one more, and it is as if it had never been: the same again
    ],
)
def test_what_followed_last_time_is_recalled(actions: list[int], follows: int) -> None:
    """Of several times the latest counts, and what is longer ago than may be remembered does not."""
    drafts = acted(*actions)
    before = drafts.scores["recalled"]
    drafts.guess(NO_MOTION)
    drafts.observe(np.full(7, follows))

    assert drafts.scores["recalled"] == pytest.approx(SCORE_DECAY * before + 7 * (1 - SCORE_DECAY))


def test_merit_is_a_running_mean_of_what_was_right() -> None:
    """From the first token on; every way is judged, whichever was taken; what was long ago fades."""
    drafts = acted(4, 6)
    drafts.guess(NO_MOTION)
    before = dict(drafts.scores)
    drafts.observe(np.array([6, 6, 6, 8, 6, 6, 6]))

    assert before == dict.fromkeys(before, 0.0)
    assert drafts.scores == pytest.approx(
        {"previous": 3 * (1 - SCORE_DECAY), "steady": 0, "recalled": 3 * (1 - SCORE_DECAY)}
    )
    for faded in itertools.islice(itertools.count(1), 3):
        drafts.guess(NO_MOTION)
        drafts.observe(np.full(7, 90 + faded))
    assert drafts.scores["previous"] == pytest.approx(3 * (1 - SCORE_DECAY) * SCORE_DECAY**3)


def test_a_past_of_another_length_is_no_past() -> None:
    """Another number of tokens, as of another chunk: nothing to go on from."""
    drafts = acted(4, 5)

    assert drafts.guess(np.zeros(14, np.int64))[0] == "still"
    drafts.observe(np.zeros(14, np.int64))
    assert drafts.guess(np.zeros(14, np.int64))[0] == "previous"


def test_every_guess_is_a_token() -> None:
    """What would go on beyond the vocabulary ends with it."""
    drafting, drafts = DraftFactory(DecodingSettings(), NAMES, 64), acted(10, 20, 30, 40, 50, 60)

    assert drafts.guess(NO_MOTION)[1].tolist() == [70] * 7
    assert drafting.draft(drafts, NO_MOTION).ids.tolist() == [63] * 7
