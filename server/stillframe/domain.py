"""The words that every room shares: what a robot sees, what it is told to do, what that cost.

Knows no HTTP and no torch: numpy arrays and plain values only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from itertools import pairwise
from typing import Any, Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]  # [height, width, 3], RGB
ReuseMode = Literal["off", "exact", "adaptive", "paper", "static-only", "fastv", "sparsevlm", "tome"]
REUSE_MODES: tuple[ReuseMode, ...] = get_args(ReuseMode)
# These reuse nothing: they leave out some of each frame's own tokens.
PRUNING_MODES: tuple[ReuseMode, ...] = ("fastv", "sparsevlm", "tome")
WeightScheme = Literal["as-is", "int8", "int8-weight-only", "int4-weight-only", "fp8"]
DraftMode = Literal["exact", "strict", "relaxed", "off"]
DRAFT_MODES: tuple[DraftMode, ...] = get_args(DraftMode)
RtcWhy = Literal["no-chunk", "unknown-chunk", "other-statistics", "played-out", "nothing-asked"]
RTC_WHYS: tuple[RtcWhy, ...] = get_args(RtcWhy)
# Compared with the first policy's answer; without an action of the second's; put back, for a frame came in; left out,
# for newer ones took its place.
ShadowOutcome = Literal["compared", "failed", "preempted", "skipped"]
SHADOW_OUTCOMES: tuple[ShadowOutcome, ...] = get_args(ShadowOutcome)
QUARTERS = 4  # of a chunk of actions, the one that is due first ahead
# Why a pass was not replayed: KV beside the pool; older frames that are looked at; rows that drop out after several
# layers; a probe of rows that are not kept; more rows or pictures than were captured; another mask.
EAGER_REASONS = ("storage", "history", "layers", "tap", "rows", "pictures", "mask", "chunks", "pruned")


@dataclass(frozen=True)
class Observation:
    """What the robot sees and is asked to do at one control step."""

    images: Mapping[str, Image]  # camera name -> picture, in the order the client sent them
    instruction: str
    unnorm_key: str | None = None  # which data set's statistics scale the action; None: the only one
    center_crop: float | None = None  # share of each picture's area, at its middle, that is looked at; None: all of it
    state: NDArray[np.float64] | None = None  # [state's dimensions] in the policy's order and units; None: not given
    masks: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)  # camera -> [height, width] of its picture:
    # True where it shows what matters for the task, as the client knows; absent: not said


@dataclass(frozen=True)
class ActionChunk:
    """Actions in the robot's units, first one due now."""

    actions: NDArray[np.float64]  # [horizon, action_dim]: dx, dy, dz, droll, dpitch, dyaw, gripper
    unnorm_key: str
    tokens: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))  # [horizon * action_dim]


@dataclass(frozen=True)
class RtcRequest:
    """What a frame's chunk is to be held to: the session's last one, of which some steps will be played meanwhile."""

    delay_steps: int  # of the new chunk that will be past when it is taken up: held fast
    executed_steps: int  # of the last chunk that lie between its frame and this one
    horizon: int | None = None  # of the new chunk's steps that are held at all; None: as many as the last one reaches
    chunk_seq: int | None = None  # the frame of the chunk that the robot plays; None: the last answered


@dataclass(frozen=True)
class RtcReport:
    """What a chunk was held to."""

    frozen: int = 0  # steps held fast, the first of the chunk
    guided: int = 0  # steps behind these, held less and less
    chunk_seq: int | None = None  # the frame of the chunk that it was held to; None: to none
    why: RtcWhy | None = None  # it was held to none


@dataclass(frozen=True)
class RtcInfo:
    """Whether a policy's chunks can be held to the one before (real-time chunking), and how they are made."""

    process: Literal["flow", "diffusion"] | None = None  # whose steps are guided; None: they cannot be held
    why: str | None = "it answers one action at a time: there is no chunk to go on with"  # they cannot


class TokenScope(StrEnum):
    """What a token permits. Every known token may read what is served, and the metrics."""

    ACT = "act"
    ADMIN = "admin"


