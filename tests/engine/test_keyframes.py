"""Every reason to compute a frame whole, each by what a robot or its operator does. Design, section 6, rule 7."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from stillframe.domain import PRUNING_MODES, REUSE_MODES, CacheReport, KeyframeReason
from stillframe.errors import Internal
from stillframe.reuse.kv import KVCorrupted

REUSING = [mode for mode in REUSE_MODES if mode not in ("off", *PRUNING_MODES)]
Make = Callable[..., Any]


@pytest.fixture
def seen(robots: Make, picture: Make) -> Make:
    """A robot that has answered a keyframe and a delta frame of the same picture."""

    def make(mode: str = "adaptive", **knobs: Any) -> Any:
        bench = robots(mode, **knobs)
        assert reason(bench.see(picture(0))) is KeyframeReason.FIRST_FRAME
        assert reason(bench.see(picture(0))) is None
        return bench

    return make


def reason(step: Any) -> KeyframeReason | None:
    """Why a frame was whole; what the report says beside must agree."""
    cache: CacheReport = step.report.cache
    if cache.keyframe_reason is None:
        assert cache.frame == "delta"
        assert cache.reused_tokens >= 1
    else:
        assert (cache.frame, cache.reuse_ratio, cache.reused_tokens, cache.age_max) == ("keyframe", 0, 0, 0)
    return cache.keyframe_reason


@pytest.mark.parametrize("mode", REUSING)
def test_a_robots_first_frame(seen: Make, picture: Make, mode: str) -> None:
    """Of each robot, however many there were before."""
    bench = seen(mode)

    assert reason(bench.see(picture(0), "b")) is KeyframeReason.FIRST_FRAME
    assert reason(bench.see(picture(0), "b")) is None
    assert reason(bench.see(picture(0), "a")) is None


@pytest.mark.parametrize("mode", REUSING)
def test_the_first_frame_after_a_reset(seen: Make, picture: Make, mode: str) -> None:
    """The next episode: epoch and seq say so; the frame after it reuses again. Others go on."""
    bench = seen(mode)
    bench.see(picture(0), "b")
    bench.reset("a")
    first, second = bench.see(picture(0)), bench.see(picture(0))

    assert reason(first) is KeyframeReason.RESET
    assert (first.report.cache.epoch, first.report.cache.seq) == (1, 0)
    assert reason(second) is None
    assert (second.report.cache.epoch, second.report.cache.seq) == (1, 1)
    assert reason(bench.see(picture(0), "b")) is None


def test_two_resets_are_one_keyframe(seen: Make, picture: Make) -> None:
    """Epochs count resets, keyframes count frames."""
    bench = seen()
    bench.reset("a")
    bench.reset("a")

    assert [reason(bench.see(picture(0))) for _ in range(2)] == [KeyframeReason.RESET, None]
    assert bench.steps[-1].report.cache.epoch == 2


@pytest.mark.few(4)
@pytest.mark.parametrize("mode", REUSING)
@pytest.mark.parametrize("says", ["reach the blue cube", "reach the red cube now", "reach"])
def test_another_instruction(seen: Make, picture: Make, mode: str, says: str) -> None:
    """Of the same length or another: the published code raises where the length changes."""
    bench = seen(mode)
    step = bench.see(picture(0), says=says)

    assert reason(step) is KeyframeReason.INSTRUCTION
    assert step.chunk.tokens.tolist() == bench.tokens(picture(0), says=says)
    assert reason(bench.see(picture(0), says=says)) is None


@pytest.mark.parametrize("mode", REUSING)
def test_another_resolution(seen: Make, picture: Make, mode: str) -> None:
    """Even where the model would see the same: the camera was changed."""
    bench = seen(mode)
    double = np.kron(picture(0), np.ones((2, 2, 1), np.uint8))

    assert reason(bench.see(double)) is KeyframeReason.CAMERAS
    assert reason(bench.see(double)) is None


@pytest.mark.parametrize("other", REUSING)
def test_another_mode(seen: Make, picture: Make, other: str) -> None:
    """A frame may ask for its own mode; each change of it is a keyframe, and the report names the mode."""
    bench = seen("exact" if other == "adaptive" else "adaptive")
    usual = bench.settings.mode
    first, second, back = (bench.see(picture(0), mode=mode) for mode in (other, other, None))

    assert reason(first) is KeyframeReason.MODE
    assert first.report.cache.mode == other
    assert (reason(second), reason(back)) == (None, KeyframeReason.MODE)
    assert back.report.cache.mode == usual


def test_off_reuses_and_keeps_nothing(seen: Make, picture: Make) -> None:
    """Every frame is whole, no KV is held; a session that comes back from it starts with a keyframe."""
    bench = seen()
    held = bench.core.cache.usage.in_use_bytes
    steps = [bench.see(picture(0), mode="off") for _ in range(2)]

    assert [reason(step) for step in steps] == [KeyframeReason.OFF] * 2
    assert [step.report.cache.kv_bytes for step in steps] == [0, 0]
    assert bench.core.cache.usage.in_use_bytes == held - bench.kv.nbytes
    assert [reason(bench.see(picture(0))) for _ in range(2)] == [KeyframeReason.MODE, None]


@pytest.mark.parametrize("mode", REUSE_MODES)
def test_a_frame_of_no_session(robots: Make, picture: Make, mode: str) -> None:
    """Stateless whatever the mode, which such a frame does not have: nothing is kept and nothing counted."""
    bench = robots(mode)
    before = bench.core.cache.usage
    caches = [bench.see(picture(0), None).report.cache for _ in range(2)]

    assert [reason(step) for step in bench.steps] == [KeyframeReason.STATELESS] * 2
    assert [(cache.mode, cache.kv_bytes, cache.epoch, cache.seq) for cache in caches] == [("off", 0, 0, 0)] * 2
    assert bench.core.cache.usage == before


@pytest.mark.parametrize("mode", REUSING)
def test_a_gap_in_time(seen: Make, picture: Make, mode: str) -> None:
    """A robot that was quiet for longer than gap_s; measured from its own last frame, not from others'."""
    bench = seen(mode, gap_s=2.0)
    bench.clock.now_s += 1.8
    assert reason(bench.see(picture(0))) is None
    bench.clock.now_s += 2.1
    bench.see(picture(0), "b")

    assert reason(bench.see(picture(0))) is KeyframeReason.GAP
    assert reason(bench.see(picture(0))) is None


