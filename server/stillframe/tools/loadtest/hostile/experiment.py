"""Measure a robot alone and beside each kind of hostile neighbour, on this daemon and, if asked, an earlier one.

Knows processes and /proc; what a neighbour does is in neighbours.py.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import yaml

from stillframe.tools.loadtest.hostile.neighbours import KINDS
from stillframe.tools.loadtest.load import Load
from stillframe.tools.loadtest.run import LoadReporter, LoadResult, find_target, run_load
from stillframe.tools.local_daemon import RunningDaemon, started
from stillframe.tools.machine import machine

GRACE_S = 1.0  # between two measurements
MOST_RATIO = 1.25  # of p99 beside a neighbour to p99 alone, plus one step

Figures = dict[str, Any]


@dataclass(frozen=True)
class HostileTest:
    """What to measure."""

    load: Load  # one robot's
    rounds: int = 3
    kinds: Sequence[str] = tuple(KINDS)
    before: Path | None = None  # a checkout of an earlier commit to compare with


def measure_neighbours(wanted: HostileTest, config: Path, reporter: LoadReporter) -> Figures:
    """All kinds on each daemon, alternating. Raises StillframeError for a daemon that does not start."""
    tokens = {name: secrets.token_urlsafe(16) for name in ("robot", "neighbour")}
    sources = {"now": None} if wanted.before is None else {"before": wanted.before, "now": None}
    with contextlib.ExitStack() as up:
        daemons = {
            name: up.enter_context(
                started([str(up.enter_context(_config_with_tokens(config, tokens, source)))], source=source)
            )
            for name, source in sources.items()
        }
        rows = [_row(kind, daemons, tokens, wanted, reporter) for kind in wanted.kinds]
    return {
        "machine": machine(),
        "hz": wanted.load.hz,
        "wire": wanted.load.wire,
        "rounds": wanted.rounds,
        "kinds": rows,
    }


def _row(
    kind: str,
    daemons: Mapping[str, RunningDaemon],
    tokens: Mapping[str, str],
    wanted: HostileTest,
    reporter: LoadReporter,
) -> Figures:
    """One kind on each daemon: the robot alone and beside the neighbour, in rounds."""
    seen: dict[str, _Measurements] = {name: _Measurements() for name in daemons}
    for _ in range(wanted.rounds):
        for name, daemon in daemons.items():
            seen[name].take(kind, daemon, tokens, wanted.load, reporter)
    return {"kind": kind, **{name: one.figures(wanted.load) for name, one in seen.items()}}


class _Measurements:
    """The measurements of one daemon's robot."""

    def __init__(self) -> None:
        self.alone: list[LoadResult] = []
        self.beside: list[LoadResult] = []
        self.rss_mib: list[tuple[float, float, float]] = []  # before, largest, after
        self.ended = False  # the daemon has ended, or answers no more
        self.reason = ""  # the error

    def take(
        self, kind: str, daemon: RunningDaemon, tokens: Mapping[str, str], load: Load, reporter: LoadReporter
    ) -> None:
        """Measure alone, then beside the neighbour."""
        if self.ended or daemon.process.poll() is not None:
            self.ended = True
            return
        try:
            target = find_target(daemon.url, tokens["robot"])
            self.alone.append(run_load(load, target, reporter))
            before = _rss_mib(daemon.process.pid)
            url = httpx.URL(daemon.url)
            command = [kind, url.host, str(url.port), tokens["neighbour"], str(load.seconds + 3 * GRACE_S)]
            with _neighbour_process(command) as neighbour:
                target = find_target(daemon.url, tokens["robot"])
                self.beside.append(run_load(load, target, reporter))
                largest = _rss_mib(daemon.process.pid)
                neighbour.terminate()
            _settle(daemon)
            self.rss_mib.append((before, largest, _rss_mib(daemon.process.pid)))
        except Exception as error:  # noqa: BLE001 (part of the measurement: it is reported)
            self.ended = True
            self.reason = f"{type(error).__name__}: {error}"

    def figures(self, load: Load) -> Figures:
        """In milliseconds and MiB, over all rounds."""
        if not self.beside:
            return {"ended": self.ended, "reason": self.reason}
        alone, beside = _latencies_ms(self.alone), _latencies_ms(self.beside)
        step_ms = float(np.percentile(alone, 50))
        p99, most = _at(beside, 99), MOST_RATIO * _at(alone, 99) + step_ms
        due = sum(robot.due for played in self.beside for robot in played.robots)
        return {
            "alone_ms": {"p50": step_ms, "p99": _at(alone, 99)},
            "beside_ms": {"p50": _at(beside, 50), "p99": p99},
            "answered_share": len(beside) / max(1, due),
            "bound_ms": most,
            "within": bool(p99 <= most and len(beside) >= 0.99 * due and not self.ended),
            "rss_mib": dict(zip(("before", "largest", "after"), map(float, np.max(self.rss_mib, axis=0)), strict=True))
            if self.rss_mib
            else None,
            "ended": self.ended,
            "frames": len(alone) + len(beside),
            "seconds": load.seconds,
        }


def _latencies_ms(played: Sequence[LoadResult]) -> list[float]:
    return [latency_s * 1e3 for one in played for robot in one.robots for latency_s in robot.latencies_s]


def _at(values: Sequence[float], percentile: float) -> float:
    return float(np.percentile(values, percentile)) if values else float("inf")


def _rss_mib(pid: int) -> float:
    """A process's resident memory; 0 if the system does not report it."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
    return 0.0


def _settle(daemon: RunningDaemon) -> None:
    """Wait, then check that the daemon is alive."""
    time.sleep(GRACE_S)
    httpx.get(f"{daemon.url}/livez", timeout=30.0, trust_env=False)


@contextlib.contextmanager
def _neighbour_process(arguments: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """The neighbour, in its own process."""
    module = "stillframe.tools.loadtest.hostile.neighbours"
    process = subprocess.Popen([sys.executable, "-m", module, *arguments])  # noqa: S603 (our own program)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def _config_with_tokens(config: Path, tokens: Mapping[str, str], source: Path | None) -> Iterator[Path]:
    """A copy of the configuration with a token for each client; an earlier commit has its own configuration."""
    theirs = config if source is None else source / config
    values = yaml.safe_load((theirs if theirs.is_file() else config).read_text(encoding="utf-8"))
    values["tokens"] = [
        {"name": name, "sha256": hashlib.sha256(token.encode()).hexdigest(), "scopes": ["act"]}
        for name, token in tokens.items()
    ]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "guarded.yaml"
        file.write_text(json.dumps(values), encoding="utf-8")
        yield file