class KeyframeReason(StrEnum):
    """Why there is nothing of another frame in a frame. It was computed whole, unless it was pruned."""

    STATELESS = "stateless"  # it named no session
    OFF = "off"  # its mode reuses nothing
    INEXACT = "inexact"  # its mode is exact, and in this policy every row depends on every other
    PRUNED = "pruned"  # its mode reuses nothing, and leaves out some of the frame's own tokens in deeper layers
    UNSUPPORTED = "unsupported"  # its mode prunes, and this policy's tokens cannot be
    FIRST_FRAME = "first-frame"
    RESET = "reset"
    INSTRUCTION = "instruction"  # another one than the last frame's
    CAMERAS = "cameras"  # other names or resolutions than the last frame's
    MODE = "mode"  # another one than the last frame's
    GAP = "gap"  # too long after the last frame
    SCENE_CUT = "scene-cut"  # too little of the picture stayed as it was
    DRIFT = "drift"  # the last answers' drift was over budget, however careful their plans
    AGE = "age"  # too many frames since the last dense pass
    EVICTED = "evicted"  # its KV had to make room for another session's
    INTEGRITY = "integrity"  # its KV failed a check
    TOO_LONG = "too-long"  # its prompt does not fit a slot of the KV pool


@dataclass(frozen=True)
class SessionRef:
    """A frame's place: its session, which of the episode's frames it is, and how much of the last one may be reused."""

    id: str
    epoch: int = 0  # counts this session's episodes, from 0
    seq: int = 0  # rises within the episode
    mode: ReuseMode | None = None  # None: as the daemon's configuration says
    serial: int = 0  # tells a session from an earlier one of the same id
    opening: KeyframeReason = (
        KeyframeReason.FIRST_FRAME
    )  # why its first frame is whole; EVICTED: an earlier one had to go
    share: str = ""  # of the device, that its frames take: that of the caller that opened it
    slack_ms: float = 0.0  # for how long its robot has actions left: for some of it others' frames may go first
    rtc: RtcRequest | None = None  # what its chunk is to be held to; None: it is computed freely

    @property
    def seed(self) -> int:
        """63 bits of the session's id, the epoch and the seq: a frame that is computed again draws the same numbers."""
        place = f"{self.id}/{self.epoch}/{self.seq}".encode("utf-8", "surrogatepass")
        return int.from_bytes(hashlib.blake2b(place, digest_size=8).digest(), "big") >> 1


@dataclass(frozen=True)
class ReusedPatches:
    """Which of one camera's patches kept the keys and values of an earlier frame, in the last layer."""

    grid: tuple[int, int]  # rows, columns of patches
    reused: tuple[int, ...]  # their indices, row by row; the others were computed
    padded: bool = False  # whether the grid covers the picture with the bars that make it a square, not it alone


@dataclass(frozen=True)
class CacheReport:
    """What one frame reused. Tokens are the prompt's rows; a token-layer is one of them in one decoder layer."""

    mode: ReuseMode
    keyframe_reason: KeyframeReason | None  # None: a delta frame
    reuse_ratio: float  # token-layers that were not gone through / token-layers of a keyframe
    reused_tokens: int  # in the last layer, where most are
    total_tokens: int
    kv_bytes: int  # that this session holds; 0 for a stateless frame
    age_max: int  # frames since the oldest reused token was computed; 0 for a keyframe
    epoch: int = 0  # as its SessionRef has it
    seq: int = 0
    relaxed: bool = False  # whether a guess could stand for a token that was likelier
    patches: Mapping[str, ReusedPatches] | None = None  # camera -> its patches; None: they are not reported
    relevant_tokens: int = 0  # of a delta frame: that were computed because the task looks there
    caution: float = 0.0  # how far drift had made its plan careful: 0 as configured, 1 nothing is reused
    last_drift: float | None = None  # of the episode's last answer, normalised units; None: no idle refresh measured it
    beside_ms: float = 0.0  # device time that refreshes and audits of its session took since the answer before
    bit_equal: bool = True  # to what this frame, alone and without guesses, would be answered by the same plan; False:
    # two tokens as good as equal may have changed places
    pruned_ratio: float = 0.0  # token-layers that were neither computed nor reused / token-layers of a keyframe

    @property
    def frame(self) -> Literal["keyframe", "delta"]:
        """The word for it on the wire."""
        return "delta" if self.keyframe_reason is None else "keyframe"


