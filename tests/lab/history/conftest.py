"""A plan that nobody plays, and what came of it: results made up, so that every figure of the report is known."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from stillframe.history.settings import HistorySettings
from stillframe.reuse.settings import ReuseSettings
from stillframe_lab.evaluation.evaluate import wilson
from stillframe_lab.history.arms import ARMS, FULL, GATE, LINEAR, OFF, RAW, SAMPLING, WINDOW
from stillframe_lab.history.plan import HistoryCell, HistoryPlan
from stillframe_lab.history.results import CellResult

EPISODES = 20
WINS = {GATE: 18, FULL: 19, LINEAR: 12, SAMPLING: 7, WINDOW: 2, OFF: 1}  # others 5
CHUNK_MIB = 1 / 128


@pytest.fixture
def plan(tmp_path: Path) -> HistoryPlan:
    """A checkpoint that nobody loads."""
    return HistoryPlan(tmp_path / "memory", ReuseSettings(), HistorySettings(), EPISODES, proof_episodes=EPISODES)


@pytest.fixture
def played(plan: HistoryPlan) -> list[CellResult]:
    """Every cell: the first so many episodes are won."""
    return [CellResult(cell, result_of(cell)) for cell in plan.cells()]


def result_of(cell: HistoryCell) -> dict[str, Any]:
    """As `cell.summary` makes it."""
    wins = WINS.get(cell.arm, 5)
    chunks = {OFF: 0, FULL: 100}.get(cell.arm, cell.chunks or 0)
    return {
        "success": wins / EPISODES,
        "success_ci95": wilson(wins, EPISODES),
        "wins": wins,
        "episodes": EPISODES,
        "outcomes": {"remember": "1" * wins + "0" * (EPISODES - wins)},
        "wrong_cube": 0.05,
        "timed_out": 0.95 - wins / EPISODES,
        "first_direction": 0.5,
        "steps_mean": 150.0,
        "frames": 100,
        "keyframes": 100,
        "reuse_ratio": 0.0,
        "decoder_gmacs": 0.25,
        "passes": 3.0,
        "history_mib": 2 * chunks * CHUNK_MIB,
        "history_end_mib": chunks * CHUNK_MIB,
        "chunks": {"held": chunks, "kept": chunks, "dropped": 7},
        "failed_seeds": [],
        "drifts": [],
    }


def raced(arm: str) -> dict[str, Any]:
    """A row of the race: full takes half as long again as the others, raw four times as long."""
    times = {FULL: 1.5, RAW: 4.0}.get(arm, 1.0)
    held = {OFF: 0, FULL: 100 * 8192, RAW: 100 * 2**20}.get(arm, 4 * 8192)
    row = {"frames": 9, "slots": held // 4096, "passes": 3.0, "reuse_ratio": 0.0, "gmacs": 0.2 * times, "bytes": held}
    ms = {"decoder_ms": 10.0, "prefill_ms": 8.0, "step_ms": 20.0, "history_ms": 2.0}
    ratios = {f"{other}_{key}_ratio": {FULL: 1.5, RAW: 4.0}[other] / times for other in (FULL, RAW) for key in ms} | {
        f"{other}_bytes_ratio": 25.0 for other in (FULL, RAW)
    }
    return {**row, **{key: value * times for key, value in ms.items()}, **ratios}


@pytest.fixture
def alone() -> dict[str, Any]:
    """What is measured beside the cells."""
    modes = {mode: {arm: raced(arm) for arm in (*ARMS, RAW)} for mode in ("off", "adaptive")}
    run = {
        "steps": 120,
        "success": True,
        "free_from": 101,
        "bytes": [32768] * 5,
        "prefill_ms": [8.0] * 5,
        "step_ms": [20.0] * 5,
        "passes": [3.0] * 5,
    }
    grown = {**run, "bytes": [8192 * 20 * block for block in range(2, 7)]}
    says = {"utilities": [0.9, 0.1, 0.5, 0.2, 0.1, 0.1], "held": [1, 3]}
    return {
        "speed": {
            "delay": 120,
            "chunks": 4,
            "frames": 9,
            "modes": modes,
            "gate": {"score_ms": 0.2, "share": 0.01, "history_ms": 1.5},
        },
        "long": {"delay": 1000, "block": 20, GATE: run, FULL: grown},
        "utility": {
            "variant": "ordered-distractor",
            "seed": 1,
            "delay": 60,
            "chunks": 2,
            "success": True,
            "steps": 6,
            "free_from": 5,
            "flashes": [
                {"first": 1, "last": 2, "colour": "red", "meant": True},
                {"first": 3, "last": 4, "colour": "blue", "meant": False},
            ],
            "arms": {GATE: says, LINEAR: says},
            "shots": [{"step": step, "png": _png()} for step in (1, 3, 5, 6)],
        },
    }


@pytest.fixture
def without(played: list[CellResult]) -> Callable[..., list[CellResult]]:
    """What was played but for some arms."""

    def some(*arms: str) -> list[CellResult]:
        return [one for one in played if one.cell.arm not in arms]

    return some


def _png() -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, "png")
    return base64.b64encode(buffer.getvalue()).decode("ascii")
