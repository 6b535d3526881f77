"""Simulators without MuJoCo: a process that counts, and the real one's recording."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from stillframe_client.wire import PackLimits, unpack
from stillframe_lab.libero.process import Pictures, Reading, Scene, SimulatorProcess
from stillframe_lab.libero.suites import SETTLE, SETTLE_STEPS

FAKE = Path(__file__).parent / "fake_simulator.py"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., SimulatorProcess]]:
    """Start processes of the fake simulator; they end with the test."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    with ExitStack() as running:

        def start(**options: Any) -> SimulatorProcess:
            command = [sys.executable, str(FAKE), "{}"]
            return running.enter_context(SimulatorProcess(command, draw="", **options))

        yield start


@dataclass
class RecordedSimulator:
    """Gives what the real simulator gave, step by step; `strict`: only to the actions that it was given then."""

    document: Mapping[str, Any]
    strict: bool = True
    at: int = -1  # of the readings
    drawn: list[int] = field(default_factory=list)  # steps at which pictures were asked for

    def open(self, suite: str, task: int) -> Scene:
        """The one task."""
        assert (suite, task) == (self.document["suite"], self.document["task"])
        return Scene(**self.document["scene"])

    def reset(self, init_state: int | None, seed: int) -> Reading:
        """The one initial state."""
        assert (init_state, seed) == (self.document["init_state"], self.document["seed"])
        self.at = 0
        return self.reading

    def step(self, action: NDArray[np.float64]) -> Reading:
        """The next reading."""
        played = self.at - SETTLE_STEPS
        expected = SETTLE if played < 0 else self.document["actions"][played]
        if self.strict or played < 0:
            assert action == pytest.approx(expected, abs=1e-6), f"step {played}"
        self.at += 1
        return self.reading

    def pictures(self, cameras: Sequence[str]) -> Pictures:
        """Of three steps there are some."""
        step = self.at - SETTLE_STEPS
        self.drawn.append(step)
        (files,) = [one for one in self.document["pictures"] if one["step"] == step]
        return {name: np.asarray(Image.open(io.BytesIO(files[name]))) for name in cameras}

    @property
    def reading(self) -> Reading:
        """As it was."""
        return Reading(**self.document["readings"][self.at])


@pytest.fixture(scope="session")
def recording() -> Mapping[str, Any]:
    """An expert's episode of the first task of LIBERO-Spatial in the real simulator; recorded/record.py made it."""
    data = (Path(__file__).parent / "recorded" / "spatial-0.msgpack").read_bytes()
    document: Mapping[str, Any] = unpack(data, limits=PackLimits(max_parts=100_000))
    return document


@pytest.fixture
def recorded(recording: Mapping[str, Any]) -> Callable[..., RecordedSimulator]:
    """Make a simulator that plays the recording."""
    return partial(RecordedSimulator, recording)
