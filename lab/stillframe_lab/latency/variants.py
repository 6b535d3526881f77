"""The variants of a race: plain transformers, and stillframe with each feature alone and with all, in each dtype.

Knows rows and the features of each; times nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch

from stillframe.domain import WeightScheme
from stillframe.models.base import PolicyModel
from stillframe.models.checkpoint import CheckpointFolder
from stillframe.models.llama.layout import Mask, TokenLayout
from stillframe.models.openvla_oft.model import OpenVLAOFT
from stillframe.models.pi0.model import Pi0
from stillframe.models.quantised.schemes import refusal
from stillframe.reuse.settings import ReuseSettings
from stillframe.stopwatch import Clock
from stillframe_lab.ablation.plan import NO_GAP_S, forced
from stillframe_lab.latency.ours import DraftSource, GreedyOracle, StillframeVariant
from stillframe_lab.latency.plain_pi0 import plain_pi0
from stillframe_lab.latency.race import Variant, VariantInfo
from stillframe_lab.latency.scene import Motion, Scene
from stillframe_lab.latency.sizes import load_from
from stillframe_lab.latency.stock import (
    NO_PADDING,
    ONE_HEAD_ROW,
    STOCK,
    STOCK_PACKED,
    StockVariant,
    bidirectional,
    stock_decoder,
    with_packed_weights,
)
from stillframe_lab.latency.stock_chunk import StockChunkVariant
from stillframe_lab.latency.stock_compiled import COMPILED, StaticCaches, compile_refusal, compiled
from stillframe_lab.latency.stock_flow import StockFlowVariant

OFF, DRAFTS, HIT, MISS = "off", "drafts, as they come", "drafts, all right", "drafts, all wrong"
REUSED, ADAPTIVE, IDENTICAL = "reuse 0.5", "reuse adaptive", "identical picture"
AS_IT_COMES, ALL = "all, as it comes", "all: drafts right, reuse 0.5"
INT8_OFF, INT8_HIT = "int8 weights", "int8 weights, drafts, all right"
INT8_ALL = "int8 weights, all: drafts right, reuse 0.5"
BATCHES = (2, 4, 8)
SHARE = 0.5  # of token-layers that the forced rows reuse


Reuse = Literal["off", "forced", "adaptive", "exact"]


def settings(knobs: ReuseSettings, layout: TokenLayout) -> dict[Reuse, ReuseSettings]:
    """Reuse settings by kind, from the deployment's; without gap resets, for robots wait for each other."""
    patient = replace(knobs, gap_s=NO_GAP_S, kv_budget_mib=None)
    alone = int(layout.mask is Mask.CAUSAL)  # BOS, which is then always reused
    count = round((round(SHARE * layout.prompt_rows) - alone) / len(layout.patches))  # of each camera
    return {
        "off": replace(patient, mode="off"),
        "forced": forced(patient, count, kept=0),
        "adaptive": replace(patient, mode="adaptive"),
        "exact": replace(patient, mode="exact"),
    }


@dataclass(frozen=True)
class VariantSpec:
    """One of stillframe's rows."""

    name: str
    reuse: Reuse = "off"
    drafts: DraftSource = "none"
    motion: Motion = "moving"
    robots: int = 1
    batch_of: str = ""  # the row of which this is a batch
    quick: bool = False  # whether it is in a quick run
    weights: WeightScheme = "as-is"  # how the decoder's layers are held; left out where this device cannot

    @property
    def forced(self) -> bool:
        """Whether it shows what a feature is worth, not how often it applies."""
        return self.drafts in ("right", "wrong") or self.reuse == "forced"


def _batches(row: VariantSpec, sizes: Sequence[int], quick: Sequence[int] = ()) -> Iterator[VariantSpec]:
    for robots in sizes:
        name = f"{row.name}, batch {robots}"
        yield replace(row, name=name, robots=robots, batch_of=row.name, quick=robots in quick)


_OFF = VariantSpec(OFF, quick=True)
_ALL = VariantSpec(ALL, "forced", "right", quick=True)
STILLFRAME_VARIANTS = (
    _OFF,
    VariantSpec(DRAFTS, "off", "own", quick=True),
    VariantSpec(HIT, "off", "right", quick=True),
    VariantSpec(MISS, "off", "wrong"),
    VariantSpec(REUSED, "forced", quick=True),
    VariantSpec(ADAPTIVE, "adaptive"),
    VariantSpec(IDENTICAL, "exact", motion="static"),
    *_batches(_OFF, [4]),
    VariantSpec(AS_IT_COMES, "adaptive", "own"),
    _ALL,
    *_batches(_ALL, BATCHES, quick=[4]),
    VariantSpec(INT8_OFF, weights="int8"),
    VariantSpec(INT8_HIT, "off", "right", weights="int8"),
    VariantSpec(INT8_ALL, "forced", "right", weights="int8"),
)
_REUSED = VariantSpec(REUSED, "forced", quick=True)
# Where a chunk of actions comes out of one pass, nothing is drafted.
CHUNK_VARIANTS = (
    _OFF,
    _REUSED,
    VariantSpec(ADAPTIVE, "adaptive"),
    *_batches(_REUSED, [2]),
    VariantSpec(INT8_OFF, weights="int8"),
)
# Nor where it is drawn by an expert; there several robots share every step.
FLOW_VARIANTS = (
    *(_OFF, *_batches(_OFF, [4], quick=[4]), _REUSED, *_batches(_REUSED, [4], quick=[4])),
    VariantSpec(ADAPTIVE, "adaptive"),
    VariantSpec(INT8_OFF, weights="int8"),
)