@pytest.mark.parametrize("dark", ["cut", "black"])
def test_a_scene_cut(seen: Make, picture: Make, dark: str) -> None:
    """Another picture, or a camera gone dark: whole, right, and delta again where the new scene stays."""
    bench = seen()
    now = picture(1) if dark == "cut" else np.zeros_like(picture(0))
    step = bench.see(now)

    assert reason(step) is KeyframeReason.SCENE_CUT
    assert step.chunk.tokens.tolist() == bench.tokens(now)
    assert reason(bench.see(now)) is None
    assert reason(bench.see(picture(0))) is KeyframeReason.SCENE_CUT


@pytest.mark.parametrize("mode", ["paper", "static-only", "exact"])
def test_modes_without_a_scene_cut_compute_the_changed_scene(seen: Make, picture: Make, mode: str) -> None:
    """Where nothing is static only BOS is reused, which is exact; the published code raises TypeError there."""
    bench = seen(mode)
    for now in (np.zeros_like(picture(0)), picture(1)):
        step = bench.see(now)
        assert reason(step) is None
        assert step.report.cache.reused_tokens == 1
        assert step.chunk.tokens.tolist() == bench.tokens(now)


def test_a_drift_over_budget(seen: Make, picture: Make, changed: Make) -> None:
    """Found in the slack: at full caution the next frame is whole, and the one after it reuses BOS alone."""
    bench = seen(drift_budget=0.0, age_limit=8)
    bench.see(changed(picture(0), 0))
    session = bench.session("a")
    session.caution.level = 0.9
    report = bench.refresh()

    assert report is not None
    assert report.drift > 0
    assert session.caution.full
    assert reason(bench.see(picture(0))) is KeyframeReason.DRIFT
    careful = bench.see(picture(0))
    assert reason(careful) is None
    assert careful.report.cache.reused_tokens == 1


def test_too_many_frames_without_a_dense_pass(robots: Make, picture: Make) -> None:
    """keyframe_every 3: every third frame; a dense pass in the slack counts as one."""
    bench = robots(keyframe_every=3)
    reasons = [reason(bench.see(picture(0))) for _ in range(7)]
    age = KeyframeReason.AGE

    assert reasons == [KeyframeReason.FIRST_FRAME, None, None, age, None, None, age]
    for _ in range(5):
        bench.refresh()
        assert reason(bench.see(picture(0))) is None


