"""Hold Grafana's dashboard to the metrics that the daemon has, and its panels to one standard."""

from __future__ import annotations

import itertools
import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from stillframe.domain import PolicyInfo, StepReport
from stillframe.errors import Overloaded
from stillframe.metrics import Metrics, Outcome

DASHBOARD = Path(__file__).resolve().parents[1] / "docker/grafana/dashboards/stillframe.json"
PANELS: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
EXPRESSIONS: list[str] = [target["expr"] for panel in PANELS for target in panel["targets"]]

INFO = PolicyInfo(
    name="jaco-tiny",
    family="openvla",
    parameters=1,
    dtype="float32",
    device="cpu",
    cameras=("front",),
    image_size=(224, 224),
    action_names=("gripper",),
    gripper="1 is open",
    chunk_horizon=1,
    norm_stats={},
    default_unnorm_key=None,
)


@pytest.fixture(scope="module")
def series() -> dict[str, dict[str, set[str]]]:
    """What a daemon exposes that has answered a frame and refused one: series -> label -> values."""
    metrics = Metrics(CollectorRegistry())
    with metrics.frame("/act"):
        metrics.step(StepReport({"queue": 1.0, "vision": 20.0}, passes=7))
    with suppress(Overloaded), metrics.frame("/act"):
        raise Overloaded("overloaded", "64 frames wait, which is the limit; ask again in a second")
    text = metrics.exposition(version="0.1.0", ready=True, info=INFO).decode()
    exposed: dict[str, dict[str, set[str]]] = {}
    for sample in itertools.chain.from_iterable(family.samples for family in text_string_to_metric_families(text)):
        labels = exposed.setdefault(sample.name, {"job": set(), "instance": set()})  # these two Prometheus adds
        for label, value in sample.labels.items():
            labels.setdefault(label, set()).add(value)
    return exposed


@pytest.mark.parametrize("expr", EXPRESSIONS)
def test_query_names_what_the_daemon_exposes(expr: str, series: dict[str, dict[str, set[str]]]) -> None:
    """Every series and label in a query exists, and so does every outcome and bucket that it asks for."""
    for name, selector in re.findall(r"(stillframe_\w+)\{([^}]*)\}", expr):
        asked = dict(re.findall(r'(\w+)=~?"([^"]*)"', selector))
        grouped = set(re.findall(r"\w+", "".join(re.findall(r"by \(([^)]*)\)", expr))))

        assert asked.keys() | grouped <= series[name].keys()
        assert set(asked.get("outcome", Outcome.ANSWERED).split("|")) <= set(Outcome)
        assert asked.get("le", "+Inf") in series[name].get("le", {"+Inf"})


def test_every_metric_has_a_panel(series: dict[str, dict[str, set[str]]]) -> None:
    """What the daemon measures can be seen: nothing is counted for nobody."""
    shown = " ".join(EXPRESSIONS)
    stems = {re.sub(r"_(bucket|sum|count|created)$", "", name) for name in series}

    assert {stem for stem in stems if stem not in shown} == set()


@pytest.mark.parametrize("target", [target for panel in PANELS for target in panel["targets"]], ids=lambda t: t["expr"])
def test_legend_names_labels_that_survive(target: dict[str, str]) -> None:
    """A legend shows only labels that its query keeps: others would be blank."""
    kept = set(re.findall(r"\w+", "".join(re.findall(r"by \(([^)]*)\)", target["expr"]))))

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
