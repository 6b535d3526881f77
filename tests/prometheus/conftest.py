"""A registry in which everything that a daemon can count has been counted, and Debian's Prometheus and promtool.

Prometheus is what `make test-prometheus` unpacks into the folder that STILLFRAME_PROMETHEUS names, or what the system
has. Without it the tests that run it skip.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from stillframe.domain import (
    CacheReport,
    ConnectionReport,
    DraftReport,
    GpuMemory,
    KVUsage,
    PassCounts,
    RecordingReport,
    ShadowReport,
    SlackReport,
    StepReport,
    WatchReport,
)
from stillframe.errors import Overloaded
from stillframe.metrics import Metrics
from stillframe.testing import policy_info

MISSING = "no Prometheus on this machine: `make test-prometheus` unpacks Debian's"


@pytest.fixture(scope="session")
def registry() -> CollectorRegistry:
    """That of a daemon which has answered a frame, refused one, used a pause, records, is watched and has a GPU."""
    metrics = Metrics(registry := CollectorRegistry())
    with metrics.frame("/act"):
        reused = CacheReport("adaptive", None, 0.5, 140, 281, 1_105_920, age_max=3)
        metrics.step(StepReport({"queue": 1.0, "vision": 20.0}, 2, reused, DraftReport("exact", "previous", 4)))
    metrics.slack(SlackReport(duration_ms=30.0, drift=0.01, yield_ms=2.0, by_action=(0.01,) * 8))
    metrics.slack(SlackReport(duration_ms=9.0, drift=0.01, audit=True))
    metrics.shadow.frame(ShadowReport("compared", 9.0, (0.02,)))
    metrics.shadow.frame(ShadowReport("preempted", 2.0, yield_ms=1.0))
    with suppress(Overloaded), metrics.frame("/act"):
        raise Overloaded("overloaded", "64 frames wait, which is the limit; ask again in a second")
    metrics.passes(PassCounts)
    metrics.gpu_memory(lambda: GpuMemory(2**20, 2**21, 2**30, 2**31))
    metrics.log_lines(lambda: 0)
    metrics.connected(lambda: ConnectionReport(1, 1024, 0, 0, {}, 0))
    metrics.recording(lambda: RecordingReport("recording", 1, 0, 0, 10_000, 2**30))
    metrics.watched(lambda: WatchReport(1, 0, 5))
    usage = KVUsage(in_use_bytes=1_105_920, budget_bytes=2**28, sessions=1)
    metrics.exposition(version="0.1.0", ready=True, info=policy_info(), usage=usage)
    return registry


@pytest.fixture(scope="session")
def series(registry: CollectorRegistry) -> dict[str, dict[str, set[str]]]:
    """What a daemon exposes that has met everything: series -> label -> values."""
    exposed: dict[str, dict[str, set[str]]] = {}
    for sample in itertools.chain.from_iterable(family.samples for family in registry.collect()):
        labels = exposed.setdefault(sample.name, {"job": set(), "instance": set()})  # these two Prometheus adds
        for label, value in sample.labels.items():
            labels.setdefault(label, set()).add(value)
    return exposed


@pytest.fixture(scope="session")
def tool() -> Callable[[str], str]:
    """Find a program of Debian's package by its name."""

    def find(name: str) -> str:
        folder = os.environ.get("STILLFRAME_PROMETHEUS")
        found = shutil.which(name, path=str(Path(folder, "usr/bin")) if folder else None)
        return found or pytest.skip(MISSING)

    return find
