"""Settings of reuse, each with its range.

Knows no YAML and no torch: plain values, checked when they are made.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from stillframe.domain import REUSE_MODES, ReuseMode
from stillframe.reuse.pruning_settings import FastVSettings, SparseVLMSettings, ToMeSettings
from stillframe.settings_fields import RangeChecked, setting

RelevanceSource = Literal["text", "expert", "masks"]
Slack = Literal[True, False, "auto"]

WHOSE_ATTENTION = (
    "whose attention says which tokens matter: the text's rows, or those of the action expert that draws the chunk; "
    "masks: none, but those that a mask in the frame touches"
)
LAYERS_ASKED = "layers whose attention says what matters; empty: all, of an expert the middle one"


@dataclass(frozen=True)
class AdaptiveSettings(RangeChecked):
    """Mode `adaptive`: each token against its own reference, clean relevance, bounded age, drift measured."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True}

    criterion: Literal["embedding", "pixels"] = setting(
        "embedding", "what is compared with the reference: the decoder's input row, or the view's pixels"
    )
    distance: float = setting(
        0.2, "embedding: a row that moved further than this (relative L2) is recomputed", low=0, high=2
    )
    tau: float = setting(0.996, "pixels: least cosine of a patch with its reference", low=-1, high=1)
    tau_centred: float = setting(0.95, "pixels: least cosine after each patch's mean is taken off", low=-1, high=1)
    max_difference: float = setting(
        24.0, "pixels: most that any pixel of a patch may differ, grey levels", low=0, high=255
    )
    top_k: int = setting(180, "at most this many tokens of each camera are reused", low=0, high=4096)
    task_top_k: int = setting(
        40, "this many tokens of each camera with most attention are recomputed", low=0, high=4096
    )
    relevance: RelevanceSource = setting("text", WHOSE_ATTENTION)
    relevance_layers: list[int] = setting([], LAYERS_ASKED, low=0, high=255)
    schedule: list[float] = setting(
        [], "share of the reused tokens dropped by each layer, rising; empty: all from the first on", low=0, high=1
    )
    selector: Path | None = setting(
        None,
        "a network of `stillframe train selector`, which then says which tokens are reused and how many, in place of "
        "distance, top_k, task_top_k and schedule; null: none",
    )
    selector_drift: float | None = setting(
        None, "selector: drift that a plan may have as it estimates it; null: drift_budget", low=0, high=64
    )
    age_limit: int = setting(8, "a token reused for this many frames is recomputed", low=1, high=10_000)
    keyframe_every: int = setting(30, "frames without a dense pass until one is forced", low=1, high=10_000)
    scene_cut: float = setting(
        0.1, "a frame of which a smaller share than this may be reused is computed whole", low=0, high=1
    )
    audit_share: float = setting(
        0.05,
        "of the device's time, for audits: beside a keyframe, the plan that it replaced is run too, to measure drift "
        "where there are no pauses; 0: none",
        low=0,
        high=0.5,
    )
    vision: Literal["whole", "changed"] = setting(
        "whole",
        "what the vision encoder computes of a delta frame's pictures: all, or the patches that changed and a sample "
        "of the others, over keys and values that it keeps",
    )
    vision_difference: float = setting(
        8.0, "vision changed: a patch changed where a pixel differs more than this, grey levels", low=0, high=255
    )
    vision_motion: float = setting(
        0.05,
        "vision changed: where rows of the sample moved further than this (relative L2, their mean) the picture is "
        "computed whole",
        low=0,
        high=2,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if list(self.schedule) != sorted(self.schedule):
            expected = "shares that never fall: a row that one layer drops is not there for the next"
            raise ValueError(f"schedule is {self.schedule}; expected {expected}")


@dataclass(frozen=True)
class PaperSettings(RangeChecked):
    """Modes `paper` and `static-only`: VLA-Cache as published. No age limit, no refresh, no bound."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True}

    tau: float = setting(0.996, "least cosine of a patch's pixels with the last frame's", low=-1, high=1)
    top_k: int = setting(
        130, "at most this many tokens of each camera are reused, most similar first", low=0, high=4096
    )
    task_top_k: int = setting(
        100, "this many tokens of each camera with most attention are recomputed", low=0, high=4096
    )
    tau_task: float | None = setting(
        None, "instead of task_top_k: relevance, scaled to 0..1, from which a token is recomputed", low=0, high=1
    )
    k: float | None = setting(
        1.0, "layer l drops a share of min(k * sum of entropy ratios, 1); null: no schedule, all from the first on",
        low=0, high=1000,
    )  # fmt: skip
    layers: list[int] = setting([], "layers that may drop rows; empty: all from the second on", low=0, high=255)
    relevance: RelevanceSource = setting("text", WHOSE_ATTENTION)
    relevance_layers: list[int] = setting([], LAYERS_ASKED, low=0, high=255)


@dataclass(frozen=True)
class ReuseSettings(RangeChecked):
    """Reuse of keys and values between frames."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True}

    mode: ReuseMode = setting("off", f"one of {', '.join(REUSE_MODES)}; for sessions that do not say")
    drift_budget: float = setting(
        0.02, "drift that an answer may have, normalised units (the whole range is 2); above it plans get careful",
        low=0, high=2,
    )  # fmt: skip
    slack: Slack = setting(
        default=True,
        description="after an answer, while nothing waits: a dense pass that measures drift and refreshes; auto: only "
        "in place of a keyframe that would be due, or where drift is not known; false: never",
    )
    gap_s: float = setting(2.0, "a session's frame that comes this long after the last is a keyframe", low=0, high=3600)
    kv_budget_mib: float | None = setting(
        None, "memory for all sessions' keys and values, taken at start; null: room for 16 sessions", low=0, high=10**6
    )
    slot_text_tokens: int = setting(
        64, "longest instruction, prompt included, whose session can be kept, in tokens", low=1, high=4096
    )
    adaptive: AdaptiveSettings = field(
        default_factory=AdaptiveSettings, metadata={"description": "settings of mode adaptive"}
    )
    paper: PaperSettings = field(
        default_factory=PaperSettings, metadata={"description": "settings of modes paper and static-only"}
    )
    fastv: FastVSettings = field(default_factory=FastVSettings, metadata={"description": "settings of mode fastv"})
    sparsevlm: SparseVLMSettings = field(
        default_factory=SparseVLMSettings, metadata={"description": "settings of mode sparsevlm"}
    )
    tome: ToMeSettings = field(default_factory=ToMeSettings, metadata={"description": "settings of mode tome"})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.slack not in (True, False, "auto"):
            raise ValueError(f"slack is {self.slack!r}; expected true, false or auto")
        if self.mode not in REUSE_MODES:
            raise ValueError(f"mode is {self.mode!r}; expected one of {', '.join(REUSE_MODES)}")
