"""The families' cells: each checkpoint with its own cameras, state, chunks and settings, in every way to reuse.

Knows settings; plays nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from stillframe.reuse.settings import ReuseSettings
from stillframe_lab.ablation.plan import NO_GAP_S, OFF, TASKS, AblationCell, Condition, arms

EXACT = "exact"


@dataclass(frozen=True)
class Family:
    """A checkpoint of one family, as its deployment has it."""

    checkpoint: Path
    reuse: ReuseSettings
    execute: int | None = None  # actions of each chunk that are played; None: all
    checkpoint_config: Mapping[str, Any] | None = None  # keys in place of those in its config.json

    @property
    def name(self) -> str:
        """The checkpoint's."""
        return self.checkpoint.name

    def conditions(self) -> tuple[Condition, ...]:
        """What its cameras see: a perfect picture, and sensor noise."""
        return (
            Condition("clean", self.checkpoint, cameras=()),
            Condition("noise", self.checkpoint, cameras=(), noise_sigma=2.0),
        )


@dataclass(frozen=True)
class FamiliesPlan:
    """All cells of all families."""

    families: tuple[Family, ...]
    episodes: int = 100  # of each cell, both tasks together
    seed: int = 1000

    def cells(self, family: Family) -> Iterator[AblationCell]:
        """Every arm under every condition, on the same seeds in each."""
        each = self.episodes // len(TASKS)
        for condition in family.conditions():
            for arm, reuse in family_arms(family.reuse).items():
                yield AblationCell(
                    arm,
                    condition,
                    reuse,
                    each,
                    self.seed,
                    execute=family.execute,
                    checkpoint_config=family.checkpoint_config,
                )


def family_arms(knobs: ReuseSettings) -> dict[str, ReuseSettings]:
    """The ablation's arms, and the exact one behind `off`."""
    own = arms(knobs)
    exact = {EXACT: replace(knobs, mode="exact", gap_s=NO_GAP_S)}
    return {OFF: own[OFF], **exact, **{name: reuse for name, reuse in own.items() if name != OFF}}


def speed_origin(family: Family, weights: str) -> dict[str, Any]:
    """All that a race depends on, as JSON; `weights`: the checkpoint's digest."""
    return {
        "reuse": asdict(family.reuse),
        "execute": family.execute,
        "checkpoint_config": None if family.checkpoint_config is None else {**family.checkpoint_config},
        "weights": weights,
    }
