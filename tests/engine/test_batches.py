"""Several robots' frames in one step: each gets what it would get alone, and nobody pays for another's failure."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor

from stillframe.domain import REUSE_MODES, KeyframeReason, Observation, ReuseMode, SessionRef, Step
from stillframe.engine.local import LocalBatchPolicy, LocalPolicy
from stillframe.engine.requests import FrameRequest
from stillframe.engine.settings import DecodingSettings
from stillframe.engine.step import step
from stillframe.errors import Internal, RequestError, Unprocessable
from stillframe.models.base import PolicyModel
from stillframe.models.llama.batch_invariance import is_batch_invariant
from stillframe.models.llama.decoder import Decoder, DecoderConfig
from stillframe.models.llama.weight_packing import pack_for_inference
from stillframe.models.registry import load_policy
from stillframe.reuse.kv import MIB
from stillframe.reuse.pruning_settings import SparseVLMSettings
from stillframe.reuse.settings import AdaptiveSettings, ReuseSettings
from stillframe_lab.train.new_checkpoint import new_network, save_checkpoint
from stillframe_lab.train.recipe import Recipe

Make = Callable[..., Any]
PATCHES, GUESSES = 16, 6
SAYS = "reach the red cube"
INTEGRITY, EVICTED = KeyframeReason.INTEGRITY, KeyframeReason.EVICTED
some = settings(
    max_examples=settings().max_examples // 16,
    phases=[Phase.generate],
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@dataclass(frozen=True)
class Ask:
    """A frame of a robot; of no session for None."""

    picture: Any
    robot: str | None
    says: str = SAYS
    mode: ReuseMode | None = None


@dataclass
class Batches:
    """Frames that share a step, and what each of them left."""

    bench: Any  # Robots
    frames: list[Any]  # of the last step, in the order of its frames

    @classmethod
    def of(cls, bench: Any) -> Batches:
        """Watch a bench, whose decoder is packed as a loaded one is."""
        pack_for_inference(bench.model.decoder)
        commit, made = bench.core.cache._commit, cls(bench, [])

        def committed(frame: Any, decoded: Any) -> Any:
            made.frames.append(frame)
            return commit(frame, decoded)

        bench.core.cache._commit = committed
        return made

    def see(self, *asks: Ask, at_s: float | None = None) -> list[Step | RequestError]:
        """Answer frames side by side, a tenth of a second after the last ones."""
        bench = self.bench
        bench.clock.now_s = bench.clock.now_s + 0.1 if at_s is None else at_s
        self.frames.clear()
        return step(bench.core, [self._asked(ask) for ask in asks])

    def reasons(self, *asks: Ask) -> list[Any]:
        """Why each frame was whole, None for a delta frame; or the class of its error."""
        return [answer.report.cache.keyframe_reason if isinstance(answer, Step) else type(answer)
                for answer in self.see(*asks)]  # fmt: skip

    @torch.inference_mode()
    def left(self, frame: Any) -> Tensor:
        """Keys and values of a frame's prompt and guesses; none of one that is pruned, which keeps none."""
        if frame.pruning is not None:
            return torch.empty(0)
        held: Tensor = self.bench.held(frame.kv, frame.plan.rows + GUESSES)
        return held

    def holds_what_sessions_hold(self) -> bool:
        """Whether no slot is held by nobody."""
        cache = self.bench.core.cache
        return bool(cache.slots.in_use_bytes == cache.usage.sessions * cache.slots.spare.nbytes)

    def _asked(self, ask: Ask) -> FrameRequest:
        cameras = self.bench.model.cameras
        images = ask.picture if isinstance(ask.picture, dict) else {cameras[0]: ask.picture}
        return FrameRequest(Observation(images, ask.says), self._place(ask))

    def _place(self, ask: Ask) -> SessionRef | None:
        if ask.robot is None:
            return None
        place = replace(self.bench.places.get(ask.robot, SessionRef(ask.robot)), mode=ask.mode)
        self.bench.places[ask.robot] = replace(place, seq=place.seq + 1)
        return place


@pytest.fixture
def batches(robots: Make) -> Make:
    """Make benches: `batches("adaptive", kv_budget_mib=1)`."""
    return lambda *mode, **knobs: Batches.of(robots(*mode, **knobs))