@dataclass(frozen=True)
class SlackReport:
    """One pass over a frame that had been answered: an idle refresh, or the audit of a keyframe."""

    duration_ms: float
    drift: float | None  # of that answer's worst number to be played, normalised; None: a frame came in before
    yield_ms: float | None = None  # from the entry of the frame that came in until the refresh had yielded
    by_action: tuple[float, ...] = ()  # the drift of each action of the whole chunk, the first due first
    audit: bool = False  # whether the answer was dense, and the drift is that of the delta that it replaced


@dataclass(frozen=True)
class ShadowReport:
    """What became of a frame, answered before, that a second policy was to answer as well."""

    outcome: ShadowOutcome
    duration_ms: float = 0.0  # that the second policy computed
    by_action: tuple[float, ...] = ()  # if compared: how far its answer lies from the first policy's, in normalised
    # units of the first: the worst dimension of each action that both have, the first due first
    yield_ms: float | None = None  # if preempted: from the entry of the frame that came in until the device was free


def by_quarter(drifts: Sequence[float]) -> tuple[float, ...]:
    """The worst drift of each quarter of a chunk, as even as whole actions allow; none of chunks of under four."""
    if len(drifts) < QUARTERS:
        return ()
    ends = [len(drifts) * part // QUARTERS for part in range(QUARTERS + 1)]
    return tuple(max(drifts[begin:end]) for begin, end in pairwise(ends))


class PatchFate(IntEnum):
    """What became of one patch of a picture, in the last decoder layer."""

    REUSED = 0  # its keys and values are an earlier frame's
    CHANGED = 1  # computed: it is not like its reference, or the frame is a keyframe
    RELEVANT = 2  # computed: the task looks there
    LIMITED = 3  # computed although it is like its reference: too old, or beyond what may be reused


@dataclass(frozen=True)
class CameraView:
    """One camera's picture, and what became of its patches."""

    picture: Image  # as the model sees it
    patches: NDArray[np.uint8]  # [rows, columns] of PatchFate


@dataclass(frozen=True)
class FrameViews:
    """What the policy was shown in one frame."""

    instruction: str
    cameras: Mapping[str, CameraView]


@dataclass(frozen=True)
class KVUsage:
    """How full the KV pool is."""

    in_use_bytes: int
    budget_bytes: int
    sessions: int  # that hold a slot
    slots: int = 0  # how many can hold one at once
    history_chunks: int = 0  # of older frames, that sessions hold beside the pool
    history_bytes: int = 0  # of those chunks


@dataclass(frozen=True)
class DraftReport:
    """How the action's tokens were drafted, and how many were accepted."""

    mode: DraftMode = "off"
    way: str = "still"  # how they were guessed
    accepted: int = 0  # guesses that the first pass found right, from the first on


@dataclass(frozen=True)
class Scored:
    """What one frame changed in its session's history."""

    utilities: tuple[float, ...] = ()  # of its own chunks, 0 to 1, as they were scored
    kept: int = 0  # of these
    dropped: int = 0  # of any


@dataclass(frozen=True)
class HistoryReport:
    """What a session keeps of older frames, in chunks."""

    held: int  # now
    slots: int  # of those
    kept: int  # since the episode began: that stayed when the window had gone past them
    dropped: int  # since the episode began: that went, as they came or later
    nbytes: int  # of those held
    frame: Scored = Scored()  # the last one's share of it

    @property
    def came(self) -> int:
        """Chunks since the episode began."""
        return self.held + self.dropped


@dataclass(frozen=True)
class StepReport:
    """What one frame cost. Stage names are those of the walk: queue, prepare, vision, plan, ... keep."""

    stages_ms: Mapping[str, float]  # in the order they ran, queue first
    passes: int  # decoder passes until the action was complete
    cache: CacheReport
    draft: DraftReport = DraftReport()
    batch: int = 1  # frames that were computed side by side, this one among them; the stages' times are all theirs
    history: HistoryReport | None = None  # None: answers do not look at older frames
    rtc: RtcReport | None = None  # None: the frame did not ask for its chunk to be held

    @property
    def total_ms(self) -> float:
        """From the frame's entry into the queue to its action."""
        return sum(self.stages_ms.values())

    @property
    def computed_ms(self) -> float:
        """The same without the queue: what its batch took of the device."""
        return self.total_ms - self.stages_ms.get("queue", 0.0)


@dataclass
class PassCounts:
    """How a GPU's passes were computed since the start: replayed from CUDA graphs, or eagerly, by the reason."""

    replays: int = 0
    eager: dict[str, int] = field(default_factory=lambda: dict.fromkeys(EAGER_REASONS, 0))

    def ran(self, reason: str) -> None:
        """Count an eager pass."""
        self.eager[reason] += 1


@dataclass(frozen=True)
class GpuMemory:
    """A GPU's memory now, in bytes."""

    allocated: int  # that this process' tensors take
    reserved: int  # that this process' allocator holds, for them and for those to come
    free: int  # that no process holds
    total: int


@dataclass(frozen=True)
class RecordingReport:
    """What became of answered frames that were to be recorded, since the start."""

    state: Literal["recording", "failing"]  # failing: the last ones were lost, and the disk is tried again and again
    kept: int
    lost: int  # a disk that is full, gone or too slow
    sessionless: int  # of no session: they belong to no episode, and are not recorded
    used_bytes: int  # of all episodes that are kept
    budget_bytes: int
    trouble: str | None = None  # why the last one was lost; None: it was not


@dataclass(frozen=True)
class Step:
    """One answered frame."""

    chunk: ActionChunk
    report: StepReport


@dataclass(frozen=True)
class HistoryInfo:
    """Whether a policy's answers look at older frames, why, and what is kept of them."""

    enabled: bool = False
    why: str = "history.enabled is false"
    trained: bool = False  # whether the checkpoint learnt to look at them
    warning: str | None = None  # what every reply has to say of it
    gate: str | None = None  # the scorer of chunks; from here on None: not enabled
    chunk_tokens: int | None = None  # image tokens that become one chunk
    slots: int | None = None  # that it takes
    window_frames: int | None = None  # the last ones, which are kept whatever their score
    budget_bytes: int | None = None  # of one session; None: without end as well


NO_HISTORY = HistoryInfo()


@dataclass(frozen=True)
class ConnectionReport:
    """What became of connections, before and beside what was asked over them. Counts are since the start."""

    open: int  # TCP connections, WebSockets among them
    limit: int
    refused: int  # that found no room
    displaced: int  # that gave way to another, or held most of what was in memory
    cut: Mapping[str, int]  # for what their client did, by the bound that it broke
    rate_limited: int  # requests and messages beyond `requests_per_s`


@dataclass(frozen=True)
class WatchReport:
    """What became of browsers that watch sessions. Counts are since the start."""

    open: int
    refused: int  # for as many watched as may
    pictures: int  # frames whose pictures were encoded for them


@dataclass(frozen=True)
class StateInfo:
    """What a policy reads of a robot's state, number by number in its order."""

    names: tuple[str, ...]
    units: tuple[str, ...]  # "m", "rad", "1" for a number without one; "" where the checkpoint does not say
    norm_stats: Mapping[
        str, Mapping[str, Any]
    ]  # unnorm_key -> {"low": [...], "high": [...], "mask": [...]}: what becomes -1 and 1; beyond is clipped


@dataclass(frozen=True)
class PolicyInfo:
    """What a served policy is and what its numbers mean: the contract that clients program against."""

    name: str
    family: str
    parameters: int
    dtype: str  # of rows, and of weights that are not quantised
    device: str
    cameras: tuple[str, ...]
    image_size: tuple[int, int]  # height, width as the model sees them; any size is accepted and resized
    action_names: tuple[str, ...]
    gripper: str  # which end is open
    chunk_horizon: int
    norm_stats: Mapping[str, Mapping[str, Any]]  # unnorm_key -> {"q01": [...], "q99": [...], "mask": [...]}
    default_unnorm_key: str | None  # None when the client has to choose
    state: StateInfo | None = None  # None: it reads none
    history: HistoryInfo = NO_HISTORY
    batch_invariant: bool = False  # a row's numbers do not depend on which rows share its pass; measured at load
    draft: DraftMode = "off"  # how guesses of an action's tokens are verified; off: also where it is not decoded so
    execute: int | None = None  # actions of a chunk to play before the next is asked for; None: half of them
    action_margin: float = 1.0  # of half a number's range: how far beyond its q01 or q99 an answer may lie
    fixed_unnorm_key: str | None = None  # the default's, where the deployment chose it
    camera_keys: Mapping[str, str] = field(default_factory=dict)  # camera -> the key under which its picture comes in
    camera_slots: Mapping[str, str] = field(default_factory=dict)  # camera -> the checkpoint's own name, if another
    center_crop: float | None = None  # share of each picture's area that is looked at; None: all of it
    default_instruction: str | None = None  # of frames that have none, and whose session has none; None: refused
    openpi_metadata: Mapping[str, Any] = field(default_factory=dict)  # more members of openpi's first message
    profile: str = "native"  # the dialect that is served
    weights: WeightScheme = "as-is"  # how the decoder's layers are held: as they are, or quantised
    weight_bytes: int = 0  # of all weights, as they are held on the device
    source: str | None = None  # "org/name@commit" of the hub; None: a folder that is none of its cache
    rtc: RtcInfo = RtcInfo()
    unknown_words: Callable[[str], tuple[str, ...]] = field(  # of an instruction: what the policy has no token for
        default=lambda _: (), repr=False, compare=False
    )

    @property
    def replan_after(self) -> int:
        """Actions of a chunk that a robot is advised to play before it asks for the next: 1 to `chunk_horizon`."""
        return self.execute or max(1, self.chunk_horizon // 2)


def blank_observation(info: PolicyInfo) -> Observation:
    """Black pictures, a state of zeros and words that ask for nothing: what a policy can be tried with."""
    height, width = info.image_size
    blank = {camera: np.zeros((height, width, 3), np.uint8) for camera in info.cameras}
    state = None if info.state is None else np.zeros(len(info.state.names))
    return Observation(blank, "stay where you are", next(iter(info.norm_stats)), state=state)


class FrameObserver(Protocol):
    """Told of sessions' frames on the engine's thread, so each call has to return at once."""

    def wants_views(self, session: SessionRef) -> bool:
        """Whether `answered` is to get what the policy was shown in this frame."""
        ...

    def answered(self, session: SessionRef, step: Step, views: FrameViews | None) -> None:
        """A frame was computed, and its answer follows."""
        ...

    def refreshed(self, session: SessionRef, report: SlackReport) -> None:
        """The session's last frame was computed again, whole, while the device was idle."""
        ...


class Policy(Protocol):
    """All that the web rooms know of the engine. Thread-safe."""

    @property
    def info(self) -> PolicyInfo:
        """The contract; constant."""
        ...

    @property
    def ready(self) -> bool:
        """Warm, and not stopping."""
        ...

    @property
    def usage(self) -> KVUsage:
        """How full the KV pool is now."""
        ...

    @property
    def busy_s(self) -> float:
        """How long the device has been at the frame that it computes; 0.0: at none."""
        ...

    def submit(
        self, observation: Observation, max_age_ms: float, session: SessionRef | None = None, *, share: str = ""
    ) -> Future[Step]:
        """Queue one frame; the future holds its Step or a StillframeError.

        Callers share the device: turns go round by `share`, the caller's; within one by session. A session's frames are
        of the share that opened it, whatever is said here.

        A frame older than `max_age_ms` when its turn comes is answered with DeadlineExceeded and never computed, nor is
        one whose future is cancelled while it waits. A session's frames are computed in the order of their submission;
        without one a frame leaves nothing behind.
        """
        ...

    def forget(self, session_id: str) -> None:
        """Free what a session left, after the frames of it that were submitted before. Any thread; never raises."""
        ...

    def close(self) -> None:
        """Answer what is queued, then free the device."""
        ...
