"""Who takes part: the stock way and ours, each feature alone and all together, of one model in one or more dtypes.

Knows rows and what each switches on; times nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch

from stillframe.models.base import PolicyModel
from stillframe.models.checkpoint import CheckpointFolder
from stillframe.reuse.settings import ReuseSettings
from stillframe.stopwatch import Clock
from stillframe_lab.ablation.plan import NO_GAP_S, forced
from stillframe_lab.latency.ours import Guesses, Oracle, Ours
from stillframe_lab.latency.race import Contestant, Entry
from stillframe_lab.latency.scene import Motion, Scene
from stillframe_lab.latency.sizes import load_from
from stillframe_lab.latency.stock import ONE_HEAD_ROW, OUR_PRODUCTS, STOCK, Stock, stock_decoder, with_our_products

OFF, DRAFTS, HIT, MISS = "off", "drafts, as they come", "drafts, all right", "drafts, all wrong"
REUSED, ADAPTIVE, IDENTICAL = "reuse 0.5", "reuse adaptive", "identical picture"
AS_IT_COMES, ALL = "all, as it comes", "all: drafts right, reuse 0.5"
BATCHES = (2, 4, 8)
SHARE = 0.5  # of token-layers that the forced rows reuse


Reuse = Literal["off", "forced", "adaptive", "exact"]


def settings(knobs: ReuseSettings, prompt_rows: int) -> dict[Reuse, ReuseSettings]:
    """What rows reuse; `knobs`: the deployment's. Nothing is a gap, for the robots wait for each other."""
    patient = replace(knobs, gap_s=NO_GAP_S, kv_budget_mib=None)
    return {
        "off": replace(patient, mode="off"),
        "forced": forced(patient, round(SHARE * prompt_rows) - 1, kept=0),  # BOS is always reused
        "adaptive": replace(patient, mode="adaptive"),
        "exact": replace(patient, mode="exact"),
    }


@dataclass(frozen=True)
class Row:
    """One of our rows."""

    name: str
    reuse: Reuse = "off"
    guesses: Guesses = "none"
    motion: Motion = "moving"
    robots: int = 1
    batch_of: str = ""  # the row of which this is a batch
    quick: bool = False  # whether a short run has it as well

    @property
    def forced(self) -> bool:
        """Whether it shows what something is worth, and not how often it comes."""
        return self.guesses in ("right", "wrong") or self.reuse == "forced"


def _batches(row: Row, sizes: Sequence[int], quick: Sequence[int] = ()) -> Iterator[Row]:
    for robots in sizes:
        name = f"{row.name}, batch {robots}"
        yield replace(row, name=name, robots=robots, batch_of=row.name, quick=robots in quick)


_OFF = Row(OFF, quick=True)
_ALL = Row(ALL, "forced", "right", quick=True)
OURS = (
    _OFF,
    Row(DRAFTS, "off", "own", quick=True),
    Row(HIT, "off", "right", quick=True),
    Row(MISS, "off", "wrong"),
    Row(REUSED, "forced", quick=True),
    Row(ADAPTIVE, "adaptive"),
    Row(IDENTICAL, "exact", motion="static"),
    *_batches(_OFF, [4]),
    Row(AS_IT_COMES, "adaptive", "own"),
    _ALL,
    *_batches(_ALL, BATCHES, quick=[4]),
)


@dataclass(frozen=True)
class Team:
    """One model in one dtype, on one device, and the rows that are asked of it."""

    folder: CheckpointFolder
    dtype: torch.dtype
    device: torch.device
    knobs: ReuseSettings
    rows: tuple[Row, ...] = OURS
    variants: bool = True  # whether the stock way is timed with one head row and with our products as well


def contestants(team: Team, scene: Scene, clock: Clock) -> list[Contestant]:
    """Load the model, and everybody who answers with it; the stock ways first."""
    model = load_from(team.folder, dtype=team.dtype, device=team.device)
    ways = settings(team.knobs, model.prepare(scene.shots[0].observation()).layout.action.start)
    oracles = {reuse: Oracle(model, robots, ways[reuse]) for reuse, robots in _asked_for(team.rows).items()}
    ours = [_ours(row, model, clock, ways[row.reuse], oracles.get(row.reuse)) for row in team.rows]
    return [*_stock(team, model, clock), *ours]


def _asked_for(rows: Sequence[Row]) -> dict[Reuse, int]:
    """Of how many robots the right tokens have to be known."""
    robots: dict[Reuse, int] = {}
    for row in rows:
        if row.guesses == "right":
            robots[row.reuse] = max(robots.get(row.reuse, 0), row.robots)
    return robots


def _stock(team: Team, model: PolicyModel, clock: Clock) -> Iterator[Contestant]:
    llama = stock_decoder(team.folder, model.decoder.config, dtype=team.dtype, device=team.device)
    dtype = model.info.dtype
    yield Stock(Entry(STOCK, dtype), model, llama, clock)
    if team.variants:
        yield Stock(Entry(ONE_HEAD_ROW, dtype), model, llama, clock, head_rows=1)
    ours = with_our_products(llama) if team.variants else None
    if ours is not None:
        yield Stock(Entry(OUR_PRODUCTS, dtype), model, ours, clock)


def _ours(row: Row, model: PolicyModel, clock: Clock, reuse: ReuseSettings, oracle: Oracle | None) -> Ours:
    entry = Entry(row.name, model.info.dtype, row.robots, row.motion, row.batch_of, row.forced)
    return Ours(entry, model, clock, reuse, row.guesses, oracle if row.guesses == "right" else None)
