"""Settings of `history:`, each with its range.

Knows no YAML and no torch: plain values, checked when they are made.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

from stillframe.settings_fields import RangeChecked, setting

ScorerName = Literal["gate", "linear", "novelty", "attention", "recency", "sampling"]
SCORERS: tuple[str, ...] = get_args(ScorerName)
UNTRAINED: tuple[ScorerName, ...] = ("novelty", "attention", "recency", "sampling")  # without training


@dataclass(frozen=True)
class HistorySettings(RangeChecked):
    """Which older frames a session keeps, and how they are scored."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid", "strict": True}

    enabled: bool = setting(
        default=False, description="answers look at older frames; for checkpoints trained with them"
    )
    force: bool = setting(
        default=False, description="also for a checkpoint that was not trained with them; every reply then warns"
    )
    gate: ScorerName = setting(
        "gate",
        "who says what an older chunk is worth: gate, linear (trained); novelty, attention, recency, sampling (not)",
    )
    chunk_tokens: int | None = setting(
        None, "image tokens of a chunk; null: as the checkpoint was trained, one chunk a frame", low=1, high=65_536
    )
    window_frames: int = setting(4, "so many of the last frames stay, whatever they are worth", low=0, high=100_000)
    budget_mib: float | None = setting(
        0.25, "memory of one session's older frames; null: without end, to compare with", low=0, high=10**6
    )
    threshold: float = setting(0.0, "an older chunk worth less than this goes, room or not", low=0, high=1)
    decay: float = setting(0.999, "what a chunk is worth falls by this factor with every frame", low=0.5, high=1)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gate not in SCORERS:
            raise ValueError(f"gate is {self.gate!r}; expected one of {', '.join(SCORERS)}")

    @property
    def evenly(self) -> bool:
        """Whether frames are sampled: kept for their places in the episode, whatever they are worth."""
        return self.gate == "sampling"