def asks(picture: Make, robots: str, seed: int = 0) -> list[Ask]:
    """A frame of each robot, one letter each, every one of another scene; of no session for a dash."""
    return [Ask(picture(seed + number), None if robot == "-" else robot) for number, robot in enumerate(robots)]


def said(answer: Step | RequestError) -> Any:
    """All of an answer that does not depend on how long it took, nor on who was there."""
    assert isinstance(answer, Step)
    cache = replace(answer.report.cache, bit_equal=True)  # which it may not be beside others
    report = replace(answer.report, stages_ms={}, batch=0, cache=cache)
    return answer.chunk.tokens.tolist(), answer.chunk.actions.tolist(), answer.chunk.unnorm_key, report


@pytest.fixture(scope="module")
def alike() -> Callable[[Tensor, Tensor], None]:
    """Assert: to the bit where this machine's products are batch invariant, else within rounding."""
    random = torch.Generator().manual_seed(1)
    decoder = Decoder(DecoderConfig(64, 32, 48, 2, 4, 2)).requires_grad_(requires_grad=False)
    for weight in decoder.parameters():
        weight.copy_(torch.randn(weight.shape, generator=random))
    pack_for_inference(decoder)
    atol = 0 if is_batch_invariant(decoder) else 1e-4

    def compare(one: Tensor, other: Tensor) -> None:
        torch.testing.assert_close(one, other, rtol=0, atol=atol)

    return compare


@dataclass(frozen=True)
class Robot:
    """How one of the fleet differs from the others."""

    mode: ReuseMode | None
    says: str = SAYS


# One in each mode, two that say what nobody else says, one whose prompt fits no slot, two that are nobody's.
FLEET = {
    "off": Robot("off"),
    "exact": Robot("exact", "lift it"),
    "adaptive": Robot("adaptive"),
    "again": Robot("adaptive", "put the spoon on the towel"),
    "paper": Robot("paper"),
    "static": Robot("static-only"),
    "fastv": Robot("fastv"),
    "sparse": Robot("sparsevlm", "push it"),
    "long": Robot("adaptive", "one two three four five six seven eight nine ten eleven twelve thirteen"),
    "-": Robot(None),
    "--": Robot(None, "wait"),
}
PRUNING = {"sparsevlm": SparseVLMSettings(layers=[0, 2], scale=2.0)}
KNOBS = {"drift_budget": 0.3, "task_top_k": 2, "paper_task_top_k": 2, "gap_s": 3600, "age_limit": 3}

# A round: who is there and what its action moves (nothing, a few patches, all), a pause, whose new episode begins.
rounds = st.lists(
    st.tuples(
        st.dictionaries(st.sampled_from([*FLEET]), st.sampled_from(["still", "still", "few", "cut"]), min_size=1),
        st.booleans(),
        st.none() | st.sampled_from([*FLEET]),
    ),
    min_size=2,
    max_size=6,
)


def moved(scene: Any, how: str, tokens: Sequence[int], picture: Make, changed: Make) -> Any:
    """What a camera sees after an action: the loop is closed."""
    seed = sum(tokens) + 1
    patches = {"still": [], "few": [token % PATCHES for token in tokens[:2]]}
    if isinstance(scene, dict):
        return {
            camera: moved(view, how, tokens[at:], picture, changed) for at, (camera, view) in enumerate(scene.items())
        }
    return picture(1000 + seed) if how == "cut" else changed(scene, *patches[how], seed=seed)


