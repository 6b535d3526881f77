"""Puts fault_kit in reach. Knows no fault."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # fault_kit is a kit of several modules, and measure.py uses it too


@pytest.fixture
def virtual(monkeypatch: pytest.MonkeyPatch) -> Iterator[asyncio.Runner]:
    """Runs coroutines in time that costs nothing; the bridge goes by it too."""
    from fault_kit.virtual import VirtualLoop, patched_clock

    patched_clock(monkeypatch)
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        yield runner