@dataclass(frozen=True)
class ModelSpec:
    """One model in one dtype on one device, and its rows."""

    folder: CheckpointFolder
    dtype: torch.dtype
    device: torch.device
    knobs: ReuseSettings
    rows: tuple[VariantSpec, ...] = STILLFRAME_VARIANTS
    variants: bool = True  # whether stock is also timed with one head row and with packed weights
    compiled: bool = False  # whether stock is also timed compiled, where this machine can: minutes for each shape


def build_variants(spec: ModelSpec, scene: Scene, clock: Clock) -> list[Variant]:
    """Load the model and build its variants, stock first."""
    model = load_from(spec.folder, dtype=spec.dtype, device=spec.device)
    variants = [*_stock_variants(spec, model, clock)]
    for weights in dict.fromkeys(row.weights for row in spec.rows):
        if refusal(weights, spec.dtype, spec.device) is None:
            rows = [row for row in spec.rows if row.weights == weights]
            variants += _stillframe_variants(spec, rows, _held(spec, model, weights), scene, clock)
    return variants


def _held(spec: ModelSpec, model: PolicyModel, weights: WeightScheme) -> PolicyModel:
    """The model with such weights: the one that is there already, or another."""
    as_is = weights == "as-is"
    return model if as_is else load_from(spec.folder, dtype=spec.dtype, device=spec.device, weights=weights)


def _stillframe_variants(
    spec: ModelSpec, rows: Sequence[VariantSpec], model: PolicyModel, scene: Scene, clock: Clock
) -> Iterator[Variant]:
    ways = settings(spec.knobs, model.prepare(scene.shots[0].of_policy(model.info)).layout)
    oracles = {reuse: GreedyOracle(model, robots, ways[reuse]) for reuse, robots in _asked_for(rows).items()}
    for row in rows:
        yield _stillframe_variant(row, model, clock, ways[row.reuse], oracles.get(row.reuse))


def _asked_for(rows: Sequence[VariantSpec]) -> dict[Reuse, int]:
    """For how many robots the right tokens are needed, by kind of reuse."""
    robots: dict[Reuse, int] = {}
    for row in rows:
        if row.drafts == "right":
            robots[row.reuse] = max(robots.get(row.reuse, 0), row.robots)
    return robots


def _stock_variants(spec: ModelSpec, model: PolicyModel, clock: Clock) -> Iterator[Variant]:
    if isinstance(model, OpenVLAOFT):
        yield from _stock_chunk_variants(spec, model, clock)
        return
    if isinstance(model, Pi0):
        yield from _stock_flow_variants(spec, model, clock)
        return
    llama = stock_decoder(spec.folder, model.decoder.config, dtype=spec.dtype, device=spec.device)
    dtype = model.info.dtype
    yield StockVariant(VariantInfo(STOCK, dtype), model, llama, clock)
    if spec.variants:
        yield StockVariant(VariantInfo(ONE_HEAD_ROW, dtype), model, llama, clock, head_rows=1)
    ours = with_packed_weights(llama) if spec.variants else None
    if ours is not None:
        yield StockVariant(VariantInfo(STOCK_PACKED, dtype), model, ours, clock)
    if spec.compiled and compile_refusal(spec.device) is None:
        entry, caches = VariantInfo(COMPILED, dtype), StaticCaches(llama.config)
        yield StockVariant(entry, model, compiled(llama), clock, new_cache=caches)


def _stock_chunk_variants(spec: ModelSpec, model: OpenVLAOFT, clock: Clock) -> Iterator[Variant]:
    config, dtype = model.decoder.config, model.info.dtype
    stock = stock_decoder(spec.folder, config, dtype=spec.dtype, device=spec.device, has_head=False)
    llama = bidirectional(stock)
    yield StockChunkVariant(VariantInfo(STOCK, dtype), model, llama, clock)
    ours = with_packed_weights(llama) if spec.variants else None
    if ours is not None:
        yield StockChunkVariant(VariantInfo(STOCK_PACKED, dtype), model, ours, clock)


def _stock_flow_variants(spec: ModelSpec, model: Pi0, clock: Clock) -> Iterator[Variant]:
    config, dtype = model.config, model.info.dtype
    plain = plain_pi0(spec.folder, config.sizes, config.flow, dtype=spec.dtype, device=spec.device)
    yield StockFlowVariant(VariantInfo(STOCK, dtype), model, plain, clock)
    if spec.variants:
        yield StockFlowVariant(VariantInfo(NO_PADDING, dtype), model, plain, clock, padded=False)
    ours = with_packed_weights(plain) if spec.variants else None
    if ours is not None:
        yield StockFlowVariant(VariantInfo(STOCK_PACKED, dtype), model, ours, clock)


def _stillframe_variant(
    row: VariantSpec, model: PolicyModel, clock: Clock, reuse: ReuseSettings, oracle: GreedyOracle | None
) -> StillframeVariant:
    entry = VariantInfo(row.name, model.info.dtype, row.robots, row.motion, row.batch_of, row.forced)
    return StillframeVariant(entry, model, clock, reuse, row.drafts, oracle if row.drafts == "right" else None)
