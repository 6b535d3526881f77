"""The prefix ablation's cells: what is kept of a prefix within a frame and across frames, alone and together.

Knows settings; plays nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from stillframe.reuse.settings import AdaptiveSettings, RelevanceSource, ReuseSettings
from stillframe_lab.ablation.families import Family
from stillframe_lab.ablation.plan import NO_GAP_S, RELEVANT_TOKENS, forced
from stillframe_lab.evaluation.jobs import Job, checkpoint_digest

TASK = "pick"
OFF, WITHIN, ACROSS, BOTH = "off", "within", "across", "both"
NO_RELEVANCE = "none"
SOURCES: tuple[RelevanceSource, ...] = ("text", "expert")


@dataclass(frozen=True)
class PrefixArm:
    """One way to keep a prefix's keys and values."""

    name: str
    reuse: ReuseSettings
    every_step: bool = False  # whether the prefix's pass is run anew in every step


@dataclass(frozen=True)
class PrefixPlan:
    """What to play: the same seeds in every cell."""

    family: Family
    episodes: int
    seed: int

    def arms(self) -> tuple[PrefixArm, ...]:
        """Nothing kept; within a frame; across frames; both, as the deployment serves it."""
        return _four(replace(self.family.reuse, mode="adaptive", gap_s=NO_GAP_S, slack=True))

    def by_relevance(self) -> dict[str, PrefixArm]:
        """Whose attention says what matters -> `both` with it; that of the deployment's own is `both` itself."""
        both = self.arms()[-1]
        own = both.reuse.adaptive
        chosen = {source: _asking(own, source) for source in SOURCES} | {NO_RELEVANCE: replace(own, task_top_k=0)}
        return {
            name: both if knobs == own else PrefixArm(f"{BOTH}-{name}", replace(both.reuse, adaptive=knobs))
            for name, knobs in chosen.items()
        }

    def cells(self) -> list[PrefixCell]:
        """The four and those of other relevance; last those whose passes are repeated, which take longest."""
        others = [arm for arm in self.by_relevance().values() if arm.name != BOTH]
        return [PrefixCell(self, arm) for arm in sorted((*self.arms(), *others), key=lambda arm: arm.every_step)]

    def jobs(self, work: Path) -> list[Job[PrefixCell]]:
        """Every cell with what its result depends on."""
        return [Job(cell, self.origin(cell.arm), work / f"{cell.name}.json") for cell in self.cells()]

    def origin(self, *arms: PrefixArm, **own: Any) -> dict[str, Any]:
        """What results of some arms depend on, as JSON."""
        family = self.family
        played = {"task": TASK, "episodes": self.episodes, "seed": self.seed, "execute": family.execute}
        weights = {"weights": checkpoint_digest(family.checkpoint), "checkpoint_config": family.checkpoint_config}
        origin: dict[str, Any] = json.loads(
            json.dumps({**played, **weights, "arms": [asdict(arm) for arm in arms], **own}, default=_plain)
        )
        return origin


@dataclass(frozen=True)
class PrefixCell:
    """One arm's episodes."""

    plan: PrefixPlan
    arm: PrefixArm

    @property
    def name(self) -> str:
        """What its file is called."""
        return self.arm.name


def forced_arms(count: int) -> tuple[PrefixArm, ...]:
    """The four with so many tokens of each camera reused, whatever they show: for weights that mean nothing."""
    return _four(forced(ReuseSettings(), count, kept=0))


def _four(across: ReuseSettings) -> tuple[PrefixArm, ...]:
    """`across`: what is reused of the last frame, where anything is."""
    plain = replace(across, mode="off")
    return (
        PrefixArm(OFF, plain, every_step=True),
        PrefixArm(WITHIN, plain),
        PrefixArm(ACROSS, across, every_step=True),
        PrefixArm(BOTH, across),
    )


def _asking(knobs: AdaptiveSettings, source: RelevanceSource) -> AdaptiveSettings:
    """The deployment's knobs; layers that it chose are of its own source, and another's are the default ones."""
    kept = knobs.task_top_k or RELEVANT_TOKENS
    layers = knobs.relevance_layers if knobs.relevance == source else []
    return replace(knobs, relevance=source, relevance_layers=layers, task_top_k=kept)


def _plain(value: Any) -> Any:
    return {**value} if isinstance(value, Mapping) else str(value)
