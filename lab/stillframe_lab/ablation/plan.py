"""The ablation's cells: arms x conditions, and forced counts of reused tokens.

Knows settings; plays nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from stillframe.reuse.settings import ReuseSettings

TASKS = ("reach", "pick")
COUNTS = (50, 100, 150, 200)  # tokens forced to be reused; none at all is the arm `off`
COUNT_SHARE = 0.5  # of the other cells' episodes
RELEVANT_TOKENS = 40  # tokens that a forced count with relevance leaves out
NEVER = 10_000  # frames
NO_GAP_S = 3600.0  # no gap resets: the simulated robot waits for its answer

OFF, ADAPTIVE, ADAPTIVE_BLIND = "off", "adaptive", "adaptive without slack"
ARMS = (OFF, "static-only", "static + relevance", "paper", ADAPTIVE, ADAPTIVE_BLIND)
SELECTED = "adaptive with a selector"  # where a checkpoint has one
MASKED, PAPER_MASKED = "adaptive with masks", "paper with masks"  # in place of attention; with a perfect camera
SELECTOR_NAME = "selector.safetensors"  # in its folder


@dataclass(frozen=True)
class Condition:
    """A policy and what its cameras see."""

    name: str
    checkpoint: Path
    cameras: tuple[str, ...] = ("front",)  # none: the policy's own
    noise_sigma: float = 0.0
    jpeg_quality: int | None = None
    distractor: bool = False


@dataclass(frozen=True)
class AblationCell:
    """One line of a table: one arm under one condition, the same number of episodes of each task."""

    arm: str
    condition: Condition
    reuse: ReuseSettings
    episodes: int  # of each task
    seed: int
    hz: int = 10
    execute: int | None = None  # actions of each chunk that are played; None: all
    checkpoint_config: Mapping[str, Any] | None = None  # keys in place of those in the checkpoint's config.json

    @property
    def name(self) -> str:
        """The name of its result file."""
        words = f"{self.arm}--{self.condition.name}".replace(" + ", "-and-")
        return words.replace(" ", "-")


@dataclass(frozen=True)
class AblationPlan:
    """All cells of an ablation."""

    reuse: ReuseSettings  # the deployment's knobs
    checkpoint: Path
    wrist: Path  # a checkpoint of two cameras
    episodes: int = 100  # of each cell, both tasks together
    seed: int = 1000

    def cells(self) -> Iterator[AblationCell]:
        """All cells, longest first; conditions without their checkpoint are left out."""
        for condition in self.conditions():
            for arm, reuse in {**arms(self.reuse), **selector_arm(self.reuse, condition.checkpoint)}.items():
                yield AblationCell(arm, condition, reuse, self.episodes // len(TASKS), self.seed)
        for arm, reuse in masked_arms(self.reuse).items():
            yield AblationCell(arm, self.clean, reuse, self.episodes // len(TASKS), self.seed)
        each = max(1, round(self.episodes * COUNT_SHARE) // len(TASKS))
        for arm, reuse in forced_counts(self.reuse).items():
            yield AblationCell(arm, self.clean, reuse, each, self.seed)

    def conditions(self) -> list[Condition]:
        """Two cameras cost most, so they come first."""
        listed = [
            Condition("front + wrist", self.wrist, cameras=("front", "wrist")),
            self.clean,
            Condition("noise", self.checkpoint, noise_sigma=2.0),
            Condition("JPEG", self.checkpoint, jpeg_quality=90),
            Condition("distractor", self.checkpoint, distractor=True),
        ]
        return [condition for condition in listed if condition.checkpoint.is_dir()]

    @property
    def clean(self) -> Condition:
        """A perfect front camera."""
        return Condition("clean", self.checkpoint)


def arms(knobs: ReuseSettings) -> dict[str, ReuseSettings]:
    """The arms by name: each adds one thing to the one before, up to the published method; then ours."""
    knobs = replace(knobs, gap_s=NO_GAP_S, slack=True)
    settings = (
        ReuseSettings(mode="off", gap_s=NO_GAP_S),  # no other setting counts: what it played stays, however they change
        replace(knobs, mode="static-only"),
        replace(knobs, mode="paper", paper=replace(knobs.paper, k=None)),
        replace(knobs, mode="paper"),
        replace(knobs, mode="adaptive"),
        replace(knobs, mode="adaptive", slack=False),
    )
    return dict(zip(ARMS, settings, strict=True))


def selector_arm(knobs: ReuseSettings, checkpoint: Path) -> dict[str, ReuseSettings]:
    """Mode adaptive where a trained network chooses the tokens; no arm for a checkpoint that has none."""
    file = checkpoint / SELECTOR_NAME
    if not file.is_file():
        return {}
    own = arms(knobs)[ADAPTIVE]
    return {SELECTED: replace(own, adaptive=replace(own.adaptive, selector=file))}


def masked_arms(knobs: ReuseSettings) -> dict[str, ReuseSettings]:
    """Ours and the published method where the simulator's masks say what matters, as in VLA-Cache's section 4.7."""
    own = arms(knobs)
    ours, paper = own[ADAPTIVE], own["paper"]
    return {
        MASKED: replace(ours, adaptive=replace(ours.adaptive, relevance="masks")),
        PAPER_MASKED: replace(paper, paper=replace(paper.paper, relevance="masks")),
    }


def forced_counts(knobs: ReuseSettings) -> dict[str, ReuseSettings]:
    """So many tokens reused in every layer of every frame, most similar first, without refresh or limits."""
    return {
        f"{count} tokens{' + relevance' if kept else ''}": forced(knobs, count, kept)
        for count in COUNTS
        for kept in (0, RELEVANT_TOKENS)
    }


def forced(knobs: ReuseSettings, count: int, kept: int) -> ReuseSettings:
    """Reuse `count` tokens of each camera whatever their similarity, but none of the `kept` most attended ones."""
    adaptive = replace(
        knobs.adaptive,
        criterion="embedding",
        distance=2.0,
        top_k=count,
        task_top_k=kept,
        schedule=[],
        age_limit=NEVER,
        keyframe_every=NEVER,
        scene_cut=0.0,
    )
    return replace(knobs, mode="adaptive", slack=False, gap_s=NO_GAP_S, adaptive=adaptive)


def origin_of(cell: AblationCell, weights: Mapping[Path, str]) -> dict[str, Any]:
    """All that a cell's result depends on, as JSON; `weights`: each checkpoint's digest."""
    digest = weights[cell.condition.checkpoint]
    unsaid = [name for name in ("execute", "checkpoint_config") if getattr(cell, name) is None]  # as before they were
    said = {name: value for name, value in asdict(cell).items() if name not in unsaid}
    origin: dict[str, Any] = json.loads(json.dumps({**said, "weights": digest}, default=str))
    return origin
