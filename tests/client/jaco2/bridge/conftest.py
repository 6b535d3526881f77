"""Cards of policies as the daemon writes them, settings, and the fault matrix's virtual world. Knows no process."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stillframe.testing import policy_info
from stillframe.web.service.model_card import model_card
from stillframe_client.jaco2.settings import BridgeSettings
from stillframe_client.replies import ModelInfo, model_info

sys.path.insert(0, str(Path(__file__).parents[1] / "faults"))  # for fault_kit


@pytest.fixture
def virtual(monkeypatch: pytest.MonkeyPatch) -> Iterator[asyncio.Runner]:
    """Runs coroutines in time that costs nothing; the bridge goes by it too."""
    from fault_kit.virtual import VirtualLoop, patched_clock

    patched_clock(monkeypatch)
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        yield runner


@pytest.fixture
def card() -> Callable[..., ModelInfo]:
    """What the daemon says of a policy: `card(chunk_horizon=8)`; `at_most` scales its movements."""

    def make(*, at_most: float = 0.005, gripper_range: tuple[float, float] = (0.0, 1.0), **changes: Any) -> ModelInfo:
        stats = {
            "q01": [-at_most] * 6 + [gripper_range[0]],
            "q99": [at_most] * 6 + [gripper_range[1]],
            "mask": [True] * 7,
        }
        info = policy_info(**{"name": "mover", "norm_stats": {"robot": stats}, **changes})
        return model_info(model_card(info).model_dump(mode="json"))

    return make


@pytest.fixture
def chosen() -> Callable[..., BridgeSettings]:
    """Settings with changes by section: `chosen(policy={"hz": 5.0})`."""

    def make(**sections: Any) -> BridgeSettings:
        made = BridgeSettings()
        cameras = sections.pop("cameras", made.cameras)
        changed = {name: replace(getattr(made, name), **values) for name, values in sections.items()}
        return replace(made, cameras=cameras, **changed)

    return make