@pytest.mark.parametrize(
    ("draft", "cameras"),
    [
        ("exact", ("front",)),
        ("off", ("front", "wrist")),
        *(pytest.param(draft, ("front",), marks=pytest.mark.slow) for draft in ("strict", "relaxed")),
    ],
)
@some
@given(walk=rounds)
def test_frames_side_by_side_are_what_each_is_alone(
    robots: Make, picture: Make, changed: Make, alike: Make, walk: Any, draft: Any, cameras: tuple[str, ...]
) -> None:
    """Rule 8, modes mixed: answers, reports, plans, keys and values, over a closed loop with pauses and episodes."""

    def make() -> Batches:
        return Batches.of(robots("adaptive", cameras=cameras, decoding=DecodingSettings(draft), **PRUNING, **KNOBS))

    together, alone = make(), {name: make() for name in FLEET}
    scenes = {
        name: {camera: picture(10 * at + view) for view, camera in enumerate(cameras)} for at, name in enumerate(FLEET)
    }
    last: dict[str, list[int]] = {}
    for number, (present, pause, episode) in enumerate(walk):
        if episode is not None:
            for each in (together, alone[episode]):
                each.bench.reset(episode)
        for name, how in present.items():
            scenes[name] = moved(scenes[name], how, last.get(name, [0, 5, 9]), picture, changed)
        frames = {
            name: Ask(scenes[name], None if name.startswith("-") else name, FLEET[name].says, FLEET[name].mode)
            for name in present
        }
        answers = together.see(*frames.values(), at_s=100 + number)
        for (name, frame), answer, turn in zip(frames.items(), answers, together.frames, strict=True):
            (own,) = alone[name].see(frame, at_s=100 + number)
            (other,) = alone[name].frames
            assert said(answer) == said(own)
            assert answer.report.batch == len(frames)
            assert turn.plan.order.tolist() == other.plan.order.tolist()
            assert turn.plan.counts == other.plan.counts
            alike(together.left(turn), alone[name].left(other))
            last[name] = said(own)[0]
        assert together.holds_what_sessions_hold()
        if pause:
            for each in (together, *alone.values()):
                while each.bench.core.cache.sessions.pending() is not None:
                    each.bench.refresh()


def test_a_keyframe_beside_delta_frames_makes_none_of_them_whole(batches: Make, picture: Make) -> None:
    """One robot's first frame, another's other scene, a third that stands still: each for its own reason."""
    fleet = batches()
    fleet.see(*asks(picture, "ab"))
    frames = [Ask(picture(0), "a"), Ask(picture(9), "b"), Ask(picture(2), "c"), Ask(picture(3), None)]

    assert fleet.reasons(*frames) == [None, "scene-cut", "first-frame", "stateless"]
    assert [turn.plan.counts[-1] for turn in fleet.frames] == [1 + PATCHES, 0, 0, 0]


def test_a_request_that_cannot_be_served_is_its_own_failure(batches: Make, picture: Make) -> None:
    """It is told why; the others are computed as if it had not been there, and it goes on where it was."""
    fleet, alone = batches(), batches()
    for each in (fleet, alone):
        each.see(*asks(picture, "abc"))
    spoilt = [Ask({"rear": picture(1)}, "b"), Ask({}, None)]
    first, mine, last, nobodys = fleet.see(Ask(picture(0), "a"), spoilt[0], Ask(picture(2), "c"), spoilt[1])
    expected = alone.see(Ask(picture(0), "a"), Ask(picture(2), "c"))

    assert [said(first), said(last)] == [said(answer) for answer in expected]
    assert (type(mine), type(nobodys)) == (Unprocessable, Unprocessable)
    assert first.report.batch == 2
    assert fleet.reasons(*asks(picture, "abc")) == [None] * 3


def test_a_batch_of_nothing_that_can_be_served_computes_nothing(batches: Make) -> None:
    """Every frame is told why, and the decoder is not asked."""
    fleet = batches()
    ran = fleet.bench.model.count_passes()

    assert fleet.reasons(Ask({}, "a"), Ask({}, None)) == [Unprocessable] * 2
    assert ran == []


def spoil_rows(fleet: Batches) -> None:
    """The towers make NaN of the second frame, once."""
    model = fleet.bench.model
    embed, left = model.embed, [1]

    def spoilt(*parts: Any) -> list[Tensor]:
        rows = embed(*parts)
        if left and left.pop():
            rows[1][3] = torch.nan
        return rows

    model.embed = spoilt


def spoil_kv(fleet: Batches) -> None:
    """What the second robot's session keeps is damaged."""
    fleet.bench.session("b").reuse.kv.keys(1, 4).fill_(torch.nan)


