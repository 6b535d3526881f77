"""One cell: episodes of one way to join chunks under one delay; played in a worker process, its result saved.

Knows the simulator and one cell; no table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stillframe.daemon.config import load_config
from stillframe.daemon.serve import open_model
from stillframe.engine.local import LocalPolicy
from stillframe.engine.settings import DecodingSettings
from stillframe.errors import ConfigError
from stillframe_client.sim import JacoEnv
from stillframe_client.sim.rollout import Episode, play
from stillframe_lab.evaluation.evaluate import camera_sources, wilson
from stillframe_lab.evaluation.jobs import Job, checkpoint_digest, save_result
from stillframe_lab.rtc.delayed_actor import WAYS, DelayedActor, Way
from stillframe_lab.rtc.smoothness import at_seams, jerks


@dataclass(frozen=True)
class RtcPlan:
    """What to play: the same seeds in every cell."""

    checkpoint: Path
    decoding: DecodingSettings
    task: str
    episodes: int
    seed: int
    hz: int
    delays_ms: tuple[int, ...]
    execute: int | None = None  # actions of a chunk that are played before the next is asked for; None: half of them

    def __post_init__(self) -> None:
        """Raise ConfigError for delays that are no whole control steps."""
        for delay_ms in self.delays_ms:
            if delay_ms < 0 or delay_ms * self.hz % 1000:
                said = f"--delay-ms {delay_ms}: a control step takes {1000 / self.hz:g} ms"
                raise ConfigError(f"{said}; expected whole steps, such as 0,{1000 // self.hz},{2000 // self.hz}")

    def cells(self) -> list[RtcCell]:
        """Every delay in every way."""
        return [RtcCell(self, way, delay_ms) for delay_ms in self.delays_ms for way in WAYS]

    def jobs(self, work: Path) -> list[Job[RtcCell]]:
        """Every cell with what its result depends on."""
        weights = checkpoint_digest(self.checkpoint)
        own = {"decoding": asdict(self.decoding), "execute": self.execute, "hz": self.hz, "weights": weights}
        played = {"task": self.task, "episodes": self.episodes, "seed": self.seed}
        return [Job(cell, {**own, **played, "cell": cell.name}, work / f"{cell.name}.json") for cell in self.cells()]


@dataclass(frozen=True)
class RtcCell:
    """One way under one delay."""

    plan: RtcPlan
    way: Way
    delay_ms: int

    @property
    def name(self) -> str:
        """What its file is called."""
        return f"{self.way}-{self.delay_ms}ms"


def play_cell(cell: RtcCell, origin: Mapping[str, Any], file: Path) -> None:
    """Play every episode and write the result to `file`. Raises ConfigError for a policy that cannot."""
    plan = cell.plan
    model = open_model(load_config(None, {"checkpoint": plan.checkpoint, "device": "cpu", "threads": 1}))
    if model.info.rtc.process is None:
        raise ConfigError(f"{model.info.name}: {model.info.rtc.why}; expected a policy whose chunks can be held")
    sources = camera_sources(model.info.cameras)
    policy = LocalPolicy(model, decoding=plan.decoding)
    execute = plan.execute or max(1, model.info.chunk_horizon // 2)
    try:
        actor = DelayedActor(policy, cell.way, cell.delay_ms * plan.hz // 1000, execute, sources)
    except ValueError as error:
        raise ConfigError(f"--delay-ms {cell.delay_ms}: {error}") from error
    env = JacoEnv(plan.task, hz=plan.hz, cameras=tuple(sources.values()))
    try:
        played = [play(env, actor, seed=plan.seed + at) for at in range(plan.episodes)]
    finally:
        env.close()
    chunks = {"horizon": model.info.chunk_horizon, "execute": execute}
    save_result(file, origin, {**chunks, **summary(played, actor, plan.hz)})


def summary(played: list[Episode], actor: DelayedActor, hz: int) -> dict[str, Any]:
    """A cell's figures. Jerk in m/s^3, jumps in millimetres a step; null where there was no seam."""
    wins = sum(episode.success for episode in played)
    every = [jerks(own.actions, hz) for own in actor.episodes]
    crossing = [at_seams(values, own.seams) for values, own in zip(every, actor.episodes, strict=True)]
    overall, seams = np.concatenate(every), np.concatenate(crossing)
    jumps = [jump for own in actor.episodes for jump in own.jumps]
    return {
        "episodes": len(played),
        "wins": wins,
        "success": wins / len(played),
        "success_ci95": wilson(wins, len(played)),
        "outcomes": "".join(str(int(episode.success)) for episode in played),
        "steps_mean": float(np.mean([episode.steps for episode in played])),
        "seams": sum(len(own.seams) for own in actor.episodes),
        "jerk": float(overall.mean()) if len(overall) else None,
        "jerk_at_seams": float(seams.mean()) if len(seams) else None,
        "jump_mm": 1e3 * float(np.mean(jumps)) if jumps else None,
    }
