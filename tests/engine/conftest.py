"""A policy small enough to run hundreds of frames a second: a real decoder of random weights, and patches for eyes.

Knows no test.
"""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from stillframe.domain import (
    ActionChunk,
    CacheReport,
    Image,
    KeyframeReason,
    Observation,
    ReuseMode,
    SessionRef,
    SlackReport,
    Step,
)
from stillframe.engine.core import EngineCore
from stillframe.engine.engine import Engine
from stillframe.engine.history import HistoryManager
from stillframe.engine.refresh import refresh_idle_session
from stillframe.engine.requests import FrameRequest
from stillframe.engine.session_state import ScheduledFrame, SessionState
from stillframe.engine.settings import DecodingSettings
from stillframe.engine.step import step
from stillframe.errors import Unprocessable
from stillframe.history.checkpoint import HistoryConfig, HistoryWeights
from stillframe.history.settings import HistorySettings
from stillframe.models.base import Decoded, ImageEncoder, Prefilled, Prepared
from stillframe.models.llama.decoder import Decoder, DecoderConfig
from stillframe.models.llama.layout import Mask, TokenLayout
from stillframe.models.llama.runner import DecoderRunner
from stillframe.models.llama.speculative import DecodeResult, speculative_decode
from stillframe.reuse.kv import FrameKV
from stillframe.reuse.plan import ReusePlan
from stillframe.reuse.settings import AdaptiveSettings, PaperSettings, ReuseSettings
from stillframe.testing import ManualClock, policy_info

