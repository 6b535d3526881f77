from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from stillframe.domain import HistoryInfo, Image
from stillframe.engine.core import EngineCore
from stillframe.engine.engine import Engine
from stillframe.engine.history import HistoryManager, untrained_weights
from stillframe.errors import ConfigError
from stillframe.history.info import WARNING
from stillframe.history.settings import UNTRAINED, HistorySettings, ScorerName
from stillframe.reuse.settings import ReuseSettings

Make = Callable[..., Any]
Pictures = Callable[[int], Image]
OFF = ReuseSettings()


def forcing(gate: ScorerName) -> HistorySettings:
    """Room for a few frames."""
    return HistorySettings(enabled=True, force=True, gate=gate, window_frames=1, budget_mib=0.01)


def test_chunks_are_means(toy: Make) -> None:
    """Nothing was learnt: a frame is one chunk, and its one slot the mean of its image tokens."""
    weights = untrained_weights(toy(), forcing("novelty"))
    keys, values = torch.randn(2, 4, 2, 16, 8).unbind(0)
    pooled = weights.pooling.frame(keys, values, weights.config.chunk_tokens)

    assert not weights.trained
    torch.testing.assert_close(pooled.keys, keys.mean(2, keepdim=True)[None])
    torch.testing.assert_close(pooled.values, values.mean(2, keepdim=True)[None])


@pytest.mark.parametrize("gate", UNTRAINED)
@pytest.mark.parametrize("cameras", [("front",), ("front", "wrist")])
def test_answers_look_at_older_frames(
    robots: Make, picture: Pictures, gate: ScorerName, cameras: tuple[str, ...]
) -> None:
    """Whoever scores, and whatever the policy sees: it answers, keeps chunks, and says that nobody trained it."""
    made = robots("off", cameras=cameras)
    recalling = HistoryManager(made.model, untrained_weights(made.model, forcing(gate)), forcing(gate), made.clock)
    made.core = EngineCore.of(made.model, OFF, made.clock, history=recalling)
    for seed in range(3):
        made.see({camera: picture(seed) for camera in cameras})
    report = made.steps[-1].report.history

    assert report is not None
    assert (report.held, report.slots) == (3, 3)
    assert recalling.info.warning == WARNING
    assert recalling.info.chunk_tokens == 16 * len(cameras)


@pytest.mark.parametrize("gate", ["gate", "linear"])
def test_what_needs_training_is_refused(toy: Make, gate: ScorerName) -> None:
    """An untrained gate would say nothing with confidence; the message names those that need no training."""
    with pytest.raises(ConfigError, match=rf"history.gate is '{gate}'.*choose one of novelty, attention, recency"):
        untrained_weights(toy(), forcing(gate))


def test_policies_of_several_actions_at_once_are_refused(toy: Make) -> None:
    """Their rows are not said one after the other: with the reason, and what to do."""
    model = toy()
    model.info = replace(model.info, chunk_horizon=8)

    with pytest.raises(ConfigError, match=r"toy answers with 8 actions at once.*set it to false"):
        HistoryManager(model, untrained_weights(model, forcing("recency")), forcing("recency"), lambda: 0.0)


@pytest.mark.parametrize("recalls", [True, False])
def test_model_info_says_how_it_stands(toy: Make, *, recalls: bool) -> None:
    """On: as the memory has it. Off: the reason that the engine was given."""
    model, reason = toy(), HistoryInfo(why="nobody wants it")
    recalling = HistoryManager(model, untrained_weights(model, forcing("recency")), forcing("recency"), lambda: 0.0)
    engine = Engine(
        model,
        reuse=OFF,
        queue_frames=1,
        clock=lambda: 0.0,
        log=logging.getLogger("engine-test"),
        on_refresh=lambda _: None,
        history=recalling if recalls else None,
        history_info=reason,
    )
    engine.close()

    assert engine.info == replace(model.info, draft="exact", history=recalling.info if recalls else reason)
    assert engine.info.history.enabled is recalls
