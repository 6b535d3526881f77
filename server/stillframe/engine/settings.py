"""Settings of drafts, batching, CUDA graphs and the shadow, each with its range.

Knows no YAML and no torch: plain values, checked when they are made.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from stillframe.domain import DRAFT_MODES, DraftMode
from stillframe.models.held_chunk import GuidanceRule
from stillframe.settings_fields import RangeChecked, setting

RtcJacobian = Literal["network", "identity"]
JACOBIANS: tuple[RtcJacobian, ...] = get_args(RtcJacobian)


@dataclass(frozen=True)
class DecodingSettings(RangeChecked):
    """All that a deployment says about guessing an action's tokens, and about what is answered of a chunk."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True}

    draft: DraftMode = setting(
        "exact",
        "exact: greedy tokens in fewer passes, each the likeliest of the pass that verified the guesses before it: to "
        "the bit where the decoder is batch invariant, else up to rounding; strict: to the bit everywhere, for more "
        "passes; relaxed: a guess stands if it is near; off: a pass a token",
    )
    radius: list[int] = setting(
        [2], "relaxed: bins that a guess may be off, one number for all dimensions or one for each; the gripper's is 0",
        low=0, high=255,
    )  # fmt: skip
    ensemble: int = setting(
        0,
        "of a policy that answers chunks: so many chunks have a say in each step's action, and that alone is answered; "
        "0: the whole chunk",
        low=0,
        high=64,
    )
    execute: int = setting(
        0,
        "of a policy that answers chunks: actions that a robot is advised to play of each before it asks for the next "
        "(/v1/models says so), whose drift alone is held to the budget; 0: half of them, and the drift of all",
        low=0,
        high=1024,
    )
    rtc_strength: float = setting(
        5.0,
        "of chunks that are held to the one before, where frames ask for it (rtc): the strongest pull of a step from "
        "noise to actions",
        low=0,
        high=100,
    )
    rtc_jacobian: RtcJacobian = setting(
        "network",
        "network: that pull goes back through the network that draws chunks, a pass more a step; identity: it is added "
        "as it is, for next to nothing",
    )

    @property
    def guidance_rule(self) -> GuidanceRule:
        """How hard chunks are held."""
        return GuidanceRule(self.rtc_strength, through_network=self.rtc_jacobian == "network")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.draft not in DRAFT_MODES:
            raise ValueError(f"draft is {self.draft!r}; expected one of {', '.join(DRAFT_MODES)}")
        if self.rtc_jacobian not in JACOBIANS:
            raise ValueError(f"rtc_jacobian is {self.rtc_jacobian!r}; expected one of {', '.join(JACOBIANS)}")
        if not self.radius:
            raise ValueError("radius is []; expected one number, or one for each dimension but the gripper")


@dataclass(frozen=True)
class BatchingSettings(RangeChecked):
    """All that a deployment says about computing several robots' frames side by side."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True}

    most: int = setting(8, "frames that are computed side by side at most; 1: each by itself", low=1, high=64)
    hold_ms: float = setting(
        100.0,
        "how much later than alone a frame may be done because of those beside it, as measured",
        low=0,
        high=10_000,
    )


@dataclass(frozen=True)
class GraphSettings(RangeChecked):
    """All that a deployment says about passes that a GPU records before the first frame and replays. Not for CPUs."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True}

    enabled: bool = setting(
        default=True, description="record passes, on a GPU; else every pass is launched piece by piece"
    )
    batches: list[int] = setting(
        [1, 2, 4, 8], "frames side by side for which passes are recorded; others are padded", low=1, high=64
    )
    rows: list[int] = setting(
        [64, 128, 192, 256, 320],
        "computed rows of a prompt for which passes are recorded, beside all that a slot holds; others are padded",
        low=1, high=100_000,
    )  # fmt: skip

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.enabled and not self.batches:
            raise ValueError("batches is []; expected one size at least, or enabled: false")


@dataclass(frozen=True)
class ShadowSettings(RangeChecked):
    """All that a deployment says about a second policy that answers the same frames in idle time, for comparison."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True}

    checkpoint: Path | None = setting(None, "the second policy's, as `checkpoint` names the first's; null: none")
    share: float = setting(1.0, "of sessions' frames that it answers too", low=0, high=1)


DEFAULT_DECODING = DecodingSettings()  # mode exact
DEFAULT_BATCHING = BatchingSettings()
DEFAULT_GRAPHS = GraphSettings()
