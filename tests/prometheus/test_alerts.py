"""Hold Prometheus' alerts to the metrics that the daemon has, and to one standard."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

DOCKER = Path(__file__).resolve().parents[2] / "docker"
GROUPS: list[dict[str, Any]] = yaml.safe_load((DOCKER / "alerts.yml").read_text())["groups"]
ALERTS: list[dict[str, Any]] = [rule for group in GROUPS for rule in group["rules"]]


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
