"""Hold Grafana's dashboard and Prometheus' alerts to the metrics that the daemon has, and panels to one standard."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from stillframe.metrics import Outcome

DOCKER = Path(__file__).resolve().parents[2] / "docker"
DASHBOARD = DOCKER / "grafana/dashboards/stillframe.json"
PANELS: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
EXPRESSIONS: list[str] = [target["expr"] for panel in PANELS for target in panel["targets"]]
GROUPS: list[dict[str, Any]] = yaml.safe_load((DOCKER / "alerts.yml").read_text())["groups"]
ALERTS: list[dict[str, Any]] = [rule for group in GROUPS for rule in group["rules"]]


@pytest.fixture(scope="module")
def series(registry: CollectorRegistry) -> dict[str, dict[str, set[str]]]:
    """What a daemon exposes that has met everything: series -> label -> values."""
    exposed: dict[str, dict[str, set[str]]] = {}
    for sample in itertools.chain.from_iterable(family.samples for family in registry.collect()):
        labels = exposed.setdefault(sample.name, {"job": set(), "instance": set()})  # these two Prometheus adds
        for label, value in sample.labels.items():
            labels.setdefault(label, set()).add(value)
    return exposed


def stem_of(name: str) -> str:
    """The metric that a series belongs to."""
    return re.sub(r"_(bucket|sum|count|total|created)$", "", name)


@pytest.mark.parametrize("expr", EXPRESSIONS)
def test_query_names_what_the_daemon_exposes(expr: str, series: dict[str, dict[str, set[str]]]) -> None:
    """Every series and label in a query exists, and so does every outcome and bucket that it asks for."""
    for name, selector in re.findall(r"(stillframe_\w+)\{([^}]*)\}", expr):
        asked = dict(re.findall(r'(\w+)=~?"([^"]*)"', selector))
        grouped = set(re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", expr))))

        assert asked.keys() | grouped <= series[name].keys()
        assert set(asked.get("outcome", Outcome.ANSWERED).split("|")) <= set(Outcome)
        assert asked.get("le", "+Inf") in series[name].get("le", {"+Inf"})


def test_every_metric_has_a_panel(series: dict[str, dict[str, set[str]]]) -> None:
    """What the daemon measures can be seen."""
    shown = {stem_of(name) for name in re.findall(r"stillframe_\w+", " ".join(EXPRESSIONS))}

    assert {stem_of(name) for name in series} == shown


@pytest.mark.parametrize("target", [target for panel in PANELS for target in panel["targets"]], ids=lambda t: t["expr"])
def test_legend_names_labels_that_survive(target: dict[str, str]) -> None:
    """A legend shows only labels that its query keeps: others would be blank."""
    kept = set(re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", target["expr"]))))

    assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= kept


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_panel_explains_itself(panel: dict[str, Any]) -> None:
    """Each panel says what it shows, in which unit, and shows something; each line of it has a name."""
    assert len(panel["title"]) > 3
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["targets"]
    assert all(target["legendFormat"] for target in panel["targets"])


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_panel_reads_the_chosen_data_source(panel: dict[str, Any]) -> None:
    """No panel is tied to one installation's data source."""
    sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]

    assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources)


def test_panels_do_not_overlap() -> None:
    """Panels have ids of their own and tile a grid of 24 columns."""
    cells: set[tuple[int, int]] = set()
    for box in (panel["gridPos"] for panel in PANELS):
        mine = set(itertools.product(range(box["x"], box["x"] + box["w"]), range(box["y"], box["y"] + box["h"])))

        assert not mine & cells
        cells |= mine

    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)


def test_variables_are_the_ones_used() -> None:
    """The dashboard declares the data source and the job, and cannot be edited away from the file."""
    dashboard = json.loads(DASHBOARD.read_text())

    assert [variable["name"] for variable in dashboard["templating"]["list"]] == ["datasource", "job"]
    assert dashboard["editable"] is False


@pytest.mark.parametrize("expr", EXPRESSIONS)
def test_every_series_is_of_the_chosen_job(expr: str) -> None:
    """Each selector in a query asks for the job that was chosen."""
    series = re.findall(r"stillframe_\w+", expr)

    assert series
    assert len(series) == expr.count('{job=~"$job"')