@pytest.mark.parametrize(
    ("mode", "spoil"),
    [
        ("exact", spoil_rows),
        ("adaptive", spoil_kv),
        *(pytest.param(mode, spoil_rows, marks=pytest.mark.slow) for mode in ("adaptive", "paper", "static-only")),
        *(pytest.param(mode, spoil_kv, marks=pytest.mark.slow) for mode in ("exact", "paper", "static-only")),
    ],
)
def test_one_frames_nan_is_nobody_elses(
    batches: Make, picture: Make, changed: Make, alike: Make, mode: ReuseMode, spoil: Callable[[Batches], None]
) -> None:
    """It is refused and its session's next frame is whole; the others' answers, and what they keep, are unmoved."""
    fleet, alone = batches(mode), batches(mode)
    for each in (fleet, alone):
        each.see(*asks(picture, "abc-"))
    spoil(fleet)
    frames = [Ask(changed(ask.picture, 15), ask.robot) for ask in asks(picture, "abc-")]
    answers = fleet.see(*frames)
    expected = alone.see(*frames)

    assert isinstance(answers[1], Internal)
    assert answers[1].code == "non-finite-action"
    for at, other in ((0, 0), (1, 2), (2, 3)):  # turns of those that were kept, and of all
        assert said(answers[other]) == said(expected[other])
        alike(fleet.left(fleet.frames[at]), alone.left(alone.frames[other]))
    assert fleet.holds_what_sessions_hold()
    assert fleet.reasons(*frames)[:3] == [None, INTEGRITY, None]
    assert fleet.reasons(*frames)[:3] == [None] * 3


def test_an_exception_leaves_nothing_lent(batches: Make, picture: Make) -> None:
    """Nobody foresaw it: the caller gets it, slots that first frames were lent are free, and all frames come whole."""
    fleet = batches()
    fleet.see(*asks(picture, "ab"))
    before = fleet.bench.core.cache.usage
    fleet.bench.model.broken = RuntimeError("no")
    with pytest.raises(RuntimeError, match="no"):
        fleet.see(*asks(picture, "abcd--"))

    assert fleet.bench.core.cache.usage == before
    assert fleet.holds_what_sessions_hold()
    assert fleet.reasons(*asks(picture, "abcd")) == [INTEGRITY] * 4


def slots(bench: Any, count: int) -> float:
    """A budget of so many slots, one of them spare, in MiB."""
    return float(count * bench.core.cache.slots.spare.nbytes / MIB)


@pytest.mark.parametrize(
    ("mode", "held"),
    [
        ("exact", 1),
        ("adaptive", 2),
        *(
            pytest.param(*each, marks=pytest.mark.slow)
            for each in (("exact", 2), ("adaptive", 1), ("paper", 1), ("paper", 2))
        ),
    ],
)
def test_too_few_slots_cost_nobody_an_answer(
    batches: Make, robots: Make, picture: Make, mode: ReuseMode, held: int
) -> None:
    """More robots than slots, in one batch: answered as by a pool that has room. Failures lose no slot either."""
    small = batches(mode, kv_budget_mib=slots(robots(), 1 + held))
    roomy = batches("off")
    for seed in range(6):
        small.bench.model.broken = RuntimeError("no") if seed % 2 else None
        frames = asks(picture, "abc-de--", seed)
        if seed % 2:
            with pytest.raises(RuntimeError):
                small.see(*frames)
        else:
            assert [said(answer)[:2] for answer in small.see(*frames)] == [
                said(answer)[:2] for answer in roomy.see(*frames)
            ]
            assert len({turn.kv.keys(0, 1).data_ptr() for turn in small.frames}) == len(frames)
        assert small.bench.core.cache.usage.sessions <= held
        assert small.holds_what_sessions_hold()


def test_who_found_no_slot_is_told_and_finds_one_later(batches: Make, robots: Make, picture: Make) -> None:
    """First come, first served; without one, a frame is whole and kept by nobody: the next one is too."""
    fleet = batches(kv_budget_mib=slots(robots(), 3))
    first = fleet.see(*asks(picture, "abc"))
    kept = [answer.report.cache.kv_bytes > 0 for answer in first if isinstance(answer, Step)]
    fleet.bench.core.cache.end("a")

    assert kept == [True, True, False]
    assert fleet.reasons(Ask(picture(2), "c"), Ask(picture(1), "b")) == [EVICTED, None]
    assert fleet.reasons(Ask(picture(2), "c"), Ask(picture(1), "b")) == [None, None]


