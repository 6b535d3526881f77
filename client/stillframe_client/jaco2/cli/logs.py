"""The commands `replay` and `report`: what a log's lines came to, in text and charts. Moves nothing."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Mapping, Optional

from stillframe_client.jaco2.cli.refusal import Refusal
from stillframe_client.jaco2.config import ConfigError, changed
from stillframe_client.jaco2.reports.replay import decide_again, decided, difference, first_difference, redecided
from stillframe_client.jaco2.reports.summary import compared, summary
from stillframe_client.jaco2.reports.tick_file import LogError, TickFile, log_of, read_log

if TYPE_CHECKING:
    from pathlib import Path

    from stillframe_client.jaco2.settings import BridgeSettings

CHARTS = "report"


def replay(path: Path, others: Optional[BridgeSettings], given: Mapping[str, Any]) -> int:
    """Decide a log again: 0 where it comes to the same, 1 with the first difference.

    With other settings, or with single ones changed, say what would have been decided otherwise: 0.
    """
    log = _read(path)
    try:
        settings = others or (changed(log.settings, given) if given else None)
    except ConfigError as error:
        raise Refusal(str(error)) from error
    if settings is None:
        return _same(log)
    pairs = [(line, redecided(line, tick), difference(line, tick)) for line, tick in decide_again(log, settings)]
    then, now = decided(line for line, _, _ in pairs), decided(line for _, line, _ in pairs)
    first = next(((line, what) for line, _, what in pairs if what), None)
    sys.stdout.write(compared(then, now))
    sys.stdout.write(f"{sum(bool(what) for _, _, what in pairs)} of {len(pairs)} ticks would have been others\n")
    if first is not None:
        sys.stdout.write(f"the first, {first[0].time_s - log.ticks[0].time_s:.2f} s after the start: {first[1]}\n")
    sys.stdout.write("The arm's reports are those of the log: what it would have done instead is not known.\n")
    return 0


def report(path: Path, out: Optional[Path]) -> int:
    """Write a log's charts and its summary."""
    log = _read(path)
    folder = out or log.file.parent / CHARTS
    text = summary(log)
    sys.stdout.write(text)
    try:
        from stillframe_client.jaco2.reports.charts import draw
    except ImportError as missing:
        raise Refusal(
            f"the charts need matplotlib ({missing}): pip install 'stillframe-client[jaco2-report]'"
        ) from missing
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "summary.txt").write_text(text, encoding="utf-8")
        files = draw(log, folder)
    except OSError as error:
        raise Refusal(f"{folder} cannot be written: {error}; give another folder with --out") from error
    sys.stdout.write("\n" + "".join(f"{file}\n" for file in files))
    return 0


def _same(log: TickFile) -> int:
    found = first_difference(log)
    if found:
        sys.stdout.write(f"{found}\n")
        return 1
    sys.stdout.write(f"{len(log.ticks)} ticks decided again: all came to the same{_cut(log)}\n")
    return 0


def _cut(log: TickFile) -> str:
    return "; the log's last line is cut short" if log.is_cut else ""


def _read(path: Path) -> TickFile:
    try:
        return read_log(log_of(path))
    except LogError as error:
        raise Refusal(str(error)) from error
