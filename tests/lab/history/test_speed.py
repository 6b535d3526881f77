from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from stillframe.history.checkpoint import HistoryConfig, HistoryWeights
from stillframe.history.scorers import Recency, Summaries
from stillframe.models.base import PolicyModel
from stillframe_lab.history import speed
from stillframe_lab.history.arms import ARMS, FULL, GATE, OFF, RAW, WINDOW
from stillframe_lab.history.plan import HistoryPlan
from stillframe_lab.history.recording_scorer import RecordingScorer

LEAD, TIMED, ROOM = 2, 1, 2


@pytest.fixture
def weights(golden_model: PolicyModel) -> HistoryWeights:
    """An untrained memory that fits the micro model."""
    sizes, image = golden_model.decoder.config, golden_model.fixed_rows - 1 - len(golden_model.info.action_names)
    heads, dim = sizes.num_key_value_heads, sizes.head_dim
    return HistoryWeights(HistoryConfig(sizes.num_hidden_layers, heads, dim, image, 2, (0,), 8, 4)).eval()


def test_every_arm_holds_what_it_is_called_after(
    plan: HistoryPlan,
    golden_model: PolicyModel,
    weights: HistoryWeights,
    goldens: Mapping[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing, the budget, two slots of every frame, or every token of each; and the gate is timed in its step."""
    picture = goldens["f0"].picture
    seen = [
        {"images": {"front": np.roll(picture, step, axis=1)}, "instruction": "wait"} for step in range(LEAD + TIMED)
    ]
    monkeypatch.setattr(speed, "BUDGET", ROOM)
    monkeypatch.setattr(speed, "frames", lambda _: (seen, LEAD))
    found = speed.race_arms(plan, golden_model, weights)
    rows, tokens = found["modes"]["off"], weights.config.chunk_tokens
    slots = {arm: row["slots"] for arm, row in rows.items()}

    assert [*rows] == [*found["modes"]["adaptive"]] == [*ARMS, RAW]
    assert (slots[OFF], slots[WINDOW], slots[GATE]) == (0, 2 * ROOM, 2 * ROOM)
    assert (slots[FULL], slots[RAW]) == (2 * (LEAD + TIMED), tokens * (LEAD + TIMED))
    assert rows[RAW]["bytes"] / rows[FULL]["bytes"] == rows[GATE]["raw_bytes_ratio"] / rows[GATE]["full_bytes_ratio"]
    assert rows[FULL]["gmacs"] < rows[RAW]["gmacs"]
    assert found["frames"] == TIMED
    assert found["gate"]["score_ms"] > 0


def test_a_recording_scorer_delegates_and_records() -> None:
    """What it says goes on as it is, and is written down."""
    heard = RecordingScorer(Recency())
    summaries = Summaries(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(2, 1))
    utilities, states = heard.score(summaries, [heard.begin()] * 2)

    assert utilities.tolist() == heard.utilities == [1.0, 1.0]
    assert len(states) == 2
    assert len(heard.took_ms) == 1