@pytest.mark.parametrize("expr", EXPRESSIONS)
def test_counters_are_shown_as_rates(expr: str) -> None:
    """Whatever only ever grows is shown as a rate over Grafana's interval; whatever goes up and down is not."""
    growing = re.findall(r"stillframe_\w+_(?:total|bucket|count|sum)\b", expr)
    rates = re.findall(r"rate\(stillframe_\w+\{[^}]*\}\[\$__rate_interval\]\)", expr)

    assert len(rates) == len(growing) == expr.count("rate(")


@pytest.mark.parametrize("stem", ["frame", "stage"])
@pytest.mark.parametrize("quantile", ["0.5", "0.99"])
def test_latency_is_shown_at_its_middle_and_its_tail(stem: str, quantile: str) -> None:
    """Frames and stages are shown at p50 and p99."""
    wanted = f"histogram_quantile({quantile}, "

    assert any(expr.startswith(wanted) and f"stillframe_{stem}_duration_seconds_bucket" in expr for expr in EXPRESSIONS)


@pytest.mark.parametrize("metric", ["reuse_ratio", "keyframes_total", "drift", "kv_in_use_bytes", "kv_budget_bytes"])
def test_reuse_can_be_seen(metric: str) -> None:
    """What reuse saves, what it costs in drift, and what it takes in memory are on the page."""
    assert any(f"stillframe_{metric}" in expr for expr in EXPRESSIONS)


def test_memory_of_older_frames_is_shown_beside_the_pool() -> None:
    """Both are memory of sessions, and neither is the other."""
    (panel,) = [panel for panel in PANELS if panel["title"] == "KV memory"]
    shown = " ".join(target["expr"] for target in panel["targets"])

    assert "stillframe_kv_in_use_bytes" in shown
    assert "stillframe_history_bytes" in shown


def test_drift_is_shown_beside_its_budget() -> None:
    """The line that it must not cross is in the same panel."""
    (panel,) = [panel for panel in PANELS if panel["title"] == "Drift"]
    shown = " ".join(target["expr"] for target in panel["targets"])

    assert "stillframe_drift_bucket" in shown
    assert "stillframe_drift_budget" in shown


def test_drift_is_shown_along_a_chunk() -> None:
    """Quarter by quarter, beside the budget too."""
    (panel,) = [panel for panel in PANELS if panel["title"] == "Drift along a chunk"]
    shown = " ".join(target["expr"] for target in panel["targets"])

    assert "by (quarter, le)" in shown
    assert "stillframe_drift_budget" in shown


def test_drift_is_an_alert() -> None:
    """Drift over the daemon's own budget, for minutes, is an alert; a single frame is none."""
    (alert,) = [alert for alert in ALERTS if "stillframe_drift_bucket" in alert["expr"]]

    assert "> on (job, instance) stillframe_drift_budget" in alert["expr"]
    assert re.fullmatch(r"[1-9]\d*m", alert["for"])


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_alert_names_what_the_daemon_exposes(alert: dict[str, Any], series: dict[str, dict[str, set[str]]]) -> None:
    """Every series that it asks for exists, and every label that it keeps or matches on."""
    asked = re.findall(r"stillframe_\w+", alert["expr"])
    labels = set(re.findall(r"\w+", " ".join(re.findall(r"(?:by|on) \(([^)]*)\)", alert["expr"]))))

    assert asked
    assert set(asked) <= series.keys()
    assert labels - {"le"} <= set.intersection(*(set(series[name]) for name in asked))


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_alert_explains_itself(alert: dict[str, Any]) -> None:
    """It says what happens and what to do, and how bad it is."""
    assert alert["annotations"]["summary"]
    assert alert["annotations"]["description"].endswith(".")
    assert alert["labels"]["severity"] in {"warning", "critical"}


def test_prometheus_is_given_the_alerts() -> None:
    """Its configuration names the file at the place where docker-compose.yml mounts it."""
    named = yaml.safe_load((DOCKER / "prometheus.yml").read_text())["rule_files"]
    mounts = yaml.safe_load((DOCKER.parent / "docker-compose.yml").read_text())["services"]["prometheus"]["volumes"]

    assert named == [target for source, target, *_ in (m.split(":") for m in mounts) if source == "./docker/alerts.yml"]
