"""The part above the sessions: the daemon, its contract in a line, what all callers did, and the memory.

Knows readings; no terminal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.text import Text

from stillframe.files.kinds import shown
from stillframe.tools.sizes import size
from stillframe.tools.top.snapshot import Contract, Labelled, Reading

STATE_STYLES = {"ready": "bold green", "loading": "bold yellow", "warming": "bold yellow"}
GOOD = ("answered", "late")  # outcomes of a frame that the line of refusals leaves out
BAR = 20  # columns


def header(reading: Reading) -> Iterator[Text]:
    """Line by line."""
    snapshot = reading.snapshot
    state = Text(shown(snapshot.state), style=STATE_STYLES.get(snapshot.state, "bold red"))
    yield Text.assemble("stillframe ", shown(snapshot.version), "  ", state, "  ", (shown(reading.url), "dim"))
    if reading.trouble is not None:
        yield Text(f"Shown as it was: {shown(reading.trouble)}", style="bold red")
    if reading.contract is None:
        yield Text("no policy is loaded yet", style="yellow")
    else:
        yield from _contract(reading.contract, snapshot.settings)
    yield Text()
    yield _answers(reading)
    yield _memory(reading)
    yield _refusals(reading)


def _contract(contract: Contract, settings: Mapping[str, Any]) -> Iterator[Text]:
    seen, action = contract.observation, contract.action
    held = f"weights {shown(contract.weights)} {size(contract.weight_bytes)}"
    mode = _setting(settings, "reuse", "mode")
    reuse = "" if mode is None else f", reuse {shown(mode)}"
    place = f"on {shown(contract.device)}, {shown(contract.dtype)}, {held}{reuse}, draft {shown(contract.draft)}"
    yield Text.assemble((shown(contract.name), "bold"), f" ({shown(contract.family)}) ", place)
    height, width = seen.image_size
    cameras = f"{', '.join(map(shown, seen.cameras))} {width} x {height} px"
    state = "no state" if seen.state is None else f"{len(seen.state.fields)} numbers of state"
    numbers = " ".join(shown(field.name) for field in action.fields)
    chunk = "1 action" if action.chunk_horizon == 1 else f"{action.chunk_horizon} actions"
    statistics = "named by each frame" if contract.default_unnorm_key is None else shown(contract.default_unnorm_key)
    yield Text(f"{cameras}, {state} -> {chunk} of {numbers}; statistics {statistics}", style="dim")


def _answers(reading: Reading) -> Text:
    snapshot, totals = reading.snapshot, reading.totals
    rate = totals.answered_per_s(reading.before)
    open_ = len(snapshot.sessions) + snapshot.not_listed
    limit = "" if snapshot.sessions_limit is None else f" (room for {snapshot.sessions_limit})"
    late = f", {totals.frames['late']:,.0f} of them late" if totals.frames.get("late") else ""
    return _facts(
        ("answers", "-" if rate is None else f"{rate:.1f}/s"),
        ("in all", f"{totals.answered:,.0f}{late}"),
        ("queued", f"{totals.queued:.0f}"),
        ("sessions", f"{open_}{limit}"),
        ("streams", f"{totals.streams:.0f}"),
    )


def _memory(reading: Reading) -> Text:
    used, budget = reading.snapshot.kv_in_use_bytes, reading.snapshot.kv_budget_bytes
    share = min(1.0, used / budget) if budget else 0.0
    bar = Text.assemble(("█" * round(BAR * share), "cyan"), ("░" * (BAR - round(BAR * share)), "dim"))
    kept = _facts(("older frames", size(reading.totals.history_bytes)))
    return Text.assemble(("KV ", "dim"), f"{size(used)} of {size(budget)} ", bar, "   ", kept)


def _refusals(reading: Reading) -> Text:
    totals = reading.totals
    ended = {name: count for name, count in totals.frames.items() if name not in GOOD}
    facts = [
        ("frames", _counts(ended)),
        ("problems", _counts(totals.rejected)),
        ("sessions", f"{totals.sessions_refused:,.0f}" if totals.sessions_refused else ""),
        ("requests over the rate", f"{totals.rate_limited:,.0f}" if totals.rate_limited else ""),
    ]
    found = [(name, value) for name, value in facts if value]
    return Text.assemble(("not answered: ", "dim"), _facts(*found) if found else "none")


def _counts(series: Labelled) -> str:
    """Those that are not 0, the most first."""
    counts = sorted(((count, name) for name, count in series.items() if count), reverse=True)
    return ", ".join(f"{shown(name)} {count:,.0f}" for count, name in counts)


def _facts(*facts: tuple[str, str]) -> Text:
    parts = (Text.assemble((f"{name} ", "dim"), value) for name, value in facts)
    return Text("   ").join(parts)


def _setting(settings: Mapping[str, Any], section: str, name: str) -> Any:
    """A setting in force; None where the daemon does not say it."""
    members = settings.get(section)
    return members.get(name) if isinstance(members, Mapping) else None


def drift_budget(settings: Mapping[str, Any]) -> float | None:
    """The drift that an answer may have; None where the daemon does not say it."""
    budget = _setting(settings, "reuse", "drift_budget")
    return float(budget) if isinstance(budget, int | float) else None
