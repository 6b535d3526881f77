"""Bench: what plays a suite, whichever simulator that has; LiberoBench is LIBERO's.

Knows how a suite is put together; no option of the command line and no daemon.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, cast

from stillframe_client import ModelInfo
from stillframe_lab.libero import process
from stillframe_lab.libero.contract import Protocol as LiberoAsking
from stillframe_lab.libero.contract import doubts, protocol_of
from stillframe_lab.libero.episode import Asking, EpisodeRules, MaskingSimulator, Player, Simulator
from stillframe_lab.libero.expert.jobs import check_expert
from stillframe_lab.libero.expert.player import ExpertPlayer
from stillframe_lab.libero.process import Drawing, SimulatorProcess
from stillframe_lab.libero.suites import DRAWN_SEED, INIT_STATES, TASKS, most_steps

COARSE = "the pictures are the fast ones, coarser than the benchmark's: for policies that were trained on such"
OWN_SCENES = "the scenes are drawn, not the benchmark's fixed initial states: to record and to calibrate with"


class Bench(Protocol):
    """A suite and its simulator."""

    @property
    def suite(self) -> str:
        """Its name."""
        ...

    @property
    def label(self) -> str:
        """How files of its results are called."""
        ...

    @property
    def look(self) -> str:
        """What is particular about its pictures, in a few words."""
        ...

    @property
    def masks(self) -> bool:
        """Whether its simulator can say where in its pictures what matters is."""
        ...

    @property
    def tasks(self) -> int:
        """How many it has."""
        ...

    @property
    def init_states(self) -> int:
        """Of each task."""
        ...

    @property
    def first_seed(self) -> int:
        """Of the first initial state, unless another is asked for."""
        ...

    @property
    def origin(self) -> Mapping[str, Any]:
        """What an episode's result depends on, beside suite, seed, policy and episode."""
        ...

    @property
    def seen_as(self) -> Mapping[str, Any]:
        """What beside these a policy's result depends on: how its pictures are made."""
        ...

    def rules(self, seed: int) -> EpisodeRules:
        """How every episode is played."""
        ...

    def asking(self, info: ModelInfo, execute: int | None, unnorm_key: str | None) -> Asking:
        """How the policy is asked whose contract this is. Raises ConfigError for one that cannot be."""
        ...

    def doubts(self, info: ModelInfo, asking: Asking) -> list[str]:
        """What makes the figures other than they seem."""
        ...

    def simulator(self, *, draws: bool) -> AbstractContextManager[MaskingSimulator]:
        """One that runs, of the thread that uses it; without `draws` it makes no pictures."""
        ...

    def check_expert(self) -> None:
        """Raises ConfigError where the suite has no expert."""
        ...

    def expert(self, simulator: Simulator, *, filmed: bool) -> Player:
        """The script that knows the truth."""
        ...


@dataclass(frozen=True)
class LiberoBench:
    """One of LIBERO's suites. Implements Bench."""

    suite: str
    pictures: Drawing
    drawn: bool = False  # its scenes by seeds, not the benchmark's fixed initial states

    tasks = TASKS
    init_states = INIT_STATES

    @property
    def label(self) -> str:
        """See Bench."""
        return self.suite

    @property
    def look(self) -> str:
        """See Bench."""
        return f"{self.pictures} pictures"

    @property
    def masks(self) -> bool:
        """See Bench."""
        return self.pictures == "fast"

    @property
    def first_seed(self) -> int:
        """See Bench."""
        return DRAWN_SEED if self.drawn else 0

    @property
    def origin(self) -> Mapping[str, Any]:
        """See Bench."""
        return {"scenes": "drawn"} if self.drawn else {}

    @property
    def seen_as(self) -> Mapping[str, Any]:
        """See Bench."""
        return {"pictures": self.pictures}

    def rules(self, seed: int) -> EpisodeRules:
        """See Bench."""
        return EpisodeRules(most_steps(self.suite), seed, self.drawn)

    def asking(self, info: ModelInfo, execute: int | None, unnorm_key: str | None) -> LiberoAsking:
        """See Bench."""
        return protocol_of(info, self.suite, execute, unnorm_key)

    def doubts(self, info: ModelInfo, asking: Asking) -> list[str]:
        """See Bench."""
        own = [*([COARSE] if self.pictures == "fast" else ()), *([OWN_SCENES] if self.drawn else ())]
        return [*doubts(info, cast(LiberoAsking, asking)), *own]

    @contextmanager
    def simulator(self, *, draws: bool) -> Iterator[SimulatorProcess]:
        """See Bench."""
        start = process.start_command(process.simulator_python())
        with SimulatorProcess(start, draw=self.pictures if draws else "") as running:
            yield running

    def check_expert(self) -> None:
        """See Bench."""
        check_expert(self.suite)

    def expert(self, simulator: Simulator, *, filmed: bool) -> ExpertPlayer:  # noqa: ARG002 (it reads the readings)
        """See Bench."""
        return ExpertPlayer(self.suite, filmed=filmed)
