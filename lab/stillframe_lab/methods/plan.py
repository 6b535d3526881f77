"""What is compared: the ablation's arms, forced counts of reused tokens, methods that prune; and which episodes.

Knows settings; plays nothing.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from stillframe.engine.pruning_methods import pruning_methods
from stillframe.errors import ConfigError
from stillframe.models.base import PolicyModel
from stillframe.reuse.settings import ReuseSettings
from stillframe_lab.ablation.plan import NO_GAP_S, OFF, arms, forced, selector_arm
from stillframe_lab.libero.bench import Bench
from stillframe_lab.libero.suites import EpisodeId, episodes_of

STATIC_RELEVANT, STATIC_MASKED = "static + relevance", "static + masks"
BLOCK = 5  # initial states of a cell: more episodes add cells, and leave those that are there
COUNT_SHARES = (0.2, 0.4, 0.8)  # of a camera's patches: the published 50, 100 and 200 of 256
RELEVANT_SHARE = 0.16  # that a forced count with relevance leaves out: the 40 of 256 of the ablation


@dataclass(frozen=True)
class MethodsPlan:
    """All cells of one table."""

    bench: Bench
    tasks: tuple[int, ...]
    episodes: int  # in all, of each arm that is to be played
    seed: int
    arms: Mapping[str, ReuseSettings]  # every one that the policy can be served with
    checkpoint: Path
    execute: int | None  # actions of each chunk that are played; None: as the paper of the family has it
    checkpoint_config: Mapping[str, Any] | None
    wanted: Collection[str] = ()  # of the arms, those to play; of the others is reported what there is. Empty: all

    def __post_init__(self) -> None:
        """Raises ConfigError for an arm that there is not."""
        for name in self.wanted:
            if name not in self.arms:
                raise ConfigError(f"--arm {name}: expected one of {', '.join(self.arms)}")

    @property
    def to_play(self) -> tuple[str, ...]:
        """The arms that are to have played every cell: `off`, which all are compared with, among them."""
        return tuple(name for name in self.arms if not self.wanted or name in {OFF, *self.wanted})

    @property
    def name(self) -> str:
        """The name of its report's files."""
        return f"{self.checkpoint.name}-{self.bench.label}{'' if self.execute is None else f'-every-{self.execute}'}"

    def cells(self) -> Iterator[MethodsCell]:
        """The first states of every task before the next ones of any: what is stopped has some of each."""
        wanted = episodes_of(self.tasks, self.episodes, self.bench.init_states)
        states = {task: [one.init_state for one in wanted if one.task == task] for task in self.tasks}
        for first in range(0, max(map(len, states.values())), BLOCK):
            for task in self.tasks:
                if block := tuple(states[task][first : first + BLOCK]):
                    yield MethodsCell(self, task, block)


@dataclass(frozen=True)
class MethodsCell:
    """Some initial states of one task of a plan, each played in turn by every arm that has no result yet."""

    plan: MethodsPlan
    task: int
    init_states: tuple[int, ...]

    @property
    def name(self) -> str:
        """The name of the folder of its arms' results."""
        return f"{self.plan.name}-{self.task}-from-{self.init_states[0]:02}"

    @property
    def episodes(self) -> Iterator[EpisodeId]:
        """In their order."""
        return (EpisodeId(self.task, state) for state in self.init_states)

    def origin(self, weights: str) -> dict[str, Any]:
        """All that every arm's result depends on, as JSON; `weights`: the checkpoint's digest."""
        plan = self.plan
        said = {
            "suite": plan.bench.suite,
            "task": self.task,
            "init_states": self.init_states,
            "seed": plan.seed,
            "checkpoint": plan.checkpoint,
            "execute": plan.execute,
            "checkpoint_config": plan.checkpoint_config,
            **plan.bench.origin,
            **plan.bench.seen_as,
            "weights": weights,
        }
        return _as_json(said)


def arm_origin(origin: Mapping[str, Any], reuse: ReuseSettings) -> dict[str, Any]:
    """All that one arm's result depends on: its cell's `origin` and its own settings, whatever else is played."""
    return _as_json({**origin, "reuse": asdict(reuse)})


def _as_json(said: Mapping[str, Any]) -> dict[str, Any]:
    """As it is read back."""
    plain: dict[str, Any] = json.loads(json.dumps(said, default=str))
    return plain


def method_arms(
    knobs: ReuseSettings, model: PolicyModel, checkpoint: Path, patches: int, *, masks: bool
) -> dict[str, ReuseSettings]:
    """Every arm that the model can be served with; `patches`: of one camera; `masks`: whether there are some.

    `checkpoint`: the model's folder, which may hold a selector.
    """
    selected, masked = selector_arm(knobs, checkpoint), {STATIC_MASKED: _masked(knobs)} if masks else {}
    return {**arms(knobs), **selected, **masked, **_pruning(knobs, model), **_counts(knobs, patches)}


def asks_masks(reuse: ReuseSettings) -> bool:
    """Whether an arm's plans go by masks of the objects that matter."""
    sources = {"adaptive": reuse.adaptive.relevance, "paper": reuse.paper.relevance}
    return sources.get(reuse.mode) == "masks"


def is_count(arm: str) -> bool:
    """Whether an arm forces a count of reused tokens."""
    return arm.partition(" ")[0].isdigit()


def _pruning(knobs: ReuseSettings, model: PolicyModel) -> dict[str, ReuseSettings]:
    """Methods that prune, those that the engine serves the model with."""
    served = pruning_methods(model, replace(knobs, mode="off"), history=False)
    return {mode: replace(knobs, mode=mode, gap_s=NO_GAP_S) for mode in served}


def _masked(knobs: ReuseSettings) -> ReuseSettings:
    """Static tokens less those that masks touch, where `static + relevance` takes the most attended."""
    own = arms(knobs)[STATIC_RELEVANT]
    return replace(own, paper=replace(own.paper, relevance="masks"))


def _counts(knobs: ReuseSettings, patches: int) -> dict[str, ReuseSettings]:
    """So many tokens of each camera in every layer of every frame, without refresh or limits."""
    kept = round(RELEVANT_SHARE * patches)
    return {
        f"{round(share * patches)} tokens{' + relevance' if relevant else ''}": forced(
            knobs, round(share * patches), relevant
        )
        for share in COUNT_SHARES
        for relevant in (0, kept)
    }
