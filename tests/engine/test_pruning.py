"""Modes that prune, through the whole walk: what is reported, what is kept, measured and refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stillframe.domain import PRUNING_MODES, KeyframeReason, ReuseMode
from stillframe.engine.core import EngineCore
from stillframe.engine.cuda_graphs import CaptureConfig, capture_graphs
from stillframe.engine.settings import GraphSettings
from stillframe.errors import ConfigError
from stillframe.history.settings import HistorySettings
from stillframe.reuse.pruning_settings import FastVSettings, SparseVLMSettings, ToMeSettings
from stillframe.reuse.settings import ReuseSettings
from stillframe.testing import ManualClock

Make = Callable[..., Any]
PATCHES, ROWS, LAYERS = 16, 21, 4  # of a toy with one camera and four words
OWN = {
    "fastv": FastVSettings(1, 0.75),
    "sparsevlm": SparseVLMSettings([0, 2, 3], scale=3.0),
    "tome": ToMeSettings([0, 2]),
}
some = settings(
    max_examples=max(5, settings().max_examples // 10),
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture
def pruned(robots: Make) -> Make:
    """Robots whose settings suit the toy: `pruned("fastv")`."""
    return lambda mode, **knobs: robots(mode, **{**OWN, **knobs})


@pytest.mark.parametrize("mode", PRUNING_MODES)
def test_a_pruned_frame_says_so(pruned: Make, picture: Make, mode: ReuseMode) -> None:
    """A keyframe of its own kind: nothing is reused or held, a share of its token-layers was left out."""
    bench = pruned(mode)
    for _ in range(2):
        cache = bench.see(picture(0)).report.cache
        assert (cache.mode, cache.keyframe_reason, cache.frame) == (mode, KeyframeReason.PRUNED, "keyframe")
        assert (cache.reuse_ratio, cache.reused_tokens, cache.kv_bytes, cache.age_max) == (0, 0, 0, 0)
        assert cache.total_tokens == ROWS
        assert 0 < cache.pruned_ratio < 1
    assert bench.core.cache.usage.in_use_bytes == 0
    assert bench.core.cache.usage.slots == 0


@pytest.mark.parametrize(
    ("layer", "ratio", "gone"), [(1, 0.75, 12 * 3), (3, 0.5, 8 * 1), (2, 1.0, 16 * 2), (2, 0.0, 0)]
)
def test_fastv_leaves_out_what_its_settings_say(
    robots: Make, picture: Make, layer: int, ratio: float, gone: int
) -> None:
    """Patches times deeper layers; of no patches nothing, and the answer is the dense one's."""
    bench = robots("fastv", fastv=FastVSettings(layer, ratio))
    step = bench.see(picture(0))

    assert step.report.cache.pruned_ratio == gone / (ROWS * LAYERS)
    assert (step.chunk.tokens.tolist() == bench.tokens(picture(0))) == (gone == 0)


@pytest.mark.parametrize(
    ("knob", "value"),
    [("layers", [1]), ("scale", 1.0), ("bias", 3.0), ("recycle", 0.0)],
)
def test_each_setting_of_sparsevlm_does_something(robots: Make, picture: Make, knob: str, value: Any) -> None:
    """Another share of token-layers over the same frames."""
    usual = {"layers": [0, 2], "scale": 2.0, "bias": 0.0, "recycle": 1.0}
    shares = []
    for own in (usual, {**usual, knob: value}):
        bench = robots("sparsevlm", sparsevlm=SparseVLMSettings(**own))
        shares.append([bench.see(picture(seed)).report.cache.pruned_ratio for seed in range(3)])

    assert shares[0] != shares[1]


@pytest.mark.parametrize(
    ("layers", "ratio", "gone"), [([0], 0.5, 8 * 4), ([2], 0.25, 4 * 2), ([0, 1], 0.5, 8 * 4 + 4 * 3), ([1], 0.0, 0)]
)
def test_tome_leaves_out_what_its_settings_say(
    robots: Make, picture: Make, layers: list[int], ratio: float, gone: int
) -> None:
    """Of those that are left each time; before the first layer, or behind some."""
    bench = robots("tome", tome=ToMeSettings(layers, ratio))
    step = bench.see(picture(0))

    assert step.report.cache.pruned_ratio == gone / (ROWS * LAYERS)
    assert (step.chunk.tokens.tolist() == bench.tokens(picture(0))) == (gone == 0)


@pytest.mark.parametrize("mode", PRUNING_MODES)
def test_no_frame_depends_on_one_before_it(pruned: Make, picture: Make, mode: ReuseMode) -> None:
    """A frame is answered as it is by a session that has seen no other."""
    bench = pruned(mode)
    for seed in range(4):
        step = bench.see(picture(seed))
        assert step.chunk.tokens.tolist() == pruned(mode).see(picture(seed)).chunk.tokens.tolist()


@pytest.mark.parametrize("mode", PRUNING_MODES)
def test_drift_is_measured_in_idle_time(pruned: Make, picture: Make, mode: ReuseMode) -> None:
    """The distance from a dense pass, once an answer; nothing is kept of that pass, and no plan gets careful."""
    bench = pruned(mode, drift_budget=0.0)
    step = bench.see(picture(0))
    report = bench.refresh()
    dense = torch.tensor(bench.tokens(picture(0)))
    expected = (torch.from_numpy(step.chunk.tokens) - dense).abs().max() / 63 * 2

    assert report.drift == pytest.approx(float(expected))
    assert report.drift > 0
    assert bench.refresh() is None
    after = bench.see(picture(0))
    assert after.report.cache.last_drift == report.drift
    assert after.chunk.tokens.tolist() == step.chunk.tokens.tolist()
    assert bench.session("a").caution.level == 0


