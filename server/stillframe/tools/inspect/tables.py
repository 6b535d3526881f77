"""Findings as tables for a terminal of 80 columns.

Knows findings; opens nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from stillframe.tools.inspect.findings import Findings, Names, TensorTotals
from stillframe.tools.sizes import size

MOST_KEYS = 30  # data sets that are listed


def tables(found: Findings) -> Iterator[RenderableType]:
    """What is known, from the family down to what is not used."""
    yield from _section("Checkpoint", _facts(_summary(found)))
    if found.parts:
        yield from _section("Parts, as they are computed", _parts(found))
        yield from _section("Weights in memory, by the setting `weights`; as-is: all in bfloat16", _memory(found))
    elif found.groups:
        yield from _section("Tensors, by how their names begin", _groups(found))
    for what, names in (("unused", found.unused), ("missing", found.missing), ("unknown", found.unknown)):
        if names.count:
            yield from _section(f"Tensors that are {what}", Text(_listed(names)))
    if found.statistics:
        yield from _section(f"Statistics, in {found.statistics_in}", _statistics(found))
        yield from _section("Contract, as /v1/models has it", _facts(_contract(found)))
        facts = {key.replace("_", " "): str(value) for key, value in found.tokenizer.items()}
        yield from _section("Tokenizer", _facts(facts))
    if found.notes:
        yield from _section("Notes", *map(Text, found.notes))


def _section(title: str, *parts: RenderableType) -> Iterator[RenderableType]:
    yield Text(title, style="bold")
    yield from parts
    yield ""


def _summary(found: Findings) -> dict[str, str]:
    stored = found.stored
    return {
        "folder": found.checkpoint,
        **({} if found.source is None else {"hub": found.source}),
        "family": found.family or "not known",
        "on disk": "nothing that could be read" if stored is None else f"{_amount(stored)}, {_dtypes(stored)}",
        "served": "no" if found.refusal else "yes, as far as names and shapes tell: no number was read",
    }


def _parts(found: Findings) -> Table:
    table = _table("part", "layers", "width", "heads", "tensors", "parameters", "on disk", "dtype")
    for part in found.parts:
        sizes = part.totals
        heads = str(part.heads) if part.heads else "-"
        row = (str(part.layers), str(part.width), heads, str(sizes.tensors), f"{sizes.parameters:,}")
        table.add_row(part.name, *row, size(sizes.bytes), Text("/".join(sizes.dtypes)))
    return table


def _memory(found: Findings) -> Table:
    table = _table("weights", "about")
    for kind, taken in found.memory.items():
        table.add_row(kind, size(taken))
    return table


def _groups(found: Findings) -> Table:
    table = _table("begins", "tensors", "parameters", "on disk", "dtype")
    for begins, sizes in found.groups.items():
        row = (str(sizes.tensors), f"{sizes.parameters:,}", size(sizes.bytes))
        table.add_row(Text(begins), *row, Text("/".join(sizes.dtypes)))
    return table


def _statistics(found: Findings) -> Table:
    """One data set: each number's range; several: each data set's widest."""
    if len(found.statistics) > 1:
        return _data_sets(found)
    ((key, entry),) = found.statistics.items()
    table = _table(key, "low", "high", "scaled")
    names = [field["name"] for field in found.contract["action"]["fields"]]
    for at, name in enumerate(names):
        table.add_row(Text(name), *_range(entry, "q01", "q99", at))
    state = (found.state or {}).get("norm_stats", {}).get(key)
    for at, name in enumerate((found.state or {}).get("names", ()) if state else ()):
        table.add_row(Text(f"state: {name}"), *_range(state, "low", "high", at))
    return table


def _data_sets(found: Findings) -> Table:
    table = _table("unnorm_key", "numbers", "lowest", "highest", "not scaled")
    names = [field["name"] for field in found.contract["action"]["fields"]]
    for key, entry in [*found.statistics.items()][:MOST_KEYS]:
        through = [name for name, scaled in zip(names, entry["mask"], strict=True) if not scaled]
        row = (str(len(entry["q01"])), f"{min(entry['q01']):.4g}", f"{max(entry['q99']):.4g}")
        table.add_row(Text(key), *row, Text(", ".join(through) or "-"))
    if len(found.statistics) > MOST_KEYS:
        table.add_row(f"and {len(found.statistics) - MOST_KEYS} more", "", "", "", "")
    return table


def _contract(found: Findings) -> dict[str, str]:
    seen, action, state = found.contract["observation"], found.contract["action"], found.state
    units = [f"{field['name']} [{field['unit']}]" for field in action["fields"]]
    read = zip(state["names"], state["units"], strict=True) if state else ()
    return {
        "name": found.contract["name"],
        "cameras": ", ".join(seen["cameras"]),
        "image size": " x ".join(map(str, seen["image_size"])),
        "action": ", ".join(units),
        "gripper": action["gripper"],
        "actions an answer": str(action["chunk_horizon"]),
        "state": ", ".join(f"{name} [{unit}]" if unit else name for name, unit in read) or "none",
        "unnorm_key": found.contract["default_unnorm_key"] or "a frame has to name one",
    }


def _facts(facts: Mapping[str, str]) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(name, Text(value))
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for at, column in enumerate(columns):
        words = at == 0 or column in {"dtype", "not scaled"}
        table.add_column(Text(column), justify="left" if words else "right", overflow="fold")
    return table


def _range(entry: Mapping[str, Any], low: str, high: str, at: int) -> tuple[str, str, str]:
    return f"{entry[low][at]:.4g}", f"{entry[high][at]:.4g}", "yes" if entry["mask"][at] else "no"


def _listed(names: Names) -> str:
    more = names.count - len(names.first)
    listed = ", ".join(names.first) + (f" and {more} more" if more else "")
    return f"{names.count} tensor{'s' if names.count > 1 else ''}: {listed}"


def _amount(totals: TensorTotals) -> str:
    return f"{totals.tensors} tensors, {totals.parameters:,} parameters, {size(totals.bytes)}"


def _dtypes(totals: TensorTotals) -> str:
    return ", ".join(f"{count} {dtype}" for dtype, count in totals.dtypes.items())
