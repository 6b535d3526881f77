"""The figures of a measurement for people, in a terminal. Knows figures by their names; not how they were found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from rich.table import Table

from stillframe.bench.loadtest.report import Figures

SHORT = {"within_share": "in time", "p50": "p50", "p90": "p90", "p99": "p99", "max": "max", "reuse_ratio": "reuse"}


def load_table(found: Figures) -> Table:
    """One load."""
    load = found["load"]
    flood = f", {load['flood']} flooding" if load["flood"] else ""
    shown = Table(title=f"{load['robots']} robots at {load['hz']:g} Hz over {load['wire']}{flood}", show_header=False)
    for name, value in _rows(found):
        shown.add_row(name, value)
    return shown


def short_table(title: str, rows: Mapping[str, Figures]) -> Table:
    """The figures that matter, a line each."""
    shown = Table("", *SHORT.values(), title=title)
    for name, row in rows.items():
        shown.add_row(name, _percent(row["within_share"]), *(_number(row[key]) for key in [*SHORT][1:]))
    return shown


def capacity_table(found: Figures) -> Table:
    """What was tried, in its order."""
    shown = Table("robots", "in time", "p50, ms", "p99, ms", "problems", title=f"capacity: {found['capacity']} robots")
    for tried in found["tried"]:
        latency_ms, share = tried["latency_ms"], tried["within_deadline"]["share"]
        figures = (_percent(share), _number(latency_ms["p50"]), _number(latency_ms["p99"]))
        shown.add_row(str(tried["load"]["robots"]), *figures, _listed(tried["frames"]["problems"]))
    return shown


def overhead_table(found: Figures) -> Table:
    """Each way to send a frame."""
    parts = next(iter(found.values()))["of_which_p50_ms"]
    shown = Table("ms, beside the policy", "p50", "p90", "p99", *parts, "p50 with it")
    for way, times in found.items():
        figures = [times["overhead_ms"][name] for name in ("p50", "p90", "p99")] + [*times["of_which_p50_ms"].values()]
        shown.add_row(way, *map(_number, figures), _number(times["total_ms"]["p50"]))
    return shown


def _rows(found: Figures) -> Iterable[tuple[str, str]]:
    frames, within, fair = found["frames"], found["within_deadline"], found["fairness"]
    latency_ms, lag_ms = found["latency_ms"], found["generator"]["lag_ms"]
    yield "frames due", f"{frames['due']}, sent {frames['sent']}, skipped {frames['skipped']}"
    yield "answered", f"{frames['answered']}, superseded {frames['superseded']}, unanswered {frames['unanswered']}"
    yield f"within {found['load']['deadline_ms']:g} ms", _percent(within["share"])
    yield "latency, ms", "  ".join(f"{name} {_number(value)}" for name, value in latency_ms.items())
    yield "problems", _listed(frames["problems"])
    worst, index = fair["worst_over_median_p99"], fair["jain_answered"]
    yield "fairness", f"worst robot's p99 / median's {_number(worst)}, Jain of answers {_number(index)}"
    yield "robots' p99, ms", "  ".join(_number(p99_ms) for p99_ms in fair["robot_p99_ms"])
    yield "reuse ratio", _number(found["reuse_ratio"])
    if found["flooders"]:
        flood = found["flooders"]
        yield "flooders", f"sent {flood['sent']}, answered {flood['answered']}, {_listed(flood['problems'])}"
    if found["ended_early"]:
        yield "ended early", "; ".join(found["ended_early"])
    yield (
        "this generator",
        f"{_percent(found['generator']['cpu_share'])} of a core, late by p99 {_number(lag_ms['p99'])} ms",
    )
    yield "load average", f"{found['load_average']} before"


def _listed(problems: dict[str, int]) -> str:
    return ", ".join(f"{code} {number}" for code, number in problems.items()) or "none"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.2%}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if value < 100 else f"{value:.0f}"