@pytest.mark.parametrize("mode", PRUNING_MODES)
def test_a_measurement_gives_way(pruned: Make, picture: Make, mode: ReuseMode) -> None:
    """To a frame that comes in, between two layers: nothing is known then, and the session goes on."""
    bench, asked = pruned(mode), iter(range(9))
    bench.see(picture(0))

    assert bench.refresh(lambda: next(asked) > 3).drift is None
    assert bench.see(picture(1)).report.cache.keyframe_reason is KeyframeReason.PRUNED


@some
@given(walk=st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from([*PRUNING_MODES, "adaptive", "off"]),
                               st.booleans()), min_size=3, max_size=10))  # fmt: skip
def test_a_cache_that_was_pruned_is_whole_for_the_next(
    pruned: Make, picture: Make, changed: Make, walk: list[tuple[str, ReuseMode, bool]]
) -> None:
    """Modes mixed frame by frame, by two robots over the same slots: each is answered as it is alone."""
    together, alone = pruned("adaptive"), {robot: pruned("adaptive") for robot in "ab"}
    for number, (robot, mode, pause) in enumerate(walk):
        frame = changed(picture(robot == "b"), number)
        one, other = (bench.see(frame, robot, mode=mode) for bench in (together, alone[robot]))
        assert one.chunk.tokens.tolist() == other.chunk.tokens.tolist()
        assert one.report.cache == other.report.cache
        if pause:
            while together.core.cache.sessions.pending() is not None:
                together.refresh()
            for bench in alone.values():
                bench.refresh()


@pytest.mark.parametrize("mode", PRUNING_MODES)
def test_its_passes_are_not_replayed(pruned: Make, picture: Make, mode: ReuseMode) -> None:
    """Neither prefill nor what follows, for the reason `pruned`; the dense pass that measures is."""
    eager, replayed = pruned(mode), pruned(mode)
    config = CaptureConfig(GraphSettings(batches=[1], rows=[12]), most=1, text_tokens=8)

    def again(compute: Callable[[], None]) -> Callable[[], None]:
        compute()
        return compute

    replayed.core.runner = capture_graphs(replayed.model, replayed.core.cache.slots.pool, config, again)
    counts = replayed.core.runner.counts
    one, other = eager.see(picture(0)), replayed.see(picture(0))

    assert one.chunk.tokens.tolist() == other.chunk.tokens.tolist()
    assert one.report.cache == other.report.cache
    assert (counts.replays, counts.eager["pruned"]) == (0, other.report.passes)
    assert sum(counts.eager.values()) == counts.eager["pruned"]


@pytest.mark.parametrize("mode", PRUNING_MODES)
def test_a_family_that_cannot_be_pruned_is_refused_at_the_start(toy: Make, mode: ReuseMode) -> None:
    """As the deployment's mode: the error names the policy, and why."""
    model = toy()
    model.has_expert = True
    said = f"reuse.mode is '{mode}', and toy, of family toy, has an action expert that reads the prompt's keys"
    with pytest.raises(ConfigError, match=re.escape(said)):
        EngineCore.of(model, ReuseSettings(mode), ManualClock(0.0))
    EngineCore.of(model, ReuseSettings("adaptive"), ManualClock(0.0))


@pytest.mark.parametrize(
    ("mode", "own", "layers"),
    [
        ("fastv", {"fastv": FastVSettings(4)}, r"\[3\], from 0"),
        ("sparsevlm", {"sparsevlm": SparseVLMSettings([3, 6])}, r"\[3, 6\], from 0"),
        ("tome", {"tome": ToMeSettings([4, 7])}, r"\[4, 7\], from 1"),
    ],
)
def test_a_decoder_with_no_deeper_layer_is_refused_at_the_start(
    toy: Make, picture: Make, robots: Make, mode: ReuseMode, own: dict[str, Any], layers: str
) -> None:
    """As the deployment's mode; a frame that asks for it is computed whole, and told why."""
    with pytest.raises(ConfigError, match=rf"a decoder of 4 layers: none that decides \({layers}\)"):
        EngineCore.of(toy(), ReuseSettings(mode, **own), ManualClock(0.0))
    bench = robots("adaptive", **own)
    step = bench.see(picture(0), mode=mode)

    assert step.report.cache.keyframe_reason is KeyframeReason.UNSUPPORTED
    assert step.report.cache.pruned_ratio == 0
    assert step.chunk.tokens.tolist() == bench.tokens(picture(0))
    assert bench.refresh() is None


@pytest.mark.parametrize("mode", PRUNING_MODES)
def test_history_keeps_what_pruning_leaves_out(robots: Make, picture: Make, mode: ReuseMode) -> None:
    """Both at once are refused at the start; a frame that asks for it is computed whole."""
    with pytest.raises(ConfigError, match="history is enabled, which keeps all of a frame's tokens"):
        robots(mode, history=HistorySettings(enabled=True))
    bench = robots("adaptive", history=HistorySettings(enabled=True))

    assert bench.see(picture(0), mode=mode).report.cache.keyframe_reason is KeyframeReason.UNSUPPORTED