def test_storage_given_to_another(robots: Make, picture: Make) -> None:
    """Room for one robot: each that comes takes it from the other, which is told so, once."""
    slot = robots().see(picture(0)).report.cache.kv_bytes
    bench = robots(kv_budget_mib=2 * slot / 2**20)
    steps = [bench.see(picture(0), robot) for robot in "abbaabb"]
    evicted, first = KeyframeReason.EVICTED, KeyframeReason.FIRST_FRAME

    assert [reason(step) for step in steps] == [first, first, None, evicted, None, evicted, None]
    assert [step.chunk.tokens.tolist() for step in steps] == [bench.tokens(picture(0))] * 7


def test_a_pass_that_failed_half_way(seen: Make, picture: Make, changed: Make) -> None:
    """What it left is half of one frame and half of another: the next one is whole, and right."""
    bench = seen()
    bench.model.broken = RuntimeError("out of memory")
    with pytest.raises(RuntimeError, match="out of memory"):
        bench.see(changed(picture(0), 3))
    step = bench.see(changed(picture(0), 4))

    assert reason(step) is KeyframeReason.INTEGRITY
    assert step.chunk.tokens.tolist() == bench.tokens(changed(picture(0), 4))
    assert reason(bench.see(picture(0))) is None


def test_a_frame_that_was_refused_changes_nothing(seen: Make, picture: Make) -> None:
    """It never came near the storage."""
    bench = seen()
    with pytest.raises(Exception, match="expected"):
        bench.see({"left": picture(0), "right": picture(0)})

    assert reason(bench.see(picture(0))) is None
    assert bench.steps[-1].report.cache.seq == 3


@pytest.mark.parametrize(("mode", "frames"), [("adaptive", 1), ("paper", 1), ("paper", 3), ("static-only", 2)])
def test_numbers_that_cannot_be_in_its_storage(robots: Make, picture: Make, mode: str, frames: int) -> None:
    """A pause finds NaN in the keys and values that a frame left: the session starts anew, and others do not."""
    bench = robots(mode)
    bench.see(picture(0), "b")
    bench.refresh()
    for _ in range(frames):
        bench.see(picture(0))
    bench.kv.keys(1, 9)[0, 5, 2] = float("nan")
    with pytest.raises(KVCorrupted, match="not finite"):
        bench.refresh()
    step = bench.see(picture(0))

    assert reason(step) is KeyframeReason.INTEGRITY
    assert step.chunk.tokens.tolist() == bench.tokens(picture(0))
    assert [reason(bench.see(picture(0), robot)) for robot in "ab"] == [None, None]


@pytest.mark.parametrize("slack", [True, False])
def test_broken_storage_moves_no_robot(seen: Make, picture: Make, *, slack: bool) -> None:
    """What is not finite reaches the last row: the frame is refused, the next is whole, pauses or no pauses."""
    bench = seen(slack=slack)
    bench.kv.keys(1, 9)[0, 5, 2] = float("nan")

    with pytest.raises(Internal, match="NaN or infinity") as refused:
        bench.see(picture(0))
    assert refused.value.code == "non-finite-action"
    assert reason(bench.see(picture(0))) is KeyframeReason.INTEGRITY
    assert bench.steps[-1].chunk.tokens.tolist() == bench.tokens(picture(0))
    assert bench.held(bench.kv, 21).isfinite().all()


def test_a_guess_that_is_not_finite_moves_no_robot(robots: Make, picture: Make) -> None:
    """What stands behind the prompt's last row is looked at as well: all that the action is read from."""
    bench = robots()
    tokens = bench.model.decoder.model.embed_tokens.weight
    still, tokens[32] = tokens[32].clone(), float("nan")

    with pytest.raises(Internal, match="NaN or infinity"):
        bench.see(picture(0))
    tokens[32] = still
    assert reason(bench.see(picture(0))) is KeyframeReason.INTEGRITY


LONG = "reach for the red cube that lies there"  # as many words as a slot of the toys holds, and BOS


def test_a_prompt_that_does_not_fit(robots: Make, picture: Make) -> None:
    """It is answered, right and whole, every time; nothing is held for it."""
    bench = robots(slot_text_tokens=8)
    fits = [reason(bench.see(picture(0), says=LONG)) for _ in range(2)]
    long = LONG + " now"
    steps = [bench.see(picture(0), says=long) for _ in range(2)]

    assert fits == [KeyframeReason.FIRST_FRAME, None]
    assert [reason(step) for step in steps] == [KeyframeReason.TOO_LONG] * 2
    assert [step.report.cache.kv_bytes for step in steps] == [0, 0]
    assert [step.chunk.tokens.tolist() for step in steps] == [bench.tokens(picture(0), says=long)] * 2
    back = [reason(bench.see(picture(0), says=LONG)) for _ in range(2)]
    assert back == [KeyframeReason.INSTRUCTION, None]