@pytest.mark.parametrize("order", ["cab", "acb", "abc"])
def test_nobody_is_evicted_whose_frame_is_in_the_batch(batches: Make, robots: Make, picture: Make, order: str) -> None:
    """Wherever in it: a stranger without a slot is computed whole, and those that have one go on."""
    fleet = batches(kv_budget_mib=slots(robots(), 3))
    fleet.see(*asks(picture, "ab"))
    frames = {ask.robot: ask for ask in asks(picture, "abc")}
    reasons = dict(zip(order, fleet.reasons(*(frames[robot] for robot in order)), strict=True))

    assert reasons == {"a": None, "b": None, "c": "first-frame"}
    assert fleet.bench.core.cache.usage.sessions == 2


def test_who_is_not_in_the_batch_makes_room(batches: Make, robots: Make, picture: Make) -> None:
    """The longest idle first."""
    fleet = batches(kv_budget_mib=slots(robots(), 4))
    for robot in "abca":
        fleet.see(Ask(picture(0), robot))
    fleet.see(Ask(picture(0), "a"), Ask(picture(1), "d"))

    assert [fleet.bench.session(robot).reuse is not None for robot in "abcd"] == [True, False, True, True]


def test_stateless_frames_share_no_storage(batches: Make, picture: Make) -> None:
    """However many: each in a place of its own, none of them a session's, and nothing stays with any."""
    fleet = batches()
    fleet.see(*asks(picture, "ab"))
    before = fleet.bench.core.cache.usage
    fleet.see(*asks(picture, "a---b--"))
    places = {turn.kv.keys(0, 1).data_ptr() for turn in fleet.frames}

    assert len(places) == 7
    assert fleet.bench.core.cache.usage == before


def test_stateless_frames_leave_sessions_their_slots(batches: Make, robots: Make, picture: Make) -> None:
    """Those that come before them in the queue, too."""
    fleet = batches(kv_budget_mib=slots(robots(), 3))
    fleet.see(*asks(picture, "---ab"))

    assert [fleet.bench.session(robot).reuse is not None for robot in "ab"] == [True, True]


def looked(fleet: Batches) -> list[int]:
    """From now on: how many observations each call of the towers is for."""
    embed, calls = fleet.bench.model.embed, []

    def counted(prepared: Sequence[Any], *parts: Any) -> list[Tensor]:
        calls.append(len(prepared))
        rows: list[Tensor] = embed(prepared, *parts)
        return rows

    fleet.bench.model.embed = counted
    return calls


@pytest.mark.few(2)
@pytest.mark.parametrize("mode", REUSE_MODES)
def test_a_picture_that_stands_still_is_looked_at_once(batches: Make, picture: Make, mode: ReuseMode) -> None:
    """By each robot; nobody's is always looked at. The answers are those of towers that look each time."""
    fleet, blind = batches(mode), batches(mode)
    calls, frames = looked(fleet), asks(picture, "ab-")
    for number in range(4):
        answers = [said(answer) for answer in fleet.see(*frames)]
        for robot in "ab" if number else "":
            blind.bench.session(robot).seen = None
        assert answers == [said(answer) for answer in blind.see(*frames)]
    fleet.see(Ask(picture(0), "b"), Ask(picture(0), "a"))
    fleet.see(*asks(picture, "a"))

    assert calls == [3, 1, 1, 1, 1]


def test_whatever_is_new_is_looked_at(batches: Make, picture: Make) -> None:
    """One pixel, an instruction, either camera, and what was seen before the last frame."""
    fleet = batches(cameras=("front", "wrist"))
    calls, views = looked(fleet), {"front": picture(0), "wrist": picture(1)}
    pixel = picture(1).copy()
    pixel[-1, -1, -1] += 1
    fleet.see(Ask(views, "a"))
    for other in (
        views | {"wrist": pixel},
        views,
        views | {"front": picture(1)},
        {"front": picture(1), "wrist": picture(0)},
    ):
        calls.clear()
        fleet.see(Ask(other, "a"))
        assert calls == [1]
    fleet.see(Ask(other, "a", "lift it"))

    assert calls == [1, 1]


def test_a_failure_has_the_picture_looked_at_again(batches: Make, picture: Make) -> None:
    """What the towers made of it may be what was wrong: a frame that is whole for integrity's sake is whole."""
    fleet = batches()
    fleet.see(*asks(picture, "ab"))
    spoil_rows(fleet)
    other = [Ask(picture(5), "a"), Ask(picture(6), "b")]

    assert fleet.reasons(*other) == ["scene-cut", Internal]
    assert fleet.reasons(*other) == [None, INTEGRITY]


