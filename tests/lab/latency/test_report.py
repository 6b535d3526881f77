from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stillframe_lab.evaluation.page import number, table
from stillframe_lab.latency.report import beside_earlier

ROOT = Path(__file__).parents[3]
ROWS = {  # of a row, what README calls it
    "stock, compiled": "stock, by torch.compile",
    "drafts, all wrong": "nothing reused, no guess right",
    "drafts, all right": "nothing reused, guesses right",
    "all: drafts right, reuse 0.5": "half reused, guesses right",
    "all: drafts right, reuse 0.5, batch 4": "the same, four robots side by side",
    "int8 weights, all: drafts right, reuse 0.5": "half reused, guesses right, int8 weights",
}


def excerpt(document: Mapping[str, Any]) -> str:
    """README's table: how many times as fast as stock, and in brackets as stock with our products."""
    rows = {(row["model"], row["dtype"], row["name"]): row for row in document["rows"]}
    models = [(model, dtype) for model, dtype, name in rows if name == "stock" and (model, dtype, [*ROWS][1]) in rows]
    stock = [number(rows[*model, "stock"]["frame_ms"], 1) for model in models]
    lines = [(title, *(against_both(rows[*model, name]) for model in models)) for name, title in ROWS.items()]
    head = ("", *(f"{model}, {dtype}" for model, dtype in models))
    return table(head, [("stock, ms a step", *stock), *lines])


def against_both(row: Mapping[str, Any]) -> str:
    """Against both stock ways, where there are both."""
    same = row["speedup_vs_stock_our_products"]
    return f"{row['speedup_vs_stock']:.2f}x" + ("" if same is None else f" ({same:.2f}x)")


def raced(model: str, ms: float) -> dict[str, Any]:
    """A row of a model."""
    return {"model": model, "p50_ms": ms}


def test_a_run_of_some_models_leaves_the_others_as_they_are() -> None:
    """In their order, with the closed loop that only the earlier run played; what was raced again is replaced whole."""
    played, skipped = {"rows": ["stock"]}, {"skipped": "not asked for"}
    earlier = {"rows": [raced("a", 1), raced("a", 2), raced("b", 3)], "closed_loop": played, "machine": "then"}
    again = {"rows": [raced("c", 5), raced("a", 4)], "closed_loop": skipped, "machine": "now"}
    both = beside_earlier(earlier, again)

    assert both["rows"] == [raced("a", 4), raced("b", 3), raced("c", 5)]
    assert (both["closed_loop"], both["machine"]) == (played, "now")
    assert beside_earlier(earlier, {**again, "closed_loop": {"rows": ["ours"]}})["closed_loop"] == {"rows": ["ours"]}


def test_the_readme_is_made_of_the_report() -> None:
    """Its table is the last run's, and so is what it says of the closed loop."""
    document = json.loads((ROOT / "docs" / "bench" / "amd-epyc-avx512.json").read_text())
    readme = " ".join((ROOT / "README.md").read_text().split())
    stock, ours = document["closed_loop"]["rows"]
    times = f"a step takes {ours['step_ms']['p50']:.1f} ms in place of {stock['step_ms']['p50']:.1f}"

    assert " ".join(excerpt(document).split()) in readme
    assert f"picks {ours['wins']} of {document['closed_loop']['episodes']} cubes either way" in readme
    assert f"{times}, {ours['speedup_vs_stock']:.2f}x as fast" in readme
    assert ours["wins"] == stock["wins"]