GRID, PATCH_PX, ACTION_DIM = 4, 4, 7
SIDE_PX, PATCHES = GRID * PATCH_PX, GRID * GRID
SIZES = DecoderConfig(
    vocab_size=64,
    hidden_size=32,
    intermediate_size=48,
    num_hidden_layers=4,
    num_attention_heads=4,
    num_key_value_heads=2,
)
WAIT_S = 60  # for what has to happen; no test waits this long unless it fails
EXACT = DecodingSettings()
STILL = np.full(ACTION_DIM, SIZES.vocab_size // 2)
STATS = {"q01": [-1.0] * ACTION_DIM, "q99": [1.0] * ACTION_DIM, "mask": [True] * ACTION_DIM}
NAMES = ("dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper")
REACH = "reach the red cube"


class ToyPolicy:
    """A `models.base.PolicyModel` of 16 patches a camera, each seen through one random matrix."""

    dtype = torch.float32
    device = torch.device("cpu")
    mask = Mask.CAUSAL
    answer_rows = ACTION_DIM
    has_expert = False

    def __init__(self, cameras: tuple[str, ...] = ("front",), *, mixing: float = 0.0):
        """`mixing`: how much of the whole picture each patch's row takes in, as towers that attend globally do."""
        random = torch.Generator().manual_seed(11)
        self.cameras = cameras
        self.mixing = mixing
        self.decoder = Decoder(SIZES).eval().requires_grad_(requires_grad=False)
        for weight in self.decoder.parameters():
            if weight.dim() == 2:
                weight.copy_(torch.randn(weight.shape, generator=random) * 1.5 / weight.shape[1] ** 0.5)
        self.decoder.measure_head()
        for depth, layer in enumerate(self.decoder.model.layers):  # deeper layers look more sharply, as trained ones do
            layer.self_attn.q_proj.weight.mul_(0.5 + 0.5 * depth)
        self.eyes = torch.randn(3 * PATCH_PX**2, SIZES.hidden_size, generator=random) * 0.5
        self.fixed_rows = 1 + len(cameras) * PATCHES + ACTION_DIM
        self.broken: Exception | None = None  # what the next decoding raises, once
        self.passes: list[int] = []  # rows of each prompt that came to the last layer of a prefill
        self._watch(self.decoder.model.layers[-1])
        self.info = policy_info(
            name="toy",
            family="toy",
            parameters=0,
            cameras=cameras,
            image_size=(SIDE_PX, SIDE_PX),
            action_names=NAMES,
            gripper="1 = open",
            norm_stats={"toy": STATS},
            default_unnorm_key="toy",
        )

    def prepare(self, observation: Observation) -> Prepared:
        """Take every so many pixels; a token a word."""
        if tuple(observation.images) != self.cameras:
            raise Unprocessable("unknown-camera", f"expected {self.cameras}")
        views = {camera: resized(image) for camera, image in observation.images.items()}
        ids = torch.tensor([1, *(2 + sum(word.encode()) % 60 for word in observation.instruction.split())])
        starts = range(1, 1 + len(views) * PATCHES, PATCHES)
        patches = {camera: range(at, at + PATCHES) for camera, at in zip(views, starts, strict=True)}
        begin = 1 + len(views) * PATCHES
        text = range(begin, begin + len(ids) - 1)
        layout = TokenLayout(patches, (GRID, GRID), text, range(text.stop, text.stop + ACTION_DIM))
        pixels = torch.stack([torch.from_numpy(view.copy()) for view in views.values()])
        return Prepared(views, pixels, ids, layout, "toy", STILL)

    def embed(self, prepared: Sequence[Prepared], encode_images: ImageEncoder | None = None) -> list[Tensor]:  # noqa: ARG002 (has none)
        """Of each: BOS, patches, words -> [prompt_rows, width]."""
        return [self._embed(one) for one in prepared]

    def _watch(self, last: Any) -> None:
        """Note the rows of each prompt; a later pass has fewer than an action has tokens."""
        forward = last.forward

        def watched(rows: Tensor, *parts: Any) -> Tensor:
            if len(rows) >= ACTION_DIM:
                self.passes.append(len(rows) - ACTION_DIM + 1)
            return forward(rows, *parts)

        last.forward = watched  # for good

    def _embed(self, prepared: Prepared) -> Tensor:
        text = self.decoder.embed(prepared.ids)
        cut = prepared.pixels.float().view(-1, GRID, PATCH_PX, GRID, PATCH_PX, 3) / 255 - 0.5
        seen = cut.transpose(2, 3).reshape(-1, PATCHES, 3 * PATCH_PX**2) @ self.eyes
        seen = (seen + self.mixing * seen.mean(dim=1, keepdim=True)).flatten(0, 1)
        return torch.cat((text[:1], seen, text[1:]))

    def count_passes(self) -> list[int]:
        """From now on: rows of every pass through the decoder."""
        network, seen = self.decoder.model, []
        forward = network.forward

        def counted(rows: Tensor, *parts: Any) -> Tensor:
            seen.append(len(rows))
            return forward(rows, *parts)

        network.forward = counted  # type: ignore[method-assign]  # for good
        return seen

    def act(self, prefilled: Sequence[Prefilled], runner: DecoderRunner) -> list[Decoded]:
        """Seven tokens each, each a number from -1 to 1."""
        if self.broken is not None:
            error, self.broken = self.broken, None
            raise error
        return [_decoded(result) for result in speculative_decode(runner, prefilled)]


def _decoded(result: DecodeResult) -> Decoded:
    normalised = result.ids[None] / (SIZES.vocab_size - 1) * 2 - 1
    chunk = ActionChunk(normalised, "toy", result.ids)
    return Decoded(chunk, normalised, result.passes, result.accepted, bit_equal=result.bit_equal)


def resized(image: Image) -> Image:
    """[H, W, 3] -> [SIDE_PX, SIDE_PX, 3], the nearest pixels."""
    height, width, _ = image.shape
    return image[np.arange(SIDE_PX) * height // SIDE_PX][:, np.arange(SIDE_PX) * width // SIDE_PX]


@dataclass
class Robots:
    """Robots that share one toy policy, driven as the engine's thread drives them."""

    model: ToyPolicy
    core: EngineCore
    clock: ManualClock
    settings: ReuseSettings
    frame_s: float = 0.1  # from frame to frame
    steps: list[Step] = field(default_factory=list)
    frame: ScheduledFrame | None = None  # the last one
    places: dict[str, SessionRef] = field(default_factory=dict)  # robot -> where its next frame belongs

    def __post_init__(self) -> None:
        commit = self.core.cache._commit

        def committed(frame: ScheduledFrame, decoded: Decoded) -> CacheReport:
            self.frame = frame
            return commit(frame, decoded)

        self.core.cache._commit = committed  # type: ignore[method-assign]  # to look at the frame's plan

    def see(
        self, picture: Image | Mapping[str, Image], robot: str | None = "a", *, says: str = REACH, mode: Any = None
    ) -> Step:
        """Answer one frame of a robot; of no session for None."""
        self.clock.now_s += self.frame_s
        images = picture if isinstance(picture, Mapping) else {self.model.cameras[0]: picture}
        ref = None if robot is None else replace(self.places.get(robot, SessionRef(robot)), mode=mode)
        if ref is not None:
            self.places[ref.id] = replace(ref, seq=ref.seq + 1)
        (answer,) = step(self.core, [FrameRequest(Observation(images, says), ref)])
        if not isinstance(answer, Step):
            raise answer
        self.steps.append(answer)
        return answer

    def reset(self, robot: str) -> None:
        """Begin a robot's next episode."""
        ref = self.places.get(robot, SessionRef(robot))
        self.places[robot] = replace(ref, epoch=ref.epoch + 1, seq=0)

    def again(self, robot: str, opening: KeyframeReason = KeyframeReason.FIRST_FRAME) -> None:
        """Its session is over, and begins anew under the same id."""
        self.places[robot] = SessionRef(robot, serial=self.places[robot].serial + 1, opening=opening)

    def session(self, robot: str) -> SessionState:
        """What a robot's last frame left."""
        session = self.core.cache.sessions.known(robot)
        assert session is not None
        return session

    def refresh(self, should_yield: Callable[[], bool] = lambda: False) -> SlackReport | None:
        """Refresh the session that is due."""
        session = self.core.cache.sessions.pending()
        return None if session is None else refresh_idle_session(self.core, session, should_yield)

    def tokens(self, picture: Image | Mapping[str, Image], *, says: str = REACH) -> list[int]:
        """What a dense pass answers, without a trace."""
        frame = self.frame
        tokens = self.see(picture, None, says=says).chunk.tokens.tolist()
        self.frame = frame
        return list(tokens)

    @property
    def plan(self) -> ReusePlan:
        """The last frame's."""
        assert self.frame is not None
        return self.frame.plan

    @property
    def kv(self) -> FrameKV:
        """Where the last frame's keys and values lie."""
        assert self.frame is not None
        return self.frame.kv

    def held(self, kv: FrameKV, rows: int) -> Tensor:
        """A copy of all layers' keys and values [layers, 2, kv_heads, rows, head_dim]."""
        length, kv.length = kv.length, rows
        nothing = torch.empty(SIZES.num_key_value_heads, 0, SIZES.head_dim)
        nowhere = torch.empty(0, dtype=torch.long)
        layers = [torch.stack(kv.write(layer, nowhere, nothing, nothing)) for layer in range(SIZES.num_hidden_layers)]
        kv.length = length
        return torch.stack(layers)


@dataclass
class Gate:
    """Stops the model in the middle of a pass."""

    entered: threading.Event = field(default_factory=threading.Event)
    opened: threading.Event = field(default_factory=threading.Event)


@dataclass
class Desk:
    """An engine over a toy, whose pauses can be watched, held and spoilt."""

    engine: Engine
    model: ToyPolicy
    clock: ManualClock
    reports: queue.Queue[SlackReport]

    def submit(self, picture: Image, robot: SessionRef | str | None = "a") -> Future[Step]:
        """Queue one frame, of a robot's first place if its name is all that is said."""
        session = SessionRef(robot) if isinstance(robot, str) else robot
        return self.engine.submit(Observation({"front": picture}, "reach the red cube"), 1e6, session)

    def see(self, picture: Image, robot: SessionRef | str | None = "a") -> Step:
        """Wait for its answer."""
        return self.submit(picture, robot).result(WAIT_S)

    def hold(self, passes: int) -> Gate:
        """Stop in the prefill after so many more, in its second layer."""
        second = self.model.decoder.model.layers[1]
        forward, left, gate = second.forward, iter(range(passes, -1, -1)), Gate()

        def held(rows: Tensor, *parts: Any) -> Any:
            if len(rows) >= ACTION_DIM and next(left, None) == 0:  # a later pass has one row fewer
                gate.entered.set()
                assert gate.opened.wait(WAIT_S)
            return forward(rows, *parts)

        second.forward = held  # for good
        return gate


def chosen(mode: ReuseMode, knobs: Mapping[str, Any]) -> ReuseSettings:
    """Settings that suit 16 patches; `knobs` of any of the three classes, `paper_` before those of the paper's."""
    adaptive = {"task_top_k": 0, "keyframe_every": 1000, "age_limit": 1000, "distance": 0.05}
    paper = {"task_top_k": 0}
    own = {name: value for name, value in knobs.items() if name in ReuseSettings.__dataclass_fields__}
    adaptive |= {name: value for name, value in knobs.items() if name in AdaptiveSettings.__dataclass_fields__}
    paper |= {name.removeprefix("paper_"): value for name, value in knobs.items() if name.startswith("paper_")}
    known = {*own, *adaptive, *(f"paper_{name}" for name in paper)}
    assert knobs.keys() <= known, knobs.keys() - known
    settings = ReuseSettings(mode=mode, kv_budget_mib=1, slot_text_tokens=8, drift_budget=2)
    return replace(settings, **own, adaptive=AdaptiveSettings(**adaptive), paper=PaperSettings(**paper))


def memory() -> HistoryWeights:
    """A memory of the toy's sizes that has learnt something, whatever."""
    torch.manual_seed(6)
    config = HistoryConfig(4, 2, 8, PATCHES, slots=2, taps=(1, 3), extras=ACTION_DIM + 1, hidden=8)
    weights = HistoryWeights(config).eval().requires_grad_(requires_grad=False)
    for tensor in (weights.pooling.query, weights.gate.outward.weight, weights.linear.outward.weight):
        tensor.normal_()
    return weights


@pytest.fixture
def robots() -> Callable[..., Robots]:
    """Make robots: `robots("adaptive", top_k=3, cameras=("front", "wrist"))`."""

    def make(
        mode: ReuseMode = "adaptive",
        *,
        cameras: tuple[str, ...] = ("front",),
        mixing: float = 0.0,
        decoding: DecodingSettings = EXACT,
        history: HistorySettings | None = None,
        **knobs: Any,
    ) -> Robots:
        model, clock = ToyPolicy(cameras, mixing=mixing), ManualClock(100.0)
        manager = None if history is None else HistoryManager(model, memory(), history, clock)
        settings = chosen(mode, knobs)
        core = EngineCore.of(model, settings, clock, decoding=decoding, history=manager)
        return Robots(model, core, clock, settings)

    return make


@pytest.fixture
def toy() -> Callable[..., ToyPolicy]:
    """Make policies."""
    return ToyPolicy


@pytest.fixture
def clock() -> ManualClock:
    """A clock that stands still."""
    return ManualClock(100.0)


@pytest.fixture
def desk(clock: ManualClock) -> Iterator[Callable[..., Desk]]:
    """Make engines that are warm: `desk(slack=False)`; their log is "engine-test"."""
    made: list[Desk] = []

    def make(mode: ReuseMode = "adaptive", *, queue_frames: int = 8, **knobs: Any) -> Desk:
        adaptive = AdaptiveSettings(task_top_k=0, distance=0.05)
        settings = ReuseSettings(**{"mode": mode, "drift_budget": 2, "adaptive": adaptive, **knobs})
        model, reports = ToyPolicy(), queue.Queue()
        engine = Engine(
            model,
            reuse=settings,
            queue_frames=queue_frames,
            clock=clock,
            log=logging.getLogger("engine-test"),
            on_refresh=reports.put,
        )
        made.append(Desk(engine, model, clock, reports))
        engine.warm_up()
        model.passes.clear()
        return made[-1]

    yield make
    for one in made:
        one.engine.close()


@pytest.fixture
def picture() -> Callable[[int], Image]:
    """Make pictures of noise, by seed, from 60 to 190 grey levels."""
    return noise


def noise(seed: int) -> Image:
    """[SIDE_PX, SIDE_PX, 3]."""
    return np.random.default_rng(seed).integers(60, 190, (SIDE_PX, SIDE_PX, 3), dtype=np.uint8)


@pytest.fixture
def changed() -> Callable[..., Image]:
    """Change patches of a picture: `changed(picture, 3, 7, seed=5)`."""

    def change(image: Image, *patches: int, seed: int = 5) -> Image:
        other, out = noise(seed), image.copy()
        for patch in patches:
            y, x = patch // GRID * PATCH_PX, patch % GRID * PATCH_PX
            out[y : y + PATCH_PX, x : x + PATCH_PX] = other[y : y + PATCH_PX, x : x + PATCH_PX]
        return out

    return change
