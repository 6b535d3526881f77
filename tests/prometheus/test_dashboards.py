"""Hold Grafana's dashboards to the metrics that the daemon has, to Grafana's schema, and panels to one standard."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from stillframe.metrics import Outcome

DOCKER = Path(__file__).resolve().parents[2] / "docker"
FILES = sorted((DOCKER / "grafana/dashboards").glob("*.json"))
DASHBOARDS: dict[str, dict[str, Any]] = {file.stem: json.loads(file.read_text()) for file in FILES}
PANELS: dict[str, dict[str, Any]] = {
    panel["title"]: panel
    for dashboard in DASHBOARDS.values()
    for panel in dashboard["panels"]
    if panel["type"] != "row"
}
TARGETS: list[dict[str, Any]] = [target for panel in PANELS.values() for target in panel["targets"]]
EXPRESSIONS: list[str] = [target["expr"] for target in TARGETS]
CHOSEN = r'job=~"$job", instance=~"$instance"'

every_dashboard = pytest.mark.parametrize("dashboard", DASHBOARDS.values(), ids=DASHBOARDS)
every_panel = pytest.mark.parametrize("panel", PANELS.values(), ids=PANELS)
every_query = pytest.mark.parametrize("expr", EXPRESSIONS)


def stem_of(name: str) -> str:
    """The metric that a series belongs to."""
    return re.sub(r"_(bucket|sum|count|total|created)$", "", name)


def words_of(panel: str) -> str:
    """All that a panel asks, by its title."""
    return " ".join(target["expr"] for target in PANELS[panel]["targets"])


def kept_by(expr: str) -> set[str]:
    """The labels that a query sums by."""
    return set(re.findall(r"\w+", " ".join(re.findall(r"by \(([^)]*)\)", expr))))


def lost(ours: Any, theirs: Any, place: str = "") -> list[str]:
    """Where `theirs` has not what `ours` has."""
    if isinstance(ours, dict):
        there = theirs if isinstance(theirs, dict) else {}
        return [fault for key, value in ours.items() for fault in lost(value, there.get(key), f"{place}/{key}")]
    if isinstance(ours, list):
        there = theirs if isinstance(theirs, list) else []
        pairs = itertools.zip_longest(ours, there)
        return [fault for at, (one, other) in enumerate(pairs) for fault in lost(one, other, f"{place}/{at}")]
    return [] if ours == theirs else [place]


def test_there_are_three() -> None:
    """For the fleet, what it reuses, and what the device does; each has its name and finds the others."""
    assert set(DASHBOARDS) == {"fleet", "cache", "engine"}
    assert {board["uid"] for board in DASHBOARDS.values()} == {f"stillframe-{name}" for name in DASHBOARDS}
    assert {board["title"] for board in DASHBOARDS.values()} == {f"stillframe: {name}" for name in DASHBOARDS}


@every_dashboard
def test_grafanas_schema_knows_every_field(dashboard: dict[str, Any]) -> None:
    """Read into the types that Grafana Labs generates from its schema, and written again, nothing of it is lost.

    Those types keep what they know: a misspelt field, or one of another panel, is gone.
    """
    reason = "grafana-foundation-sdk is not installed: pip install -e '.[dev]'"
    plugins = pytest.importorskip("grafana_foundation_sdk.cog.plugins", reason=reason)
    encoder = pytest.importorskip("grafana_foundation_sdk.cog.encoder", reason=reason)
    models = pytest.importorskip("grafana_foundation_sdk.models.dashboard", reason=reason)
    plugins.register_default_plugins()

    def again(fields: dict[str, Any]) -> Any:
        return json.loads(encoder.JSONEncoder().encode(models.Dashboard.from_json(fields)))

    (first, *_), misspelt = dashboard["panels"], json.loads(json.dumps(dashboard))
    misspelt["panels"][0]["titel"] = misspelt["panels"][0].pop("title")

    assert lost(dashboard, again(dashboard)) == []
    assert lost(misspelt, again(misspelt)) == ["/panels/0/titel"], first["title"]


@every_dashboard
def test_variables_are_the_ones_used(dashboard: dict[str, Any]) -> None:
    """Data source, job and daemon can be chosen, several at once; each choice narrows the next."""
    source, job, instance = dashboard["templating"]["list"]

    assert [source["name"], job["name"], instance["name"]] == ["datasource", "job", "instance"]
    assert all(variable["multi"] and variable["includeAll"] for variable in (job, instance))
    assert 'job=~"$job"' in instance["query"]["query"]


@every_dashboard
def test_dashboards_lead_to_each_other(dashboard: dict[str, Any]) -> None:
    """By their tag, with what is chosen; and none can be edited away from its file."""
    (link,) = dashboard["links"]

    assert link["tags"] == dashboard["tags"] == ["stillframe"]
    assert link["includeVars"] is link["keepTime"] is True
    assert dashboard["editable"] is False


@every_dashboard
def test_panels_do_not_overlap(dashboard: dict[str, Any]) -> None:
    """Panels have ids of their own and tile a grid of 24 columns, row after row."""
    cells: set[tuple[int, int]] = set()
    for box in (panel["gridPos"] for panel in dashboard["panels"]):
        mine = set(itertools.product(range(box["x"], box["x"] + box["w"]), range(box["y"], box["y"] + box["h"])))

        assert not mine & cells
        cells |= mine

    below = max(y for _, y in cells) + 1
    assert cells == set(itertools.product(range(24), range(below)))
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_no_title_is_there_twice() -> None:
    """A panel is found by its title, on whichever of the three it is."""
    titles = [panel["title"] for dashboard in DASHBOARDS.values() for panel in dashboard["panels"]]

    assert len(titles) == len(set(titles))


@every_panel
def test_panel_explains_itself(panel: dict[str, Any]) -> None:
    """Each panel says what it shows, in which unit, and what to do when it looks wrong; each line has a name."""
    shows, todo = panel["description"].split("\n\nWhat to do: ")

    assert shows.endswith(".")
    assert todo.endswith(".")
    assert min(len(panel["title"]), len(shows), len(todo)) > 3
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["targets"]
    assert all(target["legendFormat"] for target in panel["targets"])


@every_dashboard
def test_advice_leads_to_panels_and_alerts_that_there_are(dashboard: dict[str, Any]) -> None:
    """A title in bold is a panel's of the same dashboard, or of the one whose name follows in brackets."""
    for panel in dashboard["panels"]:
        said = panel.get("description", "")
        for title, elsewhere in re.findall(r"\*\*(.+?)\*\*(?: \((\w+)\))?", said):
            there = DASHBOARDS[elsewhere.lower()] if elsewhere else dashboard

            assert title in {other["title"] for other in there["panels"] if other["type"] != "row"} - {panel["title"]}
        assert set(re.findall(r"Stillframe\w+", said)) <= {rule["alert"] for rule in alerts()}


