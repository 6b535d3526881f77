"""docs/metrics.md against the registry and the alerts: what it lists is what there is."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry, Metric

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/metrics.md").read_text()
SUFFIXES = {"counter": "_total", "info": "_info"}  # of the names that are exposed


def rows(heading: str) -> list[list[str]]:
    """The cells of the table below a heading, without its own head."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def told(metric: Metric) -> list[str]:
    """A metric as the page has it, but for its unit: name, type, labels, meaning."""
    labels = {label: None for sample in metric.samples for label in sample.labels if label != "le"}
    name = metric.name + SUFFIXES.get(metric.type, "")
    return [f"`{name}`", metric.type, ", ".join(f"`{label}`" for label in labels), metric.documentation]


def test_each_metric_is_listed(registry: CollectorRegistry) -> None:
    """In alphabetical order, with its type, its labels and the help text that /metrics gives."""
    listed = [[name, kind, labels, meaning] for name, kind, labels, _, meaning in rows("Metrics")]

    assert listed == sorted(map(told, registry.collect()), key=lambda row: row[0].strip("`"))


@pytest.mark.parametrize("unit", ["seconds", "bytes"])
def test_a_unit_in_a_name_is_its_unit(unit: str) -> None:
    """And a metric that is in seconds or bytes says so in its name."""
    units = {name.strip("`").removesuffix("_total"): said for name, _, _, said, _ in rows("Metrics")}

    assert {name for name, said in units.items() if said == unit} == {n for n in units if n.endswith(f"_{unit}")}
    assert unit in units.values()
    assert all(units.values())


def test_each_alert_is_listed() -> None:
    """With its severity, and for how long it has to hold."""
    groups = yaml.safe_load((ROOT / "docker/alerts.yml").read_text())["groups"]
    alerts = [(rule["alert"], rule["labels"]["severity"], rule["for"]) for group in groups for rule in group["rules"]]

    assert [(name.strip("`"), severity, held) for name, severity, held, _ in rows("Alerts")] == alerts
