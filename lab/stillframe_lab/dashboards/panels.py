"""Reads a dashboard of docker/grafana: its panels, where they lie, what they ask and how the answers are shown.

Knows Grafana's JSON; asks nothing and draws nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VARIABLE = re.compile(r"\$(\w+)")
LABEL = re.compile(r"\{\{(\w+)\}\}")


@dataclass(frozen=True)
class Query:
    """One query of a panel, with Grafana's variables in it."""

    expr: str
    legend: str  # of each series in its answer, with {{label}} for the value of a label

    def filled_in(self, variables: Mapping[str, str]) -> str:
        """As Grafana sends it. Raises KeyError for a variable that has no value."""
        return VARIABLE.sub(lambda found: variables[found[1]], self.expr)

    def name(self, labels: Mapping[str, str]) -> str:
        """What the legend calls a series."""
        return LABEL.sub(lambda found: labels.get(found[1], ""), self.legend)


@dataclass(frozen=True)
class Panel:
    """One panel. Boxes are in cells of Grafana's grid, 24 columns wide, from the upper left."""

    title: str
    kind: str  # "timeseries", "stat", or "row" for a heading
    box: tuple[int, int, int, int]  # x, y, width, height
    unit: str = "none"
    queries: tuple[Query, ...] = ()
    most: float | None = None  # upper end of the axis; None: what the answers need
    decimals: int | None = None
    stacked: bool = False
    limit: float | None = None  # where a line is drawn that values should not cross
    says_name: bool = False  # of a stat: its legend in place of its value
    words: Mapping[str, tuple[str, str]] | None = None  # of a stat: value -> what is said for it, its colour

    @classmethod
    def of(cls, panel: Mapping[str, Any]) -> Panel:
        """From Grafana's JSON."""
        where = panel["gridPos"]
        box = (where["x"], where["y"], where["w"], where["h"])
        if panel["type"] == "row":
            return cls(panel["title"], "row", box)
        shown = panel["fieldConfig"]["defaults"]
        custom = shown.get("custom", {})
        steps = shown.get("thresholds", {}).get("steps", [])
        words = {
            value: (said["text"], said["color"])
            for mapping in shown.get("mappings", [])
            for value, said in mapping["options"].items()
        }
        return cls(
            panel["title"],
            panel["type"],
            box,
            shown["unit"],
            tuple(Query(target["expr"], target["legendFormat"]) for target in panel["targets"]),
            most=shown.get("max"),
            decimals=shown.get("decimals"),
            stacked=custom.get("stacking", {}).get("mode") == "normal",
            limit=steps[-1]["value"] if steps else None,
            says_name=panel["options"].get("textMode") == "name",
            words=words or None,
        )


@dataclass(frozen=True)
class Dashboard:
    """One dashboard."""

    name: str  # of its file
    title: str
    panels: tuple[Panel, ...]

    @classmethod
    def read(cls, file: Path) -> Dashboard:
        """From a file of docker/grafana/dashboards."""
        said = json.loads(file.read_text(encoding="utf-8"))
        return cls(file.stem, said["title"], tuple(Panel.of(panel) for panel in said["panels"]))