@every_panel
def test_panel_reads_the_chosen_data_source(panel: dict[str, Any]) -> None:
    """No panel is tied to one installation's data source."""
    sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]

    assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources)


@every_query
def test_query_names_what_the_daemon_exposes(expr: str, series: dict[str, dict[str, set[str]]]) -> None:
    """Every series and label in a query exists, and so does every outcome and bucket that it asks for."""
    grouped: set[str] = set()
    for name, selector in re.findall(r"(stillframe_\w+)\{([^}]*)\}", expr):
        asked = dict(re.findall(r'(\w+)[=!]~?"([^"]*)"', selector))
        grouped |= series[name].keys()

        assert asked.keys() <= series[name].keys()
        assert set(asked.get("outcome", Outcome.ANSWERED).split("|")) <= set(Outcome)
        assert asked.get("le", "+Inf") in series[name].get("le", {"+Inf"})
        for label in asked.keys() - {"job", "instance", "outcome", "le", "mode"}:
            assert set(asked[label].split("|")) <= series[name][label]

    assert kept_by(expr) <= grouped


@every_query
def test_every_series_is_of_the_chosen_daemons(expr: str) -> None:
    """Each selector in a query asks for the job and the daemons that were chosen."""
    named = re.findall(r"stillframe_\w+", expr)

    assert named
    assert len(named) == expr.count("{" + CHOSEN)


@every_query
def test_counters_are_shown_as_rates(expr: str) -> None:
    """Whatever only ever grows is shown as a rate over Grafana's interval; whatever goes up and down is not."""
    growing = re.findall(r"stillframe_\w+_(?:total|bucket|count|sum)\b", expr)
    rates = re.findall(r"rate\(stillframe_\w+\{[^}]*\}\[\$__rate_interval\]\)", expr)

    assert len(rates) == len(growing) == expr.count("rate(")


def test_every_metric_has_a_panel(series: dict[str, dict[str, set[str]]]) -> None:
    """What the daemon measures can be seen on one of the three."""
    shown = {stem_of(name) for name in re.findall(r"stillframe_\w+", " ".join(EXPRESSIONS))}

    assert {stem_of(name) for name in series} == shown


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target["expr"])
def test_legend_names_labels_that_survive(target: dict[str, str]) -> None:
    """A legend shows the labels that its query keeps: others would be blank, and lines without them alike."""
    assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) == kept_by(target["expr"]) - {"le"}


@pytest.mark.parametrize("stem", ["frame", "stage"])
@pytest.mark.parametrize("quantile", ["0.5", "0.99"])
def test_latency_is_shown_at_its_middle_and_its_tail(stem: str, quantile: str) -> None:
    """Frames and stages are shown at p50 and p99."""
    wanted = f"histogram_quantile({quantile}, "

    assert any(expr.startswith(wanted) and f"stillframe_{stem}_duration_seconds_bucket" in expr for expr in EXPRESSIONS)


@pytest.mark.parametrize(
    ("panel", "together"),
    [
        ("KV memory", ("stillframe_kv_in_use_bytes", "stillframe_kv_budget_bytes", "stillframe_history_bytes")),
        ("Drift", ("stillframe_drift_bucket", "stillframe_drift_budget")),
        ("Drift along a chunk", ("by (quarter, le)", "stillframe_drift_budget")),
        ("Sessions by state", ("stillframe_sessions{", "stillframe_sessions_limit")),
        ("Wait for the device", ("stillframe_queue_wait_seconds_bucket", "by (actions_left, le)")),
        ("GPU memory", ("_allocated_bytes", "_reserved_bytes", "_free_bytes", "_total_bytes")),
    ],
)
def test_what_belongs_together_is_in_one_panel(panel: str, together: tuple[str, ...]) -> None:
    """A value and the line that it must not cross, or the parts of one whole."""
    assert all(part in words_of(panel) for part in together)


def test_the_line_for_deadlines_is_the_alerts() -> None:
    """Where the panel turns red the alert begins to count."""
    (expr,) = (rule["expr"] for rule in alerts() if rule["alert"] == "StillframeLate")
    steps = PANELS["Beyond the deadline"]["fieldConfig"]["defaults"]["thresholds"]["steps"]

    assert [step["value"] for step in steps] == [None, float(expr.rpartition("> ")[2])]


def alerts() -> list[dict[str, Any]]:
    """All shipped rules."""
    groups: list[dict[str, Any]] = yaml.safe_load((DOCKER / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]
