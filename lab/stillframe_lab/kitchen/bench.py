"""KitchenBench: the four tasks as a suite.

Knows how it is put together; no option of the command line and no daemon.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

from stillframe_client import ModelInfo
from stillframe_client.sim.kitchen import EPISODE_S, TASKS
from stillframe_lab.kitchen.contract import KitchenAsking, kitchen_asking
from stillframe_lab.kitchen.expert import KitchenExpert
from stillframe_lab.kitchen.simulator import HZ, KitchenSimulator
from stillframe_lab.libero.episode import Asking, EpisodeRules, Player, Simulator

SUITE = "jaco2"
MOST_STEPS = round(EPISODE_S * HZ)
INIT_STATES = 50  # of each task: the seeds from 0 on


@dataclass(frozen=True)
class KitchenBench:
    """The suite jaco2. Implements libero.bench.Bench."""

    distractor: bool = False  # whether crates go by behind the table

    suite = SUITE
    first_seed = 0
    masks = True
    tasks = len(TASKS)
    init_states = INIT_STATES

    @property
    def label(self) -> str:
        """See Bench."""
        return f"{SUITE}-moving" if self.distractor else SUITE

    @property
    def look(self) -> str:
        """See Bench."""
        return "a moving background" if self.distractor else "a still background"

    @property
    def origin(self) -> Mapping[str, Any]:
        """See Bench."""
        return {"distractor": self.distractor}

    @property
    def seen_as(self) -> Mapping[str, Any]:
        """See Bench: as ever."""
        return {}

    def rules(self, seed: int) -> EpisodeRules:
        """See Bench. All lies still from the start."""
        return EpisodeRules(MOST_STEPS, seed, settle_steps=0)

    def asking(self, info: ModelInfo, execute: int | None, unnorm_key: str | None) -> KitchenAsking:
        """See Bench."""
        return kitchen_asking(info, execute, unnorm_key)

    def doubts(self, info: ModelInfo, asking: Asking) -> list[str]:  # noqa: ARG002 (there are none)
        """See Bench."""
        return []

    @contextmanager
    def simulator(self, *, draws: bool) -> Iterator[KitchenSimulator]:  # noqa: ARG002 (it draws what it is asked for)
        """See Bench."""
        running = KitchenSimulator(distractor=self.distractor)
        try:
            yield running
        finally:
            running.close()

    def check_expert(self) -> None:
        """See Bench: there is one of each task."""

    def expert(self, simulator: Simulator, *, filmed: bool) -> Player:
        """See Bench."""
        return KitchenExpert(cast(KitchenSimulator, simulator), filmed=filmed)
