"""`stillframe loadtest`: find or start a daemon, run one kind of measurement, make the document and the tables.

Knows all of this room; the terminal only as a reporter.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rich.table import Table

from stillframe.errors import ConfigError, closest
from stillframe.tools.daemon_errors import daemon_errors
from stillframe.tools.loadtest.experiments import compare_flood, measure_capacity, repeat_rounds
from stillframe.tools.loadtest.hostile.experiment import HostileTest, measure_neighbours
from stillframe.tools.loadtest.hostile.neighbours import KINDS
from stillframe.tools.loadtest.hostile.page import table
from stillframe.tools.loadtest.load import Load
from stillframe.tools.loadtest.overhead import measure_overhead
from stillframe.tools.loadtest.report import Figures, capacity_table, figures, load_table, overhead_table, short_table
from stillframe.tools.loadtest.run import LoadReporter, find_target, run_load
from stillframe.tools.loadtest.transports.base import Target
from stillframe.tools.local_daemon import daemon
from stillframe.tools.machine import machine


@dataclass(frozen=True)
class LoadTest:
    """What to measure."""

    load: Load
    rounds: int = 1
    capacity_up_to: int | None = None  # robots; None: not asked for
    overhead_frames: int = 0  # 0: not asked for


def run_loadtest(
    wanted: LoadTest, url: str | None, config: Path, token: str | None, reporter: LoadReporter
) -> tuple[Figures, Sequence[Table]]:
    """Measure -> the document, and tables for a terminal. Raises StillframeError for an unreachable daemon."""
    described = {"machine": machine(), "daemon": url or str(config), "wanted": asdict(wanted)}
    with daemon_errors(url), _daemon_url(url, config) as served:
        target = find_target(served, token)
        document = {**described, "model": target.model.name, **_measure(wanted, target, reporter)}
    return document, _tables(wanted, document)


def run_hostile(
    load: Load, rounds: int, kinds: Sequence[str] | None, before: Path | None, config: Path, reporter: LoadReporter
) -> tuple[Figures, str]:
    """One robot alone and beside each kind of hostile neighbour, on a daemon started here. Raises StillframeError."""
    for kind in kinds or ():
        if kind not in KINDS:
            raise ConfigError(f"--neighbour {kind!r}: there is none; known: {', '.join(KINDS)}.{closest(kind, KINDS)}")
    wanted = HostileTest(replace(load, robots=1, flood=0), rounds, tuple(kinds or KINDS), before)
    document = measure_neighbours(wanted, config, reporter)
    return document, table(document)


def _measure(wanted: LoadTest, target: Target, reporter: LoadReporter) -> Figures:
    """Run the one kind of measurement that is asked for."""

    def played(load: Load) -> Figures:
        return figures(run_load(load, target, reporter))

    if wanted.overhead_frames:
        return {"overhead": asyncio.run(measure_overhead(target, wanted.overhead_frames))}
    if wanted.capacity_up_to is not None:
        return measure_capacity(wanted.load, wanted.capacity_up_to, played)
    if wanted.rounds == 1:
        return played(wanted.load)
    return (compare_flood if wanted.load.flood else repeat_rounds)(wanted.load, wanted.rounds, played)


def _tables(wanted: LoadTest, document: Figures) -> Sequence[Table]:
    if wanted.overhead_frames:
        return [overhead_table(document["overhead"])]
    if wanted.capacity_up_to is not None:
        return [capacity_table(document)]
    if wanted.rounds == 1:
        return [load_table(document)]
    if wanted.load.flood:
        title = f"p99 with a flood / without: {document['p99_ratio']}"
        return [short_table(title, {"calm": document["calm"], "flooded": document["flooded"]})]
    return [short_table(f"medians of {wanted.rounds} rounds", {"": document["median"]})]


@contextmanager
def _daemon_url(url: str | None, config: Path) -> Iterator[str]:
    """The daemon's URL; without one, a daemon is started."""
    if url is not None:
        yield url
        return
    with daemon([str(config)]) as own:
        yield own
