"""What is shipped for Prometheus, by promtool: rules are sound, and each fires when it is to and not before."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest

ROOT = Path(__file__).resolve().parents[2]
RULES, CASES = ROOT / "docker/alerts.yml", Path(__file__).with_name("alerts.test.yml")
ALERTS = [rule["alert"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
CHECKS: list[dict[str, Any]] = [
    check for case in yaml.safe_load(CASES.read_text())["tests"] for check in case["promql_expr_test"]
]


@pytest.fixture
def promtool(tool: Callable[[str], str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run it."""
    program = tool("promtool")
    return lambda *words, **more: subprocess.run([program, *words], capture_output=True, text=True, check=False, **more)


def test_rules_are_sound(promtool: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """Expressions and templates parse, and no rule is there twice."""
    said = promtool("check", "rules", "--lint=all", "--lint-fatal", str(RULES))

    assert said.returncode == 0, said.stdout + said.stderr


def test_configuration_is_sound(promtool: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """Prometheus takes it; that the rules lie where it looks, another test holds to docker-compose.yml."""
    said = promtool("check", "config", "--syntax-only", str(ROOT / "docker/prometheus.yml"))

    assert said.returncode == 0, said.stdout + said.stderr


def test_names_and_help_follow_prometheus(
    promtool: Callable[..., subprocess.CompletedProcess[str]], registry: CollectorRegistry
) -> None:
    """Base units, suffixes, help texts: nothing for its linter to say."""
    said = promtool("check", "metrics", input=generate_latest(registry).decode())

    assert (said.returncode, said.stderr) == (0, "")


def test_alerts_fire_when_they_are_to(promtool: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """Over series made up for it: for the daemon that is in trouble, and not for the others or too early."""
    said = promtool("test", "rules", str(CASES))

    assert said.returncode == 0, said.stdout + said.stderr


@pytest.mark.parametrize("alert", ALERTS)
def test_each_alert_has_its_cases(alert: str) -> None:
    """One at least in which it fires, and one in which it does not."""
    found = [check["exp_samples"] for check in CHECKS if f'alertname="{alert}"' in check["expr"]]
    firing = [any('alertstate="firing"' in sample["labels"] for sample in samples) for samples in found]

    assert set(firing) == {True, False}
