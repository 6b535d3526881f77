"""A simulator's process that simulates nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from stillframe_lab.libero.process import SimulatorProcess

FAKE = Path(__file__).parent / "fake_simulator.py"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., SimulatorProcess]]:
    """Start processes of the fake simulator; they end with the test."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in sys.path if path))
    with ExitStack() as running:

        def start(**options: Any) -> SimulatorProcess:
            command = [sys.executable, str(FAKE), "{}"]
            return running.enter_context(SimulatorProcess(command, draw=False, **options))

        yield start
