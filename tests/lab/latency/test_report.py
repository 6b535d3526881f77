from __future__ import annotations

import json
from pathlib import Path

from stillframe_lab.latency.report import excerpt

ROOT = Path(__file__).parents[3]


def test_the_readme_is_made_of_the_report() -> None:
    """Its table is the last run's, and so is what it says of the closed loop."""
    document = json.loads((ROOT / "docs" / "bench" / "cpu.json").read_text())
    readme = " ".join((ROOT / "README.md").read_text().split())
    stock, ours = document["closed_loop"]["rows"]
    times = f"a step takes {ours['step_ms']['p50']:.1f} ms in place of {stock['step_ms']['p50']:.1f}"

    assert " ".join(excerpt(document).split()) in readme
    assert f"picks {ours['wins']} of {document['closed_loop']['episodes']} cubes either way" in readme
    assert f"{times}, {ours['speedup_vs_stock']:.2f}x as fast" in readme
    assert ours["wins"] == stock["wins"]