def test_what_is_kept_of_a_picture_is_trusted_until_a_failure(batches: Make, picture: Make) -> None:
    """Memory that is damaged costs a session one frame, however long its picture stands still."""
    fleet = batches()
    fleet.see(*asks(picture, "ab"))
    fleet.bench.session("b").vision = replace(
        fleet.bench.session("b").vision, rows=torch.full_like(fleet.bench.session("b").vision.rows, torch.nan)
    )

    assert fleet.reasons(*asks(picture, "ab")) == [None, Internal]
    assert fleet.reasons(*asks(picture, "ab")) == [None, INTEGRITY]


def test_a_picture_that_is_drawn_over_is_another(openvla: Make) -> None:
    """A simulator may render into the same memory every time, at the very size that the towers want."""
    model = openvla(torch.float32)
    frame = np.random.default_rng(0).integers(0, 256, (*model.info.image_size, 3), dtype=np.uint8)
    policy, other = LocalPolicy(model), LocalPolicy(model)
    policy({"images": {"front": frame}, "instruction": SAYS})
    frame[:] = np.random.default_rng(1).integers(0, 256, frame.shape, dtype=np.uint8)
    rows = []
    for each in (policy, other):
        each({"images": {"front": frame}, "instruction": SAYS})
        rows.append(each.batch.core.cache.sessions.known("local-0").vision.rows)

    assert torch.equal(*rows)


@pytest.fixture(scope="module")
def openvla(tmp_path_factory: pytest.TempPathFactory) -> Callable[[torch.dtype], PolicyModel]:
    """A fresh one of random weights, once for a dtype."""
    sizes = {"tower_dim": 16, "tower_depth": 2, "tower_heads": 2, "width": 16, "layers": 3, "heads": 2}
    recipe = replace(Recipe(), **sizes, feed_forward=32)
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("checkpoint")
    save_checkpoint(folder, dict(new_network(recipe).state_dict()), recipe)
    return functools.cache(lambda dtype: load_policy(folder, dtype=dtype, device=torch.device("cpu")))


@pytest.mark.parametrize(
    ("dtype", "mode"),
    [
        (torch.float32, "adaptive"),
        (torch.bfloat16, "off"),
        *(pytest.param(torch.float32, mode, marks=pytest.mark.slow) for mode in ("off", "fastv")),
        *(pytest.param(torch.bfloat16, mode, marks=pytest.mark.slow) for mode in ("adaptive", "fastv")),
    ],
)
def test_three_robots_of_a_real_policy(openvla: Make, dtype: torch.dtype, mode: ReuseMode) -> None:
    """Towers, prefill and decoding of three frames at once: tokens, actions, and keys and values to the bit."""
    model, clock = openvla(dtype), lambda: 0.0
    reuse = ReuseSettings(mode, kv_budget_mib=8, adaptive=AdaptiveSettings(task_top_k=40))
    says = [SAYS, "put the spoon on the towel", "wait"]
    together, alone = LocalBatchPolicy(model, 3, reuse, clock), [LocalPolicy(model, reuse, clock) for _ in says]
    random = np.random.default_rng(3)
    pictures = random.integers(0, 256, (3, 240, 320, 3), dtype=np.uint8)
    for number in range(3):
        pictures[number % 3, :60] = random.integers(0, 256, (60, 320, 3), dtype=np.uint8)
        observed = [
            {"images": {"front": picture.copy()}, "instruction": word}
            for picture, word in zip(pictures, says, strict=True)
        ]
        together(observed)
        for own, policy, answer in zip(observed, alone, together.last, strict=True):
            policy(own)
            assert said(answer) == said(policy.last)
        if mode != "adaptive":
            continue
        for robot, policy in enumerate(alone):
            held = together.core.cache.sessions.known(f"local-{robot}").reuse
            own_held = policy.batch.core.cache.sessions.known("local-0").reuse
            rows = min(held.kv.length, own_held.kv.length)
            for layer in range(3):
                torch.testing.assert_close(
                    held.kv.keys(layer, rows),
                    own_held.kv.keys(layer, rows),
                    rtol=0,
                    atol=0 if model.decoder.batch_invariant else 1e-4,
                )
